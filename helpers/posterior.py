"""The average log posterior (ALP): how well one Gaussian a cluster names an entity's cluster."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from helpers.gaussians import (
    Clusters,
    fit_gaussians,
    left_out_log_posterior,
    name_some,
    normalise,
    own_log_posterior,
)

FORMS = ("calibrated", "leave_one_out", "published")
COVARIANCES = ("empirical", "oas")
# Most out-of-fold scores kept while the temperature is fitted: 256 MiB of float64.
STORED_SCORES = 2**25


@dataclass(frozen=True)
class AverageLogPosterior:
    """The score of one embedding, in nats; `skill` is what it gains over the cluster sizes alone.

    `score` is the mean over entities and heads of the log posterior of the own cluster (at most
    0), `per_entity` (N,) its mean over heads in the order of the rows, `per_head` (H,) its mean
    over entities, `chance` minus the entropy of the cluster sizes, `skill = score - chance`.
    `temperature` is the power the likelihoods were raised to (1 but in the calibrated form),
    `n_clipped` counts the clipped pairs of entity and head, `warnings` says what to distrust.
    """

    score: float
    chance: float
    skill: float
    temperature: float
    n_clipped: int
    warnings: tuple[str, ...]
    per_entity: np.ndarray = field(repr=False)
    per_head: np.ndarray = field(repr=False)


def average_log_posterior(
    X: ArrayLike,
    labels: ArrayLike,
    *,
    form: str = "calibrated",
    head_dim: int | None = None,
    n_permutations: int = 1,
    ridge: float = 1e-6,
    n_folds: int = 5,
    clip: float | None = None,
    min_cluster_size: int = 2,
    seed: int = 0,
    chunk_rows: int = 256,
) -> AverageLogPosterior:
    """Return the mean log posterior of each entity's own cluster, one Gaussian a cluster.

    `X` (N, d) holds one embedding a row, any real dtype, computed in float64 one head at a time;
    `labels` (N,) names the cluster of each row. Dimensions that never change are left out.

    form="published" fits and scores the same entities: maximum-likelihood Gaussians (divisor
    n_k), weights n_k/N, and `ridge` times the mean variance of the cluster on the diagonal. With
    `ridge=0` it is minus the training log loss of quadratic discriminant analysis.
    form="leave_one_out" scores each entity by the Gaussians fitted without it, in closed form.
    form="calibrated" scales the dimensions to unit variance, scores each entity by Gaussians
    fitted without its fold (`n_folds` stratified folds, OAS covariances, no ridge), and raises
    the likelihoods to one power, the temperature, fitted on these out-of-fold scores; the weights
    are those of all entities, so that power 0 is exactly chance. A cluster
    without any spread in a head gets a millionth of the overall variance there.

    `head_dim` splits the dimensions as `heads` does; None keeps them as one head. `clip` is a
    floor for the posterior, a probability. Beside one head of `X`, memory holds a few arrays of
    N * K numbers, and `chunk_rows` rows at once; the calibrated form at most 256 MiB more.

    Raises `ValueError` for bad input, and for clusters below `min_cluster_size`, by name. Clusters
    too small for an invertible covariance raise a `UserWarning`, except in the calibrated form.

    Source: arXiv 2401.02987, its definition of ALP. Ridge, clip level and the division into heads
    are not stated in what we could read of it: they are choices. The leave-one-out and calibrated
    forms are this book's. OAS: Chen et al., 2010, eq. 23.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(FORMS)}")
    if clip is not None and not 0 < clip < 1:
        raise ValueError(f"clip is {clip}; give a probability between 0 and 1, or None")
    _check_counts(chunk_rows=(chunk_rows, 1), n_folds=(n_folds, 2))
    _check_counts(min_cluster_size=(min_cluster_size, 2))
    _check_ridge(ridge)
    X = _matrix(X, "X")
    clusters = _clusters(labels, len(X), min_cluster_size)
    dims, centre, spread, notes = _columns(X)
    if head_dim is not None and head_dim > X.shape[1]:
        raise ValueError(f"head_dim is {head_dim} but X has {X.shape[1]} columns; choose fewer")
    blocks = [dims[b] for b in heads(len(dims), head_dim, n_permutations=n_permutations, seed=seed)]
    if form == "calibrated":
        _check_folds(clusters, n_folds)
    else:
        _check_rank(clusters, max(map(len, blocks)), ridge, form, notes)

    order = np.argsort(clusters.codes, kind="stable")
    clusters = clusters._replace(codes=clusters.codes[order])
    log_prior = np.log(clusters.sizes / len(X))

    def values() -> Iterator[np.ndarray]:
        scale = spread if form == "calibrated" else np.ones_like(spread)
        for head in blocks:
            columns = np.take(np.take(X, head, axis=1), order, axis=0)
            yield (columns.astype(np.float64) - centre[head]) / scale[head]

    temperature = 1.0
    if form == "calibrated":
        folds = _folds(clusters, n_folds, seed)

        def scores() -> Iterator[np.ndarray]:
            return (_cross_fitted(head, clusters, folds, chunk_rows) for head in values())

        temperature, posteriors = _tempered(scores, clusters, log_prior, len(blocks), seed, notes)
    else:
        own = own_log_posterior if form == "published" else left_out_log_posterior
        fits = (
            fit_gaussians(head, clusters, head, "empirical", ridge, chunk_rows) for head in values()
        )
        posteriors = (own(fit, clusters, log_prior) for fit in fits)

    total, per_head, n_clipped = np.zeros(len(X)), [], 0
    for posterior in posteriors:
        if clip is not None:
            n_clipped += int(np.sum(posterior < np.log(clip)))
            posterior = np.maximum(posterior, np.log(clip))
        total[order] += posterior
        per_head.append(posterior.mean())
    score, chance = float(np.mean(per_head)), float(clusters.sizes @ log_prior) / len(X)
    return AverageLogPosterior(
        score=score,
        chance=chance,
        skill=score - chance,
        temperature=temperature,
        n_clipped=n_clipped,
        warnings=tuple(dict.fromkeys(notes)),
        per_entity=total / len(per_head),
        per_head=np.array(per_head),
    )


