"""A second look at SMI: resampled facts, exponents that fit, predictions for held-out models."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.special import expit

from helpers import ties, validation

EXPONENTS = np.geomspace(0.25, 16, 97)
# Of an interval of 95 %.
_ENDS = (0.5 - 0.95 / 2, 0.5 + 0.95 / 2)


def draw_weights(
    n: int, n_resamples: int, *, groups: ArrayLike | None = None, seed: int = 0
) -> np.ndarray:
    """Return how often each of `n` rows is drawn in each bootstrap resample, (n_resamples, n).

    With `groups`, of length n, whole groups are drawn with replacement, and every row of a group
    as often as its group; a resample then need not have n rows. The same seed gives the same
    draws. Raises `ValueError` for fewer than 2 groups, or a `groups` of another length. Source:
    Efron and Tibshirani (1993), chapters 6 and 8.
    """
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    if len(unit) != n:
        raise ValueError(f"groups has length {len(unit)} but n is {n}; pass one group a row")
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < 2:
        raise ValueError(f"there are {n_units} rows or groups to draw from; two are needed")
    rng, times = validation.generator(seed), np.empty((n_resamples, n_units), np.float32)
    for i in range(n_resamples):
        times[i] = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units)
    return times if groups is None else times[:, unit]


class _BinMeans(NamedTuple):
    """Positions of bins, shape (k,); facts and mean accuracy under each weighting, (k, r)."""

    x: np.ndarray
    count: np.ndarray
    mean: np.ndarray


def bin_means(x: ArrayLike, accuracy: ArrayLike, weights: ArrayLike | None = None) -> _BinMeans:
    """Return the mean accuracy of each bin under each row of `weights`.

    `x` and `accuracy` have one entry a fact; facts of one bin share one value of `x`, so the bins
    stay as they are, however the facts are weighted. `weights` has shape (r, n), such as
    `draw_weights` gives; without it, every fact counts once and r is 1. The mean of an empty bin
    is NaN. Raises `ValueError` for unequal lengths.
    """
    x, accuracy = np.asarray(x, float), np.asarray(accuracy, float)
    weights = np.ones((1, len(x))) if weights is None else np.asarray(weights)
    at, member = np.unique(x, return_inverse=True)
    where, shape = (member, np.arange(len(x))), (len(at), len(x))
    columns = np.ascontiguousarray(weights.T, dtype=np.float64)
    count = csr_array((np.ones(len(x)), where), shape=shape) @ columns
    total = csr_array((accuracy, where), shape=shape) @ columns
    mean = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return _BinMeans(at, count, mean)


def _centred(bins: _BinMeans, x: np.ndarray, weighted: bool) -> tuple[np.ndarray, ...]:
    """Return weights of bins (k, r), positions and means less their averages, and both of these."""
    held = bins.count > 0
    w = bins.count if weighted else held.astype(float)
    w = w / np.maximum(w.sum(axis=0), 1e-300)
    mean = np.where(held, bins.mean, 0)
    centre, level = (w * x).sum(axis=0), (w * mean).sum(axis=0)
    return w, x - centre, mean - level, centre, level


def _ratio(bins: _BinMeans, product: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return product over spread, NaN for fewer than three bins with facts or no spread."""
    usable = ((bins.count > 0).sum(axis=0) >= 3) & (spread > 1e-22)
    return np.divide(product, spread, out=np.full(len(spread), np.nan), where=usable)


def r2_of_means(bins: _BinMeans, exponent: float = 1.0, *, weighted: bool = False) -> np.ndarray:
    """Return R² of the line through bin means on the positions to a power, one value a weighting.

    Every bin that holds a fact counts once, as released; `weighted=True` counts it by its facts.
    NaN where fewer than three bins are left or a side does not vary.
    """
    w, a, b, *_ = _centred(bins, bins.x[:, None] ** exponent, weighted)
    spread = (w * a**2).sum(axis=0) * (w * b**2).sum(axis=0)
    return _ratio(bins, (w * a * b).sum(axis=0) ** 2, spread)


