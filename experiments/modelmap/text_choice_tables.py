"""Which texts a map of models needs: rules beyond drawing with replacement, and how they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import ties, validation
from helpers.modelmap.text_choice import (
    RULES,
    Draw,
    checked_probabilities,
    draw_texts,
    drawn_distances,
    relative_error,
    text_probabilities,
)

ONCE, FITTED = ", each once", ", fitted"
# The paper's three; two of them drawn without replacement; two that draw nothing; and three with
# weights fitted to the distances of the choosing models.
ALL_RULES = (
    *RULES,
    "uniform, each once",
    "length-squared, each once",
    "largest variance",
    "pivoted",
    "uniform, fitted",
    "length-squared, fitted",
    "pivoted, fitted",
)


def choose_texts(coordinates: ArrayLike, n: int, rule: str, *, seed: int = 0) -> Draw:
    """Choose texts for a map by one of `ALL_RULES`, and weigh them.

    `coordinates` has shape (K, N), doubly centred, of the choosing models. The first three
    rules draw `n` times with replacement (`text_choice.draw_texts`), so that fewer than `n`
    texts may come out; "each once" draws n different ones; "largest variance" takes the n texts
    of the largest variance over models, "pivoted" those of `_pivoted_texts`, both with one
    weight, which keeps the sum of all squared distances; "fitted" chooses so, each once, and
    fits the weights (`_fit_weights`). `seed` is for rules that draw.
    """
    q = validation.matrix(coordinates, "coordinates").astype(float)
    if rule in RULES:
        return draw_texts(text_probabilities(q, rule), n, seed)
    name = rule.removesuffix(ONCE).removesuffix(FITTED)
    if name in RULES:
        draw = _draw_once(text_probabilities(q, name), n, seed)
    else:
        variance = (q**2).sum(axis=0)
        first = np.argsort(-variance, kind="stable") if name != "pivoted" else _pivoted_texts(q, n)
        texts = np.sort(first[:n])
        weight = np.sqrt(variance.sum() / variance[texts].sum())
        draw = Draw(texts, np.full(n, weight))
    return _fit_weights(q, draw.texts) if rule.endswith(FITTED) else draw


def _draw_once(probabilities: ArrayLike, n: int, seed: int = 0) -> Draw:
    """Draw n different texts, text s with a chance proportional to its probability, at most 1.

    Systematic sampling in random order: chances are exact, and the weight of a text is one over the
    root of its chance, so that sums over texts stay right on average. With n texts in all, all are
    drawn with weight 1. Source: Madow (1949); Horvitz and Thompson (1952).
    """
    p = checked_probabilities(probabilities)
    chance = _inclusion_chances(p, n)
    rng = validation.generator(seed)
    order = rng.permutation(np.flatnonzero(chance > 0))
    steps = np.cumsum(chance[order])
    marks = np.arange(n) + rng.random()
    drawn = order[np.minimum(np.searchsorted(steps, marks, side="right"), len(order) - 1)]
    texts = np.unique(drawn)
    return Draw(texts, 1 / np.sqrt(chance[texts]))


def _inclusion_chances(probabilities: np.ndarray, n: int) -> np.ndarray:
    """Return chances (N,) that add up to n: proportional to the probabilities, none above 1."""
    sure = np.zeros(len(probabilities), bool)
    while True:
        rest = probabilities * ~sure
        chance = np.where(sure, 1.0, (n - sure.sum()) * rest / max(rest.sum(), 1e-300))
        if not (chance > 1 + 1e-12).any():
            return np.minimum(chance, 1)
        sure |= chance >= 1


def _pivoted_texts(coordinates: ArrayLike, n: int) -> np.ndarray:
    """Return n texts by greedy choice: the one with most left after those chosen explain theirs.

    That is QR with column pivoting; beyond the rank, K - 1, texts follow by their variance. Source:
    Golub (1965), as in LAPACK.
    """
    from scipy.linalg import qr

    q = validation.matrix(coordinates, "coordinates").astype(float)
    _, _, order = qr(q, mode="economic", pivoting=True)
    rank = min(len(q) - 1, q.shape[1])
    variance = (q**2).sum(axis=0)
    rest = order[rank:]
    return np.concatenate([order[:rank], rest[np.argsort(-variance[rest], kind="stable")]])[:n]


def _fit_weights(coordinates: ArrayLike, texts: ArrayLike) -> Draw:
    """Weigh texts, none below 0, so that the distances of the choosing models come out best.

    Least squares on the squared distances of all pairs of models, or of 4000 drawn of them. Texts
    with weight 0 are left out.
    """
    from scipy.optimize import nnls

    q = validation.matrix(coordinates, "coordinates").astype(float)
    chosen = np.unique(np.asarray(texts, int))
    first, second = np.triu_indices(len(q), 1)
    if len(first) > 4000:
        some = np.random.default_rng(0).choice(len(first), 4000, replace=False)
        first, second = first[some], second[some]
    apart = q[first] - q[second]
    square, _ = nnls(apart[:, chosen] ** 2, (apart**2).sum(axis=1))
    return Draw(chosen[square > 0], np.sqrt(square[square > 0]))


def rule_curve(
    log_likelihoods: ArrayLike,
    sizes: Sequence[int],
    *,
    rules: Sequence[str] = RULES,
    choosers: ArrayLike | None = None,
    judged: ArrayLike | None = None,
    n_runs: int = 20,
    clip: float = 0.02,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how far distances from chosen texts are off those from all, a row per rule and size.

    `log_likelihoods` has shape (K, N), nats, as scored. `choosers`, a mask (K,), are the models
    that choose the texts, their weights and the clipping threshold (the quantile `clip`), all
    by default; pairs with at least one model of `judged`, by default those that are no
    choosers, or all where all choose, are compared. Columns `rule`, `n`, `unique` texts (mean
    over runs), `relative_error` (Frobenius norm of the error over that of the distances),
    `pairwise_error` (root mean square over pairs at a distance above 0 of the relative error),
    both root mean squares over runs as in the released code, and `wrong_nearest`, the mean
    share of judged models whose nearest model is not the one that all texts give. Rules that
    draw nothing run once. Source: arXiv 2505.15428, released code.
    """
    values = validation.matrix(log_likelihoods, "log_likelihoods").astype(float)
    every = np.ones(len(values), bool)
    knows = every if choosers is None else np.asarray(choosers)
    if judged is None:
        judged = None if choosers is None else ~knows
    rows = np.flatnonzero(every if judged is None else judged)
    values = _clipped(values, knows, clip)
    coordinates = _centred_twice(values[knows])
    exact = _all_texts(values)[rows]
    table = []
    for rule in rules:
        runs = n_runs if rule.split(",")[0] in RULES else 1
        for n in sizes:
            found = []
            for run in range(runs):
                draw = choose_texts(coordinates, int(n), rule, seed=seed + run)
                errors = _errors(drawn_distances(values, draw)[rows], exact, rows)
                found.append((len(draw.texts), *errors))
            unique, relative, pairwise, wrong = np.array(found).T
            off = [float(np.sqrt(np.mean(e**2))) for e in (relative, pairwise)]
            table.append((rule, int(n), unique.mean(), *off, wrong.mean()))
    names = "rule n unique relative_error pairwise_error wrong_nearest".split()
    return pd.DataFrame(table, columns=names)