def held_out_log_posterior(
    X_train: ArrayLike,
    labels_train: ArrayLike,
    X_test: ArrayLike,
    labels_test: ArrayLike,
    *,
    ridge: float = 1e-6,
    covariance: str = "empirical",
    chunk_rows: int = 256,
) -> np.ndarray:
    """Return the log posterior of each test entity's own cluster, fitted on the training entities.

    `X_train` (N, d) and `X_test` (M, d) hold one embedding a row, in one head; the result is (M,)
    float64, in nats. Covariance "empirical" has divisor n_k and the relative `ridge`; "oas"
    shrinks each cluster's covariance instead (Chen et al., 2010, eq. 23) and takes no ridge.
    Raises `ValueError` for bad input, a test label that training lacks, or a singular covariance.
    """
    if covariance not in COVARIANCES:
        raise ValueError(f"covariance is {covariance!r}; choose one of {', '.join(COVARIANCES)}")
    _check_counts(chunk_rows=(chunk_rows, 1))
    _check_ridge(ridge)
    train, test = _matrix(X_train, "X_train"), _matrix(X_test, "X_test")
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"X_train has {train.shape[1]} columns but X_test has {test.shape[1]}; "
            "embed both with the same model"
        )
    clusters = _clusters(labels_train, len(train), 2, argument="labels_train")
    wanted = _labels(labels_test, len(test), "labels_test")
    codes = pd.Index(clusters.names).get_indexer(wanted)
    if (codes < 0).any():
        unknown = list(dict.fromkeys(wanted[codes < 0]))
        raise ValueError(
            f"labels_test has {name_some(unknown)}, absent from labels_train; drop them"
        )
    order = np.argsort(clusters.codes, kind="stable")
    clusters = clusters._replace(codes=clusters.codes[order])
    centre = train.mean(axis=0, dtype=np.float64)
    fit = fit_gaussians(
        train[order] - centre, clusters, test - centre, covariance, ridge, chunk_rows
    )
    return own_log_posterior(
        fit, clusters._replace(codes=codes), np.log(clusters.sizes / len(train))
    )


