"""Quantized latent space: quantizers, cell counts, patchiness, Lloyd's index, and all measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from helpers import ties, validation
from helpers.geometry import quantizers, spread

if TYPE_CHECKING:
    pass


def cell_counts(codes: ArrayLike, n_cells: int) -> np.ndarray:
    """Return how many points fall into each cell of each codebook, of shape (M, n_cells).

    `codes` holds integers of shape (n, M), or (n,) for one codebook: column m is the cell of every
    point in codebook m, from 0 to `n_cells - 1`. The result is int64, and every row sums to n.
    Raises `ValueError` for no points, codes that are no integers, or codes out of range. Source:
    Lloyd (1967), counts in cells.

    >>> from helpers.geometry import cell_counts
    >>> cell_counts([0, 0, 1, 3], n_cells=4)
    array([[2, 1, 0, 1]])
    """
    validation.counts(n_cells=(n_cells, 1))
    codes = np.asarray(codes)
    codes = codes[:, None] if codes.ndim == 1 else codes
    if codes.ndim != 2 or not codes.size:
        raise ValueError(f"codes has shape {codes.shape}; pass (points, codebooks), not empty")
    if not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"codes has dtype {codes.dtype}; pass integers, one cell number per point")
    if codes.min() < 0 or codes.max() >= n_cells:
        raise ValueError(
            f"codes runs from {codes.min()} to {codes.max()}, but n_cells is {n_cells}; "
            "number the cells from 0 to n_cells - 1"
        )
    return np.stack([np.bincount(column, minlength=n_cells) for column in codes.T])


def _counts(counts: ArrayLike) -> np.ndarray:
    counts = validation.numbers(counts, "counts")
    counts = counts[None, :] if counts.ndim == 1 else counts
    if counts.ndim != 2 or counts.shape[1] < 2:
        raise ValueError(f"counts has shape {counts.shape}; pass (codebooks, cells), 2 cells or up")
    totals = counts.sum(axis=1)
    if counts.min() < 0 or totals[0] <= 0 or not np.allclose(totals, totals[0], rtol=1e-12):
        raise ValueError(
            f"counts has the row sums {totals[:4]}; pass counts of the same points in every "
            "codebook, at least one point and none below 0"
        )
    return counts


def lloyd_index(counts: ArrayLike) -> float:
    """Return Lloyd's index of patchiness of cell counts: 1 for scattered at random, more if patchy.

    `counts` has shape (M, K), or (K,), as `cell_counts` gives them. With n points per cell on
    average and V the population variance of all counts, L = 1 + (V / n - 1) / n. All points in one
    cell give K - 1 / n, counts that are all equal 1 - 1 / n. Raises `ValueError` for negative
    counts or codebooks with different totals. Source: Lloyd (1967), mean crowding over
    mean density; named by Marbut et al. (2024).

    >>> from helpers.geometry import lloyd_index
    >>> [lloyd_index(counts) for counts in ([8, 8, 8, 8], [12, 4, 10, 6], [32, 0, 0, 0])]
    [0.875, 1.03125, 3.875]
    """
    counts = _counts(counts)
    mean = counts.mean()
    return float(1 + (counts.var() / mean - 1) / mean)


def patchiness_as_released(counts: ArrayLike) -> float:
    """Return the point patchiness of the released code, whose mean is M times too large.

    `counts` has shape (M, K). The code divides the sum of all counts, M N, by the K cells of one
    codebook: mu = M n in place of n. It then takes 1 + (V / mu - 1) / mu, with V the population
    variance of all counts. With one codebook this is Lloyd's index. Raises as `lloyd_index` does.
    Source: Marbut et al. (2024), released code.
    """
    counts = _counts(counts)
    mean = counts.sum() / counts.shape[1]
    return float(1 + (counts.var() / mean - 1) / mean)


def lloyd_from_released(
    patchiness: ArrayLike, *, points_per_cell: float, codebooks: int = 4
) -> np.ndarray:
    """Turn patchiness as released into Lloyd's index: L = 1 + M² (P - 1) + (M - 1) / n.

    `patchiness` is any array, `points_per_cell` n = N / K and `codebooks` M; the result has the
    shape of `patchiness`. The map is affine at a fixed number of points, so that correlations do
    not change. Raises `ValueError` unless `points_per_cell` is positive. Source: algebra on the
    two definitions of `lloyd_index` and `patchiness_as_released`; the tests check it.

    >>> from helpers.geometry import lloyd_from_released
    >>> lloyd_from_released([1.0, 1.1], points_per_cell=60, codebooks=4)
    array([1.05, 2.65])
    """
    if not points_per_cell > 0:
        raise ValueError(f"points_per_cell is {points_per_cell}; pass points / cells, above 0")
    validation.counts(codebooks=(codebooks, 1))
    released = validation.numbers(patchiness, "patchiness")
    return 1 + codebooks**2 * (released - 1) + (codebooks - 1) / points_per_cell


def _count_variance(counts: ArrayLike) -> float:
    """Return the variance of the odds of the cells against even counts, mean over codebooks.

    `counts` has shape (M, K), or (K,). With q = h / N the share of a cell, its odds are
    (q / (1 - q)) (K - 1), 1 for even counts; the variance over the K cells of a codebook is that of
    a population. 0 for even counts, infinite if one cell holds every point. Raises as `lloyd_index`
    does. Source: Marbut et al. (2024), released code.
    """
    counts = _counts(counts)
    shares = counts / counts.sum(axis=1, keepdims=True)
    if shares.max() == 1:
        return np.inf
    return float(np.var(shares / (1 - shares) * (counts.shape[1] - 1), axis=1).mean())


def _count_kl(counts: ArrayLike) -> float:
    """Return the divergence of cell shares from even ones, in nats, mean over codebooks.

    `counts` has shape (M, K), or (K,). With q the shares of the cells of a codebook it is
    log K minus the entropy of q: 0 for even counts, log K if one cell holds every point. Raises as
    `lloyd_index` does. Source: Marbut et al. (2024), released code, which takes the divergence from
    a histogram of N uniform random draws instead: another value at each run, and infinite as soon
    as that sample leaves a cell empty that points fall into.
    """
    counts = _counts(counts)
    shares = counts / counts.sum(axis=1, keepdims=True)
    terms = shares * np.log(np.where(shares > 0, shares, 1.0))
    return float(np.log(counts.shape[1]) + terms.sum(axis=1).mean())


def cell_enrichment(points: ArrayLike, codes: ArrayLike) -> float:
    """Return the mean early enrichment inside the cells (point-distribution EEE).

    `points` has shape (n, d) and is taken as float32, `codes` (n, M), or (n,), holds integers as in
    `cell_counts`. Each cell of each codebook with two distinct points or more gives the EEE of its
    distinct points, and the result is the mean over these cells; NaN if there are none. The EEE is
    `spread.early_enrichment` of the first min(n, d) eigenvalues of the covariance of the n distinct
    points: with fewer points than dimensions the zeros beyond are left out, as released, so that
    the value depends on how many points a cell has. Two points give 0.25 at any distance. Source:
    Marbut et al. (2024), released code, which rounds the EEE of each cell to four digits.
    """
    x, codes = quantizers.as_float32(points), np.asarray(codes)
    codes = codes[:, None] if codes.ndim == 1 else codes
    cell_counts(codes, int(codes.max(initial=0)) + 1)
    found = []
    names = ties.equal_rows(x)
    for column in codes.T:
        pairs = np.unique(column.astype(np.int64) * len(x) + names)
        cells, rows = np.divmod(pairs, len(x))
        for group in np.split(rows, np.flatnonzero(np.diff(cells)) + 1):
            if len(group) > 1:
                found.append(spread.early_enrichment(_few_eigenvalues(x[group])))
    return float(np.mean(found)) if found else np.nan


def _few_eigenvalues(x: np.ndarray) -> np.ndarray:
    """Return the first min(n, d) eigenvalues of the scatter of n points, from low to high.

    The points are float32 and may be changed. They are first moved near their mean, so that
    float32 does for their products; the rest of the way is taken off the products.
    """
    from torch import from_numpy, linalg

    n, d = x.shape
    x -= np.add.reduce(x) / n
    if not 1e-20 < np.vdot(x, x) < 1e20:
        x = x.astype(np.float64)
    if n <= d:
        products = (x @ x.T).astype(np.float64)
        mean = np.add.reduce(products) / n
        products -= mean
        products -= mean[:, None] - mean.mean()
    else:
        mean = x.mean(axis=0, dtype=np.float64)
        products = x.T @ x - n * np.outer(mean, mean)
    # Faster than NumPy's for matrices so small.
    return linalg.eigvalsh(from_numpy(products)).numpy()


def quantized_measures(
    points: ArrayLike,
    codes: ArrayLike,
    restored: ArrayLike,
    *,
    n_cells: int = 256,
    per_cell: bool = False,
) -> dict[str, float]:
    """Return the measures of a quantized cloud, from its codes and restored points.

    `points` and `restored` have shape (n, d), `codes` (n, M) as in `cell_counts`. The keys:
    `lloyd_index` and `patchiness_as_released` (see `lloyd_from_released` for their identity),
    `count_variance`, `count_kl`; `error`, the sum of squared residuals over the sum of squared
    coordinates, neither centred; `iqr`, the interquartile range of the residual norms over the
    largest of them; `skew`, the skewness of these norms (m3 / m2^1.5, NaN if they are all alike);
    `empty_cells`, the share of the cells of all codebooks without a point. `per_cell=True` adds
    `point_eee`, which is `cell_enrichment`. Source: Marbut et al. (2024), released code; Lloyd's
    index and the share of empty cells are this book's.
    """
    x = validation.matrix(points, "points")
    restored = validation.matrix(restored, "restored")
    counts = cell_counts(codes, n_cells)
    norms, error = quantizers.residuals(x, restored)
    low, high = np.percentile(norms, [25, 75])
    found = {
        "lloyd_index": lloyd_index(counts),
        "patchiness_as_released": patchiness_as_released(counts),
        "count_variance": _count_variance(counts),
        "count_kl": _count_kl(counts),
        "error": error,
        "iqr": float((high - low) / norms.max()) if norms.max() else 0.0,
        "skew": _skewness(norms),
        "empty_cells": float(np.mean(counts == 0)),
    }
    return found | ({"point_eee": cell_enrichment(x, codes)} if per_cell else {})


def _skewness(values: np.ndarray) -> float:
    # Values that differ by rounding only have no shape.
    if np.ptp(values) <= 8 * np.finfo(float).eps * values.max():
        return np.nan
    centred = values / values.max()
    centred -= centred.mean()
    return float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)


def measure_cloud(
    points: ArrayLike,
    *,
    quantizer: str = "lsq",
    codebooks: int = 4,
    bits: int = 8,
    train_iters: int = 25,
    seed: int = 0,
    per_cell: bool = False,
) -> dict[str, float]:
    """Return every measure of a cloud of points: those of its quantized form, then its spread.

    The options are those of `quantize`, with which the cloud is quantized. The keys are those of
    `quantized_measures` (`per_cell` as there), then the seven of `spread.spread_measures`, which
    are NaN if all points are equal. `lloyd_index` and `patchiness_as_released` are one measure in
    two units at a fixed number of points: L = 1 + M² (P - 1) + (M - 1) / n, with n the mean number
    of points in a cell. The number of points, the quantizer and its settings are part of what
    is measured: keep them fixed over the clouds to compare. Raises `ValueError` as `quantize` and
    `spread_measures` do. Source: see each function.

    >>> import numpy as np
    >>> from helpers.geometry import measure_cloud
    >>> points = np.random.default_rng(0).standard_normal((800, 4))
    >>> found = measure_cloud(points, quantizer="kmeans", bits=2)
    >>> {key: round(found[key], 2) for key in ("lloyd_index", "isoscore", "twonn")}
    {'lloyd_index': 1.0, 'isoscore': 0.99, 'twonn': 4.57}
    """
    settings = {"quantizer": quantizer, "codebooks": codebooks, "bits": bits}
    settings |= {"train_iters": train_iters, "seed": seed}
    x = quantizers.as_float32(points)
    codes, restored = quantizers.quantize_and_restore(x, **settings)
    if (x == x[0]).all():
        shape = dict.fromkeys(spread.MEASURES, np.nan)
    else:
        shape = spread.spread_measures(points, seed=seed)
    found = quantized_measures(x, codes, restored, n_cells=2**bits, per_cell=per_cell)
    return found | shape