def end_of_line(bins: _BinMeans) -> np.ndarray:
    """Return the height at x = 1 of the line through bin means, one value a weighting.

    It is the *upper bound* of the published tables. Bins count once, and NaN stands where it does
    in `r2_of_means`.
    """
    w, a, b, centre, level = _centred(bins, bins.x[:, None], weighted=False)
    slope = _ratio(bins, (w * a * b).sum(axis=0), (w * a**2).sum(axis=0))
    return level + slope * (1 - centre)


def best_exponent(bins: _BinMeans) -> np.ndarray:
    """Return the exponent of the grid `EXPONENTS` that maximises R², one value a weighting.

    The positions of `bins` must not be negative. A value at an end of the grid says that the best
    exponent lies there or beyond.
    """
    r2 = np.array([r2_of_means(bins, exponent) for exponent in EXPONENTS])
    return EXPONENTS[ties.first_largest(np.nan_to_num(r2, nan=-1.0), axis=0)]


class Gain(NamedTuple):
    """An estimate, its percentile interval, and the interval reflected about the estimate."""

    gain: float
    low: float
    high: float
    reflected_low: float
    reflected_high: float


def gain(estimate: float, sample: ArrayLike) -> Gain:
    """Return an estimate with two bootstrap 95 % intervals from its values in the resamples.

    The percentile interval is the middle of `sample`. Where the resamples are shifted against the
    estimate, that shift stays in it; the reflected (basic) interval takes it out, twice the
    estimate minus the other's ends. NaN in `sample` are left out. Raises `ValueError` where none
    is left. Source: Efron and Tibshirani (1993), chapter 13; Davison and Hinkley (1997), 5.2.
    """
    if not np.isfinite(sample).any():
        raise ValueError("sample has no finite value; draw more resamples or take fewer bins")
    low, high = np.nanquantile(sample, _ENDS)
    ends = (float(e) for e in (low, high, 2 * estimate - high, 2 * estimate - low))
    return Gain(float(estimate), *ends)


def r2_gain(
    axes: pd.DataFrame,
    accuracy: ArrayLike,
    weights: ArrayLike,
    *,
    better: str = "SMI",
    than: str = "CO-OCCUR",
    weighted: bool = False,
) -> Gain:
    """Return how much higher R² of bin means is with one metric than with another.

    `axes` is a frame of `axes_of`, `accuracy` has one entry a row of it, and `weights` are those of
    `draw_weights`. Bin edges and positions are fixed; `weighted` is that of `r2_of_means`.
    """
    both = np.vstack([np.ones(len(axes)), weights])
    first, second = (
        r2_of_means(bin_means(axes[c], accuracy, both), weighted=weighted) for c in (better, than)
    )
    return gain(first[0] - second[0], (first - second)[1:])


