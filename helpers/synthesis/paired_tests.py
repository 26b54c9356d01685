"""Has a model improved? Paired tests on items and on sources of items, power, false alarms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from helpers import validation


def paired_test(before: ArrayLike, after: ArrayLike, *, confidence: float = 0.95) -> pd.Series:
    """Return how much higher the items of one model are than those of another, by a paired t-test.

    `before` and `after` have shape (n,), the same items in one order. The series has `difference`
    (mean of after - before), `low`, `high`, `p_value` (two-sided), `n`, and `pairing`, by how many
    times more items an unpaired test would need: (var(before) + var(after)) / var(difference).
    Equal items give a difference of 0 and a p-value of 1. Raises `ValueError` for fewer than 3
    items, unequal lengths and values that are not finite. Source: Student (1908).

    >>> from helpers.synthesis import paired_test
    >>> before, after = [1.0, 5.0, 9.0, 13.0], [1.4, 5.6, 9.4, 13.6]
    >>> paired_test(before, after).round(3)
    difference       0.500
    low              0.316
    high             0.684
    p_value          0.003
    n                4.000
    pairing       4041.000
    dtype: float64
    """
    a, b = _items(before, after)
    mean, low, high, p_value = mean_test(b - a, np.arange(len(a)), confidence)
    found = {"difference": mean, "low": low, "high": high, "p_value": p_value, "n": len(a)}
    spread, apart = (b - a).var(ddof=1), a.var(ddof=1) + b.var(ddof=1)
    return pd.Series(found | {"pairing": apart / spread if spread else np.inf})


def clustered_test(
    before: ArrayLike, after: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95
) -> pd.Series:
    """Return `paired_test` with an error that takes items of one cluster as one observation.

    `clusters` (n,) names the source of each item, such as its package, country or author. The error
    is that of a mean under dependence within clusters, with t of one degree of freedom fewer than
    there are clusters; with clusters of one size it is the t-test of their means. Added are
    `clusters`, their number, and of the differences `icc`, the intraclass correlation,
    `design_effect`, by how much their clusters raise the variance of the mean, and `effective`,
    the number of independent items that would do as well. Raises `ValueError` as `paired_test`,
    and for fewer than 3 clusters. Source: Liang and Zeger (1986), with G / (G - 1).

    >>> from helpers.synthesis import clustered_test
    >>> found = clustered_test([0, 0, 0, 0, 0, 0], [1, 1, 3, 3, 2, 2], list("aabbcc"))
    >>> found[["difference", "low", "high", "p_value"]].round(3).to_dict()
    {'difference': 2.0, 'low': -0.484, 'high': 4.484, 'p_value': 0.074}
    """
    a, b = _items(before, after)
    gap, member = b - a, _members(clusters, len(a))
    n_clusters = member.max() + 1
    if n_clusters < 3:
        raise ValueError(f"clusters has {n_clusters} distinct values; give items of at least 3")
    mean, low, high, p_value = mean_test(gap, member, confidence)
    found = {"difference": mean, "low": low, "high": high, "p_value": p_value, "n": len(gap)}
    alike = {"icc": 0.0, "design_effect": 1.0, "effective": float(len(gap))}
    if n_clusters < len(gap):
        alike = _intraclass(gap, clusters).to_dict()
    return pd.Series(found | {"clusters": n_clusters} | alike)


def mean_test(
    values: np.ndarray, member: np.ndarray, confidence: float = 0.95
) -> tuple[float, float, float, float]:
    """Return a mean, the ends of its interval, and its two-sided p-value against 0.

    `member` (n,) numbers the cluster of each value from 0; values of one may depend on each other.
    """
    validation.share(confidence, "confidence")
    n_clusters, mean = member.max() + 1, float(values.mean())
    sums = np.bincount(member, values - mean)
    error = float(np.sqrt(n_clusters / (n_clusters - 1) * (sums**2).sum())) / len(values)
    reach = stats.t.ppf(0.5 + confidence / 2, n_clusters - 1) * error
    p_value = 2 * stats.t.sf(abs(mean) / error, n_clusters - 1) if error else float(not mean)
    return mean, mean - reach, mean + reach, float(p_value)


def _intraclass(values: ArrayLike, clusters: ArrayLike) -> pd.Series:
    """Return how alike the items of one cluster are, and what that costs.

    `values` and `clusters` have shape (n,). The series has `icc`, the intraclass correlation (share
    of the variance that lies between clusters, from a one-way analysis of variance, at least 0),
    `design_effect` (by how much the variance of the mean is larger than for independent items) and
    `effective`, the number of independent items that would do as well. Raises `ValueError` for
    fewer than 2 clusters or no cluster with two items. Source: Kish (1965); Donner (1986).
    """
    x = validation.numbers(values, "values")
    member = _members(clusters, len(x))
    sizes = np.bincount(member)
    n, n_clusters = len(x), len(sizes)
    if n_clusters < 2 or n <= n_clusters:
        raise ValueError(f"clusters has {n_clusters} values for {n} items; give more items of each")
    means = np.bincount(member, x) / sizes
    between = (sizes * (means - x.mean()) ** 2).sum() / (n_clusters - 1)
    within = ((x - means[member]) ** 2).sum() / (n - n_clusters)
    size = (n - (sizes**2).sum() / n) / (n_clusters - 1)
    total = between + (size - 1) * within
    icc = float(np.clip((between - within) / total, 0, 1)) if total else 0.0
    effect = 1 + (size - 1) * icc
    return pd.Series({"icc": icc, "design_effect": effect, "effective": n / effect})


def _members(clusters: ArrayLike, n: int) -> np.ndarray:
    member = pd.factorize(np.asarray(clusters))[0]
    if len(member) != n:
        raise ValueError(f"clusters has length {len(member)} for {n} items; pass one per item")
    return member


def power(
    before: ArrayLike,
    after: ArrayLike,
    sizes: Sequence[int],
    *,
    level: float = 0.05,
    n_draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often a paired test on fewer items would have found a change, one row per size.

    Each draw takes so many of the items at random, without replacement. Columns: `n`, `up` and
    `down`, the shares of draws in which the test at `level` (two-sided) finds an improvement or
    the contrary. Near the number of items draws overlap and the shares run ahead of what new items
    would show. Raises `ValueError` as `paired_test`, and for sizes below 3 or above the number of
    items. Source: resampling of the items.

    >>> import numpy as np
    >>> from helpers.synthesis import power
    >>> before = np.zeros(200)
    >>> after = before + np.tile([-0.5, 1.5], 100)
    >>> power(before, after, sizes=[5, 20, 80], n_draws=100)
        n    up  down
    0   5  0.02  0.05
    1  20  0.62  0.00
    2  80  1.00  0.00
    """
    a, b = _items(before, after)
    validation.share(level, "level")
    validation.counts(n_draws=(n_draws, 1))
    rng, gap, rows = validation.generator(seed), b - a, []
    for n in sizes:
        if not 3 <= n <= len(gap):
            raise ValueError(
                f"sizes has {n}; give numbers from 3 to {len(gap)}, the items there are"
            )
        order = rng.random((n_draws, len(gap))).argsort(axis=1)[:, :n]
        drawn = gap[order]
        error = drawn.std(axis=1, ddof=1) / np.sqrt(n)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.nan_to_num(drawn.mean(axis=1) / error, posinf=np.inf, neginf=-np.inf)
        beyond = stats.t.ppf(1 - level / 2, n - 1)
        rows.append({"n": n, "up": np.mean(t > beyond), "down": np.mean(t < -beyond)})
    return pd.DataFrame(rows)


