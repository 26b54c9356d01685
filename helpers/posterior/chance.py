"""What an embedding that knows nothing of the labels would score."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from helpers import validation
from helpers.posterior.alp import average_log_posterior


class _PermutationNull(NamedTuple):
    """The observed score, the scores under shuffled labels (n,), and the share at or above it."""

    observed: float
    scores: np.ndarray
    p_value: float


def permutation_null(
    X: ArrayLike, labels: ArrayLike, *, n_shuffles: int = 50, seed: int = 0, **options: Any
) -> _PermutationNull:
    """Return the score of an embedding beside those under labels dealt out at random.

    `options` go to `average_log_posterior`, which also gets `seed`. `scores` (n_shuffles,), in
    nats, are what the cluster sizes alone give this form of the score: their mean against
    `chance` is its optimism. `p_value` is (1 + number at or above the observed) / (1 +
    n_shuffles). Source: Phipson and Smyth (2010) for the two ones.

    >>> import numpy as np
    >>> from helpers.posterior import permutation_null
    >>> labels = np.repeat(["film", "song"], 50)
    >>> X = np.random.default_rng(0).standard_normal((100, 3)) + (labels == "film")[:, None]
    >>> null = permutation_null(X, labels, n_shuffles=19)
    >>> round(null.observed, 2), round(float(null.scores.mean()), 2), null.p_value
    (-0.32, -0.69, 0.05)
    """
    validation.counts(n_shuffles=(n_shuffles, 1))
    rng, given = validation.generator(seed), validation.labels(labels, len(np.asarray(X)))
    given = np.asarray(given)
    observed = average_log_posterior(X, given, seed=seed, **options).score
    drawn = (rng.permutation(given) for _ in range(n_shuffles))
    scores = [average_log_posterior(X, some, seed=seed, **options).score for some in drawn]
    scores = np.array(scores)
    at_least = int(np.sum(scores >= observed - 1e-12))  # equal but for rounding, as at chance
    return _PermutationNull(observed, scores, (1 + at_least) / (1 + n_shuffles))


def expected_optimism(cluster_size: ArrayLike, head_dim: ArrayLike, n_clusters: int) -> np.ndarray:
    """Return by how many nats the in-sample score of pure noise beats chance, to first order.

    It is (1 - 1/K) d (d + 3) / (4 n_k) for K clusters of n_k entities each in heads of d
    dimensions: half the free parameters of the K - 1 discriminants, divided by the entities.
    Leave-one-out falls short of chance by as much. It overstates the gain once it nears the
    entropy of the labels, which the true gain cannot pass. Raises `ValueError` for sizes below 1.
    Source: this book's expansion, which simulation checks.

    >>> from helpers.posterior import expected_optimism
    >>> expected_optimism(cluster_size=[50, 500], head_dim=10, n_clusters=2)
    array([0.325 , 0.0325])
    """
    validation.counts(n_clusters=(n_clusters, 2))
    d = validation.numbers(head_dim, "head_dim")
    size = validation.numbers(cluster_size, "cluster_size")
    if not (np.all(size > 0) and np.all(d > 0)):
        raise ValueError("cluster_size and head_dim must be above 0; give entities and dimensions")
    return (1 - 1 / n_clusters) * d * (d + 3) / (4 * size)
