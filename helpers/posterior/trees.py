"""EmbeddingTree: clusters grown over several yes-or-no features of the entities."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import ties, validation

_STOPS = ("bic", "none")


@dataclass(frozen=True)
class EmbeddingTree:
    """The leaves of a tree: `leaf` (N,) says which one each entity fell into.

    `names` describes each leaf by its answers from the root; `splits` has one row per split, in the
    order they were made: `node`, `feature`, `gain` and `penalty` (nats), `n_with`, `n_without`.
    """

    names: list[str]
    splits: pd.DataFrame
    leaf: np.ndarray = field(repr=False)


def embedding_tree(
    X: ArrayLike,
    features: pd.DataFrame,
    *,
    min_cluster_size: int = 40,
    max_leaves: int = 12,
    stop: str = "bic",
    prior_rows: float = 1.0,
) -> EmbeddingTree:
    """Grow clusters by splitting, again and again, on the feature that explains most of `X`.

    `X` (N, d) holds one embedding per row, best reduced to some 16 dimensions; `features` (N, F)
    is a frame of booleans. The gain of a split is that of two Gaussians over one, in closed form,
    given who is on which side: N/2 log|S| - sum n_k/2 log|S_k|, with each covariance (scatter +
    prior_rows * v I) / n_k and v the mean variance of all entities. `stop="bic"` splits a leaf of n
    entities while the gain exceeds d (d + 3) / 4 log n, half the new parameters times log n;
    `stop="none"` splits until `max_leaves` or `min_cluster_size` ends it, on noise as well. The
    best split of any leaf comes first. Scale and rotation of `X` do not matter.

    Raises `ValueError` for bad input. Source: Zheng et al. (2023) for the tree; the closed form
    and the stop are this book's.

    >>> import numpy as np
    >>> import pandas as pd
    >>> from helpers.posterior import embedding_tree
    >>> rng = np.random.default_rng(0)
    >>> features = pd.DataFrame(rng.random((400, 2)) < 0.5, columns=["war", "short"])
    >>> X = rng.standard_normal((400, 3)) + 2 * features[["war"]].to_numpy()
    >>> embedding_tree(X, features).names
    ['war', 'not war']
    """
    validation.choice(stop, _STOPS, "stop")
    validation.counts(min_cluster_size=(min_cluster_size, 2), max_leaves=(max_leaves, 1))
    validation.positive(prior_rows, "prior_rows")
    X = validation.varying(validation.matrix(X).astype(np.float64))
    values = _booleans(features, len(X))
    X -= X.mean(axis=0)
    spread = float(np.square(X).mean())
    prior = prior_rows * spread * np.eye(X.shape[1])

    leaves = [np.arange(len(X))]
    paths: list[list[str]] = [[]]
    best = [_best_split(X, values, leaves[0], prior, min_cluster_size)]
    splits = []
    while len(leaves) < max_leaves:
        surplus = [
            -np.inf if found is None else found[0] - (_penalty(X, rows) if stop == "bic" else 0)
            for found, rows in zip(best, leaves, strict=True)
        ]
        node = int(ties.first_largest(surplus))
        if best[node] is None or (stop == "bic" and surplus[node] <= 0):
            break
        gain, column = best[node]
        rows, path, name = leaves[node], paths[node], str(features.columns[column])
        inside, outside = rows[values[rows, column]], rows[~values[rows, column]]
        splits.append(
            {
                "node": " and ".join(path) or "all",
                "feature": name,
                "gain": gain,
                "penalty": _penalty(X, rows),
                "n_with": len(inside),
                "n_without": len(outside),
            }
        )
        leaves[node : node + 1] = [inside, outside]
        paths[node : node + 1] = [[*path, name], [*path, f"not {name}"]]
        best[node : node + 1] = [
            _best_split(X, values, side, prior, min_cluster_size) for side in (inside, outside)
        ]
    leaf = np.empty(len(X), dtype=int)
    for code, rows in enumerate(leaves):
        leaf[rows] = code
    columns = ["node", "feature", "gain", "penalty", "n_with", "n_without"]
    names = [" and ".join(path) or "all" for path in paths]
    return EmbeddingTree(names, pd.DataFrame(splits, columns=columns), leaf)


def _penalty(X: np.ndarray, rows: np.ndarray) -> float:
    d = X.shape[1]
    return d * (d + 3) / 4 * float(np.log(len(rows)))


def _best_split(
    X: np.ndarray, values: np.ndarray, rows: np.ndarray, prior: np.ndarray, least: int
) -> tuple[float, int] | None:
    """Return the largest gain among the features that leave `least` rows on each side."""
    Z, answers = X[rows], values[rows]
    n_with = answers.sum(axis=0)
    allowed = np.flatnonzero((n_with >= least) & (len(rows) - n_with >= least))
    if not len(allowed):
        return None
    total, gram = Z.sum(axis=0), Z.T @ Z
    whole = _half_log_det(gram, total, len(rows), prior)
    found = []
    for column in allowed:
        # The smaller side is summed, the larger comes by subtraction.
        smaller = answers[:, column] == (2 * n_with[column] <= len(rows))
        part, n = Z[smaller], int(smaller.sum())
        sums, grams = part.sum(axis=0), part.T @ part
        found.append(
            whole
            - _half_log_det(grams, sums, n, prior)
            - _half_log_det(gram - grams, total - sums, len(rows) - n, prior)
        )
    at = int(ties.first_largest(found))
    return float(found[at]), int(allowed[at])


def _half_log_det(gram: np.ndarray, total: np.ndarray, n: int, prior: np.ndarray) -> float:
    """Return n/2 log|(scatter + prior) / n| of n rows with the given sums."""
    sigma = (gram - np.outer(total, total) / n + prior) / n
    return n / 2 * float(np.linalg.slogdet(sigma)[1])


def _booleans(features: pd.DataFrame, n_rows: int) -> np.ndarray:
    if not isinstance(features, pd.DataFrame):
        raise ValueError("features is not a data frame; pass one column of booleans per feature")
    if len(features) != n_rows:
        raise ValueError(
            f"features has {len(features)} rows but X has {n_rows}; pass one row per entity"
        )
    if wrong := [c for c in features if not pd.api.types.is_bool_dtype(features[c])]:
        raise ValueError(f"features has columns that are not boolean: {wrong[:5]}; compare first")
    if features.isna().any(axis=None):
        raise ValueError("features has missing values; fill them or drop these rows")
    return features.to_numpy(dtype=bool)
