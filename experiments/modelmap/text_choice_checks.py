"""Chosen texts: how many a rule saves, how sure that is, and what it does to the divergence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments import intervals
from experiments.modelmap import text_choice_tables as tables
from helpers import validation
from helpers.modelmap import model_map, text_choice


def split_ratio(
    curves: pd.DataFrame, *, column: str = "relative_error"
) -> tuple[float, float, float]:
    """Return texts of length-squared for one of uniform drawing, for new models, with its range.

    `curves` are those of `text_choice_tables.split_curves` of one `chosen_by`. The estimate is that
    of the curve over all splits, the range the 2.5 and 97.5 % quantiles over single splits.
    """
    whole = texts_ratio(tables.over_splits(curves), column=column)
    single = [texts_ratio(part, column=column) for _, part in curves.groupby("split")]
    low, high = np.nanquantile(single, [0.025, 0.975])
    return whole, float(min(low, whole)), float(max(high, whole))


def _total_ratio(
    log_likelihoods: ArrayLike, sizes: Sequence[int], *, n_runs: int = 5, seed: int = 0
) -> float:
    """Return different texts of length-squared over uniform drawing at equal total error.

    Uniform drawing of N texts has the sampling error; the ratio is that of the texts with which
    length-squared drawing has no larger one to those that N uniform draws hold. NaN where the curve
    does not reach it.
    """
    values = validation.matrix(log_likelihoods, "log_likelihoods")
    options = {"n_runs": n_runs, "seed": seed}
    whole = tables.rule_curve(values, [values.shape[1]], rules=["uniform"], **options)
    curve = tables.rule_curve(values, sizes, rules=["length-squared"], **options)
    needed = texts_needed(curve, whole["relative_error"][0])
    return float(needed["length-squared"] / whole["unique"][0])


def _half_maps(families: ArrayLike, n: int, seed: int = 0) -> list[np.ndarray]:
    """Return the rows of maps that hold a random half of the families each."""
    names, rng = np.asarray(families), validation.generator(seed)
    kinds = np.array(list(dict.fromkeys(names)))
    return [
        np.flatnonzero(np.isin(names, rng.permutation(kinds)[: len(kinds) // 2])) for _ in range(n)
    ]


def total_ratio_range(
    log_likelihoods: ArrayLike, families: ArrayLike, sizes: Sequence[int], *, n_maps: int = 40,
    **options: int,
) -> tuple[float, float]:  # fmt: skip
    """Return the 2.5 and 97.5 % quantiles of `_total_ratio` over maps of half of the families."""
    values = validation.matrix(log_likelihoods, "log_likelihoods")
    found = [
        _total_ratio(values[rows], sizes, **options)
        for rows in _half_maps(families, n_maps, options.get("seed", 0))
    ]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def against_divergence(
    log_likelihoods: pd.DataFrame,
    pairs: pd.DataFrame,
    n: int,
    *,
    rules: Sequence[str] = ("uniform, each once", "length-squared, each once"),
    n_runs: int = 20,
    n_resamples: int = 500,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[float, float, float]]:
    """Return how distances from chosen texts rank pairs of known divergence, by rule.

    `pairs` has `model`, `other` and `true`. One row per rule, and "all texts": `texts`, `rank`, the
    rank correlation of distance and divergence (mean over draws), and `spread`, the standard
    deviation of the logarithm of their ratio. Second, the gain in rank correlation of the last rule
    over the first, with its 95 % interval, for which first models are drawn with replacement.
    """
    made = model_map.fit_map(log_likelihoods)
    first, second = (pd.Index(made.names).get_indexer(pairs[k]) for k in ("model", "other"))
    truth = pairs["true"].to_numpy()
    every = made.distances()[first, second]
    found = {"all texts": [every]}
    for rule in rules:
        found[rule] = []
        for run in range(n_runs):
            draw = tables.choose_texts(made.coordinates, n, rule, seed=seed + run)
            apart = text_choice.drawn_distances(made.log_likelihoods, draw)
            found[rule].append(apart[first, second])
    found = {rule: np.stack(runs) for rule, runs in found.items()}
    rows = {
        rule: {
            "texts": len(made.texts) if rule == "all texts" else n,
            "rank": _mean_rank(runs, truth),
            "spread": np.std(np.log(runs / truth), axis=1).mean(),
        }
        for rule, runs in found.items()
    }
    ends = [found[rules[i]] for i in (-1, 0)]

    def gain(some: np.ndarray) -> float:
        last, first = (_mean_rank(runs[:, some], truth[some]) for runs in ends)
        return last - first

    options = {"n_resamples": n_resamples, "seed": seed}
    return pd.DataFrame(rows).T, intervals.bootstrap(gain, pairs["model"], **options)


def _mean_rank(runs: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean of Spearman's correlations of rows (runs, pairs) with a truth (pairs,)."""
    return float(intervals.rank_correlations(np.column_stack([*runs, truth])).mean())