def heads(
    n_dims: int, head_dim: int | None, *, n_permutations: int = 1, seed: int = 0
) -> list[np.ndarray]:
    """Return the dimensions of each head: disjoint blocks of seeded permutations of `n_dims`.

    Every permutation gives ceil(n_dims / head_dim) blocks whose sizes differ by at most one and
    never exceed `head_dim`; together they hold every dimension once. None gives one head.
    """
    _check_counts(n_dims=(n_dims, 1), n_permutations=(n_permutations, 1))
    if head_dim is None:
        return [np.arange(n_dims)]
    _check_counts(head_dim=(head_dim, 1))
    rng, n_blocks = np.random.default_rng(seed), -(-n_dims // head_dim)
    shuffled = (rng.permutation(n_dims) for _ in range(n_permutations))
    return [block for dims in shuffled for block in np.array_split(dims, n_blocks)]


def expected_optimism(cluster_size: ArrayLike, head_dim: ArrayLike, n_clusters: int) -> np.ndarray:
    """Return by how many nats the in-sample score of pure noise beats chance, to first order.

    It is (1 - 1/K) d (d + 3) / (4 n_k) for K clusters of n_k entities each in heads of d
    dimensions: half the free parameters of the K - 1 discriminants, divided by the entities.
    Leave-one-out falls short of chance by as much. It overstates the gain once it nears the
    entropy of the labels, which the true gain cannot pass.
    """
    d = np.asarray(head_dim)
    return (1 - 1 / n_clusters) * d * (d + 3) / (4 * np.asarray(cluster_size))


def _cross_fitted(
    values: np.ndarray, clusters: Clusters, folds: np.ndarray, chunk_rows: int
) -> np.ndarray:
    """Return (K, N) log likelihoods of one head, each row under Gaussians of the other folds."""
    out = np.empty((len(clusters.sizes), len(values)))
    for fold in range(folds.max() + 1):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        part = clusters._replace(
            codes=clusters.codes[train], sizes=np.bincount(clusters.codes[train])
        )
        fit = fit_gaussians(values[train], part, values[test], "oas", 0.0, chunk_rows)
        out[:, test] = fit.log_likelihood()
    return out


def _tempered(
    scores: Callable[[], Iterator[np.ndarray]],
    clusters: Clusters,
    log_prior: np.ndarray,
    n_heads: int,
    seed: int,
    notes: list[str],
) -> tuple[float, Iterator[np.ndarray]]:
    """Return the temperature, and each head's own log posteriors under it.

    Scores too many to be kept are computed twice, and a random part of the rows fits the
    temperature.
    """
    n, most = len(clusters.codes), STORED_SCORES // (len(log_prior) * n_heads)
    rows = np.arange(n)
    if n > most:
        rows = np.random.default_rng(seed).permutation(n)[: max(100, most)]
        notes.append(f"the temperature was fitted on {len(rows)} of {n} entities")
    kept = [head[:, rows] if n > most else head for head in scores()]
    power = _temperature(kept, log_prior[:, None], clusters.codes[rows])
    again = scores() if n > most else kept
    joint = (log_prior[:, None] + power * head for head in again)
    return power, (normalise(values, clusters.codes) for values in joint)


def _temperature(heads: list[np.ndarray], log_prior: np.ndarray, codes: np.ndarray) -> float:
    """Return the power of the likelihoods, 0 to infinity, with the largest mean log posterior.

    The mean log posterior is concave in the power: no rise at 0 means that 0 is best. Where 1 is
    as good as the best to 1e-9 nats, as it is for separated clusters, 1 is returned.
    """
    rise = [h[codes, np.arange(len(codes))] - (np.exp(log_prior) * h).sum(axis=0) for h in heads]
    if np.mean(rise) <= 0:
        return 0.0

    def loss(share: float) -> float:
        joint = (log_prior + share / (1 - share) * head for head in heads)
        return -float(np.mean([normalise(values, codes).mean() for values in joint]))

    best = minimize_scalar(loss, bounds=(0, 1 - 1e-6), method="bounded", options={"xatol": 1e-5})
    return 1.0 if loss(0.5) <= best.fun + 1e-9 else float(best.x / (1 - best.x))


def _folds(clusters: Clusters, n_folds: int, seed: int) -> np.ndarray:
    """Deal the shuffled rows of one cluster after the other round the folds (rows sorted)."""
    rng = np.random.default_rng(seed)
    folds = np.empty(len(clusters.codes), dtype=int)
    folds[np.lexsort([rng.random(len(folds)), clusters.codes])] = np.arange(len(folds)) % n_folds
    return folds


def _matrix(X: ArrayLike, argument: str) -> np.ndarray:
    X = np.asarray(X)
    if X.ndim != 2:
        raise ValueError(
            f"{argument} has {X.ndim} dimensions; pass one row an entity, shape (N, d)"
        )
    if X.dtype.kind not in "fiu":
        raise ValueError(f"{argument} has dtype {X.dtype}; pass real numbers")
    if 0 in X.shape:
        raise ValueError(f"{argument} has shape {X.shape}; it needs rows and columns")
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~np.isfinite(X.sum(axis=1, dtype=np.float64)))
    if len(bad):
        raise ValueError(
            f"{argument} has NaN or infinite values in {len(bad)} rows, first in row {bad[0]}; "
            "drop these entities or compute them again"
        )
    return X


