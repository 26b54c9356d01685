"""One step for each of several models: where it fails, the model is a row with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pandas as pd

from helpers import storage
from helpers.model_files import sentence
from helpers.models import FAILURES

_T = TypeVar("_T")


def read(names: Sequence[str], step: Callable[[str], _T]) -> tuple[dict[str, _T], pd.DataFrame]:
    """Return what a step gives for each model where it works, and a row for every model.

    The table has `status`, "read" or "refused", and `why`, by model. Raises `ValueError` with the
    reasons where there are models and the step works for none of them, and `storage.CannotWrite`,
    after which no other could be kept either.
    """
    found, rows = {}, {}
    for name in names:
        try:
            found[name] = step(name)
        except storage.CannotWrite:
            raise
        except FAILURES as error:
            rows[name] = {"status": "refused", "why": sentence(error)}
        else:
            rows[name] = {"status": "read", "why": ""}
    report = pd.DataFrame.from_dict(rows, orient="index", columns=["status", "why"])
    check(report)
    return found, report.rename_axis("model")


def check(report: pd.DataFrame) -> None:
    """Raise `ValueError` with the reasons in the last column where every model was refused."""
    reasons = report.iloc[:, -1]
    if len(report) and reasons.astype(bool).all():
        raise ValueError(f"no model could be read: {'; '.join(reasons)}")
