"""Gaussian clusters: fit one Gaussian a cluster, measure rows by all of them, take posteriors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

# Most entries of the whitening matrices that are stacked for one product: bounds the memory.
STACKED = 2**22
# A pivot, and a cluster's variance against the overall one, below which only rounding is left.
SINGULAR, ROUNDING = 1e-12, 1e-20


class Clusters(NamedTuple):
    """Which cluster each row belongs to (`codes`, 0 to K-1), the K names, and the K sizes."""

    codes: np.ndarray
    names: list
    sizes: np.ndarray


class Fit(NamedTuple):
    """Squared Mahalanobis distances (K, M) of M rows from K Gaussians, log determinants (K, 1)."""

    squared: np.ndarray
    log_det: np.ndarray
    n_dims: int

    def log_likelihood(self) -> np.ndarray:
        """Return (K, M) log densities without -d/2 log 2π, which cancels in every posterior."""
        return -0.5 * (self.squared + self.log_det)


def fit_gaussians(
    train: np.ndarray,
    clusters: Clusters,
    test: np.ndarray,
    covariance: str,
    ridge: float,
    chunk_rows: int,
) -> Fit:
    """Fit one Gaussian a cluster to rows sorted by cluster, and measure the test rows by each.

    `train` (N, d) and `test` (M, d) are float64, best centred beforehand. Covariance "empirical"
    has divisor n_k and `ridge` times the mean variance on the diagonal, "oas" is shrunk (Chen et
    al., 2010, eq. 23). Raises `ValueError` that names a cluster with a singular covariance.
    The test rows meet the whitening matrices of many clusters in one product a chunk of rows; a
    row of ones carries the means, so that no copy of the chunk is centred cluster by cluster.
    """
    d, k = train.shape[1], len(clusters.sizes)
    ends, overall = np.cumsum(clusters.sizes), float(np.square(train).mean())
    ones = np.vstack([test.T, np.ones(len(test))])
    squared, log_det = np.empty((k, len(test))), np.empty((k, 1))
    group = max(1, STACKED // (d * (d + 1)))
    for first in range(0, k, group):
        last = min(first + group, k)
        whiten = np.empty((d + 1, last - first, d))
        for c in range(first, last):
            rows = train[ends[c] - clusters.sizes[c] : ends[c]]
            mean = rows.mean(axis=0)
            sigma = _covariance(rows - mean, covariance, ridge, overall)
            factor = _cholesky(sigma, clusters.names[c], len(rows))
            inverse = solve_triangular(factor, np.eye(d), lower=True, check_finite=False).T
            whiten[:d, c - first], whiten[d, c - first] = inverse, -mean @ inverse
            log_det[c] = 2 * np.log(np.diag(factor)).sum()
        whiten = whiten.reshape(d + 1, -1)
        step = min(chunk_rows, max(1, STACKED // whiten.shape[1]))
        for start in range(0, len(test), step):
            z = (ones[:, start : start + step].T @ whiten).reshape(-1, last - first, d)
            np.einsum("nkd,nkd->kn", z, z, out=squared[first:last, start : start + step])
    return Fit(squared, log_det, d)


def _covariance(centred: np.ndarray, kind: str, ridge: float, overall: float) -> np.ndarray:
    n, d = centred.shape
    sigma = centred.T @ centred / n
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


def own_log_posterior(fit: Fit, clusters: Clusters, log_prior: np.ndarray) -> np.ndarray:
    """Return the log posterior (M,) of each row's own cluster, in nats."""
    return normalise(log_prior[:, None] + fit.log_likelihood(), clusters.codes)


def left_out_log_posterior(fit: Fit, clusters: Clusters, log_prior: np.ndarray) -> np.ndarray:
    """Score each row after taking it out of its own cluster, by a rank-one change of its Gaussian.

    The other clusters stay; the own one loses a row, so that its weight, mean, determinant and
    distance change. The ridge is held at the sum the whole cluster gave it.
    """
    own = clusters.codes, np.arange(len(clusters.codes))
    n = clusters.sizes[clusters.codes].astype(float)
    rest = 1 - fit.squared[own] / (n - 1)
    if (rest <= SINGULAR).any():
        name = clusters.names[clusters.codes[np.argmin(rest)]]
        raise ValueError(
            f"cluster {name_some([name])} has a singular covariance once one of its rows is left "
            "out; use a smaller head_dim, a larger ridge, or form='calibrated'"
        )
    log_det = fit.log_det[own[0], 0] + fit.n_dims * np.log(n / (n - 1)) + np.log(rest)
    distance = n / (n - 1) * fit.squared[own] / rest
    joint = log_prior[:, None] + fit.log_likelihood()
    joint[own] = log_prior[own[0]] + np.log((n - 1) / n) - 0.5 * (distance + log_det)
    return normalise(joint, own[0])


def normalise(joint: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the log share (M,) that the row `codes` takes of the columns of exp(joint) (K, M)."""
    joint = joint - joint.max(axis=0)
    own = joint[codes, np.arange(len(codes))]
    return own - np.log(np.exp(joint, out=joint).sum(axis=0))


def name_some(names: list, most: int = 5) -> str:
    """Write the first names of a list for an error message, and how many more there are."""
    text = ", ".join(repr(n) if isinstance(n, str) else str(n) for n in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")
