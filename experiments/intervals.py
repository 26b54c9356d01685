"""Intervals where the units that could have been others are few: models, families, seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata, sem
from scipy.stats import t as student

from helpers import stats, validation


def ratio_interval(
    ratio: pd.Series, first: pd.Series, summary: str = "median", **options: int
) -> tuple[float, float, float]:
    """Return the median or geometric mean of ratios, and its 95 % interval over first models.

    `first` names the first model of each pair: pairs of one first model are drawn together,
    with replacement.
    """
    validation.choice(summary, ("median", "geometric mean"), "summary")
    logs, names = np.log(ratio.to_numpy(float)), np.asarray(first)
    middle = np.median if summary == "median" else np.mean
    sample = [middle(logs[rows]) for rows in drawn_rows(names, **options)]
    low, high = np.exp(np.quantile(sample, [0.025, 0.975]))
    return float(np.exp(middle(logs))), float(low), float(high)


def drawn_rows(units: ArrayLike, n_resamples: int = 1000, seed: int = 0) -> list[np.ndarray]:
    """Return the rows of each resample in which whole units are drawn with replacement."""
    member = pd.factorize(np.asarray(units))[0]
    return list(stats.resampled_rows(member, n_resamples, validation.generator(seed)))


def jackknife(values: ArrayLike, whole: float) -> tuple[float, float]:
    """Return the 95 % interval of an estimate from its values with one unit left out each.

    By Student's t with one degree of freedom less than units. Source: Efron and Tibshirani (1993),
    chapter 11. Raises `ValueError` for fewer than 3 values.
    """
    left = validation.numbers(values, "values")
    n = len(left)
    if n < 3:
        raise ValueError(f"values has length {n}; leave one of three units out at least")
    error = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    half = float(student.ppf(0.975, n - 1) * error)
    return whole - half, whole + half


def geometric_mean(logs: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of values whose logarithms are given, and its 95 % interval."""
    mean, low, high, _ = student_mean(logs)
    return float(np.exp(mean)), float(np.exp(low)), float(np.exp(high))


def student_mean(values: Sequence[float]) -> stats.Mean:
    """Return the mean of a few independent values with Student's 95 % interval.

    Raises `ValueError` for fewer than two values or a missing one. Source: Student (1908).
    """
    column = validation.numbers(values, "values")
    if column.ndim != 1 or len(column) < 2 or not np.isfinite(column).all():
        raise ValueError("values must be two or more finite numbers in one row")
    mean, half = float(column.mean()), float(student.ppf(0.975, len(column) - 1) * sem(column))
    return stats.Mean(mean, mean - half, mean + half, len(column))


def bootstrap(
    statistic: Callable[..., float], units: ArrayLike, **options: int
) -> tuple[float, float, float]:
    """Return a statistic of rows and the ends of its 95 % interval, whole units drawn.

    `statistic` takes the numbers of rows; draws for which it is not finite are left out. Raises
    `ValueError` for fewer than 3 units. Source: Efron and Tibshirani (1993), chapter 13.
    """
    names = np.asarray(units)
    if (n := len(pd.unique(names))) < 3:
        raise ValueError(f"units has {n} distinct values; resampling needs 3 or more")
    sample = np.array([statistic(rows) for rows in drawn_rows(names, **options)])
    low, high = np.quantile(sample[np.isfinite(sample)], [0.025, 0.975])
    return float(statistic(np.arange(len(names)))), float(low), float(high)


def rank_correlations(values: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of all columns but the last with the last; NaN where flat."""
    ranks = rankdata(values, axis=0)
    ranks -= ranks.mean(axis=0)
    lengths = np.sqrt((ranks**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (ranks[:, :-1].T @ ranks[:, -1]) / (lengths[:-1] * lengths[-1])
