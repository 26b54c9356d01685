"""How well a measure repeats, and what it reads on a cloud whose structure is destroyed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from helpers import validation


class Variance(NamedTuple):
    """A variance pooled over groups, and its degrees of freedom."""

    value: float
    freedom: int


class Reliability(NamedTuple):
    """The share of an observed variance that repeats, and the ends of its 95 % interval."""

    share: float
    low: float
    high: float


def pooled_variance(values: ArrayLike, groups: ArrayLike) -> Variance:
    """Return the variance within groups, pooled by degrees of freedom.

    `values` has shape (n,), `groups` one label per value; a group of one adds nothing. In squared
    units of the values. Raises `ValueError` for unequal lengths, a missing value, or when no group
    has two values.
    """
    column = validation.numbers(values, "values")
    labels = validation.labels(groups, len(column), "groups", "values")
    if column.ndim != 1 or not np.isfinite(column).all():
        raise ValueError("values must be finite numbers in one row; drop the missing ones")
    parts = pd.Series(column).groupby(labels.to_numpy())
    freedom = int((parts.size() - 1).sum())
    if freedom < 1:
        raise ValueError("groups has no label with two values; measure something twice")
    left = column - parts.transform("mean").to_numpy()
    return Variance(float(left @ left) / freedom, freedom)


def reliability(observed: Variance, error: Variance) -> Reliability:
    """Return 1 - error / observed: the share of a variance that is not measurement error.

    `observed` is the variance over models, each measured once, such as that within noise levels;
    `error` the variance of one model's repeated measurements (`pooled_variance`). A share below 0,
    where the repeats scatter more than the models, counts as 0, and so do the ends. The interval is
    that of the ratio of two variances of normal values (F distribution), and takes `error` to be
    the same for all models. Raises `ValueError` for an observed variance of 0. Source: Spearman
    (1904).

    >>> from helpers.geometry.reliability import Variance, reliability
    >>> [round(x, 2) for x in reliability(Variance(4.0, 20), Variance(1.0, 10))]
    [0.75, 0.15, 0.91]
    """
    if observed.value <= 0:
        raise ValueError("observed has a variance of 0; the models do not differ at all")
    ratio = error.value / observed.value
    tails = [0.975, 0.025]
    factors = (1.0, *(stats.f.ppf(q, observed.freedom, error.freedom) for q in tails))
    return Reliability(*(max(0.0, float(1 - ratio * factor)) for factor in factors))


def disattenuated(r: float, x: float) -> float:
    """Return a correlation corrected for attenuation: r over the root of a reliability.

    `x` is the reliability of one of the columns, among the rows that were correlated. The result
    may pass 1, when a reliability is too low by chance; it is NaN where it is not above 0,
    for then no correlation can be recovered. Source: Spearman (1904).

    >>> from helpers.geometry.reliability import disattenuated
    >>> round(disattenuated(0.3, 0.36), 2)
    0.5
    """
    return float(r / np.sqrt(x)) if x > 0 else float("nan")


def permuted_columns(points: ArrayLike, *, seed: int = 0) -> np.ndarray:
    """Return a cloud in which each column is shuffled by itself: same marginals, no structure.

    `points` has shape (n, d). What a measure reads on the result is its null value: that of a
    cloud with as many points, as many dimensions and the same spread along each of them. Raises
    `ValueError` for another shape or values that are not finite.
    """
    x, rng = validation.matrix(points, "points"), validation.generator(seed)
    return np.stack([column[rng.permutation(len(x))] for column in x.T], axis=1)
