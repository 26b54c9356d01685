"""Time the measures of a latent space against the released procedure, and what comes before them.

Run `python benchmarks/geometry.py`. Every time is in CPU seconds of one thread, the least of
several runs. The peer follows the released code of Marbut et al. (2024) step by step and is written
anew here. It gets the same points and the same codes, and its values must be ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.special import kl_div
from scipy.stats import differential_entropy, multivariate_normal, skew
from sklearn.decomposition import PCA
from sklearn.metrics import auc
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _timing import keep, note, parser, timed

from helpers import encoding, factbook, models
from helpers.geometry import intrinsic_dimension, quantization, quantizers, spread

CELLS, BOOKS = 256, 4


def clustered(n: int, d: int, clusters: int = 300) -> np.ndarray:
    """Return n points of width d about normal centres, each as likely as the others."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((clusters, d))
    noise = 0.5 * rng.standard_normal((n, d))
    return (centres[rng.integers(clusters, size=n)] + noise).astype(np.float32)


def released_eee(points: np.ndarray) -> float:
    """Return the EEE by a PCA, as released but for the rounding to four digits."""
    pca = PCA().fit(points)
    d = pca.n_components_
    running = np.cumsum(pca.explained_variance_)
    line = np.cumsum([running[-1] / d] * d)
    return float(auc(range(d), running - line) / (running[-1] * d / 2))


