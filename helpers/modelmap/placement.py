"""A new model on a saved map: its neighbours, what kind of relatives they are, and its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import stats, ties, validation
from helpers.modelmap.model_map import ModelMap, fit_map, map_of, principal_coordinates

_PENALTIES = tuple(10.0**e for e in range(-2, 8))


class _Prediction(NamedTuple):
    """What ridge regression says of new models and of held-out ones.

    `new` (m, t) has the predictions of new models, `held_out` (K, t) that of each model on the map
    from the other groups, both with scores as columns.
    """

    new: pd.DataFrame
    held_out: pd.DataFrame


def first_texts(made: ModelMap, n: int) -> ModelMap:
    """Return the map that the first `n` of its texts make, cut at the same threshold.

    Raises `ValueError` unless `n` is 2 to the number of texts.
    """
    validation.counts(n=(n, 2))
    if n > len(made.texts):
        raise ValueError(f"n is {n}; this map has {len(made.texts)} texts")
    lengths = None if made.n_bytes is None else made.n_bytes[:n]
    values = made.log_likelihoods[:, :n]
    return map_of(values, made.names, made.texts[:n], made.threshold, lengths)


def neighbours(
    made: ModelMap,
    log_likelihoods: ArrayLike | pd.Series,
    *,
    k: int = 5,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return the nearest models of a new one with intervals from texts drawn with replacement.

    `log_likelihoods` (N,) are the new model's, nats, as `ModelMap.aligned` takes them. One row a
    neighbour, indexed by `model`, the nearest first: `distance` (squared, nats² per text), the ends
    `low` and `high` of its percentile interval, and `nearest`, the share of resamples in which no
    other model is nearer. Raises `ValueError` as `ModelMap.aligned` does, and for several models.
    """
    validation.counts(k=(k, 1), n_resamples=(n_resamples, 1))
    validation.share(confidence, "confidence")
    values = _one_model(made, log_likelihoods)
    exact = made.place(values).distances[0]
    clipped = np.maximum(values, made.threshold)
    apart = clipped - made.log_likelihoods
    sample = resampled(apart, n_resamples, seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(sample, [tail, 1 - tail], axis=0)
    first = np.bincount(ties.first_smallest(sample), minlength=len(made.names)) / n_resamples
    columns = {"distance": exact, "low": low, "high": high, "nearest": first}
    table = pd.DataFrame(columns, index=pd.Index(made.names, name="model"))
    return table.sort_values("distance", kind="stable").head(k)


def resampled(apart: np.ndarray, n_resamples: int, seed: int = 0) -> np.ndarray:
    """Return squared distances on a map with texts drawn with replacement, (n_resamples, k).

    `apart` (k, n) has the differences of log-likelihoods of k pairs of models on n texts, nats;
    the distances are in nats^2 per text. Source: Efron and Tibshirani (1993), chapter 13.
    """
    drawn = stats.draws(apart.shape[1], n_resamples, seed) / apart.shape[1]
    # The mean is taken off first, so that the difference of squares keeps its digits.
    apart = apart - apart.mean(axis=1, keepdims=True)
    return np.maximum(drawn @ (apart**2).T - (drawn @ apart.T) ** 2, 0)


def yardsticks(made: ModelMap, models: pd.DataFrame) -> dict[str, float]:
    """Return the squared distances on a map that tell kinds of relatives apart, nats per text.

    `models` has a row per model of the map and the columns `parent` ("" without one), `kind`,
    `level` and `family`. "rounded to 8 bits": of models whose kind is "rounded" and level 8 from
    their parents, the largest; "tuned": the same for kind "tuned"; "family": the median distance of
    a model with relatives from its nearest one; "stranger": the median distance of a model from the
    nearest one of another family. What the map has no pair for is absent. Raises `ValueError` for
    models that are not those of the map.
    """
    if list(models.index) != list(made.names):
        raise ValueError("models has other rows than the map; pass one per model, in its order")
    apart, place = made.distances(), {name: i for i, name in enumerate(made.names)}
    pairs = {"rounded to 8 bits": [], "tuned": []}
    for name, row in models.iterrows():
        if row["parent"] in place:
            distance = apart[place[name], place[row["parent"]]]
            if row["kind"] == "tuned":
                pairs["tuned"].append(distance)
            elif row["kind"] == "rounded" and row["level"] == 8:
                pairs["rounded to 8 bits"].append(distance)
    np.fill_diagonal(apart, np.inf)
    names = models["family"].to_numpy()
    same = names[:, None] == names
    for label, other in (("family", ~same), ("stranger", same)):
        nearest = np.where(other, np.inf, apart).min(axis=1)
        pairs[label] = list(nearest[np.isfinite(nearest)])
    of = {"family": np.median, "stranger": np.median}
    return {label: float(of.get(label, np.max)(found)) for label, found in pairs.items() if found}


def _kinship(distance: float, yards: Mapping[str, float]) -> str:
    """Return in words what a squared distance means beside the `yardsticks` of a map.

    The bounds are the distances themselves: a nearest model no farther than one rounded to 8 bits
    has "the same weights, but for rounding", one no farther than a tuned model from its parent is
    "as near as a fine-tune", and one beyond the typical stranger is "a stranger". What lies between
    the last two may be a relative, and is called by the yardsticks.
    """
    validation.non_negative(distance, "distance")
    if distance <= yards.get("rounded to 8 bits", -1):
        return "the same weights, but for rounding"
    if distance <= yards.get("tuned", -1):
        return "as near as a fine-tune"
    if distance > yards.get("stranger", -1):
        return "a stranger"
    beyond = f"farther than a fine-tune ({yards['tuned']:,.0f}) and " if "tuned" in yards else ""
    return (
        f"{beyond}nearer than half of the families here are to each other "
        f"({yards['stranger']:,.0f}): a relative, or one that this map cannot tell from a relative"
    )


def kinship_between(low: float, high: float, yards: Mapping[str, float]) -> str:
    """Return `kinship` of a distance that lies between two, undecided where they differ in it."""
    ends = dict.fromkeys(_kinship(distance, yards) for distance in (low, high))
    return next(iter(ends)) if len(ends) == 1 else f"undecided: {'; or '.join(ends)}"


def predict(
    made: ModelMap,
    scores: pd.DataFrame,
    groups: Sequence[str],
    log_likelihoods: ArrayLike | pd.Series | pd.DataFrame,
    *,
    penalties: Sequence[float] = _PENALTIES,
) -> _Prediction:
    """Predict scores of new models by ridge regression on log-likelihoods, and test it by groups.

    `scores` has a row per model of the map, in its order, and a column per score; rows with a
    missing score are left out. `groups` has a name per model: each group in turn is predicted from
    the others. `log_likelihoods` are nats, as `ModelMap.aligned` takes them. Features are the
    clipped log-likelihoods over sqrt(N), means included; the penalty is chosen by leave-one-out on
    the training rows. Raises `ValueError` for other lengths and fewer than 2 groups, and as
    `aligned`.
    """
    from sklearn.linear_model import RidgeCV

    names = np.asarray(groups)
    if list(scores.index) != list(made.names) or len(names) != len(made.names):
        raise ValueError("scores and groups must have a row per model of the map, in its order")
    new = made.aligned(log_likelihoods)
    root = np.sqrt(len(made.texts))
    features, unseen = made.log_likelihoods / root, np.maximum(new, made.threshold) / root
    known = scores.notna().all(axis=1).to_numpy()
    if len(set(names[known])) < 2:
        raise ValueError("groups has fewer than 2 names with scores; none could be held out")
    y, held = scores.to_numpy(float), np.full(scores.shape, np.nan)
    model = RidgeCV(penalties)
    for name in dict.fromkeys(names[known]):
        test, train = known & (names == name), known & (names != name)
        # One column comes back without its second dimension.
        guess = model.fit(features[train], y[train]).predict(features[test])
        held[test] = guess.reshape(-1, y.shape[1])
    guess = model.fit(features[known], y[known]).predict(unseen)
    return _Prediction(
        pd.DataFrame(guess.reshape(-1, y.shape[1]), columns=scores.columns),
        pd.DataFrame(held, scores.index, scores.columns),
    )


def rivals(
    made: ModelMap, scores: pd.DataFrame, groups: pd.Series, held_out: pd.DataFrame
) -> pd.DataFrame:
    """Return the root mean squared error of `_Prediction.held_out` and of three simpler guesses.

    The guesses for a model, its group held out: ridge regression on the mean log-likelihood alone,
    the score of the nearest model of another group, and the mean over other groups. Each group
    counts as much as another. One row per guess and a column per score. Raises as `predict` does.
    """
    level = np.broadcast_to(made.mean_log_likelihood.to_numpy()[:, None], (len(made.names), 2))
    alone = fit_map(level, made.names, 0)
    apart = pd.DataFrame(made.distances(), made.names, made.names)
    known = scores.notna().all(axis=1)
    other = [apart.loc[m, (groups != group) & known].idxmin() for m, group in groups.items()]
    means = scores.groupby(groups).mean().dropna()
    centre = pd.DataFrame([means.drop(index=g, errors="ignore").mean() for g in groups])
    guesses = {
        "ridge on all texts": held_out,
        "ridge on the mean": predict(alone, scores, groups, level[:1]).held_out,
        "nearest of another family": scores.loc[other].set_axis(scores.index),
        "mean of other families": centre.set_axis(scores.index),
    }
    squares = {name: (guess - scores) ** 2 for name, guess in guesses.items()}
    return pd.DataFrame({k: np.sqrt(s.groupby(groups).mean().mean()) for k, s in squares.items()}).T


def groups_needed(confidence: float) -> int:
    """Return how many groups with known errors an interval of this confidence needs.

    >>> from helpers.modelmap.placement import groups_needed
    >>> groups_needed(0.8), groups_needed(0.95)
    (4, 19)
    """
    validation.share(confidence, "confidence")
    return int(np.ceil(confidence / (1 - confidence) - 1e-9))


def interval(
    prediction: float, errors: ArrayLike, groups: Sequence[str], confidence: float = 0.9
) -> tuple[float, float]:
    """Return an interval around a prediction from the errors of held-out models.

    `errors` (n,), truth less prediction of models whose groups were held out, NaN left out; pass
    those of the new model's own kind only, for errors of another kind say nothing about it. The
    half width is the smallest absolute error below which at least `confidence` of the errors lie,
    where each group counts as much as another, with one group of infinite error added for the new
    one. With fewer than `groups_needed(confidence)` groups no interval can be given, and the ends
    are infinite. Source: split conformal prediction by groups (Dunn, Wasserman and Ramdas, 2023),
    within kinds as Mondrian prediction (Vovk et al., 2003). Raises `ValueError` for other lengths.

    >>> from helpers.modelmap.placement import interval
    >>> interval(10, [1.0, -2.0, 3.0, 4.0], list("abcd"), 0.8)
    (6.0, 14.0)
    >>> interval(10, [1.0, -2.0, 3.0], list("abc"), 0.8)
    (-inf, inf)
    """
    validation.share(confidence, "confidence")
    values, names = np.abs(validation.numbers(errors, "errors")), np.asarray(groups)
    if values.shape != names.shape:
        raise ValueError(f"groups has shape {names.shape} but errors {values.shape}; pass one each")
    values, names = values[np.isfinite(values)], names[np.isfinite(values)]
    if not len(values):
        return -np.inf, np.inf
    sizes = pd.Series(names).value_counts()
    weight = 1 / (len(sizes) + 1) / sizes[names].to_numpy()
    order = np.argsort(values, kind="stable")
    enough = np.flatnonzero(np.cumsum(weight[order]) >= confidence - 1e-12)
    half = float(values[order[enough[0]]]) if len(enough) else np.inf
    return prediction - half, prediction + half


def coverage(
    errors: ArrayLike,
    groups: Sequence[str],
    confidence: float = 0.9,
    kinds: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return how much of each group lies in the `interval` that the other groups of its kind give.

    `errors` and `groups` as for `interval`; `kinds` names the kind of each model, one for all by
    default. One row per group: `kind`, `n` models, `others`, the number of other groups of its
    kind, `half`, half the width of the interval (infinite where none can be given), and `covered`,
    the share of the group's models inside, NaN without an interval. Raises `ValueError` for other
    lengths, and for a group of two kinds.
    """
    values, every = np.abs(validation.numbers(errors, "errors")), np.asarray(groups)
    sorts = np.full(len(every), "all") if kinds is None else np.asarray(kinds)
    pairs = dict.fromkeys(zip(every, sorts, strict=True))
    if len(pairs) != len(set(every)):
        raise ValueError("kinds gives one group two kinds; give each group one")
    rows, known = {}, np.isfinite(values)
    for name, kind in pairs:
        own, others = (every == name) & known, (every != name) & (sorts == kind) & known
        if own.any():
            _, half = interval(0.0, values[others], every[others], confidence)
            covered = float(np.mean(values[own] <= half)) if np.isfinite(half) else np.nan
            rows[name] = (kind, int(own.sum()), len(set(every[others])), half, covered)
    return pd.DataFrame.from_dict(rows, "index", columns=["kind", "n", "others", "half", "covered"])


def score_table(
    said: _Prediction,
    scores: pd.DataFrame,
    groups: pd.Series,
    kinds: pd.Series,
    kind: str,
    confidence: float = 0.9,
) -> pd.DataFrame:
    """Return the predicted scores of one new model with intervals from models of its own kind.

    `said` is what `predict` returns for it, `scores` what it was given; `groups` and `kinds` name
    the group and the kind of each model of the map, `kind` that of the new one. One row per score:
    `predicted`, `low` and `high` (`interval`; shares stay within 0 and 1, NaN where no interval can
    be given), `families`, the number of groups of the kind with known errors, and `needed`.
    """
    rows = {}
    for score in scores:
        guess, same = float(said.new[score].iloc[0]), (kinds == kind).to_numpy()
        errors = (scores[score] - said.held_out[score]).to_numpy()[same]
        names = groups.to_numpy()[same]
        low, high = interval(guess, errors, names, confidence)
        most = 1.0 if score == "accuracy" else np.inf
        ends = (max(low, 0.0), min(high, most)) if np.isfinite(low) else (np.nan, np.nan)
        n = len(set(names[np.isfinite(errors)]))
        rows[score] = (guess, *ends, n, groups_needed(confidence))
    columns = ["predicted", "low", "high", "families", "needed"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns)


def rows_of(near: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return `neighbours` and predicted scores as one table, a row per number with its interval.

    `predictions` has a row per score, with `predicted`, `low` and `high`. Columns: `measure`, `to`,
    the model of a distance, `value`, `low`, `high`, `unit`, `over`, and the rest of both tables.
    """
    far = near.reset_index(names="to").rename(columns={"distance": "value"})
    far = far.assign(measure="squared distance", unit="nats² per text", over="texts")
    guess = predictions.reset_index(names="measure").rename(columns={"predicted": "value"})
    rows = pd.concat([far, guess.assign(over="families left out")], ignore_index=True)
    first = ["measure", "to", "value", "low", "high", "unit", "over"]
    return rows[[*first, *rows.columns.difference(first)]]


def close_up(
    made: ModelMap, log_likelihoods: ArrayLike | pd.Series, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of some models of a map, shape (n, 2), and of a new one among them, (2,).

    The directions are the principal ones of the `names` alone; the new model does not turn them.
    `log_likelihoods` is as in `neighbours`. Raises `ValueError` for fewer than 3 names, and as
    `neighbours` does.
    """
    if len(names) < 3:
        raise ValueError(f"names has length {len(names)}; pass 3 or more")
    rows = [made.names.index(name) for name in names]
    part = fit_map(made.log_likelihoods[rows], names, 0, texts=made.texts)
    picture = principal_coordinates(part, 2)
    clipped = np.maximum(_one_model(made, log_likelihoods), made.threshold)
    return picture.positions, part.place(clipped).coordinates[0] @ picture.axes.T


def _one_model(made: ModelMap, log_likelihoods: ArrayLike | pd.Series) -> np.ndarray:
    values = made.aligned(log_likelihoods)
    if len(values) != 1:
        raise ValueError(f"log_likelihoods has {len(values)} rows; pass one model at a time")
    return values[0]
