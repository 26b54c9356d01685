"""Time the mathematics of a map of 1,018 models and 10,000 texts against SciPy and scikit-learn.

Run `python benchmarks/modelmap.py`. The matrix is made: a few directions, noise, texts of unequal
length. Times are CPU seconds of one thread, the least of several runs; a ratio compares two times
of one run. Predictions are timed on one outer fold, because RidgeCV needs hours for all of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _timing import keep, note, parser, timed

from helpers.modelmap import model_map, score_prediction, text_choice


def make(k: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-likelihoods (k, n) in nats, six scores (k, 6) in percent, and families (k,)."""
    rng = np.random.default_rng(seed)
    family = rng.integers(0, 29, k)
    place = rng.normal(size=(29, 40))[family] + 0.3 * rng.normal(size=(k, 40))
    directions = rng.normal(size=(40, n)) * np.exp(rng.normal(size=n) / 2) * 8
    L = -700 - 150 * rng.normal(size=n) + place @ directions + 5 * rng.normal(size=(k, n))
    scores = 50 + place[:, :6] @ rng.normal(size=(6, 6)) * 5 + rng.normal(size=(k, 6)) * 3
    return L, scores, family


def predictions(made: model_map.ModelMap, y: np.ndarray, family: np.ndarray, alphas: int) -> float:
    """Print the gain on RidgeCV in one outer fold and one score, and the time of everything."""
    X = made.coordinates
    grid = score_prediction.ALPHAS[:alphas]
    every, spent = timed(lambda: score_prediction.predict_scores(X, y, family, grid), 1)
    splitter = GroupKFold(5, shuffle=True, random_state=0)
    train, test = next(splitter.split(X, y, family))
    peer, seconds = timed(lambda: RidgeCV(grid, cv=5, scoring="r2").fit(X[train], y[train, 0]), 1)
    assert every.alphas[0, 0] == peer.alpha_, "another penalty was chosen"
    gap = np.abs(peer.predict(X[test]) - every.predictions[test, 0]).max()
    assert gap < 1e-9 * np.abs(y).max(), f"predictions differ by {gap:.1e}"
    whole = 5 * y.shape[1] * seconds
    print(f"scores: 5 folds of {y.shape[1]} scores in {spent:.2f} CPU s; RidgeCV one fold of one")
    print(f"score in {seconds:.2f}, so {whole:,.0f} for all: {whole / spent:,.0f}x")
    print(f"same penalty, predictions within {gap:.0e}")
    note("predicting scores, nested folds", "RidgeCV", spent, whole, whole / spent, aim=25)
    return spent


def main() -> None:
    """Print the time of each step, the ratios, and the sum of all but t-SNE."""
    given = parser(__doc__, quick="200 models, 1,000 texts, 3 penalties").parse_args()
    k, n, alphas = (200, 1000, 3) if given.quick else (1018, 10_000, len(score_prediction.ALPHAS))
    L, scores, family = make(k, n)
    names = [f"model {i}" for i in range(k)]
    made = model_map.fit_map(L, names)
    steps = {
        "fit: clip, centre": lambda: model_map.fit_map(L, names),
        "distances": made.distances,
        "principal coordinates": lambda: model_map.principal_coordinates(made),
        "nearest": lambda: made.nearest("model 3"),
        "place 20 models": lambda: made.place(L[:20]),
        "probabilities of texts": lambda: [
            text_choice.text_probabilities(made.coordinates, r) for r in text_choice.RULES
        ],
    }
    print(f"{k:,} models, {n:,} texts; CPU seconds")
    spent = {}
    for name, step in steps.items():
        _, spent[name] = timed(step, given.repeats)
        print(f"{name:42}{spent[name]:8.2f}")
    print(f"{'all of these':42}{sum(spent.values()):8.2f}")
    q = made.coordinates
    peer, seconds = timed(lambda: squareform(pdist(q, "sqeuclidean")) / n, given.repeats)
    gap = np.abs(peer - made.distances()).max() / peer.max()
    assert gap < 1e-9, f"distances differ by {gap:.1e} of the largest"
    print(f"distances: SciPy's pdist {seconds:.2f}, {seconds / spent['distances']:.1f}x;", end=" ")
    print(f"largest difference {gap:.0e} of the largest distance")
    ratio = seconds / spent["distances"]
    note("distances of all models", "SciPy's pdist", spent["distances"], seconds, ratio, aim=5)
    more = predictions(made, scores, family, alphas)
    total = sum(spent.values()) + more
    note("the map and its predictions, without t-SNE", "-", total, None, total, unit="s", aim=15,
         most=True)  # fmt: skip
    keep(given)


if __name__ == "__main__":
    main()
