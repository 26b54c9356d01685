"""Is the origin of models found again on a map? Nearest neighbours against what is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import ties, validation
from helpers.modelmap.model_map import ModelMap
from helpers.modelmap.release import family_rate, same_family_rate


class Recovery(NamedTuple):
    """Share of models beside one of their kind; mean and largest share with names shuffled."""

    rate: float
    chance: float
    most: float


def recovered(
    distances: np.ndarray, labels: ArrayLike, *, n_shuffles: int = 500, seed: int = 0
) -> Recovery:
    """Return how often the nearest other model has the same label, and how often by chance.

    `distances` has shape (K, K), `labels` (K,). A label that stands once cannot be found again and
    is not counted. Raises `ValueError` for other lengths or labels that all differ.
    """
    validation.counts(n_shuffles=(n_shuffles, 1))
    names, rng = np.asarray(labels), validation.generator(seed)
    if np.shape(distances) != (len(names), len(names)):
        raise ValueError(
            f"distances has shape {np.shape(distances)} but labels has length {len(names)}; pass "
            "(K, K) and one label a model"
        )
    rate = same_family_rate(distances, names)
    apart = validation.numbers(distances, "distances").copy()
    np.fill_diagonal(apart, np.inf)
    # Shuffled names have the same neighbours.
    nearest = ties.first_smallest(apart)
    shuffled = [family_rate(nearest, rng.permutation(names)) for _ in range(n_shuffles)]
    return Recovery(rate, float(np.mean(shuffled)), float(np.max(shuffled)))


def truths(
    distances: dict[str, np.ndarray], known: pd.DataFrame, *, n_shuffles: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Return `Recovery.rate` for each column of what is known and each kind of distance.

    `distances` has square matrices by name, `known` a row a model. The last column is the chance
    level under the first kind.
    """
    rows = {}
    for column in known:
        found = {
            name: recovered(matrix, known[column], n_shuffles=n_shuffles, seed=seed)
            for name, matrix in distances.items()
        }
        first, *_ = found.values()
        rows[column] = {name: one.rate for name, one in found.items()} | {"chance": first.chance}
    return pd.DataFrame(rows).T


def simpler(made: ModelMap) -> dict[str, np.ndarray]:
    """Return squared distances without any centring, `raw`, and of the means alone, `mean`."""
    level = made.log_likelihoods
    squares = (level**2).mean(axis=1)
    raw = squares[:, None] + squares - 2 * level @ level.T / level.shape[1]
    mean = level.mean(axis=1)
    return {"raw": np.maximum(raw, 0), "mean": (mean[:, None] - mean) ** 2}


def children(made: ModelMap, families: pd.Series, parent: str) -> pd.DataFrame:
    """Return where the children of a model lie: one row each of the other models of its family.

    `families` has a name a model of the map, in its order. Columns: `distance` from the parent
    (squared, nats a text), `nearest`, the nearest model, `stranger`, the squared distance of the
    nearest model of another family, and `ratio`, stranger over distance: below 1 a stranger is
    nearer than the parent. Raises `ValueError` for other models and a parent that is not there.
    """
    if list(families.index) != list(made.names):
        raise ValueError("families has other rows than the map; pass one a model, in its order")
    if parent not in families.index:
        raise ValueError(f"parent {parent!r} is not on the map")
    apart = pd.DataFrame(made.distances(), made.names, made.names)
    own = families.index[families == families[parent]].drop(parent)
    others = families.index[families != families[parent]]
    table = pd.DataFrame(
        {
            "distance": apart.loc[own, parent],
            "nearest": [apart.loc[name].drop(name).idxmin() for name in own],
            "stranger": apart.loc[own, others].min(axis=1),
        }
    )
    return table.assign(ratio=table.stranger / table.distance).sort_values(
        "distance", kind="stable"
    )


def cost_slope(
    task: Callable[[int], object], sizes: Sequence[int], *, repeats: int = 3
) -> tuple[float, pd.Series]:
    """Return the slope of log CPU seconds on log size, and the seconds by size.

    `task` is called with each size, `repeats` times in turn; the shortest time counts, for other
    work can only lengthen it. 1 is a cost that grows linearly. Raises `ValueError` for fewer than
    two sizes.
    """
    import time

    validation.counts(repeats=(repeats, 1))
    if len(set(sizes)) < 2:
        raise ValueError(f"sizes is {list(sizes)}; give two different ones at least")
    best = dict.fromkeys(sizes, np.inf)
    for size in list(sizes) * repeats:
        start = time.process_time()
        task(size)
        best[size] = min(best[size], time.process_time() - start)
    seconds = pd.Series(best, name="CPU seconds")
    slope = np.polyfit(np.log(seconds.index.to_numpy(float)), np.log(seconds), 1)[0]
    return float(slope), seconds
