"""Which texts a map of models needs: rules beyond drawing with replacement, and how they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import checks
from helpers.modelmap_texts import (
    RULES,
    Draw,
    draw_texts,
    drawn_distances,
    pairwise_error,
    relative_error,
    text_probabilities,
)

ONCE, FITTED = ", each once", ", fitted"
# The paper's three; two of them drawn without replacement; two that draw nothing; and three with
# weights fitted to the distances of the models at hand.
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

    `coordinates` has shape (K, N), doubly centred, of the models at hand. The first three rules
    draw `n` times with replacement (`modelmap_texts.draw_texts`), so that fewer than `n` texts may
    come out; "each once" draws n different ones (`draw_once`); "largest variance" takes the n texts
    of the largest variance over models, "pivoted" those of `pivoted_texts`, both with one weight,
    which keeps the sum of all squared distances; "fitted" chooses so, each once, and fits the
    weights (`fit_weights`). `seed` is for rules that draw. Raises `ValueError` for another rule,
    and n above N unless the rule draws with replacement.
    """
    q = checks.matrix(coordinates, "coordinates").astype(float)
    checks.choice(rule, ALL_RULES, "rule")
    checks.counts(n=(n, 1))
    if rule in RULES:
        return draw_texts(text_probabilities(q, rule), n, seed)
    if n > q.shape[1]:
        raise ValueError(f"n is {n} but there are {q.shape[1]} texts; give fewer")
    name = rule.removesuffix(ONCE).removesuffix(FITTED)
    if name in RULES:
        draw = draw_once(text_probabilities(q, name), n, seed)
    else:
        variance = (q**2).sum(axis=0)
        first = np.argsort(-variance, kind="stable") if name != "pivoted" else pivoted_texts(q, n)
        texts = np.sort(first[:n])
        weight = np.sqrt(variance.sum() / variance[texts].sum())
        draw = Draw(texts, np.full(n, weight))
    return fit_weights(q, draw.texts) if rule.endswith(FITTED) else draw


def draw_once(probabilities: ArrayLike, n: int, seed: int = 0) -> Draw:
    """Draw n different texts, text s with a chance proportional to its probability, at most 1.

    Systematic sampling in random order: chances are exact, and the weight of a text is one over
    the root of its chance, so that sums over texts stay right on average. With n texts in all, all
    are drawn with weight 1. Raises `ValueError` for bad probabilities and n above the texts of
    positive probability. Source: Madow (1949); Horvitz and Thompson (1952).
    """
    p = np.asarray(probabilities, float)
    if p.ndim != 1 or not (p >= 0).all() or not np.isclose(p.sum(), 1):
        raise ValueError("probabilities must be numbers from 0 that add up to 1, one a text")
    checks.counts(n=(n, 1))
    if n > (p > 0).sum():
        raise ValueError(f"n is {n} but {(p > 0).sum()} texts can be drawn; give fewer")
    chance = inclusion_chances(p, n)
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(chance > 0))
    steps = np.cumsum(chance[order])
    marks = np.arange(n) + rng.random()
    drawn = order[np.minimum(np.searchsorted(steps, marks, side="right"), len(order) - 1)]
    texts = np.unique(drawn)
    return Draw(texts, 1 / np.sqrt(chance[texts]))


def inclusion_chances(probabilities: np.ndarray, n: int) -> np.ndarray:
    """Return chances (N,) that add up to n: proportional to the probabilities, none above 1."""
    sure = np.zeros(len(probabilities), bool)
    while True:
        rest = probabilities * ~sure
        chance = np.where(sure, 1.0, (n - sure.sum()) * rest / max(rest.sum(), 1e-300))
        if not (chance > 1 + 1e-12).any():
            return np.minimum(chance, 1)
        sure |= chance >= 1


def pivoted_texts(coordinates: ArrayLike, n: int) -> np.ndarray:
    """Return n texts by greedy choice: the one with most left after those chosen explain theirs.

    That is QR with column pivoting; beyond the rank, K - 1, texts follow by their variance. Raises
    `ValueError` for n above N. Source: Golub (1965), as in LAPACK.
    """
    from scipy.linalg import qr

    q = checks.matrix(coordinates, "coordinates").astype(float)
    if n > q.shape[1]:
        raise ValueError(f"n is {n} but there are {q.shape[1]} texts; give fewer")
    _, _, order = qr(q, mode="economic", pivoting=True)
    rank = min(len(q) - 1, q.shape[1])
    variance = (q**2).sum(axis=0)
    rest = order[rank:]
    return np.concatenate([order[:rank], rest[np.argsort(-variance[rest], kind="stable")]])[:n]


def fit_weights(
    coordinates: ArrayLike, texts: ArrayLike, *, most_pairs: int = 4000, seed: int = 0
) -> Draw:
    """Weigh texts, none below 0, so that the distances of the models at hand come out best.

    Least squares on the squared distances of all pairs of models, or of `most_pairs` of them drawn
    by `seed`. Texts with weight 0 are left out. Raises `ValueError` for a text that is not there.
    """
    from scipy.optimize import nnls

    q = checks.matrix(coordinates, "coordinates").astype(float)
    chosen = np.unique(np.asarray(texts, int))
    if not len(chosen) or chosen[0] < 0 or chosen[-1] >= q.shape[1]:
        raise ValueError(f"texts must be one or more numbers from 0 to {q.shape[1] - 1}")
    first, second = np.triu_indices(len(q), 1)
    if len(first) > most_pairs:
        some = np.random.default_rng(seed).choice(len(first), most_pairs, replace=False)
        first, second = first[some], second[some]
    apart = q[first] - q[second]
    square, _ = nnls(apart[:, chosen] ** 2, (apart**2).sum(axis=1))
    return Draw(chosen[square > 0], np.sqrt(square[square > 0]))