def items_needed(
    before: ArrayLike, after: ArrayLike, *, level: float = 0.05, wanted: float = 0.8
) -> float:
    """Return how many items a paired test needs to find a change of this size, infinite for none.

    It is ((z(1 - level / 2) + z(wanted)) sd / mean)², by the normal approximation, at least 3:
    `wanted` is the power. Raises `ValueError` as `paired_test`. Source: Cohen (1988).

    >>> import numpy as np
    >>> from helpers.synthesis import items_needed
    >>> before, noise = np.zeros(100), np.tile([-1, 1], 50)
    >>> [round(items_needed(before, before + noise + gain)) for gain in (0.1, 0.5)]
    [793, 32]
    """
    a, b = _items(before, after)
    validation.share(level, "level")
    validation.share(wanted, "wanted")
    gap = b - a
    if not gap.mean():
        return float("inf")
    z = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(wanted)
    return max(3.0, float((z * gap.std(ddof=1) / gap.mean()) ** 2))


def false_alarms(
    values: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.05,
    n_draws: int = 1000,
    seed: int = 0,
) -> float:
    """Return how often one model, tested on two halves of its items, seems to differ from itself.

    `values` (n,) are cut into two random halves, compared by Welch's test at `level`; a sound test
    gives about `level`. With `groups` (n,), whole groups fall into one half, as when the facts of
    one person, or the texts of one file, are drawn together: a share above `level` then means that
    items are not independent. Raises `ValueError` for fewer than 6 items or groups, or values that
    are not finite. Source: Welch (1947).
    """
    x = validation.numbers(values, "values")
    validation.share(level, "level")
    validation.counts(n_draws=(n_draws, 1))
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("values must be one finite number per item, shape (n,)")
    member = np.arange(len(x)) if groups is None else pd.factorize(np.asarray(groups))[0]
    if len(member) != len(x):
        raise ValueError(f"groups has length {len(member)} but values {len(x)}; pass one per item")
    n_groups = member.max(initial=-1) + 1
    if n_groups < 6:
        raise ValueError(f"values has {n_groups} items or groups; halves need at least 6")
    rng, moments = validation.generator(seed), np.empty((n_draws, 6))
    for draw in moments:
        first = np.isin(member, rng.permutation(n_groups)[: n_groups // 2])
        draw[:] = [f(half) for half in (x[first], x[~first]) for f in (np.mean, _deviation, len)]
    p_values = stats.ttest_ind_from_stats(*moments.T, equal_var=False).pvalue
    return float((p_values < level).mean())


def _deviation(values: np.ndarray) -> float:
    return values.std(ddof=1)


def _items(before: ArrayLike, after: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = validation.numbers(before, "before"), validation.numbers(after, "after")
    if a.ndim != 1 or a.shape != b.shape or len(a) < 3:
        raise ValueError(
            f"before has shape {a.shape} and after {b.shape}; pass the same 3 items or more"
        )
    for name, values in (("before", a), ("after", b)):
        if not np.isfinite(values).all():
            bad = int(np.argmin(np.isfinite(values)))
            raise ValueError(f"{name}[{bad}] is {values[bad]}; leave that item out of both")
    return a, b
