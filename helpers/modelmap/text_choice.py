"""Which texts a map of models needs: drawing them by chance, and the error that this makes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from helpers import validation

RULES = ("uniform", "length-squared", "KL")


class Draw(NamedTuple):
    """Texts drawn: their columns, each once and in order, and the weight of each column."""

    texts: np.ndarray
    weights: np.ndarray


def text_probabilities(coordinates: ArrayLike, rule: str = "length-squared") -> np.ndarray:
    """Return with which probability each text is drawn, shape (N,).

    `coordinates` has shape (K, N), doubly centred. "length-squared" takes the sum of squares of a
    column, its variance over models; "KL" the root of the sum, over pairs of models, of the fourth
    power of their difference; "uniform" makes all texts equal. Raises `ValueError` for another
    rule. Source: arXiv 2505.15428, released code.
    """
    validation.choice(rule, RULES, "rule")
    q = validation.matrix(coordinates, "coordinates").astype(float)
    if rule == "uniform":
        return np.full(q.shape[1], 1 / q.shape[1])
    second = (q**2).sum(axis=0)
    if rule == "length-squared":
        score = second
    else:
        first, third, fourth = ((q**power).sum(axis=0) for power in (1, 3, 4))
        pairs = 2 * len(q) * fourth + 6 * second**2 - 8 * first * third
        score = np.sqrt(np.maximum(pairs, 0))
    return score / score.sum()


def checked_probabilities(probabilities: ArrayLike) -> np.ndarray:
    """Return probabilities as an array (N,), or raise `ValueError` where they are none."""
    p = validation.numbers(probabilities, "probabilities")
    if p.ndim != 1 or not (p >= 0).all() or not np.isclose(p.sum(), 1):
        raise ValueError("probabilities must be numbers from 0 that add up to 1, one per text")
    return p


def draw_texts(probabilities: ArrayLike, n: int, seed: int = 0) -> Draw:
    """Draw n texts with replacement, and weigh each so that sums over texts stay right on average.

    The weight of a text drawn c times is sqrt(c / (n p)). Raises `ValueError` unless the
    probabilities are positive or zero and add up to 1. Source: arXiv 2505.15428, released code.

    >>> from helpers.modelmap import draw_texts
    >>> draw = draw_texts([0.5, 0.25, 0.25, 0.0], n=8)
    >>> draw.texts, (draw.weights**2).round(2)
    (array([0, 1, 2]), array([0.75, 1.5 , 1.  ]))
    """
    p = checked_probabilities(probabilities)
    validation.counts(n=(n, 1))
    drawn = validation.generator(seed).choice(len(p), size=n, p=p / p.sum())
    texts, times = np.unique(drawn, return_counts=True)
    return Draw(texts, np.sqrt(times / (n * p[texts])))


def drawn_distances(log_likelihoods: ArrayLike, draw: Draw) -> np.ndarray:
    """Estimate the squared distances of all texts from those drawn, shape (K, K), nats² per text.

    `log_likelihoods` has shape (K, N), clipped, of which only the columns drawn are read. Rows are
    centred by their weighted mean. Source: arXiv 2505.15428, released code.
    """
    values = validation.matrix(log_likelihoods, "log_likelihoods")
    chosen = values[:, draw.texts].astype(float)
    square = draw.weights**2
    chosen = (chosen - (chosen @ square / square.sum())[:, None]) * draw.weights
    lengths = np.einsum("ij,ij->i", chosen, chosen)
    found = lengths[:, None] + lengths - 2 * (chosen @ chosen.T)
    np.fill_diagonal(found, 0)
    return np.maximum(found, 0) / values.shape[1]


def relative_error(estimate: ArrayLike, exact: ArrayLike) -> float:
    """Return the Frobenius norm of the error of distances over that of the distances.

    Both have one shape of two dimensions: all models by all, or some of them by others.
    """
    return float(np.linalg.norm(np.subtract(estimate, exact)) / np.linalg.norm(exact))