def texts_needed(curve: pd.DataFrame, error: float, *, column: str = "relative_error") -> pd.Series:
    """Return how many different texts each rule of a curve needs for an error, NaN outside it.

    Read by straight lines between the points on logarithmic axes, after points that rise with
    more texts are pooled with their neighbours (isotonic regression).
    """
    found = {}
    for rule, part in curve.groupby("rule", sort=False):
        errors, texts = _falling(part, column)
        inside = len(errors) and errors[-1] <= error <= errors[0]
        found[rule] = _read(errors, texts, error) if inside else np.nan
    return pd.Series(found, name="texts")


def texts_ratio(
    curve: pd.DataFrame,
    rule: str = "length-squared",
    rival: str = "uniform",
    *,
    column: str = "relative_error",
) -> float:
    """Return how many texts a rule needs for one of its rival, at equal error.

    The geometric mean of the ratio of different texts, over the points of both curves whose
    error lies on the other curve. Where none does, the rival's nearest end goes on as the root
    of the number of texts, which is how chance errors fall; NaN without any error.
    """
    parts = [curve[curve.rule == name] for name in (rule, rival)]
    (errors, texts), (others, needed) = (_falling(part, column) for part in parts)
    if not len(errors) or not len(others):
        return float("nan")
    at = np.concatenate([errors, others])
    at = at[(at <= min(errors[0], others[0])) & (at >= max(errors[-1], others[-1]))]
    if len(at):
        ratios = [_read(errors, texts, e) / _read(others, needed, e) for e in at]
        return float(np.exp(np.log(ratios).mean()))
    here, end = (-1, 0) if errors[-1] > others[0] else (0, -1)
    return float(texts[here] / needed[end] * (errors[here] / others[end]) ** 2)


def _falling(part: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return errors that never rise with more texts, and the texts, ascending."""
    from sklearn.isotonic import isotonic_regression

    part = part[part[column] > 0].sort_values("unique", kind="stable")
    if not len(part):
        return np.empty(0), np.empty(0)
    logs = isotonic_regression(np.log(part[column].to_numpy()), increasing=False)
    # One point for errors that were pooled: in the middle of their texts.
    pooled = pd.Series(np.log(part["unique"].to_numpy())).groupby(-logs).mean()
    return np.exp(-pooled.index.to_numpy()), np.exp(pooled.to_numpy())


def _read(errors: np.ndarray, texts: np.ndarray, error: float) -> float:
    return float(np.exp(np.interp(-np.log(error), -np.log(errors), np.log(texts))))


def ratio_interval(
    log_likelihoods: ArrayLike,
    families: ArrayLike,
    sizes: Sequence[int],
    *,
    rule: str = "length-squared",
    rival: str = "uniform",
    column: str = "relative_error",
    n_resamples: int = 50,
    n_runs: int = 5,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the range of `texts_ratio` over smaller maps: its 2.5 and 97.5 % quantiles.

    Each map has a random half of the families, drawn without replacement, for a family drawn
    twice would have copies of its models for neighbours.
    """
    values, names = validation.matrix(log_likelihoods, "log_likelihoods"), np.asarray(families)
    members = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
    rng, found = validation.generator(seed), []
    for resample in range(n_resamples):
        drawn = rng.permutation(len(members))[: -(-len(members) // 2)]
        rows = np.concatenate([members[i] for i in drawn])
        options = {"rules": [rule, rival], "n_runs": n_runs, "seed": seed + 1000 * resample}
        curve = tables.rule_curve(values[rows], sizes, **options)
        found.append(texts_ratio(curve, rule, rival, column=column))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)
