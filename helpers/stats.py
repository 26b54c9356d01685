"""Correlations, means and paired differences with intervals, by formula and by resampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from helpers import validation


class Correlation(NamedTuple):
    """A Pearson correlation, the ends of its interval, and the number of rows behind it."""

    r: float
    low: float
    high: float
    n: int


class _CorrelationDifference(NamedTuple):
    """A difference of two correlations, the ends of its interval, and the number of rows."""

    difference: float
    low: float
    high: float
    n: int


def _complete(**columns: ArrayLike) -> dict[str, np.ndarray]:
    """Return the columns as float arrays, without the rows where any of them is missing."""
    arrays = {name: validation.numbers(values, name) for name, values in columns.items()}
    first, *_ = arrays
    for name, array in arrays.items():
        if not array.ndim or not len(array):
            raise ValueError(f"{name} has no rows; pass one value a row")
    for name, array in arrays.items():
        if len(array) != len(arrays[first]):
            raise ValueError(
                f"{name} has {len(array)} rows but {first} has {len(arrays[first])}; "
                "pass one value a row in each"
            )
    keep = np.all([np.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in arrays.values()], axis=0)
    return {name: array[keep] for name, array in arrays.items()}


def _pearson(x: np.ndarray, y: np.ndarray, spent: int, confidence: float) -> Correlation:
    """Correlate two columns from which `spent` covariates have been taken out already."""
    n = len(x)
    validation.share(confidence, "confidence")
    if n - spent < 3:
        raise ValueError(
            f"x and y have {n} complete rows for {spent} covariates; "
            "a correlation wants at least 3 rows more than covariates"
        )
    for name, values in (("x", x), ("y", y)):
        if np.ptp(values) <= 1e-12 * float(np.abs(values).max()):
            raise ValueError(f"{name} does not vary; leave out this row set or this covariate")
    r = float(stats.pearsonr(x, y).statistic)
    freedom = n - spent - 3
    if freedom < 1:
        return Correlation(r, -1.0, 1.0, n)
    half = stats.norm.ppf(0.5 + confidence / 2) / np.sqrt(freedom)
    centre = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
    low, high = float(np.tanh(centre - half)), float(np.tanh(centre + half))
    # At a correlation of 1 rounding may leave r itself outside by an ulp.
    return Correlation(r, min(low, r), max(high, r), n)


def correlation(x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95) -> Correlation:
    """Return the Pearson correlation of two columns with its Fisher interval.

    `x` and `y` are arrays of shape (n,); rows with a missing value are left out, and `n` counts
    the rest. The interval is tanh(artanh r ± z / sqrt(n - 3)), and [-1, 1] for n = 3. It takes
    the rows as independent. Raises `ValueError` for unequal lengths, fewer than 3 rows or a
    column that does not vary. Source: Fisher (1921).

    >>> from helpers.stats import correlation
    >>> [round(x, 2) for x in correlation([1, 2, 3, 4, 5], [1, 3, 2, 5, 4])]
    [0.8, -0.28, 0.99, 5]
    """
    rows = _complete(x=x, y=y)
    return _pearson(rows["x"], rows["y"], 0, confidence)


def partial_correlation(x: ArrayLike, y: ArrayLike, covariates: ArrayLike) -> Correlation:
    """Return the correlation of what a linear fit on the covariates leaves of `x` and of `y`.

    `x` and `y` have shape (n,), `covariates` (n,) or (n, k), such as powers of a variable or one
    indicator column a group; a constant is added, and columns that others already contain do not
    count. Rows with a missing value are left out. The interval is Fisher's with n - k - 3 degrees
    of freedom. Raises `ValueError` for unequal lengths, too few rows, or a column of which the
    covariates leave nothing. Source: Fisher (1924).
    """
    rows = _complete(x=x, y=y, covariates=covariates)
    n = len(rows["x"])
    design = np.column_stack([np.ones(n), rows["covariates"]])
    # An orthonormal basis keeps powers of one variable apart, however unlike their sizes are.
    scaled = design / np.maximum(np.abs(design).max(axis=0, initial=0), 1e-300)
    u, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    basis = u[:, singular > singular[:1] * 1e-10]
    left = {name: rows[name] - basis @ (basis.T @ rows[name]) for name in ("x", "y")}
    for name, residual in left.items():
        if np.abs(residual).max(initial=0) <= 1e-10 * np.abs(rows[name]).max(initial=0):
            raise ValueError(f"the covariates leave nothing of {name}; take fewer of them")
    return _pearson(left["x"], left["y"], basis.shape[1] - 1, 0.95)


def correlation_difference(x: ArrayLike, rival: ArrayLike, y: ArrayLike) -> _CorrelationDifference:
    """Return r(x, y) - r(rival, y), two correlations from the same rows, with its interval.

    The three columns have shape (n,); rows with a missing value are left out. The interval joins
    Fisher's intervals of the two, with the large-sample correlation between them, and takes the
    rows as independent. Raises as `correlation`. Source: Zou (2007); Olkin and Siotani
    (1976) for the correlation of the two.
    """
    rows = _complete(x=x, rival=rival, y=y)
    one, two = (correlation(rows[name], rows["y"]) for name in ("x", "rival"))
    a, b, between = one.r, two.r, correlation(rows["x"], rows["rival"]).r
    free = (1 - a**2) * (1 - b**2)
    shared = (between - a * b / 2) * (1 - a**2 - b**2 - between**2) + between**3
    c = float(np.clip(shared / free, -1, 1)) if free > 0 else 1.0
    low, high = (
        np.sqrt(max(0.0, p**2 + q**2 - 2 * c * p * q))
        for p, q in ((a - one.low, two.high - b), (one.high - a, b - two.low))
    )
    return _CorrelationDifference(a - b, a - b - float(low), a - b + float(high), one.n)


def draws(n: int, n_resamples: int, seed: int | np.random.Generator) -> np.ndarray:
    """Return how often each of `n` units is drawn with replacement, (n_resamples, n), n a row.

    As weights of units they make a bootstrap sample of every row. `seed` may be a generator, which
    goes on. Source: Efron and Tibshirani (1993), chapter 6.
    """
    rng = seed if isinstance(seed, np.random.Generator) else validation.generator(seed)
    return rng.multinomial(n, np.full(n, 1 / n), n_resamples)


def resampled_rows(
    member: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Give the rows of each resample: all rows of as many units as there are, with replacement.

    `member` (n,) numbers the unit of each row from 0, as `pandas.factorize` does; a row below 0 is
    never drawn. For statistics that are computed again in every resample; where weights of rows do,
    `bootstrap_correlation` is faster. Source: Efron and Tibshirani (1993), chapter 13.
    """
    members = [np.flatnonzero(member == unit) for unit in range(member.max(initial=-1) + 1)]
    for _ in range(n_resamples):
        drawn = rng.integers(len(members), size=len(members))
        yield np.concatenate([members[unit] for unit in drawn])


