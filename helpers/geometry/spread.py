"""Spread of a point cloud: seven measures from one eigen-decomposition of its covariance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import validation
from helpers.geometry import intrinsic_dimension

# Keys of `spread_measures`, in its order.
MEASURES = ("eee", "vrm", "isoscore", "rankme", "participation_ratio", "mean_cosine", "twonn")
# Rows centred at a time, and coordinates projected at a time (32 MiB of float32).
_ROWS = 4096
_PROJECTED = 2**23


class _Spectrum(NamedTuple):
    """Mean (d,), eigenvalues of the sample covariance (d,) from high to low, axes in columns."""

    mean: np.ndarray
    values: np.ndarray
    axes: np.ndarray


def _chunks(x: np.ndarray, mean: np.ndarray) -> Iterator[np.ndarray]:
    """Give the centred rows in float64, some at a time, in memory that the next ones overwrite."""
    room = np.empty((min(len(x), _ROWS), x.shape[1]))
    for start in range(0, len(x), _ROWS):
        rows = x[start : start + _ROWS]
        yield np.subtract(rows, mean, out=room[: len(rows)])


def _clean(values: np.ndarray) -> np.ndarray:
    """Sort from high to low, and set what is only rounding to 0."""
    values = values[::-1]
    return np.where(values > len(values) * np.finfo(float).eps * values[0], values, 0.0)


def _decompose(x: np.ndarray) -> _Spectrum:
    mean = x.mean(axis=0, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        covariance = sum(rows.T @ rows for rows in _chunks(x, mean)) / (len(x) - 1)
        total = np.trace(covariance)
    if not 1e-280 < total < 1e300:
        raise ValueError(
            f"points are so {'near to' if total < 1 else 'far from'} one another that the squares "
            "of their distances are lost; multiply them by a constant"
        )
    values, axes = np.linalg.eigh(covariance)
    return _Spectrum(mean, _clean(values), axes[:, ::-1])


def _about_zero(spectrum: _Spectrum, n: int) -> np.ndarray:
    """Return the eigenvalues of the mean of x x': the covariance plus one direction, the mean."""
    mean = spectrum.axes.T @ spectrum.mean
    moments = np.diag(spectrum.values * (n - 1) / n) + np.outer(mean, mean)
    return _clean(np.linalg.eigvalsh(moments))


def _eigenvalues(values: ArrayLike) -> np.ndarray:
    values = validation.numbers(values, "eigenvalues")
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"eigenvalues has shape {values.shape}; pass two or more in one dimension")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() > 0):
        raise ValueError(
            "eigenvalues must be finite, none below 0 and one above; set those that rounding made "
            "negative to 0, as `eigenvalues` does"
        )
    # The measures do not depend on scale; without this, squares overflow or vanish.
    return np.sort(values)[::-1] / values.max()


def eigenvalues(points: ArrayLike, *, centred: bool = True) -> np.ndarray:
    """Return the d eigenvalues of the sample covariance of a cloud, from high to low.

    `points` has shape (N, d), any real dtype, 2 points and 2 dimensions or more; sums are taken in
    float64, some rows at a time. The divisor is N - 1. With `centred=False` they are those of the
    mean of x x' (divisor N), so that the mean of the cloud counts too. Values below d times
    the rounding of the first are set to 0. Raises `ValueError` for bad input or equal points.
    """
    x = validation.cloud(points)
    spectrum = _decompose(x)
    return spectrum.values if centred else _about_zero(spectrum, len(x))


def early_enrichment(values: np.ndarray) -> float:
    """Return the eigenvalue early enrichment (EEE): how far the first axes run ahead of the rest.

    `values` (d,) are the eigenvalues of the covariance, from low to high. With S_i the sum of the i
    largest, it is the area between S_i and the line i S_d / d, by trapezoids from i = 1 to d, over
    S_d d / 2. 0 for equal eigenvalues; one direction gives (1 - 1/d)², as the area left of i = 1 is
    not counted. The sum over i of S_i is that of the eigenvalues by their ranks from below;
    trapezoids leave out half of the first height, and the last is 0. Source: Marbut et al. (2023),
    arXiv 2212.08172; released code, which rounds to four digits and, with fewer points than
    dimensions, leaves the zeros out.
    """
    d, total = len(values), values.sum()
    area = np.arange(1, d + 1) @ values - total * (d + 1) / 2 - (values[-1] - total / d) / 2
    return float(area / (total * d / 2))


