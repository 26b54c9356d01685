"""Does a map find the origin of models? Nearest neighbours against what is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import stats, ties, validation
from helpers.modelmap.model_map import ModelMap
from helpers.modelmap.placement import resampled


class _Recovery(NamedTuple):
    """Share of models beside one of their kind, and what it is to be compared with.

    `low` and `high` are the ends of the 95 % interval of `rate` over kinds, `chance` and `most` the
    mean and the largest share with names shuffled, and `n` the number of models with a relative.
    """

    rate: float
    chance: float
    most: float
    low: float
    high: float
    n: int

    @property
    def gain(self) -> tuple[float, float, float]:
        """Return the rate less chance, and the ends of its interval."""
        rate, low, high = (value - self.chance for value in (self.rate, self.low, self.high))
        return rate, low, high


def recovered(
    distances: np.ndarray,
    labels: ArrayLike,
    *,
    copies: ArrayLike | None = None,
    by: str = "models",
    n_shuffles: int = 500,
    n_resamples: int = 1000,
    seed: int = 0,
) -> _Recovery:
    """Return how often the nearest other model has the same label, and how often by chance.

    `distances` has shape (K, K), `labels` (K,). A label that stands once cannot be found again and
    is not counted. `copies`, a mask (K, K), marks pairs that do not count as neighbours, such as
    two checkpoints of one run (*pair-disjoint*); a model all of whose relatives are its copies is
    not counted. `by` "models" counts every model alike, "families" every label. The interval draws
    whole labels with replacement and holds neighbours fixed.
    """
    # Numbers for names: they are counted again in every shuffle.
    names = np.unique(np.asarray(labels), return_inverse=True)[1]
    rng = validation.generator(seed)
    apart = validation.numbers(distances, "distances").copy()
    barred = np.eye(len(names), dtype=bool) | np.asarray(0 if copies is None else copies, bool)
    counted = ((names[:, None] == names) & ~barred).any(axis=1)
    apart[barred] = np.inf
    # Shuffled names have the same neighbours.
    nearest = ties.first_smallest(apart)
    hits, sizes = _hits(nearest, names, counted)
    shuffled = []
    for _ in range(n_shuffles):
        other = rng.permutation(names)
        _, kind, size = np.unique(other, return_inverse=True, return_counts=True)
        shuffled.append(_share(*_hits(nearest, other, size[kind] > 1), by))
    drawn = stats.draws(len(hits), n_resamples, rng)
    sample = drawn @ (hits / sizes) / len(hits)
    if by == "models":
        sample = drawn @ hits / (drawn @ sizes)
    low, high = np.quantile(sample, [0.025, 0.975])
    return _Recovery(
        _share(hits, sizes, by),
        float(np.mean(shuffled)),
        float(np.max(shuffled)),
        float(low),
        float(high),
        int(counted.sum()),
    )


def _hits(
    nearest: np.ndarray, names: np.ndarray, counted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each label how many counted models have a neighbour of it, and how many count."""
    kinds, member = np.unique(names[counted], return_inverse=True)
    right = (names[nearest] == names)[counted]
    return np.bincount(member, right, len(kinds)), np.bincount(member, minlength=len(kinds))


def _share(hits: np.ndarray, sizes: np.ndarray, by: str) -> float:
    return float(hits.sum() / sizes.sum() if by == "models" else (hits / sizes).mean())


