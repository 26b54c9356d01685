"""Time the average log posterior against scikit-learn and SciPy: python benchmarks/posterior.py."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from threadpoolctl import threadpool_limits


def by_scikit_learn(X: np.ndarray, labels: np.ndarray, blocks: list[np.ndarray]) -> float:
    """Return the mean over heads of minus the training log loss of QDA."""
    rows, scores = np.arange(len(X)), []
    for head in blocks:
        model = QuadraticDiscriminantAnalysis().fit(X[:, head], labels)
        scores.append(model.predict_log_proba(X[:, head])[rows, labels].mean())
    return float(np.mean(scores))


def by_scipy(X: np.ndarray, labels: np.ndarray, blocks: list[np.ndarray]) -> float:
    """Return the same by one `multivariate_normal` a cluster and head."""
    rows, scores = np.arange(len(X)), []
    weights = np.log(np.bincount(labels) / len(X))
    for head in blocks:
        joint = np.empty((len(X), len(weights)))
        for k, weight in enumerate(weights):
            own = X[labels == k][:, head]
            density = multivariate_normal(own.mean(axis=0), np.cov(own.T, bias=True))
            joint[:, k] = weight + density.logpdf(X[:, head])
        scores.append((joint[rows, labels] - logsumexp(joint, axis=1)).mean())
    return float(np.mean(scores))


def timed(function: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Return the value of a function and the least CPU seconds it took."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        value = function()
        seconds.append(time.process_time() - start)
    return value, min(seconds)


def main() -> None:
    """Print the table, after checking that all three give the same score."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from helpers.posterior import average_log_posterior, heads

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few seconds instead of a minute")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each; the fastest counts")
    options = parser.parse_args()
    n, d, k, head_dim = (4_000, 128, 10, 16) if options.small else (20_000, 1024, 20, 32)

    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    X = rng.standard_normal((n, d)) + 0.1 * rng.standard_normal((k, d))[labels]
    blocks = heads(d, head_dim, seed=0)

    def ours(form: str, **options: float) -> Callable[[], float]:
        return lambda: average_log_posterior(X, labels, form=form, head_dim=head_dim, **options)

    forms = {
        "ours, published form": ours("published", ridge=0.0),
        "ours, leave-one-out": ours("leave_one_out", ridge=0.0),
        "ours, calibrated": ours("calibrated"),
    }
    peers = {
        "scikit-learn QDA": lambda: by_scikit_learn(X, labels, blocks),
        "SciPy logpdf loop": lambda: by_scipy(X, labels, blocks),
    }
    with threadpool_limits(limits=1):
        results = {name: timed(run, options.repeats) for name, run in (forms | peers).items()}

    reference, base = results["ours, published form"]
    print(f"N = {n:,}, d = {d} as {len(blocks)} heads of {head_dim}, K = {k}; CPU s, one thread")
    print(f"{'method':24}{'CPU s':>8}{'ratio':>8}{'score':>16}")
    for name, (value, seconds) in results.items():
        score = getattr(value, "score", value)
        print(f"{name:24}{seconds:8.2f}{seconds / base:8.2f}{score:16.10f}")
    for name in peers:
        gap = abs(results[name][0] - reference.score)
        assert gap < 1e-12, f"{name} differs from ours by {gap:.1e}"
        print(f"{name} agrees with the published form to {gap:.1e}")


if __name__ == "__main__":
    main()
