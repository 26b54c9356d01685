"""Headline sentences under other choices: the tables of all parts, and how often each holds.

Tables `headlines_*.csv` have a row per claim and specification: `claim`, `specification` (what
differs from the page, in words; the first of each claim is `headlines.PAGE`), `estimate`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from helpers import data, escaping
from helpers.book import claims

TABLES = ("posterior", "geometry", "retrieval", "modelmap", "which_signal", "choices")
# A sentence of which fewer specifications agree flips.
FLIPS = 0.5


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


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per claim of `load`, the lowest share first.

    Columns: `part`, `statement`, `page`, `threshold`, `share` (of the specifications that agree),
    `lowest`, `highest`, `n`; `status` and `interval` as the last full run decided them.
    """
    groups = table.groupby("claim", sort=False)
    out = groups[["page", "threshold"]].first()
    out["share"] = groups.agrees.mean()
    out[["lowest", "highest", "n"]] = groups.estimate.agg(["min", "max", "count"])
    rows = {row["id"]: row for row in claims.ledger([])}
    for column, name in {"part": "paper", "statement": "statement", "status": "status"}.items():
        out[column] = [rows[claim][name] for claim in out.index]
    out["interval"] = [rows[claim].get("interval") for claim in out.index]
    return out.sort_values("share", kind="stable")


def scaled(part: pd.DataFrame) -> pd.Series:
    """Return how far rows of one claim are from its threshold, as shares of the farthest.

    Those on the side of the page are positive.
    """
    gap = part.estimate - part.threshold
    return gap.abs().where(part.agrees, -gap.abs()) / (gap.abs().max() or 1.0)


def shown(rows: pd.DataFrame, part: str | None = None) -> Styler:
    """Return rows of `summary`, of one part where it is named, as a table to be read."""
    rows = rows if part is None else rows[rows.part == part]
    about, number = claims.load(), claims.number
    frame = pd.DataFrame(
        {
            "sentence": rows.statement,
            "claim": rows.index,
            "expected": [claims.published_text(about[claim]) for claim in rows.index],
            "on the page": rows.page.map(number),
            "agree": [f"{row.share:.0%} of {row.n:.0f}" for row in rows.itertuples()],
            "lowest": rows.lowest.map(number),
            "highest": rows.highest.map(number),
        }
    )
    text = {"text-align": "left", "white-space": "normal", "vertical-align": "top"}
    return escaping.styled(frame).hide(axis="index").set_properties(**text)