def _participation_ratio(eigenvalues: ArrayLike) -> float:
    """Return the participation ratio (sum of l)² / sum of l²: 1 for one direction, d for all alike.

    `eigenvalues` (d,) are those of the covariance, in any order. Raises `ValueError` for fewer than
    two values, negative ones, or zeros only. Source: Gao et al. (2017), bioRxiv 214262.
    """
    values = _eigenvalues(eigenvalues)
    return float(values.sum() ** 2 / (values @ values))


def isoscore(eigenvalues: ArrayLike) -> float:
    """Return IsoScore: 0 for one direction, 1 for all directions alike.

    `eigenvalues` (d,) are those of the covariance, in any order. The paper scales them to the
    length √d, takes the distance to the vector of ones, and turns it into a share of dimensions in
    use. All of this is (P - 1) / (d - 1), with P the participation ratio: the two measures cannot
    disagree. Raises `ValueError` for fewer than two values, negative ones, or zeros only. Source:
    Rudman et al. (2022), released code; the short form is algebra, and the tests check it.

    >>> from helpers.geometry import isoscore
    >>> isoscore([1, 0, 0]), isoscore([1, 1, 0]), isoscore([1, 1, 1])
    (0.0, 0.5, 1.0)
    """
    return (_participation_ratio(eigenvalues) - 1) / (len(np.asarray(eigenvalues)) - 1)


def _rankme(eigenvalues: ArrayLike) -> float:
    """Return RankMe, the exponential of the entropy of the singular values: from 1 to d.

    `eigenvalues` (d,) are those of the mean of x x', not of the covariance: the published measure
    does not centre the cloud. Their roots are the singular values of the matrix of points up to one
    factor, and p is the roots over their sum. So use
    `eigenvalues(points, centred=False)`; covariance eigenvalues give the form that a common shift
    does not change. Errors as in `isoscore`. Source: Garrido et al. (2023),
    without the 1e-7 that is added to every p there to guard the logarithm.
    """
    roots = np.sqrt(_eigenvalues(eigenvalues))
    p = roots[roots > 0] / roots.sum()
    return float(np.exp(-(p @ np.log(p))))