def neighbour_share(
    distances: np.ndarray,
    families: ArrayLike,
    mark: ArrayLike,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often the nearest model of another family bears a mark.

    `distances` has shape (K, K), `families` (K,) names and `mark` (K,) booleans. Rows `marked`,
    `others` (models with the mark and without) and `difference`, with `share`, `low` and `high`;
    the 95 % intervals draw families with replacement and hold neighbours fixed. NaN where all or
    no models bear the mark.
    """
    apart, names, marked = np.array(distances, float), np.asarray(families), np.asarray(mark, bool)
    apart[names[:, None] == names] = np.inf
    beside = marked[ties.first_smallest(apart)]
    kinds, member = np.unique(names, return_inverse=True)
    drawn = stats.draws(len(kinds), n_resamples, seed)[:, member]
    weight = np.vstack([np.ones(len(names)), drawn])
    with np.errstate(invalid="ignore"):
        share = [(weight[:, rows] @ beside[rows]) / weight[:, rows].sum(axis=1)
                 for rows in (marked, ~marked)]  # fmt: skip
    share.append(share[0] - share[1])
    rows = {
        name: (values[0], *np.nanquantile(values[1:], [0.025, 0.975]))
        for name, values in zip(("marked", "others", "difference"), share, strict=True)
    }
    return pd.DataFrame.from_dict(rows, "index", columns=["share", "low", "high"])


def one_of_each(copies: ArrayLike, priority: ArrayLike) -> np.ndarray:
    """Return which models stay when of models that are copies of one another one is kept, (K,).

    `copies` is a symmetric mask (K, K); copies of copies are copies. Of each set the model of the
    highest `priority` (K,) stays, the first of equals.
    """
    from scipy.sparse.csgraph import connected_components

    _, sets = connected_components(np.asarray(copies, bool), directed=False)
    rank = pd.Series(np.asarray(priority, float))
    return np.isin(np.arange(len(rank)), rank.groupby(sets).idxmax())


def parent_ranks(made: ModelMap, parents: Mapping[str, str]) -> pd.DataFrame:
    """Return at which place of each model's list of neighbours its parent stands.

    `parents` maps models to their parents. One row per model: `parent`, `rank` (1 is the nearest),
    `distance` (squared, nats² per text), `nearest`, and `of`, the number of neighbours.
    """
    rows = {}
    for name, parent in parents.items():
        order = made.nearest(name, len(made.names) - 1)
        rank = int((order < order[parent]).sum()) + 1
        rows[name] = (parent, rank, order[parent], order.index[0], len(order))
    columns = ["parent", "rank", "distance", "nearest", "of"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns)


def truths(
    distances: dict[str, np.ndarray], known: pd.DataFrame, *, n_shuffles: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Return `_Recovery.rate` for each column of what is known and each kind of distance.

    `distances` has square matrices by name, `known` a row per model. The last column is the chance
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
    """Return where the children of a model lie: one row for each other model of its family.

    `families` has a name per model of the map, in its order. Columns: `distance` from the parent
    (squared, nats² per text), `nearest`, the nearest model, `stranger`, the squared distance of the
    nearest model of another family, and `ratio`, stranger over distance: below 1 a stranger is
    nearer than the parent.
    """
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


def kin_first(
    made: ModelMap,
    families: pd.Series,
    family: str,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the share of a family's models that have kin nearer than any stranger.

    `families` has a name per model of the map, in its order. Kin are the other models of the
    family; models of other families are strangers. The share comes with the ends of its 95 %
    interval over texts, drawn alike for all models. Raises `ValueError` for a family of fewer than
    2 models, and for one without strangers.
    """
    names = families.to_numpy()
    own, strangers = np.flatnonzero(names == family), np.flatnonzero(names != family)
    if len(own) < 2 or not len(strangers):
        raise ValueError(
            f"family is {family!r}, of {len(own)} models beside {len(strangers)} others; it needs "
            "2 or more, and others"
        )
    values, hits = made.log_likelihoods, []
    for row in own:
        kin = own[own != row]
        apart = values[row] - values[[*kin, *strangers]]
        far = np.vstack([apart.var(axis=1), resampled(apart, n_resamples, seed)])
        hits.append(far[:, : len(kin)].min(axis=1) < far[:, len(kin) :].min(axis=1))
    share, *drawn = np.mean(hits, axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(share), float(low), float(high)


def cost_slope(
    task: Callable[[int], object], sizes: Sequence[int], *, repeats: int = 3
) -> tuple[float, float, float, pd.Series]:
    """Return the slope of log CPU seconds on log size, its 95 % interval, and seconds by size.

    `task` is called with each size, `repeats` times in turn; the shortest time counts, for other
    work can only lengthen it. 1 is a cost that grows linearly. The interval is that of the fitted
    line, and infinite for two sizes.
    """
    import time

    from scipy.stats import linregress, t

    best = dict.fromkeys(sizes, np.inf)
    for size in list(sizes) * repeats:
        start = time.process_time()
        task(size)
        best[size] = min(best[size], time.process_time() - start)
    seconds = pd.Series(best, name="CPU seconds")
    line = linregress(np.log(seconds.index.to_numpy(float)), np.log(seconds))
    free = len(seconds) - 2
    half = t.ppf(0.975, free) * line.stderr if free else np.inf
    slope = float(line.slope)
    return slope, float(slope - half), float(slope + half), seconds
