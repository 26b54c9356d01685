"""Do two ways to score models rank them alike, with intervals over independent models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.intervals import rank_correlations
from helpers import validation
from helpers.stats import resampled_rows


class Agreement(NamedTuple):
    """Mean rank correlations: `table` (estimate, low, high per measure), and their draws."""

    table: pd.DataFrame
    draws: pd.DataFrame


def rank_agreement(
    tables: Mapping[str, pd.DataFrame],
    measures: Sequence[str],
    yardstick: str,
    *,
    unit: str | None = None,
    joint: bool = False,
    n_resamples: int = 500,
    seed: int = 0,
) -> Agreement:
    """Return Spearman's correlation of each measure with a yardstick, averaged over tables.

    `tables` maps tasks to frames with one row per model, which hold `measures` and `yardstick`.
    The interval is the bootstrap's, 95 %: models are drawn with replacement within each table, or
    all models that share a value of the column `unit`, such as the layers of one network. Ranks
    are taken again in every draw. With `joint`, all tables hold the same models in the same order
    and one draw serves them all. A draw in which a measure or the yardstick has one value only is
    left out for that measure. `draws` has one row per draw and one column per measure, so that
    differences between measures keep their pairing. Raises `ValueError` for an absent column, no
    table, a missing value, or tables of unlike length with `joint`. Source: Spearman (1904); Efron
    and Tibshirani (1993), chapter 13.
    """
    measures = validation.strings(measures, "measures")
    rng, rows = validation.generator(seed), None
    estimate = np.zeros(len(measures))
    draws = np.zeros((n_resamples, len(measures)))
    for name, table in tables.items():
        values = table[[*measures, yardstick]].to_numpy(float)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has missing values; leave these models out")
        if rows is None or not joint:
            member = pd.factorize(table[unit])[0] if unit else np.arange(len(table))
            rows = list(resampled_rows(member, n_resamples, rng))
            length = len(table)
        elif len(table) != length:
            raise ValueError(f"{name} has {len(table)} models, others {length}; joint needs one")
        estimate += rank_correlations(values) / len(tables)
        draws += np.array([rank_correlations(values[chosen]) for chosen in rows]) / len(tables)
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    table = pd.DataFrame({"estimate": estimate, "low": low, "high": high}, index=list(measures))
    return Agreement(table, pd.DataFrame(draws, columns=list(measures)))


def pairwise_agreement(
    table: pd.DataFrame, columns: Sequence[str], *, unit: str | None = None, **options: int
) -> tuple[float, tuple[float, float]]:
    """Return the mean rank correlation of all pairs of columns, and its 95 % interval.

    `table` has one row per model; the other arguments and errors are those of `rank_agreement`.
    """
    other = [unit] if unit else []
    pairs = {
        f"{one}, {two}": table[[one, two, *other]].set_axis(["one", "two", *other], axis=1)
        for one, two in combinations(columns, 2)
    }
    how = {"unit": unit, "joint": True, **options}
    row = rank_agreement(pairs, ["one"], "two", **how).table.loc["one"]
    return float(row.estimate), (float(row.low), float(row.high))


def difference(agreement: Agreement, one: str, other: str) -> tuple[float, float, float]:
    """Return how much better one measure agrees than another: estimate and ends of its interval."""
    gap = agreement.table.estimate[one] - agreement.table.estimate[other]
    low, high = np.nanquantile(agreement.draws[one] - agreement.draws[other], [0.025, 0.975])
    return float(gap), float(low), float(high)
