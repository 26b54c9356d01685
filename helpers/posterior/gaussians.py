"""Gaussian clusters: fit one Gaussian per cluster, measure rows by all of them, take posteriors.

Rows are read in pieces, so that memory is bounded by their number alone, not by their width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from helpers.validation import name_some

# Most entries of the matrices that are stacked for one product: bounds the memory.
_STACKED = 2**22
# Most numbers of one head that are kept as float64 instead of being read again: 32 MiB.
KEPT = 2**22
# A pivot, and a cluster's variance against the overall one, below which only rounding is left.
SINGULAR, ROUNDING = 1e-12, 1e-20
# A dimension of a cluster is flat below this share of the overall variance.
_FLAT = 1e-3


class Layout(NamedTuple):
    """Rows sorted by fold, and by cluster within a fold: names (K), sizes (F, K), codes (N,)."""

    names: list
    sizes: np.ndarray
    codes: np.ndarray

    def rows(self, fold: int, cluster: int | None = None) -> slice:
        """Return where a fold stands, or one cluster of it."""
        flat, k = np.append(0, np.cumsum(self.sizes)), self.sizes.shape[1]
        first = fold * k + (cluster or 0)
        return slice(int(flat[first]), int(flat[first + (k if cluster is None else 1)]))


class Block(NamedTuple):
    """Squared Mahalanobis distances (k, m) of the rows `at` from clusters `first` to `last`."""

    first: int
    last: int
    at: np.ndarray | slice
    squared: np.ndarray
    log_det: np.ndarray

    def log_likelihood(self) -> np.ndarray:
        """Return (k, m) log densities without -d/2 log 2π, which cancels in every posterior."""
        return -0.5 * (self.squared + self.log_det)


class _Reader(NamedTuple):
    """Rows of one head, (m, d + 1) float64, centred: `read` takes a slice or positions.

    The last column is of ones: it carries the means through the one product per chunk of rows.
    """

    read: Callable[[np.ndarray | slice], np.ndarray]
    n_dims: int
    n_columns: int


def reader(
    X: np.ndarray,
    order: np.ndarray,
    columns: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    rotation: np.ndarray | None = None,
) -> _Reader:
    """Return a reader of some columns of the sorted rows `X[order]`, (value - centre) / scale.

    `centre` and `scale` have one entry a column of `X`; `rotation` (len(columns), d) turns the
    columns into d directions. A head that fits into `KEPT` numbers is read once and kept.
    """
    d = len(columns) if rotation is None else rotation.shape[1]
    middle, inverse = centre[columns], 1 / scale[columns]
    whole = len(columns) == X.shape[1] and (np.diff(columns) == 1).all()

    def finish(values: np.ndarray) -> np.ndarray:
        values = np.subtract(values, middle, dtype=np.float64)
        values *= inverse
        out = np.ones((len(values), d + 1))
        out[:, :d] = values if rotation is None else values @ rotation
        return out

    def read(at: np.ndarray | slice) -> np.ndarray:
        rows = order[at]
        return finish(X[rows] if whole else X[rows[:, None], columns])

    if len(order) * (max(len(columns), d) + 1) > KEPT:
        return _Reader(read, d, len(columns))
    kept = X if whole else np.take(X, columns, axis=1)
    return _Reader(finish(np.take(kept, order, axis=0)).__getitem__, d, len(columns))


def squared_distances(
    head: _Reader,
    layout: Layout,
    plan: Iterable[tuple[list[int], int]],
    *,
    covariance: str,
    ridge: float,
    overall: float,
    chunk_rows: int,
    wanted: np.ndarray | None = None,
    narrow: set | None = None,
) -> Iterator[Block]:
    """Fit one Gaussian per cluster to some folds, measure the rows of another; yield blocks.

    `plan` lists pairs (folds to fit, fold to measure); `wanted` (N,) bool picks the rows to
    measure. Covariance "empirical" has divisor n_k and `ridge` times the mean variance on the
    diagonal, "oas" is shrunk (Chen et al., 2010, eq. 23
    without its terms in 2/d, as in scikit-learn). `narrow` gathers the names of clusters
    with a direction in which the ridge outweighs their own variance or, with "oas", with a
    dimension in which they have next to none of the variance `overall`. Raises `ValueError` that
    names a cluster with a singular covariance. Many clusters share one product per chunk of rows.
    """
    d, (n_folds, k), plan = head.n_dims, layout.sizes.shape, list(plan)
    group = max(1, _STACKED // (n_folds * d * (d + 1)))
    used = sorted({fold for train, _ in plan for fold in train})
    for first in range(0, k, group):
        last = min(first + group, k)
        moments = [_moments(head, layout, used, c, chunk_rows) for c in range(first, last)]
        for train, test in plan:
            whiten, log_det = np.empty((d + 1, last - first, d)), np.empty((last - first, 1))
            for c in range(first, last):
                mean, sigma, n = _pooled(moments[c - first], layout.sizes[:, c], train)
                flat = covariance == "oas" and (np.diag(sigma) <= _FLAT * overall).any()
                sigma = _covariance(sigma, n, covariance, ridge, overall)
                factor = _cholesky(sigma, layout.names[c], n)
                if narrow is not None and (flat or _is_narrow(factor, ridge)):
                    narrow.add(layout.names[c])
                inverse = solve_triangular(factor, np.eye(d), lower=True, check_finite=False).T
                whiten[:d, c - first], whiten[d, c - first] = inverse, -mean @ inverse
                log_det[c - first] = 2 * np.log(np.diag(factor)).sum()
            whiten = whiten.reshape(d + 1, -1)
            step = min(chunk_rows, max(1, _STACKED // whiten.shape[1]))
            for at in _chunks(layout.rows(test), wanted, step):
                z = (head.read(at) @ whiten).reshape(-1, last - first, d)
                yield Block(first, last, at, np.einsum("nkd,nkd->kn", z, z), log_det)


def _chunks(rows: slice, wanted: np.ndarray | None, step: int) -> Iterator[np.ndarray | slice]:
    if wanted is None:
        yield from (slice(s, min(s + step, rows.stop)) for s in range(rows.start, rows.stop, step))
    else:
        chosen = rows.start + np.flatnonzero(wanted[rows])
        yield from (chosen[s : s + step] for s in range(0, len(chosen), step))


def _moments(
    head: _Reader, layout: Layout, folds: list[int], cluster: int, chunk_rows: int
) -> tuple[np.ndarray, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Return a reference point, and each fold's sum and scatter about it, of one cluster.

    The reference is the cluster's mean in its first fold: near enough to every fold's mean that no
    digits are lost however far the cluster lies from the others.
    """
    step = max(chunk_rows, 2**20 // head.n_columns)
    reference, found = None, {}
    for fold in folds:
        rows, d = layout.rows(fold, cluster), head.n_dims
        pieces = [slice(s, min(s + step, rows.stop)) for s in range(rows.start, rows.stop, step)]
        if reference is None and pieces:
            whole = sum(head.read(piece)[:, :d].sum(axis=0) for piece in pieces)
            reference = whole / (rows.stop - rows.start)
        total, scatter = np.zeros(d), np.zeros((d, d))
        for piece in pieces:
            z = head.read(piece)[:, :d] - reference
            total += z.sum(axis=0)
            scatter += z.T @ z
        found[fold] = total, scatter
    return reference, found


def _pooled(
    moments: tuple[np.ndarray, dict], sizes: np.ndarray, folds: list[int]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the mean, the covariance (divisor n) and the number of rows of some folds."""
    reference, found = moments
    n = int(sizes[folds].sum())
    shift = sum(found[fold][0] for fold in folds) / n
    scatter = sum(found[fold][1] for fold in folds)
    return reference + shift, scatter / n - np.outer(shift, shift), n


def _covariance(sigma: np.ndarray, n: int, kind: str, ridge: float, overall: float) -> np.ndarray:
    d = len(sigma)
    level = np.trace(sigma) / d
    if level <= ROUNDING * overall:
        return (0.0 if kind == "empirical" else 1e-6) * overall * np.eye(d)
    if kind == "empirical":
        return sigma + ridge * level * np.eye(d)
    alpha = np.mean(sigma**2)
    below = (n + 1) * (alpha - level**2 / d)
    weight = 1.0 if below <= 0 else min((alpha + level**2) / below, 1.0)
    return (1 - weight) * sigma + weight * level * np.eye(d)


def _cholesky(sigma: np.ndarray, name: object, n: int) -> np.ndarray:
    try:
        factor = np.linalg.cholesky(sigma)
        singular = (np.diag(factor) ** 2 <= SINGULAR * np.diag(sigma)).any()
    except np.linalg.LinAlgError:
        singular = True
    if singular:
        raise ValueError(
            f"cluster {name_some([name])} ({n} rows) has a singular covariance in {len(sigma)} "
            "dimensions; use a smaller head_dim, a larger ridge, or form='calibrated' / 'oas'"
        )
    return factor


def _is_narrow(factor: np.ndarray, ridge: float) -> bool:
    """Return whether some direction has little but a small ridge (twice it in a copy)."""
    variance = np.sum(factor**2, axis=1)
    own = 3 * ridge * np.maximum(variance, variance.mean())
    return ridge <= 0.01 and bool((np.diag(factor) ** 2 <= own).any())


def log_posterior(
    blocks: Iterable[Block],
    layout: Layout,
    log_prior: np.ndarray,
    *,
    power: float = 1.0,
    left_out: int | None = None,
) -> np.ndarray:
    """Return the log posterior (N,) of each sorted row's own cluster, in nats.

    The likelihoods are raised to `power`. The sum over clusters runs along with the blocks, so
    that no array of N * K numbers is held. `left_out`, the number of dimensions, scores each row
    as if it had been taken out of its own cluster.
    """
    n = len(layout.codes)
    top, total, own = np.full(n, -np.inf), np.zeros(n), np.full(n, np.nan)
    for block in blocks:
        prior = log_prior[block.first : block.last, None]
        joint = prior + power * block.log_likelihood()
        code = layout.codes[block.at] - block.first
        mine = np.flatnonzero((code >= 0) & (code < block.last - block.first))
        cell = code[mine], mine
        if left_out is not None:
            joint[cell] = prior[cell[0], 0] + _left_out(block, layout, cell, left_out)
        at = block.at
        value = own[at]
        value[mine] = joint[cell]
        highest = np.maximum(top[at], joint.max(axis=0))
        joint -= highest
        share = np.exp(joint, out=joint).sum(axis=0)
        total[at] = total[at] * np.exp(top[at] - highest) + share
        own[at], top[at] = value, highest
    measured = total > 0
    total[measured] = np.log(total[measured])
    return own - top - total


def _left_out(
    block: Block, layout: Layout, cell: tuple[np.ndarray, np.ndarray], d: int
) -> np.ndarray:
    """Return how far weight and density of the own cluster change when it loses the row itself.

    Taking a row out is a rank-one change of its cluster's scatter: weight, mean, determinant and
    distance follow in closed form. The ridge is held at the sum the whole cluster gave it.
    """
    cluster = block.first + cell[0]
    n = layout.sizes.sum(axis=0)[cluster].astype(float)
    rest = 1 - block.squared[cell] / (n - 1)
    if (rest <= SINGULAR).any():
        name = layout.names[cluster[np.argmin(rest)]]
        raise ValueError(
            f"cluster {name_some([name])} has a singular covariance once one of its rows is left "
            "out; use a smaller head_dim, a larger ridge, or form='calibrated'"
        )
    log_det = block.log_det[cell[0], 0] + d * np.log(n / (n - 1)) + np.log(rest)
    distance = n / (n - 1) * block.squared[cell] / rest
    return np.log((n - 1) / n) - 0.5 * (distance + log_det)


def log_likelihood(blocks: Iterable[Block], layout: Layout, wanted: np.ndarray) -> np.ndarray:
    """Return (K, m) log likelihoods of the m wanted rows, in sorted order."""
    place = np.cumsum(wanted) - 1
    out = np.empty((layout.sizes.shape[1], int(wanted.sum())))
    for block in blocks:
        out[block.first : block.last, place[block.at]] = block.log_likelihood()
    return out


def normalise(joint: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the log share (M,) that the row `codes` takes of the columns of exp(joint) (K, M)."""
    joint = joint - joint.max(axis=0)
    own = joint[codes, np.arange(len(codes))]
    return own - np.log(np.exp(joint, out=joint).sum(axis=0))
