"""A map of language models from the log-likelihoods that they give to one set of texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import storage, ties, validation

_FORMAT = 1


class _Placement(NamedTuple):
    """New models on a map: coordinates (m, N), squared distances to its models (m, K), nats."""

    coordinates: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True, eq=False)
class ModelMap:
    """Language models as points, one coordinate per text; made by `fit_map` or `load`.

    `names` of K models, `texts` (keys of N texts), `log_likelihoods` (K, N) in nats, already cut
    below at `threshold` (nats), and `text_means` (N,), the means of the columns once each row's own
    mean is taken off. `n_bytes` (N,) are the texts' lengths in UTF-8, or None.

    >>> from helpers.modelmap import fit_map
    >>> L = [[-10, -20, -30], [-11, -20, -31], [-20, -10, -30]]
    >>> made = fit_map(L, names=["base", "tuned", "other"], clip=0)
    >>> made.nearest("base", k=2).round(2).to_dict()
    {'tuned': 0.22, 'other': 66.67}
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    log_likelihoods: np.ndarray
    threshold: float
    text_means: np.ndarray
    n_bytes: np.ndarray | None = None

    @property
    def coordinates(self) -> np.ndarray:
        """Return Q of shape (K, N), nats: log-likelihoods minus row mean and column mean.

        Source: arXiv 2502.16173, released code.
        """
        return self._centred(self.log_likelihoods)

    @property
    def mean_log_likelihood(self) -> pd.Series:
        """Return the mean log-likelihood of each model, nats per text."""
        return pd.Series(self.log_likelihoods.mean(axis=1), self.names, name="mean")

    def distances(self) -> np.ndarray:
        """Return the squared Euclidean distances of coordinates over N, (K, K), nats² per text.

        Half of it approximates the Kullback-Leibler divergence. One matrix
        product; the diagonal is exactly 0. Source: arXiv 2502.16173, released code.
        """
        q = self.coordinates
        found = _squared(q, q) / len(self.texts)
        found = (found + found.T) / 2
        np.fill_diagonal(found, 0)
        return found

    def nearest(self, name: str, k: int = 5) -> pd.Series:
        """Return the squared distances (nats² per text) to the k nearest other models, sorted.

        Raises `ValueError` for a name that is not on the map.
        """
        if name not in self.names:
            raise ValueError(
                f"name {name!r} is not on the map; it has {validation.name_some(list(self.names))}"
            )
        validation.counts(k=(k, 1))
        row = self.names.index(name)
        q = self.coordinates
        found = pd.Series(_squared(q[[row]], q)[0] / len(self.texts), self.names, name=name)
        return found.drop(name).sort_values(kind="stable").head(k)

    def neighbours(self, k: int = 5) -> pd.DataFrame:
        """Return the k nearest other models of every model, the nearest first.

        Columns `point`, `nearest` and `distance` (squared, nats² per text), k rows per model in
        their order. Equal distances keep the order of the models.
        """
        validation.counts(k=(k, 1))
        apart = self.distances()
        np.fill_diagonal(apart, np.inf)
        k = min(k, len(apart) - 1)
        order = np.argsort(apart, axis=1, kind="stable")[:, :k]
        names = np.array(self.names, dtype=object)
        found = np.take_along_axis(apart, order, axis=1)
        columns = {"point": names.repeat(k), "nearest": names[order].ravel()}
        return pd.DataFrame({**columns, "distance": found.ravel()})

    def duplicates(self, below: float = 1e-6) -> pd.DataFrame:
        """Return the pairs of models so near that they have the same weights, as a rule.

        Columns `model`, `other` and `distance` (squared, nats² per text): pairs whose distance is
        at most `below` of the median pair, or what rounding leaves. Raises `ValueError` for `below`
        that is no number from 0.
        """
        validation.non_negative(below, "below")
        distances = self.distances()
        first, second = np.triu_indices(len(distances), 1)
        pairs = distances[first, second]
        # Where most models are the same, the median pair itself is 0, or what rounding leaves.
        rounding = 16 * np.finfo(float).eps * (self.coordinates**2).mean(axis=1).max()
        close = np.flatnonzero(pairs <= max(below * np.median(pairs), rounding))
        names = np.array(self.names, dtype=object)
        columns = {"model": names[first[close]], "other": names[second[close]]}
        return pd.DataFrame({**columns, "distance": pairs[close]})

    def place(self, log_likelihoods: ArrayLike | pd.Series | pd.DataFrame) -> _Placement:
        """Place new models, in nats on the same texts, without moving any other.

        `log_likelihoods` is what `aligned` takes. The map's threshold and column means are used.
        Raises as `aligned` does.
        """
        values = self.aligned(log_likelihoods)
        placed = self._centred(np.maximum(values, self.threshold))
        return _Placement(placed, _squared(placed, self.coordinates) / len(self.texts))

    def aligned(self, log_likelihoods: ArrayLike | pd.Series | pd.DataFrame) -> np.ndarray:
        """Return log-likelihoods of new models with texts in the order of the map, shape (m, N).

        An array has shape (N,) or (m, N), in nats and in that order already; a Series or the
        columns of a frame are matched by the texts' keys. Nothing is clipped. Raises `ValueError`
        for missing values, and for texts that are not those of the map.
        """
        if isinstance(log_likelihoods, pd.Series):
            log_likelihoods = log_likelihoods.to_frame().T
        if isinstance(log_likelihoods, pd.DataFrame):
            log_likelihoods = self._matched(log_likelihoods)
        values = np.atleast_2d(validation.numbers(log_likelihoods, "log_likelihoods"))
        if values.ndim != 2 or values.shape[1] != len(self.texts):
            raise ValueError(
                f"log_likelihoods has shape {np.shape(log_likelihoods)} but the map has "
                f"{len(self.texts)} texts; pass one value per text"
            )
        if not np.isfinite(values).all():
            text = self.texts[np.argmax(~np.isfinite(values).all(axis=0))]
            raise ValueError(
                f"log_likelihoods has a missing or infinite value, first for text {text!r}; score "
                "that text again"
            )
        return values

    def _matched(self, frame: pd.DataFrame) -> np.ndarray:
        keys = [str(key) for key in frame.columns]
        if found := validation.key_faults(keys, self.texts):
            raise ValueError(f"log_likelihoods {found}; score the texts of the map, each once")
        return frame.set_axis(keys, axis=1)[list(self.texts)].to_numpy(float)

    def _centred(self, clipped: np.ndarray) -> np.ndarray:
        return clipped - clipped.mean(axis=1, keepdims=True) - self.text_means

    def save(self, path: str | Path) -> None:
        """Write the map as one `.npz` file without pickles, whole or not at all."""
        path = Path(path)
        head = {"format": _FORMAT, "names": self.names, "texts": self.texts}
        arrays = {
            "log_likelihoods": self.log_likelihoods,
            "threshold": np.float64(self.threshold),
            "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
        }
        if self.n_bytes is not None:
            arrays["n_bytes"] = self.n_bytes
        with storage.whole(path) as part, open(part, "wb") as file:
            np.savez_compressed(file, **arrays)