def group_points(points: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Return the distinct points of every cell of every codebook, grouped point by point."""
    cells = []
    for book in codes.T:
        members: list[list[np.ndarray]] = [[] for _ in range(CELLS)]
        for row, point in enumerate(points):
            members[book[row]].append(point)
        cells += [np.unique(np.array(cell), axis=0) for cell in members if cell]
    return cells


def compare_counts(codes: np.ndarray) -> dict[str, float]:
    """Return the measures of the counts, the KL both from a random sample and in exact form."""
    n, rng = len(codes), np.random.default_rng(0)
    uniform = np.histogram(rng.uniform(0, CELLS, n), bins=CELLS)[0] / n
    every, variances, divergences, exact = [], [], [], []
    for book in codes.T:
        counts = np.histogram(book, bins=CELLS)[0]
        shares = counts / n
        variances.append(np.var(shares / (1 - shares) * (CELLS - 1)))
        divergences.append(kl_div(shares, uniform).sum())
        exact.append(kl_div(shares, np.full(CELLS, 1 / CELLS)).sum())
        every.extend(counts)
    mean = sum(every) / CELLS
    return {
        "patchiness_as_released": 1 + (np.var(every) / mean - 1) / mean,
        "count_variance": float(np.mean(variances)),
        "count_kl": float(np.mean(exact)),
        "count_kl, released": float(np.mean(divergences)),
    }


def compare_residuals(points: np.ndarray, restored: np.ndarray) -> dict[str, float]:
    """Return the measures of the residuals."""
    norms = np.linalg.norm(points - restored, axis=1)
    high, low = np.percentile(norms / np.max(norms), [75, 25])
    error = ((points - restored) ** 2).sum() / (points**2).sum()
    return {"error": float(error), "iqr": float(high - low), "skew": float(skew(norms))}


def released_vrm(points: np.ndarray) -> dict[str, float]:
    """Return VRM, both scaled by a drawn normal sample and by d, its variance on average."""
    n, d = points.shape
    pca = PCA()
    projected = pca.fit_transform(points)
    drawn = multivariate_normal(np.zeros(d), np.identity(d)).rvs(n, random_state=0)
    variance = sum(PCA().fit(drawn).explained_variance_)
    projected *= np.sqrt(variance / sum(pca.explained_variance_))
    ratios = np.exp(differential_entropy(projected)) / np.sqrt(2 * np.pi * np.e)
    exact = ratios * np.sqrt(d / variance)
    return {
        "vrm": float(np.sum((1 - exact) ** 2) / d),
        "vrm, released": float(np.sum((1 - ratios) ** 2) / d),
    }


def released_isoscore(points: np.ndarray) -> float:
    """Return IsoScore by its steps, from the singular values of the covariance."""
    values = np.linalg.svd(np.cov(points.T), compute_uv=False)
    d = len(values)
    scaled = values * np.sqrt(d) / np.linalg.norm(values)
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    used = (d - defect**2 * (d - np.sqrt(d))) ** 2
    return float((used - d) / (d * (d - 1)))


def measures(points: np.ndarray, repeats: int) -> None:
    """Print both times of every step and how far the values of the measures are apart."""
    n, d = points.shape
    print(f"{n:,} points of width {d}, {BOOKS} x {CELLS} cells; CPU s, one thread", flush=True)
    (codes, restored), training = timed(lambda: quantizers.quantize_and_restore(points), 1)
    cells, grouping = timed(lambda: group_points(points, codes), repeats)
    several = [cell for cell in cells if len(cell) > 1]
    peers: dict[str, tuple[str, Callable[[], object]]] = {
        "measures of counts": ("", lambda: compare_counts(codes)),
        "measures of residuals": ("", lambda: compare_residuals(points, restored)),
        "EEE of every cell": ("point_eee", lambda: np.mean([released_eee(c) for c in several])),
        "EEE": ("eee", lambda: released_eee(points)),
        "VRM": ("", lambda: released_vrm(points)),
        "IsoScore": ("isoscore", lambda: released_isoscore(points)),
    }
    theirs, spent = {}, {"grouping by cell": grouping}
    for step, (name, function) in peers.items():
        value, spent[step] = timed(function, repeats)
        theirs |= value if isinstance(value, dict) else {name: value}
    ours, own = {}, {}
    steps: dict[str, Callable[[], object]] = {
        "quantized_measures": lambda: quantization.quantized_measures(points, codes, restored),
        "spread_measures": lambda: spread.spread_measures(points),
        "cell_enrichment": lambda: {"point_eee": quantization.cell_enrichment(points, codes)},
    }
    for step, function in steps.items():
        value, own[step] = timed(function, repeats)
        ours |= value
    _, neighbours = timed(lambda: intrinsic_dimension.twonn(points), repeats)

    print(f"training the additive quantizer takes {training:.1f} CPU s for either\n")
    for title, table in {"released procedure": spent, "ours": own}.items():
        for step, seconds in table.items():
            print(f"{title:20}{step:24}{seconds:9.3f}")
    print(f"{'ours':20}{'of which TwoNN':24}{neighbours:9.3f}\n")
    all_theirs, all_ours = sum(spent.values()), sum(own.values())
    looks = spent["grouping by cell"] + spent["EEE of every cell"]
    rows = {
        "everything that measure_cloud returns, against all their measures": (
            all_theirs,
            all_ours - own["cell_enrichment"],
        ),
        "the same measures on both sides": (all_theirs, all_ours - neighbours),
        "the same, without the measures within cells": (
            all_theirs - looks,
            all_ours - neighbours - own["cell_enrichment"],
        ),
    }
    print(f"{'CPU seconds':50}{'released':>10}{'ours':>8}{'ratio':>8}")
    for name, (slow, fast) in rows.items():
        print(f"{name:50}{slow:10.2f}{fast:8.2f}{slow / fast:8.1f}")
        aim = 20 if name.startswith("what") else None
        note(f"a latent space: {name}", "the released procedure", fast, slow, slow / fast, aim=aim)
    print()
    print(f"{'measure':24}{'released':>14}{'ours':>14}{'relative':>11}")
    worst = 0.0
    for name, value in theirs.items():
        mine = ours[name.split(",")[0]]
        gap = abs(mine / value - 1)
        worst = max(worst, 0.0 if "," in name else gap)
        print(f"{name:24}{value:14.8f}{mine:14.8f}{gap:11.1e}")
    print("released: from random samples, which ours replaces by what they stand for")
    assert worst < 1e-5, f"a measure differs from the released one by {worst:.1e}"


def training(sizes: list[int], d: int) -> None:
    """Print the CPU time a point of training the additive quantizer."""
    print("\ntraining the additive quantizer and encoding by it", flush=True)
    for n in sizes:
        points = clustered(n, d)
        _, seconds = timed(lambda points=points: quantizers.quantize(points), 1)
        print(f"N = {n:6,}, d = {d}: {seconds:6.1f} CPU s, {1000 * seconds / n:.2f} CPU ms a point")


def reading(n: int, repeats: int) -> None:
    """Print the throughput of `token_vectors` against the bare model on the same batches."""
    try:
        tokenizer, model = models.load_model()
        sentences = factbook.draw_sentences(n, seed=0)
    except ValueError as error:
        print(f"\nencoding is not measured: {error}")
        return
    batches: list[dict] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, batch: batches.append(batch), with_kwargs=True
    )
    vectors = encoding.token_vectors(model, tokenizer, sentences)
    hook.remove()

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(**batch)

    least = [np.inf, np.inf]
    for _ in range(repeats):
        for i, way in enumerate(
            [bare, lambda: encoding.token_vectors(model, tokenizer, sentences)]
        ):
            least[i] = min(least[i], timed(way, 1)[1])
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    print(f"\nencoding {n:,} sentences, {tokens:,} tokens, of which {len(vectors):,} are kept")
    print(f"bare model    {least[0]:7.2f} CPU s, {tokens / least[0]:8,.0f} tokens a second")
    print(f"token_vectors {least[1]:7.2f} CPU s, {tokens / least[1]:8,.0f} tokens a second")
    print(f"throughput of token_vectors over the bare model: {least[0] / least[1]:.1%}")
    ratio = least[0] / least[1]
    note("vectors of tokens", "the bare model", least[1], least[0], ratio, unit="%")


def main() -> None:
    """Print the comparison, the time of training and the throughput of encoding."""
    options = parser(__doc__, quick="smaller sizes, half a minute", repeats=2).parse_args()
    # The limit below does not reach the threads of torch.
    torch.set_num_threads(1)
    n, d = (3_000, 128) if options.quick else (20_000, 768)
    with threadpool_limits(limits=1):
        measures(clustered(n, d), options.repeats)
        training([n // 3, n] if options.quick else [5_000, n], d)
        reading(150 if options.quick else 1_500, options.repeats)
    keep(options)


if __name__ == "__main__":
    main()