def bootstrap_correlation(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    groups: str | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Correlation:
    """Return the correlation of two columns with a bootstrap percentile interval.

    `x`, `y` and `groups` name columns of `frame`. With `groups`, whole groups are drawn with
    replacement, as wants data whose rows of one group are not independent (replicates at one
    noise level); otherwise single rows are. Rows with a missing or infinite value are left out. The
    same seed gives the same interval. Raises `ValueError` for fewer than 3 rows or groups. Source:
    Efron and Tibshirani (1993), chapter 13.
    """
    wanted = [x, y] + ([groups] if groups else [])
    rows = frame[wanted].dropna()
    pair = validation.numbers(rows[x], "x"), validation.numbers(rows[y], "y")
    rows = rows[np.isfinite(pair).all(axis=0)]
    estimate = correlation(rows[x], rows[y])
    unit = rows[groups].to_numpy() if groups else np.arange(len(rows))
    names, member = np.unique(unit, return_inverse=True)
    if len(names) < 3:
        raise ValueError(f"groups has {len(names)} distinct values; resampling wants at least 3")
    # How often a unit was drawn is the weight of each of its rows.
    weight = draws(len(names), n_resamples, seed)[:, member].astype(float)
    weight /= weight.sum(axis=1, keepdims=True)
    a = _scaled(rows[x].to_numpy(float) - rows[x].mean())
    b = _scaled(rows[y].to_numpy(float) - rows[y].mean())
    mean_a, mean_b = weight @ a, weight @ b
    covariance = weight @ (a * b) - mean_a * mean_b
    spread = (weight @ a**2 - mean_a**2) * (weight @ b**2 - mean_b**2)
    usable = spread > 1e-14 * np.var(a) * np.var(b)
    sample = covariance[usable] / np.sqrt(spread[usable])
    low, high = np.quantile(sample, [0.025, 0.975])
    return Correlation(estimate.r, float(low), float(high), len(rows))


def _scaled(values: np.ndarray) -> np.ndarray:
    """Return values over a power of 2, so that squares keep all their digits in any unit."""
    return np.ldexp(values, -np.frexp(np.abs(values).max())[1])


def correlation_table(
    groups: Mapping[str, pd.DataFrame], columns: Sequence[str], y: str, *, ranks: bool = False
) -> pd.DataFrame:
    """Return the correlation of each column with `y` in each group, one row per pair.

    `groups` maps names to frames that hold `columns` and `y`. The result has the columns `measure`,
    `group`, `r`, `low`, `high` and `n`, measures in the order given. With `ranks` the values are
    ranked within the group first; the interval is then an approximation. Raises as `correlation`
    does. Source: as there; ranks: Spearman (1904).
    """
    rows = []
    for column in columns:
        for name, frame in groups.items():
            pair = frame[[column, y]].dropna()
            pair = pair.rank() if ranks else pair
            found = correlation(pair[column], pair[y])._asdict()
            rows.append({"measure": column, "group": name, **found})
    return pd.DataFrame(rows)


class Mean(NamedTuple):
    """A mean, the ends of its bootstrap interval, and the number of rows behind it."""

    mean: float
    low: float
    high: float
    n: int


class _Difference(NamedTuple):
    """A mean paired difference, the ends of its interval, its p-value, and the number of pairs."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def bootstrap_mean(
    values: ArrayLike, *, n_resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Mean:
    """Return the mean of a column with its bootstrap percentile interval, rows resampled.

    `values` has shape (n,), one number per row, such as the log posterior of each entity. What was
    fitted to compute them is held fixed. The same seed gives the same interval. Source: Efron and
    Tibshirani (1993), chapter 13.
    """
    column = _column(values, "values")
    rng = validation.generator(seed)
    n, means = len(column), np.empty(n_resamples)
    for i in range(n_resamples):
        means[i] = column[rng.integers(n, size=n)].mean()
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Mean(float(column.mean()), float(low), float(high), n)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> _Difference:
    """Return the mean of `a - b` over the same rows, with an interval and a test of no difference.

    `a` and `b` have shape (n,), such as two models' log posteriors of the same entities. The
    interval is the bootstrap's over rows. The p-value is that of flipping the signs of the
    differences at random: (1 + number as far from 0) / (1 + n_resamples), two-sided. Raises
    `ValueError` for unequal lengths, fewer than 3 rows or a missing value. Source: Efron and
    Tibshirani (1993), chapters 13 and 15.

    >>> from helpers.stats import paired_difference
    >>> before, after = [1.0, 5.0, 9.0, 13.0, 2.0, 4.0], [1.4, 5.6, 9.4, 13.6, 2.2, 4.3]
    >>> [round(x, 3) for x in paired_difference(after, before)]
    [0.417, 0.3, 0.533, 0.03, 6]
    """
    first, second = _column(a, "a"), _column(b, "b")
    if len(first) != len(second):
        raise ValueError(
            f"a has {len(first)} rows but b has {len(second)}; pass the same rows in the same order"
        )
    gap = first - second
    found = bootstrap_mean(gap, n_resamples=n_resamples, seed=seed, confidence=confidence)
    rng, size, further = np.random.default_rng([seed, 1]), np.abs(gap), 0
    edge = abs(found.mean) * (1 - 1e-12)
    for _ in range(n_resamples):
        signs = rng.integers(0, 2, size=len(gap), dtype=np.int8)
        further += abs(size @ (2.0 * signs - 1)) / len(gap) >= edge
    p_value = (1 + further) / (1 + n_resamples)
    return _Difference(found.mean, found.low, found.high, float(p_value), found.n)


def _column(values: ArrayLike, argument: str) -> np.ndarray:
    column = validation.numbers(values, argument)
    if column.ndim != 1 or len(column) < 3:
        raise ValueError(f"{argument} has shape {column.shape}; pass at least 3 numbers in a row")
    if not np.isfinite(column).all():
        bad = int(np.flatnonzero(~np.isfinite(column))[0])
        raise ValueError(f"{argument} has a missing or infinite value in row {bad}; drop the row")
    return column


def held_out_residuals(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return `y` minus what least squares on `X` gives, each group predicted from the others.

    `X` (n, k) has its own column of ones, `y` and `groups` have shape (n,); in the units of `y`.
    Source: leave-one-group-out cross-validation.
    """
    residual = np.empty(len(y))
    for group in pd.unique(groups):
        out = groups == group
        weights = np.linalg.lstsq(X[~out], y[~out], rcond=None)[0]
        residual[out] = y[out] - X[out] @ weights
    return residual


def held_out_error(
    frame: pd.DataFrame, columns: Sequence[str], y: str, groups: str, *, degree: int = 2
) -> float:
    """Return the root mean squared error of `y` when each group is predicted from the others.

    `columns`, `y` and `groups` name columns of `frame`. The prediction is least squares on the
    powers of the columns up to `degree`, products included; with no columns it is the mean of the
    other groups. In the units of `y`. Rows with a missing value are left out. Raises `ValueError`
    for fewer than 3 groups. Source: leave-one-group-out cross-validation, as
    scikit-learn's `LeaveOneGroupOut` does it.
    """
    from sklearn import config_context
    from sklearn.dummy import DummyRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    wanted = [*columns, y, groups]
    rows = frame[list(dict.fromkeys(wanted))].dropna()
    if rows[groups].nunique() < 3:
        raise ValueError(
            f"groups has {rows[groups].nunique()} distinct values; leaving one out wants 3 or more"
        )
    if columns:
        powers = PolynomialFeatures(degree, include_bias=False)
        fit = make_pipeline(StandardScaler(), powers, StandardScaler(), LinearRegression())
    else:
        fit = DummyRegressor()
    X = rows[list(columns)].to_numpy() if columns else np.zeros((len(rows), 1))
    truth, cv = rows[y].to_numpy(), LeaveOneGroupOut()
    with config_context(assume_finite=True, skip_parameter_validation=True):
        guess = cross_val_predict(fit, X, truth, groups=rows[groups].to_numpy(), cv=cv)
    return float(np.sqrt(np.mean((guess - truth) ** 2)))