def load_map(path: str | Path) -> ModelMap:
    """Read a map that `ModelMap.save` wrote; nothing in the file is executed.

    Raises `ValueError` for another or a damaged file.

    >>> from tempfile import TemporaryDirectory
    >>> from helpers.modelmap import fit_map, load_map
    >>> with TemporaryDirectory() as folder:
    ...     fit_map([[-10, -20], [-12, -21]], names=["a", "b"]).save(f"{folder}/map.npz")
    ...     print(load_map(f"{folder}/map.npz").names)
    ('a', 'b')
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(bytes(file["head"]))
            values, threshold = file["log_likelihoods"], float(file["threshold"])
            n_bytes = file["n_bytes"] if "n_bytes" in file else None
        if head["format"] != _FORMAT or values.shape != (len(head["names"]), len(head["texts"])):
            raise ValueError(f"format {head['format']}, {values.shape} values")
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged archives raise what they like
        raise ValueError(f"path {str(path)!r} holds no map ({error}); save it again") from error
    return map_of(values, tuple(head["names"]), tuple(head["texts"]), threshold, n_bytes)


def fit_map(
    L: ArrayLike | pd.DataFrame,
    names: Sequence[str] | None = None,
    clip: float = 0.02,
    *,
    texts: Sequence[str] | None = None,
    n_bytes: ArrayLike | None = None,
) -> ModelMap:
    """Make a map of K models from their log-likelihoods of N texts, shape (K, N), nats.

    `L` is an array with `names`, or a frame with models as rows and texts as columns. Values below
    the quantile `clip` of all entries are raised to it. `texts` are keys, the column names or
    numbers by default; `n_bytes` their lengths in UTF-8.

    Raises `ValueError` for fewer than 2 models or texts, missing or infinite values (model and text
    are named), names or texts that repeat, wrong lengths, and `clip` outside 0 to 0.5. Source:
    arXiv 2502.16173, released code.

    >>> from helpers.modelmap import fit_map
    >>> L = [[-10, -20, -30], [-11, -21, -31], [-20, -10, -30]]
    >>> fit_map(L, names=["base", "shifted", "other"], clip=0).distances().round(2)
    array([[ 0.  ,  0.  , 66.67],
           [ 0.  ,  0.  , 66.67],
           [66.67, 66.67,  0.  ]])
    """
    if isinstance(L, pd.DataFrame):
        names = list(L.index) if names is None else names
        texts = list(L.columns) if texts is None else texts
    values = validation.numbers(L, "L").copy()
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"L has shape {values.shape}; pass (K models, N texts), 2 or more of each")
    if names is None or isinstance(names, str):
        raise ValueError("names is missing or one string; pass one name per row of L")
    keys = range(values.shape[1]) if texts is None else texts
    named, keyed = (tuple(map(str, given)) for given in (names, keys))
    for what, found, n in (("names", named, len(values)), ("texts", keyed, values.shape[1])):
        if len(found) != n:
            raise ValueError(f"{what} has length {len(found)} but L has shape {values.shape}")
        if len(set(found)) != n:
            twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
            raise ValueError(f"{what} repeats {validation.name_some(twice)}; make each its own")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"L has no finite value for model {named[row]!r} and text {keyed[column]!r}; score it "
            "again, or leave the model or the text out"
        )
    if not isinstance(clip, int | float | np.number) or not 0 <= clip < 0.5:
        raise ValueError(f"clip is {clip}; give the share of entries to cut, from 0 to below 0.5")
    threshold = float(np.quantile(values, clip)) if clip else float("-inf")
    np.maximum(values, threshold, out=values)
    lengths = None if n_bytes is None else np.asarray(n_bytes, float)
    if lengths is not None and (lengths.shape != values.shape[1:] or not (lengths > 0).all()):
        raise ValueError(f"n_bytes must hold {values.shape[1]} positive numbers, one per text")
    return map_of(values, named, keyed, threshold, lengths)


def map_of(
    values: np.ndarray,
    names: tuple[str, ...],
    texts: tuple[str, ...],
    threshold: float,
    n_bytes: np.ndarray | None,
) -> ModelMap:
    """Return the map of log-likelihoods (K, N) that are cut already."""
    text_means = values.mean(axis=0) - values.mean()
    return ModelMap(names, texts, values, threshold, text_means, n_bytes)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared Euclidean distances of rows, never below 0, by one matrix product.

    Equal rows have equal distances to all others, and exactly 0 to one another.
    """
    found = a @ b.T
    found *= -2
    found += np.einsum("ij,ij->i", a, a)[:, None]
    found += np.einsum("ij,ij->i", b, b)
    np.maximum(found, 0, out=found)
    rows = ties.equal_rows(a)
    columns = rows if a is b else ties.equal_rows(b)
    if len(np.unique(rows)) < len(rows) or len(np.unique(columns)) < len(columns):
        found = found[rows][:, columns]
    for i, j in np.argwhere(found <= ties.ROUNDING * found.max(initial=0)):
        if np.array_equal(a[i], b[j]):
            found[i, j] = 0
    return found


