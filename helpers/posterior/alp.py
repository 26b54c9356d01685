"""The average log posterior (ALP): how well one Gaussian per cluster names an entity's cluster."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from helpers import validation
from helpers.posterior import gaussians, heads
from helpers.posterior.gaussians import Block, Layout
from helpers.validation import Clusters, name_some

FORMS = ("calibrated", "leave_one_out", "published")
_COVARIANCES = ("empirical", "oas")
# Most out-of-fold scores kept while the temperature is fitted: 256 MiB of float64.
_STORED_SCORES = 2**25


@dataclass(frozen=True)
class AverageLogPosterior:
    """The score of one embedding, in nats; `skill` is what it gains over the cluster sizes alone.

    `score` is the mean over entities and heads of the log posterior of the own cluster (at most
    0), `per_entity` (N,) its mean over heads in the order of the rows, `per_head` (H,) its mean
    over entities, `chance` minus the entropy of the cluster sizes, `skill = score - chance`.
    `temperature` is the power the likelihoods were raised to (1 but in the calibrated form),
    `n_clipped` counts the clipped pairs of entity and head, `warnings` says what to distrust.

    >>> from helpers.posterior import average_log_posterior
    >>> X, labels = [[0], [1], [2], [3], [3], [4], [5], [6]], ["low"] * 4 + ["high"] * 4
    >>> found = average_log_posterior(X, labels, form="published")
    >>> round(found.score, 2), round(found.chance, 2), found.per_entity[2:4].round(2)
    (-0.2, -0.69, array([-0.09, -0.69]))
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
    head_kind: str = "blocks",
    n_permutations: int = 1,
    ridge: float = 1e-6,
    n_folds: int = 5,
    clip: float | None = None,
    min_cluster_size: int = 2,
    seed: int = 0,
    chunk_rows: int = 256,
) -> AverageLogPosterior:
    """Return the mean log posterior of each entity's own cluster, one Gaussian per cluster.

    `X` (N, d) holds one embedding per row, any real dtype, computed in float64 one head at a time;
    `labels` (N,) names the cluster of each row. Dimensions that never change are left out.

    `form="published"` fits and scores the same entities: maximum-likelihood Gaussians (divisor
    n_k), weights n_k/N, and `ridge` times the mean variance of the cluster on the diagonal. With
    `ridge=0` it is minus the training log loss of quadratic discriminant analysis.
    `form="leave_one_out"` scores each entity by the Gaussians fitted without it, in closed form.
    `form="calibrated"` scales the dimensions to unit variance, scores each entity by Gaussians
    fitted without its fold (`n_folds` stratified folds, OAS covariances, no ridge), and raises
    the likelihoods to one power, the temperature, fitted on these out-of-fold scores; the weights
    are those of all entities, so that power 0 is exactly chance. A cluster
    without any spread in a head gets a millionth of the overall variance there.

    `head_dim` splits the dimensions as `heads.blocks` does, by `head_kind`; "rotations" turns them
    all at random first, once per permutation. None keeps them as one head. `clip` is a floor for
    the posterior, a probability. `X` may be a memory map: its rows are read `chunk_rows` at a time
    where a head has more than 4 million numbers, and held whole in some 100 MiB below. Beside it
    memory has a few arrays of N numbers, whatever d and K are; the calibrated form up to 1 GiB
    more.

    Raises `ValueError` for bad input, and for clusters below `min_cluster_size`, by name. Clusters
    too small for an invertible covariance, or with a direction in which the ridge outweighs their
    own variance, raise a `UserWarning`; in the calibrated form only those do that hardly vary in
    some dimension of a head.

    Source: arXiv 2401.02987, its definition of ALP. Ridge, clip level and the division into heads
    are not stated in what we could read of it: they are choices. The leave-one-out and calibrated
    forms are this book's. OAS: Chen et al., 2010, eq. 23 without its terms in 2/d, as scikit-learn.

    >>> import numpy as np
    >>> from helpers.posterior import average_log_posterior
    >>> labels = np.repeat(["film", "song"], 100)
    >>> noise = np.random.default_rng(1).standard_normal((200, 4))
    >>> signal = noise + 5 * (labels == "film")[:, None]
    >>> [round(average_log_posterior(X, labels).skill, 2) for X in (noise, signal)]
    [0.01, 0.69]
    """
    validation.choice(form, FORMS, "form")
    validation.choice(head_kind, heads.HEAD_KINDS, "head_kind")
    if clip is not None and not (isinstance(clip, int | float | np.number) and 0 < clip < 1):
        raise ValueError(f"clip is {clip!r}; give a probability between 0 and 1, or None")
    validation.counts(chunk_rows=(chunk_rows, 1), n_folds=(n_folds, 2))
    validation.counts(min_cluster_size=(min_cluster_size, 2))
    validation.non_negative(ridge, "ridge")
    X = validation.matrix(X)
    clusters = validation.clusters(labels, len(X), min_cluster_size)
    dims, centre, spread, notes = _columns(X)
    if head_dim is not None and head_dim > X.shape[1]:
        raise ValueError(f"head_dim is {head_dim} but X has {X.shape[1]} columns; choose fewer")
    blocks = heads.directions(dims, head_dim, head_kind, n_permutations, seed)
    crossed = form == "calibrated"
    narrow: set | None = set()
    if crossed:
        _check_folds(clusters, n_folds)
    elif not _has_rank(clusters, max(map(heads.width, blocks)), ridge, form, notes):
        narrow = None

    folds = assign_folds(clusters, n_folds, seed) if crossed else np.zeros(len(X), dtype=int)
    order = np.lexsort([clusters.codes, folds])
    layout = _layout(clusters, folds, order)
    unit = _one_unit(spread)
    scale = spread if crossed else np.full_like(spread, unit)
    overall = 1.0 if crossed else float(np.mean((spread[dims] / unit) ** 2))
    plan = [([0], 0)]
    if crossed:
        plan = [([f for f in range(n_folds) if f != g], g) for g in range(n_folds)]

    def distances(wanted: np.ndarray | None = None) -> Iterator[Iterator[Block]]:
        for columns, rotation in blocks:
            yield gaussians.squared_distances(
                gaussians.reader(X, order, columns, centre, scale, rotation),
                layout,
                plan,
                covariance="oas" if crossed else "empirical",
                ridge=0.0 if crossed else ridge,
                overall=overall,
                chunk_rows=chunk_rows,
                wanted=wanted,
                narrow=narrow,
            )

    log_prior = np.log(clusters.sizes / len(X))
    temperature = 1.0
    if crossed:
        temperature, posteriors = _tempered(distances, layout, log_prior, len(blocks), seed, notes)
    else:
        posteriors = (
            gaussians.log_posterior(
                head,
                layout,
                log_prior,
                left_out=heads.width(block) if form == "leave_one_out" else None,
            )
            for head, block in zip(distances(), blocks, strict=True)
        )

    total, per_head, n_clipped = np.zeros(len(X)), [], 0
    for posterior in posteriors:
        if clip is not None:
            n_clipped += int(np.sum(posterior < np.log(clip)))
            posterior = np.maximum(posterior, np.log(clip))
        total[order] += posterior
        per_head.append(posterior.mean())
    _warn_of_narrow(narrow, notes, crossed)
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

    `X_train` (N, d) and `X_test` (M, d) hold one embedding per row, in one head; the result is (M,)
    float64, in nats. Covariance "empirical" has divisor n_k and the relative `ridge`; "oas"
    shrinks each cluster's covariance instead, as `average_log_posterior` does, and takes no
    ridge. Raises `ValueError` for bad input, a test label that training lacks, or a singular
    covariance, and a `UserWarning` where the ridge alone makes one invertible. Source: arXiv
    2401.02987 for the score; that it is held out is this book's.

    >>> from helpers.posterior import held_out_log_posterior
    >>> X, labels = [[0], [1], [2], [3], [10], [11], [12], [13]], ["low"] * 4 + ["high"] * 4
    >>> held_out_log_posterior(X, labels, [[6.5], [7.0]], ["low", "low"]).round(2)
    array([-0.69, -4.02])
    """
    validation.choice(covariance, _COVARIANCES, "covariance")
    validation.counts(chunk_rows=(chunk_rows, 1))
    validation.non_negative(ridge, "ridge")
    train, test = validation.matrix(X_train, "X_train"), validation.matrix(X_test, "X_test")
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"X_train has {train.shape[1]} columns but X_test has {test.shape[1]}; "
            "embed both with the same model"
        )
    clusters = validation.clusters(labels_train, len(train), 2, argument="labels_train")
    wanted = validation.labels(labels_test, len(test), "labels_test")
    codes = pd.Index(clusters.names).get_indexer(wanted)
    if (codes < 0).any():
        unknown = list(dict.fromkeys(wanted[codes < 0]))
        raise ValueError(
            f"labels_test has {name_some(unknown)}, absent from labels_train; drop them"
        )
    notes: list[str] = []
    narrow: set | None = None
    if covariance == "empirical" and _has_rank(clusters, train.shape[1], ridge, "published", notes):
        narrow = set()
    both = clusters._replace(codes=np.append(clusters.codes, codes))
    folds = np.repeat([0, 1], [len(train), len(test)])
    order = np.lexsort([both.codes, folds])
    layout, centre = _layout(both, folds, order), train.mean(axis=0, dtype=np.float64)
    unit = _one_unit(np.subtract(train.max(axis=0), train.min(axis=0), dtype=np.float64))
    blocks = gaussians.squared_distances(
        gaussians.reader(
            np.concatenate([train, test]),
            order,
            np.arange(train.shape[1]),
            centre,
            np.full(train.shape[1], unit),
        ),
        layout,
        [([0], 1)],
        covariance=covariance,
        ridge=ridge,
        overall=float(
            np.mean((train if unit == 1 else train / unit).var(axis=0, dtype=np.float64))
        ),
        chunk_rows=chunk_rows,
        narrow=narrow,
    )
    found = gaussians.log_posterior(blocks, layout, np.log(clusters.sizes / len(train)))
    _warn_of_narrow(narrow, notes, False)
    out = np.empty(len(order))
    out[order] = found
    return out[len(train) :]


def _layout(clusters: Clusters, folds: np.ndarray, order: np.ndarray) -> Layout:
    k = len(clusters.names)
    sizes = np.bincount(folds * k + clusters.codes, minlength=(folds.max() + 1) * k)
    return Layout(clusters.names, sizes.reshape(-1, k), clusters.codes[order])


def _tempered(
    distances: Callable[..., Iterator[Iterator[Block]]],
    layout: Layout,
    log_prior: np.ndarray,
    n_heads: int,
    seed: int,
    notes: list[str],
) -> tuple[float, Iterator[np.ndarray]]:
    """Return the temperature, and each head's own log posteriors under it.

    Scores too many to be kept are computed twice, and a random part of the rows fits the
    temperature.
    """
    n, most = len(layout.codes), _STORED_SCORES // (len(log_prior) * n_heads)
    wanted = np.ones(n, dtype=bool)
    if n > most:
        wanted[validation.generator(seed).permutation(n)[max(100, most) :]] = False
        notes.append(f"the temperature was fitted on {wanted.sum()} of {n} entities")
    part = wanted if n > most else None
    kept = [gaussians.log_likelihood(head, layout, wanted) for head in distances(part)]
    power = _temperature(kept, log_prior[:, None], layout.codes[wanted])
    if n > most:
        return power, (
            gaussians.log_posterior(head, layout, log_prior, power=power) for head in distances()
        )
    joint = (log_prior[:, None] + power * head for head in kept)
    return power, (gaussians.normalise(values, layout.codes) for values in joint)


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
        return -float(np.mean([gaussians.normalise(values, codes).mean() for values in joint]))

    best = minimize_scalar(loss, bounds=(0, 1 - 1e-6), method="bounded", options={"xatol": 1e-5})
    return 1.0 if loss(0.5) <= best.fun + 1e-9 else float(best.x / (1 - best.x))


def assign_folds(clusters: Clusters, n_folds: int, seed: int) -> np.ndarray:
    """Deal the shuffled rows of one cluster after the other round the folds."""
    rng = validation.generator(seed)
    folds = np.empty(len(clusters.codes), dtype=int)
    folds[np.lexsort([rng.random(len(folds)), clusters.codes])] = np.arange(len(folds)) % n_folds
    return folds


def _columns(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return the dimensions that vary, all means and standard deviations, and warnings."""
    n, d = X.shape
    with np.errstate(over="ignore", invalid="ignore"):
        centre = X.mean(axis=0, dtype=np.float64)
        high, low = X.max(axis=0).astype(np.float64), X.min(axis=0).astype(np.float64)
        reach = high - low
    if not np.isfinite([centre, reach]).all():
        raise ValueError("X has values too large to take means of; divide it by a constant")
    # Powers of 2, so that squares keep all their digits in any unit and none is rounded.
    unit = np.ldexp(1.0, np.clip(np.frexp(reach)[1], -1000, 1000))
    inverse = 1 / unit
    probe, square, along = np.random.default_rng(0).standard_normal(n), np.zeros(d), np.zeros(d)
    for start in range(0, n, 1024):
        part = X[start : start + 1024] - centre
        part *= inverse
        square += np.einsum("nd,nd->d", part, part)
        along += probe[start : start + 1024] @ part
    spread = np.sqrt(square / n)
    dims, notes = np.flatnonzero(high > low), []
    if not len(dims):
        validation.varying(X)
    if len(dims) < d:
        notes.append(f"{d - len(dims)} of {d} dimensions are constant and were left out")
    # Multiples of one dimension, once scaled, are equally long along any vector; two unequal ones
    # almost never are.
    along = np.sort(np.abs(along[dims]) / spread[dims])
    if twins := int(np.sum(np.diff(along) <= 1e-12 * np.sqrt(n))):
        notes.append(f"{twins} of {d} dimensions repeat another one up to scale")
    return dims, centre, spread * unit, notes