def _labels(labels: ArrayLike, n_rows: int, argument: str) -> pd.Series:
    if np.ndim(labels) != 1:
        raise ValueError(f"{argument} has {np.ndim(labels)} dimensions; pass one label a row")
    series, rows = pd.Series(list(labels)), argument.replace("labels", "X")
    if len(series) != n_rows:
        raise ValueError(
            f"{argument} has length {len(series)} but {rows} has {n_rows} rows; "
            "pass one label a row"
        )
    if series.isna().any():
        raise ValueError(f"{argument} has {series.isna().sum()} missing values; drop these rows")
    return series


def _clusters(labels: ArrayLike, n_rows: int, least: int, argument: str = "labels") -> Clusters:
    codes, names = pd.factorize(_labels(labels, n_rows, argument))
    sizes = np.bincount(codes)
    if len(names) < 2:
        raise ValueError(f"{argument} names one cluster only; a posterior needs at least two")
    if small := [name for name, n in zip(names, sizes, strict=True) if n < least]:
        raise ValueError(
            f"{argument} has clusters below {least} entities: {name_some(small)}; "
            "drop or merge them"
        )
    return Clusters(codes, list(names), sizes)


def _columns(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return the dimensions that vary, all means and standard deviations, and warnings."""
    n, d = X.shape
    centre = X.mean(axis=0, dtype=np.float64)
    probe, square, along = np.random.default_rng(0).standard_normal(n), np.zeros(d), np.zeros(d)
    for start in range(0, n, 1024):
        part = X[start : start + 1024] - centre
        square += np.einsum("nd,nd->d", part, part)
        along += probe[start : start + 1024] @ part
    spread = np.sqrt(square / n)
    dims, notes = np.flatnonzero(X.max(axis=0) > X.min(axis=0)), []
    if not len(dims):
        raise ValueError("every dimension of X is constant; there is nothing to score")
    if len(dims) < d:
        notes.append(f"{d - len(dims)} of {d} dimensions are constant and were left out")
    # Multiples of one dimension, once scaled, are equally long along any vector; two unequal ones
    # almost never are.
    along = np.sort(np.abs(along[dims]) / spread[dims])
    if twins := int(np.sum(np.diff(along) <= 1e-12 * np.sqrt(n))):
        notes.append(f"{twins} of {d} dimensions repeat another one up to scale")
    return dims, centre, spread, notes


def _check_rank(clusters: Clusters, d: int, ridge: float, form: str, notes: list[str]) -> None:
    small = [n for n, size in zip(clusters.names, clusters.sizes, strict=True) if size <= d + 1]
    if not small:
        return
    text = f"clusters with at most {d + 1} entities in heads of {d} dimensions: {name_some(small)}"
    cure = "use a smaller head_dim or form='calibrated'"
    if ridge == 0 and clusters.sizes.min() <= d + (form == "leave_one_out"):
        raise ValueError(f"{text}; their covariance is singular: {cure}, or ridge > 0")
    notes.append(f"{text}; the score says nothing about the embedding: {cure}")
    warnings.warn(notes[-1], UserWarning, stacklevel=3)


def _check_folds(clusters: Clusters, n_folds: int) -> None:
    left = clusters.sizes - -(-clusters.sizes // n_folds)
    if small := [name for name, n in zip(clusters.names, left, strict=True) if n < 2]:
        raise ValueError(
            f"labels has clusters of which {n_folds} folds leave fewer than 2 entities to fit: "
            f"{name_some(small)}; drop or merge them"
        )


def _check_ridge(ridge: float) -> None:
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"ridge is {ridge}; give a finite number, 0 or above")


def _check_counts(**counts: tuple[int, int]) -> None:
    for name, (value, least) in counts.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value!r}; give a whole number, at least {least}")
