"""Measured numbers under other reasonable choices: the stored tables, and which rows agree.

Tables `headlines_*.csv` have a row per claim and specification: `claim`, `specification` (what
differs from the page, in words; the first of each claim is the page's own), `estimate`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers import data
from helpers.book import claims

TABLES = ("posterior", "geometry", "retrieval", "modelmap", "which_signal", "choices")


def load() -> pd.DataFrame:
    """Return the rows of all stored tables, with `page`, `threshold` and `agrees` of each.

    `page` is the estimate as on the page. `threshold` is the bound that the claim expects; where it
    expects a number, that number if the page misses it, else zero. `agrees` tells whether the
    estimate is on the same side of it as `page`.
    """
    paths = [data.PUBLISHED / f"headlines_{name}.csv" for name in TABLES]
    table = pd.concat([pd.read_csv(path) for path in paths if path.is_file()], ignore_index=True)
    parts = table.groupby("claim", sort=False).estimate
    return table.join(pd.concat([judged(claim, part) for claim, part in parts]))


def judged(claim: str, estimates: pd.Series) -> pd.DataFrame:
    """Return `page`, `threshold` and `agrees`, as `load`, for the estimates of one claim."""
    entry = claims.load()[claim]
    expected, page = entry["published"], float(estimates.iloc[0])
    if isinstance(expected, dict):
        ((kind, limit),) = expected.items()
        sides = estimates > limit if kind == "above" else estimates < limit
    else:
        missed = isinstance(expected, int | float) and abs(page - expected) > entry["tolerance"]
        limit = expected if missed else 0.0
        sides = np.sign(estimates - limit)
    return pd.DataFrame({"page": page, "threshold": limit, "agrees": sides == sides.iloc[0]})


def told() -> dict[str, str]:
    """Return for each claim with such a table how many of the other specifications agree."""
    others = load().groupby("claim").agrees.agg(["sum", "size"]) - 1
    return {claim: f"{agree} of {n} other choices agree" for claim, agree, n in others.itertuples()}