def _one_unit(spread: np.ndarray) -> float:
    """Return what to divide all dimensions by, 1 unless their squares would be lost."""
    most = float(spread.max())
    return 1.0 if 1e-100 < most < 1e100 or not most else most


def _has_rank(clusters: Clusters, d: int, ridge: float, form: str, notes: list[str]) -> bool:
    """Return whether every cluster has enough entities for its covariance; warn if not."""
    small = [n for n, size in zip(clusters.names, clusters.sizes, strict=True) if size <= d + 1]
    if not small:
        return True
    text = f"clusters with at most {d + 1} entities in heads of {d} dimensions: {name_some(small)}"
    cure = "use a smaller head_dim or form='calibrated'"
    if ridge == 0 and clusters.sizes.min() <= d + (form == "leave_one_out"):
        raise ValueError(f"{text}; their covariance is singular: {cure}, or ridge > 0")
    notes.append(f"{text}; the score says nothing about the embedding: {cure}")
    warnings.warn(notes[-1], UserWarning, stacklevel=3)
    return False


def _warn_of_narrow(narrow: set | None, notes: list[str], crossed: bool) -> None:
    if not narrow:
        return
    names = name_some(sorted(narrow, key=str))
    if crossed:
        text = (
            f"clusters that hardly vary in some dimension: {names}; one temperature serves all "
            "heads, and such a dimension may silence the rest: drop dimensions that are nearly "
            "constant, or use head_kind='rotations'"
        )
    else:
        text = (
            "clusters that hardly vary in some direction of a head, where the ridge alone sets "
            f"their density, and may decide the score: {names}; drop dimensions that are constant "
            "in a cluster, or use form='calibrated'"
        )
    notes.append(text)
    warnings.warn(text, UserWarning, stacklevel=3)


def _check_folds(clusters: Clusters, n_folds: int) -> None:
    left = clusters.sizes - -(-clusters.sizes // n_folds)
    if small := [name for name, n in zip(clusters.names, left, strict=True) if n < 2]:
        raise ValueError(
            f"labels has clusters of which {n_folds} folds leave fewer than 2 entities to fit: "
            f"{name_some(small)}; drop or merge them"
        )
