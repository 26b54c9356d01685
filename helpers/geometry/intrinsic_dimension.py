"""The intrinsic dimension of a cloud by the distances to two neighbours (TwoNN)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from helpers import validation

# Rows whose distances to all others are held at a time.
_DISTANCES = 1024
# Points that a search in float32 names for each point, itself among them.
_CANDIDATES = 4
# Fewest distinct points for an intrinsic dimension.
_FEWEST_DISTINCT = 10


def twonn(
    points: ArrayLike,
    *,
    most: int = 4000,
    discard: float = 0.1,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> float:
    """Return the intrinsic dimension by the two nearest neighbours (TwoNN).

    `points` has shape (n, d), any real dtype, n and d at least 2. Where there are more than `most`,
    that many are drawn by the seed. Of points closer together than `tolerance` times the root mean
    square distance to the centre only the first is kept: coinciding points have no ratio of
    distances. With m the ratio of the second to the first neighbour's distance, sorted, and
    F_i = i / n, the result is the slope of -log(1 - F) on log(m) through the origin, without the
    share `discard` of largest ratios.

    Values below 1 say that points lie in tight groups: raise `tolerance` to count a group once.
    Raises `ValueError` for bad input, or fewer than 10 distinct points. Source: Facco et al. (2017)
    with its share of 10 %; `tolerance`, at least 1e-7 for the rounding, is this book's.

    >>> import numpy as np
    >>> from helpers.geometry import twonn
    >>> plane = np.random.default_rng(0).random((2000, 2))
    >>> round(twonn(plane), 1), round(twonn(plane @ np.ones((2, 10))), 1)
    (2.0, 1.0)
    """
    x = validation.cloud(points)
    validation.counts(most=(most, _FEWEST_DISTINCT), seed=(seed, 0))
    if not 0 < discard < 1:
        raise ValueError(f"discard is {discard}; pass a share between 0 and 1")
    validation.non_negative(tolerance, "tolerance")
    kept, slope = distinct_and_slope(x, most=most, discard=discard, tolerance=tolerance, seed=seed)
    if kept < _FEWEST_DISTINCT:
        raise ValueError(
            f"points has {kept} distinct points among those looked at; TwoNN needs "
            f"{_FEWEST_DISTINCT} or more: lower tolerance, or pass more points"
        )
    return slope


def distinct_and_slope(
    x: np.ndarray, *, most: int = 4000, discard: float = 0.1, tolerance: float = 1e-6, seed: int = 0
) -> tuple[int, float]:
    """Return how many distinct points `twonn` sees, and its value, NaN where they are too few."""
    kept, first, second = _neighbours(x, most, tolerance, seed)
    return kept, _slope(first, second, discard) if kept >= _FEWEST_DISTINCT else np.nan


def _neighbours(
    x: np.ndarray, most: int, tolerance: float, seed: int
) -> tuple[int, np.ndarray, np.ndarray]:
    """Return how many distinct points there are, and the distances of their two neighbours."""
    from sklearn.metrics import euclidean_distances

    if len(x) > most:
        x = x[np.sort(np.random.default_rng(seed).choice(len(x), most, replace=False))]
    # Centring keeps the distances exact: they are computed from inner products.
    x = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    size = np.sqrt(np.mean(np.einsum("nd,nd->n", x, x)))
    none = np.empty(0)
    if not size or len(x) < _FEWEST_DISTINCT:
        return (len(x) if size else 1), none, none
    x /= size

    # Inner products of unit size leave about 1e-8 of rounding in a distance.
    tolerance = max(tolerance, 1e-7)
    distances = _two_nearest(x)
    if distances[:, 0].min() <= tolerance:
        keep = np.ones(len(x), dtype=bool)
        for start in range(0, len(x), _DISTANCES):
            near = euclidean_distances(x[start : start + _DISTANCES], x) <= tolerance
            keep[start : start + _DISTANCES] = ~np.tril(near, start - 1).any(axis=1)
        x = x[keep]
        if len(x) < _FEWEST_DISTINCT:
            return len(x), none, none
        distances = _two_nearest(x)
    return len(x), distances[:, 0], distances[:, 1]


def _two_nearest(x: np.ndarray) -> np.ndarray:
    """Return the distances (n, 2) of the two nearest neighbours of centred points in float64.

    A search in float32 names candidates, whose distances are then exact. Where float32 cannot
    rule out that a nearer point is missing, a search in float64 names them again.
    """
    import faiss
    from sklearn.neighbors import NearestNeighbors

    single = np.ascontiguousarray(x, dtype=np.float32)
    far, near = faiss.knn(single, single, min(_CANDIDATES, len(x)))
    squares = _two_least(x, np.arange(len(x)), near)
    norms = np.einsum("nd,nd->n", x, x)
    rounding = 64 * np.finfo(np.float32).eps * (norms + norms.max())
    unsure = np.flatnonzero(squares[:, 1] + rounding >= far[:, -1])
    if len(unsure) and len(x) > _CANDIDATES:
        search = NearestNeighbors(n_neighbors=_CANDIDATES, algorithm="brute").fit(x)
        near = search.kneighbors(x[unsure], return_distance=False)
        squares[unsure] = _two_least(x, unsure, near)
    return np.sqrt(squares)


def _two_least(x: np.ndarray, rows: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the two least squared distances of rows to those named for them, not to themselves."""
    squares, gaps, own = np.empty(near.shape), np.empty((len(rows), x.shape[1])), x[rows]
    for column, others in zip(squares.T, near.T, strict=True):
        np.take(x, others, axis=0, out=gaps, mode="clip")
        gaps -= own
        column[:] = np.einsum("nd,nd->n", gaps, gaps)
    squares[near == rows[:, None]] = np.inf
    squares.partition(1, axis=1)
    return squares[:, :2]


def _slope(first: np.ndarray, second: np.ndarray, discard: float) -> float:
    n = len(first)
    ratios = np.log(np.sort(second / first))
    used = max(1, min(n - 1, int(np.floor(n * (1 - discard)))))
    levels = -np.log1p(-np.arange(1, used + 1) / n)
    ratios = ratios[:used]
    square = float(ratios @ ratios)
    return float(ratios @ levels) / square if square else np.inf