def split_curves(
    log_likelihoods: ArrayLike,
    families: ArrayLike,
    sizes: Sequence[int],
    *,
    rules: Sequence[str] = RULES,
    n_splits: int = 10,
    n_runs: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return `rule_curve` for new models: texts chosen by old ones, and, not fair, by all.

    In each `split` a random half of the families is new and its models are judged; `chosen_by`
    is "old models" or "all models".
    """
    values = validation.matrix(log_likelihoods, "log_likelihoods")
    names = validation.labels(families, len(values), "families", "log_likelihoods").to_numpy()
    kinds = np.array(list(dict.fromkeys(names)))
    parts = []
    for split in range(n_splits):
        rng = np.random.default_rng([seed, split])
        new = np.isin(names, rng.permutation(kinds)[: len(kinds) // 2])
        for chosen_by, mask in (("old models", ~new), ("all models", None)):
            options = {"rules": rules, "n_runs": n_runs, "seed": seed + 1000 * split}
            curve = rule_curve(values, sizes, choosers=mask, judged=new, **options)
            parts.append(curve.assign(chosen_by=chosen_by, split=split))
    return pd.concat(parts, ignore_index=True)


def over_splits(curves: pd.DataFrame) -> pd.DataFrame:
    """Return one curve from `split_curves`: root mean squares of errors over splits, else means."""
    curves, squared = curves.drop(columns="split"), ["relative_error", "pairwise_error"]
    curves[squared] **= 2
    found = curves.groupby(["chosen_by", "rule", "n"], sort=False).mean().reset_index()
    found[squared] **= 0.5
    return found


def total_error_check(
    log_likelihoods: ArrayLike,
    n_sample: int,
    n: int,
    rule: str = "length-squared",
    *,
    n_runs: int = 20,
    seed: int = 0,
) -> dict[str, float]:
    """Compare the paper's total error with the true one, where all texts are the population.

    In each run `n_sample` texts are drawn from all with replacement, and `n` of these chosen by
    the rule. Returns root mean squares over runs of relative errors: `sampling`, by the bootstrap
    within the sample, as the paper has it; `resampling`, of the chosen against the sample;
    `total`, the root of the sum of their squares; `true`, of the chosen against the population.
    Source: arXiv 2505.15428, released code.
    """
    values = validation.matrix(log_likelihoods, "log_likelihoods").astype(float)
    values = _clipped(values, np.ones(len(values), bool), 0.02)
    truth, found = _all_texts(values), []
    for run in range(n_runs):
        rng = np.random.default_rng([seed, run])
        sample = values[:, rng.integers(values.shape[1], size=n_sample)]
        exact, q = _all_texts(sample), _centred_twice(sample)
        again = drawn_distances(sample, choose_texts(q, n_sample, "uniform", seed=run))
        few = drawn_distances(sample, choose_texts(q, n, rule, seed=run))
        pairs = ((again, exact), (few, exact), (few, truth))
        found.append([relative_error(*pair) for pair in pairs])
    sampling, resampling, true = np.sqrt(np.mean(np.square(found), axis=0))
    total = float(np.hypot(sampling, resampling))
    return {"sampling": sampling, "resampling": resampling, "total": total, "true": true}


def drawn_coordinates(log_likelihoods: ArrayLike, draw: Draw) -> np.ndarray:
    """Return the coordinates of models on the texts of a draw, weighted, shape (K, texts), nats.

    `log_likelihoods` (K, N) are clipped. Squared distances of rows over N are those of
    `text_choice.drawn_distances`. Source: arXiv 2505.15428, released code.
    """
    values = validation.matrix(log_likelihoods, "log_likelihoods")[:, draw.texts].astype(float)
    means = np.average(values, axis=1, weights=draw.weights**2)
    return (values - means[:, None]) * draw.weights


def _clipped(values: np.ndarray, rows: np.ndarray, clip: float) -> np.ndarray:
    return np.maximum(values, np.quantile(values[rows], clip)) if clip else values


def _centred_twice(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=1, keepdims=True)
    return centred - centred.mean(axis=0)


def _all_texts(values: np.ndarray) -> np.ndarray:
    n = values.shape[1]
    return drawn_distances(values, Draw(np.arange(n), np.ones(n)))


def _errors(
    estimate: np.ndarray, exact: np.ndarray, places: np.ndarray
) -> tuple[float, float, float]:
    """Return both errors and the share of wrong neighbours of rows, whose columns are `places`."""
    apart = exact > 0
    pairwise = np.sqrt(np.mean((estimate[apart] / exact[apart] - 1) ** 2))
    near = []
    for distances in (estimate, exact):
        others = distances.copy()
        others[np.arange(len(places)), places] = np.inf
        near.append(ties.first_smallest(others))
    return relative_error(estimate, exact), float(pairwise), float((near[0] != near[1]).mean())