def weighted_correlation(x: ArrayLike, y: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """Return the correlation of `x` and `y` under each row of `weights`, shape (r,).

    Given ranks, this is Spearman's rho with the ranks of the whole sample held fixed, an
    approximation that spares ranking every resample anew. Raises `ValueError` for unequal
    lengths or a side that does not vary.
    """
    x, y, weights = np.asarray(x, float), np.asarray(y, float), np.asarray(weights)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError("x or y does not vary; a correlation needs both to")
    a, b = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    moments = weights @ np.stack([np.ones_like(a), a, b, a * a, b * b, a * b], 1)
    ea, eb, eaa, ebb, eab = (moments[:, 1:] / moments[:, :1]).T
    return (eab - ea * eb) / np.sqrt((eaa - ea**2) * (ebb - eb**2))


def standardise(values: pd.DataFrame, groups: ArrayLike) -> pd.DataFrame:
    """Return the columns with mean 0 and standard deviation 1 within each group, such as a corpus.

    Raises `ValueError` for a column that does not vary within a group.
    """
    by = values.groupby(np.asarray(groups))
    spread = by.transform("std")
    if not (spread > 0).all(axis=None):
        raise ValueError("values has a column that does not vary in a group; leave it out")
    return (values - by.transform("mean")) / spread


def quadratic(values: ArrayLike, factor: ArrayLike | None = None) -> np.ndarray:
    """Return a design matrix: 1, the columns, their squares and products, and a factor's levels.

    `values` has shape (n, k) and the result 1 + k(k + 3)/2 columns, plus one for each level of
    `factor` but the first.
    """
    X = np.asarray(values, float)
    first, second = np.triu_indices(X.shape[1])
    parts = [np.ones((len(X), 1)), X, X[:, first] * X[:, second]]
    if factor is not None:
        parts.append(pd.get_dummies(np.asarray(factor), drop_first=True).to_numpy(float))
    return np.hstack(parts)


def _fit_share(X: np.ndarray, y: np.ndarray, *, logistic: bool, steps: int = 50) -> np.ndarray:
    """Return the coefficients of a line, or of a logistic curve, for shares between 0 and 1.

    `X` of shape (n, k) holds its own column of ones, `y` the shares. The line is least squares; the
    curve maximises the binomial likelihood, by Newton's method: the numbers of statsmodels' GLM in
    a sixth of its time. Raises `ValueError` for shares outside [0, 1] or missing, and a curve that
    does not converge. Source: Papke and Wooldridge (1996).
    """
    # NaN is refused too, as it compares with nothing.
    if not (y.min() >= 0 and y.max() <= 1):
        raise ValueError("y must lie in [0, 1], none missing; pass shares, not percent or counts")
    if not logistic:
        return np.linalg.lstsq(X, y, rcond=None)[0]
    b = np.zeros(X.shape[1])
    for _ in range(steps):
        p = expit(X @ b)
        step = np.linalg.solve((X * (p * (1 - p))[:, None]).T @ X, X.T @ (y - p))
        b = b + step
        if np.abs(step).max() < 1e-8:
            return b
    raise ValueError(f"no convergence in {steps} steps; standardise the columns of X first")


def predict_held_out(
    X: np.ndarray, y: ArrayLike, groups: ArrayLike, *, logistic: bool = False, thin: int = 1
) -> np.ndarray:
    """Return the prediction of every row by a fit to the rows of all other groups.

    `X` has shape (n, k) with its own column of ones, `y` are shares, `groups` such as the families
    of the models. Predictions of a line are cut to [0, 1]. `thin` fits to every thin-th row only.
    Raises `ValueError` for a single group, or as `_fit_share`.
    """
    y, groups = validation.numbers(y, "y"), np.asarray(groups)
    names = pd.unique(groups)
    if len(names) < 2:
        raise ValueError("groups has one value; there is nothing to fit to when it is held out")
    out = np.empty(len(y))
    for name in names:
        held = groups == name
        b = _fit_share(X[~held][::thin], y[~held][::thin], logistic=logistic)
        out[held] = expit(X[held] @ b) if logistic else np.clip(X[held] @ b, 0, 1)
    return out


def rmse_table(
    residuals: pd.DataFrame,
    groups: ArrayLike,
    baseline: str,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the root mean squared error of each column, and its gain on a baseline column.

    `residuals` has one column per predictor; whole `groups` of its rows are drawn with replacement,
    the same for all columns, and the predictions held fixed. Columns: `rmse`, `low`, `high`,
    `gain` (baseline minus predictor, above zero if better), `gain low`, `gain high`. Raises
    `ValueError` for a missing value or an unknown baseline.
    """
    if baseline not in residuals or residuals.isna().any(axis=None):
        raise ValueError(f"residuals must have the column {baseline!r} and no missing value")
    square = (residuals**2).assign(rows=1.0).groupby(np.asarray(groups)).sum()
    times = draw_weights(len(square), n_resamples, seed=seed) @ square.to_numpy()
    sample = np.sqrt(times[:, :-1] / times[:, -1:])
    rmse = np.sqrt((residuals**2).mean())
    low, high = np.quantile(sample, _ENDS, axis=0)
    ahead = sample[:, [residuals.columns.get_loc(baseline)]] - sample
    gain_low, gain_high = np.quantile(ahead, _ENDS, axis=0)
    table = {"rmse": rmse, "low": low, "high": high, "gain": rmse[baseline] - rmse}
    return pd.DataFrame(
        {**table, "gain low": gain_low, "gain high": gain_high}, index=residuals.columns
    )
