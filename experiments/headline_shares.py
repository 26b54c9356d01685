"""Headline sentences under other choices: how often each holds, as a page shows it."""

from __future__ import annotations

import pandas as pd
from IPython.display import HTML

from helpers import escaping
from helpers.book import claims

# A sentence of which fewer specifications agree flips.
FLIPS = 0.5


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per claim of `other_choices.load`, the lowest share first.

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


def shown(rows: pd.DataFrame, part: str | None = None, first: int = 15) -> HTML:
    """Return rows of `summary`, of one part where it is named, as a table to be read.

    Rows after the `first` stand in a folded table.
    """
    rows = rows if part is None else rows[rows.part == part]
    about, number = claims.load(), "{:.3g}".format
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
    tables = [
        escaping.styled(some).hide(axis="index").set_properties(**text).to_html()
        for some in (frame[:first], frame[first:])
        if len(some)
    ]
    if len(tables) > 1:
        label = f"the {len(frame) - first} sentences that hold most often"
        tables[1] = f"<details><summary>{label}</summary>{tables[1]}</details>"
    return HTML("\n".join(tables))