def _vrm(x: np.ndarray, spectrum: _Spectrum) -> float:
    """Return the Vasicek ratio MSE (VRM): how far the principal axes are from a standard normal.

    `x` (N, d) are 3 points or more, and `spectrum` is theirs. The principal coordinates are scaled
    together to a total variance of d. H_i is Vasicek's entropy (window √N, rounded) of coordinate
    i, and VRM the mean of (1 - exp(H_i) / √(2πe))² over the d axes. About 0 for an isotropic
    Gaussian, a little above as the estimate is low in small samples. An axis without variance adds
    1, and so does one with more than two windows of equal values, whose entropy is minus infinity.
    VRM can exceed 1: one direction, if normal, gives (d - 1 + (1 - √d)²) / d. Points of float32 or
    float16 are projected in float32, which moves VRM by less than 1e-6. Source: Marbut et al.
    (2023), arXiv 2212.08172; released code. That code draws a normal sample for the total variance,
    which is d on average, and leaves the entropy to SciPy's choice, which is Vasicek's above 1,000
    points only.
    """
    if len(x) < 3:
        raise ValueError(f"points has {len(x)} rows; Vasicek's entropy needs 3 or more")
    n, d = x.shape
    window = min(int(np.sqrt(n) + 0.5), (n - 1) // 2)
    used = int(np.count_nonzero(spectrum.values))
    kind = np.float32 if x.dtype in (np.float16, np.float32) else np.float64
    # Entropy does not see the common shift that the rounding of the mean leaves.
    mean, axes = spectrum.mean.astype(kind), np.ascontiguousarray(spectrum.axes.T, dtype=kind)
    entropy = np.full(d, -np.inf)
    width = max(1, _PROJECTED // n)
    for start in range(0, used, width):
        chosen = axes[start : min(start + width, used)]
        projected = np.empty((len(chosen), n), dtype=kind)
        for row in range(0, n, _ROWS):
            rows = x[row : row + _ROWS] - mean
            np.matmul(chosen, rows.T, out=projected[:, row : row + _ROWS])
        entropy[start : start + len(chosen)] = [_vasicek(values, window) for values in projected]
    entropy += np.log(d / spectrum.values.sum()) / 2
    return float(np.mean((1 - np.exp(entropy) / np.sqrt(2 * np.pi * np.e)) ** 2))


def _vasicek(values: np.ndarray, window: int) -> float:
    """Return Vasicek's entropy of values that may be put in order in place."""
    values.sort()
    n = len(values)
    gaps = np.empty_like(values)
    np.subtract(values[window : 2 * window], values[0], out=gaps[:window])
    np.subtract(values[2 * window :], values[: n - 2 * window], out=gaps[window : n - window])
    np.subtract(values[-1], values[n - 2 * window : n - window], out=gaps[n - window :])
    with np.errstate(divide="ignore"):
        return np.log(gaps, out=gaps).mean(dtype=np.float64) + np.log(n / (2 * window))


def mean_cosine(points: ArrayLike) -> float:
    """Return the mean cosine over all pairs of different points, from -1/(N - 1) to 1.

    `points` as in `eigenvalues`; equal points are allowed, zeros are not, and nothing is centred.
    With u the mean of the unit vectors it is (N |u|² - 1) / (N - 1), without a loop over pairs.
    Source: the anisotropy of Ethayarajh (2019), over all pairs.
    """
    x = validation.matrix(points, "points")
    return _cosine(x)


def _cosine(x: np.ndarray) -> float:
    total = np.zeros(x.shape[1])
    for rows in _chunks(x, np.zeros(x.shape[1])):
        with np.errstate(over="ignore", under="ignore"):
            squares = np.einsum("nd,nd->n", rows, rows)
        if not (squares.min() > 1e-200 and squares.max() < 1e200):
            # Squares of tiny or huge entries are lost: divide by the largest entry first.
            largest = np.abs(rows).max(axis=1, keepdims=True)
            if not largest.all():
                raise ValueError(
                    "points has rows of zeros, which have no direction; leave them out"
                )
            rows /= largest
            squares = np.einsum("nd,nd->n", rows, rows)
        total += (1 / np.sqrt(squares)) @ rows
    n = len(x)
    return float((total @ total / n - 1) / (n - 1))


def spread_measures(points: ArrayLike, *, seed: int = 0) -> dict[str, float]:
    """Return seven measures of the spread of a cloud, from one eigen-decomposition.

    `points` has shape (N, d), any real dtype, 3 points and 2 dimensions or more. The keys: `eee`
    (`early_enrichment`), `vrm` (the Vasicek ratio MSE), `isoscore`, `rankme` (of the cloud as it
    is, not centred, as published), `participation_ratio`, `mean_cosine` (not centred) and `twonn`
    (4,000 points drawn by the seed; NaN below 10 distinct points). All but `rankme` and
    `mean_cosine` stay as they are under a common shift, all under scaling and rotation. Memory
    beside the input is bounded in N: 76 MiB for 20,000 x 768 in float32. Raises `ValueError` for
    bad input, equal points, or rows of zeros.
    Source: see each function.

    >>> import numpy as np
    >>> from helpers.geometry import spread_measures
    >>> points = np.random.default_rng(0).standard_normal((1000, 3))
    >>> found = spread_measures(points)
    >>> {key: round(found[key], 1) for key in ("isoscore", "participation_ratio", "twonn")}
    {'isoscore': 1.0, 'participation_ratio': 3.0, 'twonn': 2.9}
    """
    x = validation.cloud(points)
    validation.counts(seed=(seed, 0))
    cosine = _cosine(x)
    spectrum = _decompose(x)
    return {
        "eee": early_enrichment(spectrum.values[::-1]),
        "vrm": _vrm(x, spectrum),
        "isoscore": isoscore(spectrum.values),
        "rankme": _rankme(_about_zero(spectrum, len(x))),
        "participation_ratio": _participation_ratio(spectrum.values),
        "mean_cosine": cosine,
        "twonn": intrinsic_dimension.distinct_and_slope(x, seed=seed)[1],
    }


def between_share(points: ArrayLike, groups: ArrayLike) -> float:
    """Return the share of the total variance of a cloud that lies between groups, from 0 to 1.

    `points` has shape (N, d), any real dtype; `groups` holds one label a point, such as the number
    of its sentence. The share is the sum over groups of n_g |m_g - m|² over the sum of |x - m|²,
    with m_g the mean of a group, n_g its size and m the mean of all: 1 if each group is one point,
    0 if all groups have the same mean. Groups drawn at random give (k - 1) / (N - 1) on average,
    with k groups: three tokens a sentence give about 1/3 for nothing. Source: the multivariate eta
    squared of the analysis of variance.
    """
    x = validation.varying(validation.matrix(points, "points"), "points")
    codes, names = pd.factorize(validation.labels(groups, len(x), "groups", "points"))
    # Scaled first: squares of tiny or huge entries are lost otherwise.
    x = x.astype(np.float64)
    x /= np.abs(x).max()
    x -= x.mean(axis=0)
    x /= np.abs(x).max()
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, codes, x)
    between = np.einsum("kd,kd->k", sums, sums) @ (1 / np.bincount(codes))
    return min(1.0, float(between / np.einsum("nd,nd->", x, x)))
