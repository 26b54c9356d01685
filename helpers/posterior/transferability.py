"""Peers of the average log posterior: what others compute from embeddings and clusters."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, log_softmax

from helpers import ties, validation
from helpers.validation import Clusters

# The least variance of a cluster, against that of all entities.
_FLOOR = 1e-4
# Values of C from which a tuned probe chooses.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


class _LinearProbe(NamedTuple):
    """What a linear probe predicts held out: two shares of hits, and log probabilities in nats.

    `log_likelihood` is the mean of `per_entity` (N,), the log probability of the own cluster in
    the order of the rows; `balanced_accuracy` is the mean accuracy of the clusters.
    """

    accuracy: float
    balanced_accuracy: float
    log_likelihood: float
    per_entity: np.ndarray


def log_me(X: ArrayLike, labels: ArrayLike) -> float:
    """Return LogME: the mean over clusters of the log evidence of a linear model, per entity.

    `X` (N, d) real, `labels` (N,) of two clusters at least. Each cluster's indicator is regressed
    on the embeddings, without an intercept and without centring, so that an offset of `X`
    changes the score; weights and noise have the precisions with the largest evidence. In nats.
    Raises `ValueError` for bad input.

    Source: You et al., ICML 2021, in the iteration of their JMLR 2022 paper, as package
    transformer-ranker 0.2.0 computes it. Three things keep it from the exact maximum. Both
    precisions have 1e-5 added to a denominator, and the iteration stops at steps of 0.1 % or after
    11 (both as in the authors' code). It starts from the precisions of the cluster before, not
    afresh (the authors' code starts afresh), so that the order of the clusters matters a little.
    With N < d it counts d/2 log alpha against N, not d, terms of -1/2 log(alpha + beta sigma), and
    so is (d - N)/(2N) log alpha off (as in the authors' code for the second paper, not the first).

    >>> import numpy as np
    >>> from helpers.posterior import log_me
    >>> labels = np.repeat(["film", "song"], 50)
    >>> noise = np.random.default_rng(0).standard_normal((100, 3))
    >>> signal = noise + 4 * (labels == "film")[:, None]
    >>> [round(log_me(X, labels), 2) for X in (noise, signal)]
    [-1.07, -0.32]
    """
    from torch import from_numpy

    X, clusters = checked(X, labels)
    with _quiet():
        from transformer_ranker.estimators import LogME

        return float(LogME().fit(from_numpy(X), from_numpy(clusters.codes)))


def h_score(X: ArrayLike, labels: ArrayLike) -> float:
    """Return the shrunk H-score: the variance between clusters, in units of the overall variance.

    `X` (N, d) real with two columns at least, `labels` (N,) of two clusters at least. It is
    (1 - a) tr(S^-1 B): S is the Ledoit-Wolf covariance of all entities, a its shrinkage, and
    B the scatter of the cluster means, weighted by their sizes, divided by N - 1. Without
    shrinkage it would lie between 0 and K - 1, but for the divisor. Raises `ValueError` for bad
    input, and for one column, where the shrinkage is 0/0.

    Source: the shrunk variant of Ibrahim et al., 2021 (arXiv 2110.06893), of the H-score
    tr(cov(f)^-1 cov(E[f|y])) of Bao et al., ICIP 2019, as package transformer-ranker 0.2.0
    computes it: S has divisor N but B has N - 1, so that it is N/(N - 1) times the formula, and
    the roots of the cluster sizes are taken in single precision (1e-7 of the score).

    >>> import numpy as np
    >>> from helpers.posterior import h_score
    >>> labels = np.repeat(["film", "song"], 50)
    >>> noise = np.random.default_rng(0).standard_normal((100, 3))
    >>> signal = noise + 4 * (labels == "film")[:, None]
    >>> [round(h_score(X, labels), 2) for X in (noise, signal)]
    [0.0, 0.93]
    """
    from torch import from_numpy

    X, clusters = checked(X, labels)
    if X.shape[1] < 2:
        raise ValueError("X has 1 column; the shrinkage of the H-score needs two at least")
    with _quiet():
        from transformer_ranker.estimators import HScore

        return float(HScore().fit(from_numpy(X), from_numpy(clusters.codes)))


def gbc(X: ArrayLike, labels: ArrayLike) -> float:
    """Return the Gaussian Bhattacharyya coefficient: minus the overlap of the clusters, at most 0.

    `X` (N, d) real, `labels` (N,) of two clusters at least. It is minus the sum, over the ordered
    pairs of clusters, of exp(-D), D the Bhattacharyya distance of their Gaussians, each with one
    variance for all dimensions, divisor n_k.

    Source: Pándy et al., CVPR 2022. They reduce the embeddings to 64 principal components first:
    the caller's choice here. A variance below 1e-4 of that of all entities is raised to it (their
    code: below 1e-4, whatever the scale). For spherical Gaussians their code takes the part of D
    with the determinants once, not once per dimension; here it is the Bhattacharyya distance.
    """
    X, clusters = checked(X, labels)
    # The first row as origin leaves exact zeros in constant dimensions; they add nothing below.
    X -= X[0]
    parts = [X[clusters.codes == k] for k in range(len(clusters.names))]
    means = np.array([part.mean(axis=0) for part in parts])
    overall = X.var(axis=0).mean()
    variances = np.array([part.var(axis=0).mean() for part in parts])
    variances = np.maximum(variances, _FLOOR * (overall if overall > 0 else 1))
    overlap, logs = 0.0, np.log(variances)
    for k, (mean, variance, log) in enumerate(zip(means, variances, logs, strict=True)):
        both = (variances + variance) / 2
        distance = ((means - mean) ** 2).sum(axis=1) / both / 8
        distance += X.shape[1] * (np.log(both) - (logs + log) / 2) / 2
        distance[k] = np.inf
        overlap += np.exp(-distance).sum()
    return -float(overlap)


def trans_rate(X: ArrayLike, labels: ArrayLike) -> float:
    """Return TransRate: the coding rate of all entities minus the mean of those of the clusters.

    `X` (N, d) real, `labels` (N,) of two clusters at least. The coding rate of n centred rows Z is
    1/2 log det(I + Z'Z / (n eps)), eps = 1e-4, in nats; the rows of a cluster are centred by the
    mean of all. The scale of `X` against the square root of eps matters.

    Source: Huang et al., ICML 2022, its code listing: clusters weigh the same, whatever their size.
    """
    X, clusters = checked(X, labels)
    X -= X.mean(axis=0)

    def rate(rows: np.ndarray) -> float:
        gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
        return np.linalg.slogdet(np.eye(len(gram)) + gram / (len(rows) * 1e-4))[1] / 2

    parts = [rate(X[clusters.codes == k]) for k in range(len(clusters.names))]
    return float(rate(X) - np.mean(parts))


def silhouette(X: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean silhouette, -1 to 1: how much nearer the own cluster is than the next.

    `X` (N, d) real, Euclidean distances; `labels` (N,) of two clusters at least. Raises
    `ValueError` for bad input.

    Source: Rousseeuw 1987, as scikit-learn computes it.
    """
    from sklearn.metrics import silhouette_score

    X, clusters = checked(X, labels)
    return float(silhouette_score(X, clusters.codes))


def knn_accuracy(X: ArrayLike, labels: ArrayLike, *, seed: int = 0) -> float:
    """Return the held-out share of entities whose cluster their nearest neighbours name.

    `X` (N, d) real, Euclidean distances, dimensions not scaled; `labels` (N,) of clusters of 5
    entities at least. The 5 neighbours are those outside the entity's fold; the 5 folds are
    stratified, drawn by `seed`, and follow the order of the rows.

    Source: Cover and Hart 1967, as scikit-learn computes it.
    """
    from sklearn.neighbors import KNeighborsClassifier

    X, clusters = checked(X, labels, 5)
    hits = 0
    for train, test in _folds(clusters.codes, 5, seed):
        model = KNeighborsClassifier(5).fit(X[train], clusters.codes[train])
        hits += np.sum(model.predict(X[test]) == clusters.codes[test])
    return float(hits / len(X))


def rank_me(X: ArrayLike, *, eps: float = 1e-7) -> float:
    """Return RankMe: how many directions the embeddings fill, 1 to min(N, d); it needs no labels.

    `X` (N, d) real, not centred. It is the exponential of the entropy of the singular values
    divided by their sum, each share plus `eps`. Raises `ValueError` for bad input.

    Source: Garrido et al., ICML 2023, eq. 1, with their `eps`.

    >>> import numpy as np
    >>> from helpers.posterior import rank_me
    >>> round(rank_me(np.eye(4)), 3), round(rank_me(np.ones((4, 4))), 3)
    (4.0, 1.0)
    """
    validation.non_negative(eps, "eps")
    singular = np.linalg.svd(validation.matrix(X).astype(np.float64), compute_uv=False)
    if not singular[0] > 0:
        raise ValueError("X is zero everywhere; it has no direction to count")
    return float(np.exp(entr(singular / singular.sum() + eps).sum()))


def linear_probe(
    X: ArrayLike, labels: ArrayLike, *, C: float = 0.01, n_folds: int = 3, seed: int = 0
) -> _LinearProbe:
    """Return how well a regularised logistic regression names the clusters of held-out entities.

    `X` (N, d) real, computed in float64, scaled to unit variance by the entities of the fit;
    `labels` (N,) of clusters of `n_folds` entities at least; `C` is the inverse of the penalty.
    The folds are stratified, drawn by `seed`, and follow the order of the rows. Raises
    `ValueError` for bad input, and where the fit does not converge.

    Source: Alain and Bengio 2016, by scikit-learn's `LogisticRegression` (multinomial, lbfgs).

    >>> import numpy as np
    >>> from helpers.posterior import linear_probe
    >>> labels = np.repeat(["film", "song"], 50)
    >>> noise = np.random.default_rng(2).standard_normal((100, 3))
    >>> signal = noise + 4 * (labels == "film")[:, None]
    >>> [linear_probe(X, labels).accuracy for X in (noise, signal)]
    [0.48, 0.99]
    """
    validation.positive(C, "C")
    X, clusters = checked(X, labels, n_folds)
    log_p = np.empty((len(X), len(clusters.names)))
    for train, test in _folds(clusters.codes, n_folds, seed):
        log_p[test] = _log_probabilities(X, clusters.codes, train, test, C)
    return _judged(log_p, clusters)


def tuned_probe(
    X: ArrayLike, labels: ArrayLike, *, penalties: Sequence[float] = PENALTIES, seed: int = 0
) -> tuple[_LinearProbe, tuple[float, ...]]:
    """Return a `linear_probe` whose penalty is chosen inside each fold, and the choices.

    `penalties` are the values of C to choose from. The training entities of a fold are divided
    once more, a third set apart; the C with the highest log likelihood there is fitted
    to all of them. No entity has a part in the choice by which it is judged. `labels` are of
    clusters of 6 entities at least. The other arguments and the errors are those of
    `linear_probe`; it takes about as many times longer as there are penalties.

    >>> import numpy as np
    >>> from helpers.posterior.transferability import tuned_probe
    >>> labels = np.repeat(["film", "song"], 50)
    >>> noise = np.random.default_rng(2).standard_normal((100, 30))
    >>> probe, chosen = tuned_probe(noise, labels)
    >>> probe.log_likelihood > -0.71, len(chosen)
    (True, 3)
    """
    # Three folds with a choice inside.
    X, clusters = checked(X, labels, 6)
    codes, choices = clusters.codes, []
    log_p = np.empty((len(X), len(clusters.names)))
    for train, test in _folds(codes, 3, seed):
        best = 0
        if len(penalties) > 1:
            fitted, judged = (train[rows] for rows in next(_folds(codes[train], 3, seed)))
            own = np.arange(len(judged)), codes[judged]
            inside = [
                _log_probabilities(X, codes, fitted, judged, C)[own].mean() for C in penalties
            ]
            best = int(ties.first_largest(inside))
        choices.append(float(penalties[best]))
        log_p[test] = _log_probabilities(X, codes, train, test, choices[-1])
    return _judged(log_p, clusters), tuple(choices)


def _log_probabilities(
    X: np.ndarray, codes: np.ndarray, train: np.ndarray, test: np.ndarray, C: float
) -> np.ndarray:
    """Return the log probability of each cluster for the test rows, by a probe of the others."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(X[train], codes[train])
        except ConvergenceWarning as error:
            raise ValueError(f"C is {C}; the probe does not converge: choose less") from error
    scores = model.decision_function(X[test])
    if scores.ndim == 1:
        scores = np.column_stack([np.zeros(len(test)), scores])
    # Not the logarithm of probabilities, which may be rounded to 0.
    return log_softmax(scores, axis=1)


def _judged(log_p: np.ndarray, clusters: Clusters) -> _LinearProbe:
    hit, own = log_p.argmax(axis=1) == clusters.codes, log_p[np.arange(len(log_p)), clusters.codes]
    by_cluster = np.bincount(clusters.codes, weights=hit) / clusters.sizes
    return _LinearProbe(float(hit.mean()), float(by_cluster.mean()), float(own.mean()), own)


def checked(X: ArrayLike, labels: ArrayLike, n_folds: int = 2) -> tuple[np.ndarray, Clusters]:
    """Return a float64 copy of X and the clusters, none of which is below `n_folds` entities."""
    validation.counts(n_folds=(n_folds, 2))
    X = validation.varying(np.array(validation.matrix(X), dtype=np.float64, order="C"))
    clusters = validation.clusters(labels, len(X), n_folds)
    return X, clusters


def _folds(codes: np.ndarray, n_folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedKFold

    split = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return split.split(codes, codes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Undo what the import of transformer-ranker does to warnings and to transformers' log."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        logging.set_verbosity(level)
