"""Has a model improved? Paired tests on items, their power, and their false alarms."""

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
    times more items an unpaired test would want: (var(before) + var(after)) / var(difference).
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
    validation.share(confidence, "confidence")
    gap = b - a
    spread = gap.var(ddof=1)
    error = np.sqrt(spread / len(gap))
    mean = float(gap.mean())
    reach = stats.t.ppf(0.5 + confidence / 2, len(gap) - 1) * error
    still = not np.ptp(gap) and not mean
    p_value = 1.0 if still else 2 * stats.t.sf(abs(mean) / error, len(gap) - 1) if error else 0.0
    apart = a.var(ddof=1) + b.var(ddof=1)
    return pd.Series(
        {
            "difference": mean,
            "low": mean - reach,
            "high": mean + reach,
            "p_value": float(p_value),
            "n": len(gap),
            "pairing": apart / spread if spread else np.inf,
        }
    )


def power(
    before: ArrayLike,
    after: ArrayLike,
    sizes: Sequence[int],
    *,
    level: float = 0.05,
    n_draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often a paired test on fewer items would have found a change, one row a size.

    Each draw takes so many of the items at random, without replacement. Columns: `n`, `up` and
    `down`, the shares of draws in which the test at `level` (two-sided) finds an improvement or
    the contrary. Near the number of items draws overlap and the shares run ahead of what new items
    would show. Raises `ValueError` as `paired_test`, and for sizes below 3 or above the number of
    items. Source: resampling of the items at hand.

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
    one person, or the texts of one file, are drawn together: a share above `level` then tells that
    items are not independent. Raises `ValueError` for fewer than 6 items or groups, or values that
    are not finite. Source: Welch (1947).
    """
    x = validation.numbers(values, "values")
    validation.share(level, "level")
    validation.counts(n_draws=(n_draws, 1))
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("values must be one finite number an item, shape (n,)")
    member = np.arange(len(x)) if groups is None else pd.factorize(np.asarray(groups))[0]
    if len(member) != len(x):
        raise ValueError(f"groups has length {len(member)} but values {len(x)}; pass one an item")
    n_groups = member.max(initial=-1) + 1
    if n_groups < 6:
        raise ValueError(f"values has {n_groups} items or groups; halves want at least 6")
    rng, found = validation.generator(seed), 0
    for _ in range(n_draws):
        first = np.isin(member, rng.permutation(n_groups)[: n_groups // 2])
        p_value = stats.ttest_ind(x[first], x[~first], equal_var=False).pvalue
        found += bool(p_value < level)
    return found / n_draws


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
