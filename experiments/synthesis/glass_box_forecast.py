"""A sealed forecast: how models of a third seed will know facts and be tuned, written before.

Kept small here; see `candidates`.
"""

from __future__ import annotations

import pandas as pd

from experiments.synthesis.glass_box_table import TRUTHS
from helpers.synthesis import gate


def candidates(table: pd.DataFrame) -> pd.DataFrame:
    """Return models of the glass box as `gate` takes them, a row per model and truth.

    A family is what read one corpus, `tokens` are steps of training, and a `cell` is a width and a
    corpus, of which other seeds and checkpoints are no independent models.
    """
    known = table.assign(
        tokens=table["step"], family=table["mix"], cell=table["width"].astype(str) + table["mix"]
    )
    return gate.stacked(dict.fromkeys(TRUTHS, known))