# Pictures of a map


class _Principal(NamedTuple):
    """Positions of the models (K, k), share of variance of each axis (k,), and the axes (k, N)."""

    positions: np.ndarray
    shares: np.ndarray
    axes: np.ndarray


def principal_coordinates(made: ModelMap, k: int | None = None) -> _Principal:
    """Return principal components of the coordinates, which are classical scaling of distances too.

    At most K - 1 of them, exactly, from the K x K Gram matrix; without `k`, all with variance. They
    are a rotation: distances between positions over N are those of the map. The sign of an axis is
    such that its largest entry in `axes` is positive. New models are placed by
    `made.place(...).coordinates @ axes.T`. Raises `ValueError` for `k` below 1. Source: Gower
    (1966).

    >>> from helpers.modelmap import fit_map, principal_coordinates
    >>> made = fit_map([[-10, -20], [-11, -20], [-20, -10]], names=["a", "b", "c"], clip=0)
    >>> found = principal_coordinates(made)
    >>> found.positions.round(2), found.shares
    (array([[ 4.95],
           [ 4.24],
           [-9.19]]), array([1.]))
    """
    if not isinstance(made, ModelMap):
        raise ValueError(f"made is of type {type(made).__name__}; make a map of it by fit_map")
    q = made.coordinates
    values, vectors = np.linalg.eigh(q @ q.T)
    keep = values > values[-1] * len(q) * np.finfo(float).eps
    values, vectors = values[keep][::-1], vectors[:, keep][:, ::-1]
    total = values.sum()
    if k is not None:
        validation.counts(k=(k, 1))
        values, vectors = values[:k], vectors[:, :k]
    axes = (vectors / np.sqrt(values)).T @ q
    largest = np.take_along_axis(axes, ties.first_largest(np.abs(axes))[:, None], axis=1)
    axes *= np.sign(largest)
    return _Principal(q @ axes.T, values / total, axes)


def tsne(
    made: ModelMap, *, perplexity: float = 30.0, iterations: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return a t-SNE picture of the map, shape (K, 2), by scikit-learn.

    It works on the exact rotation of `principal_coordinates`, with Euclidean distances. Neighbours
    can be read from it, distances between groups cannot. Raises `ValueError` unless `perplexity` is
    below the number of models. Source: van der Maaten and Hinton (2008).

    >>> import numpy as np
    >>> from helpers.modelmap import fit_map, tsne
    >>> L = np.random.default_rng(0).normal(-100, 10, (12, 20))
    >>> tsne(fit_map(L, names=range(12)), perplexity=3, iterations=250).shape
    (12, 2)
    """
    from sklearn.manifold import TSNE

    validation.positive(perplexity, "perplexity")
    validation.counts(iterations=(iterations, 250), seed=(seed, 0))
    if not perplexity < len(made.names):
        raise ValueError(
            f"perplexity is {perplexity} for {len(made.names)} models; give less, such as a third"
        )
    points = principal_coordinates(made).positions
    model = TSNE(perplexity=perplexity, init="pca", max_iter=iterations, random_state=seed)
    return model.fit_transform(points)
