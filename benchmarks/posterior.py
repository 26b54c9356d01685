"""Time the average log posterior against scikit-learn and SciPy, and measure its memory.

Run `python benchmarks/posterior.py`. The memory part reads /proc, so it needs Linux.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _timing import keep, note, parser, timed
from numpy.lib import format as npy
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


def timings(n: int, d: int, k: int, head_dim: int, repeats: int) -> None:
    """Print the table of CPU seconds, after checking that all three give the same score."""
    from helpers.posterior import heads
    from helpers.posterior.alp import average_log_posterior

    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    X = rng.standard_normal((n, d)) + 0.1 * rng.standard_normal((k, d))[labels]
    blocks = heads.blocks(d, head_dim, seed=0)

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
        results = {name: timed(run, repeats) for name, run in (forms | peers).items()}

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
        theirs = results[name][1]
        note("average log posterior, published form", name, base, theirs, theirs / base, aim=2)


def process_memory() -> dict[str, int]:
    """Return what the system holds for this process, bytes: VmRSS, VmHWM (its peak), RssAnon."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) * 1024 for words in lines if words[-1] == "kB"}


def write_embeddings(path: Path, n: int, d: int, k: int) -> None:
    """Write (n, d) float32 embeddings of k clusters in pieces, with none of it in memory."""
    rng = np.random.default_rng(0)
    means = 0.1 * rng.standard_normal((k, d), dtype=np.float32)
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, d)}
        npy.write_array_header_1_0(file, header)
        for start in range(0, n, 10_000):
            codes = np.arange(start, min(start + 10_000, n)) % k
            noise = rng.standard_normal((len(codes), d), dtype=np.float32)
            file.write((noise + means[codes]).tobytes())


def measure(path: str, form: str, n: int, k: int) -> dict[str, float]:
    """Return the peaks beyond the start, bytes, of one score of the first n rows of a file."""
    from helpers.posterior.alp import average_log_posterior

    X, labels = np.load(path, mmap_mode="r")[:n], np.arange(n) % k
    rng = np.random.default_rng(0)
    # What is loaded or set up at the first call alone is no part of the score's memory.
    average_log_posterior(rng.standard_normal((1000, 64)), np.arange(1000) % k, head_dim=32)
    before, anonymous, done = process_memory(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            anonymous[0] = max(anonymous[0], process_memory()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    tracemalloc.start()
    start = time.process_time()
    with threadpool_limits(limits=1):
        score = average_log_posterior(X, labels, form=form, head_dim=32).score
    seconds = time.process_time() - start
    _, traced = tracemalloc.get_traced_memory()
    done.set()
    watcher.join()
    return {
        "rss": process_memory()["VmHWM"] - before["VmRSS"],
        "anonymous": max(0, anonymous[0] - before["RssAnon"]),
        "traced": traced,
        "seconds": seconds,
        "score": score,
    }


def memory(sizes: list[int], d: int = 768, k: int = 20) -> None:
    """Print the peak memory of two forms on a memory map, each in a process of its own."""
    from helpers.posterior.gaussians import KEPT

    if not Path("/proc/self/status").exists():
        print("the memory of a process is read from /proc; this system has none: not measured")
        return
    n = max(sizes)
    need, free = 4 * n * d, shutil.disk_usage(tempfile.gettempdir()).free
    if free < 1.2 * need:
        print(f"embeddings of {need / 2**30:.1f} GiB need more disk: set TMPDIR; not measured")
        return
    print(f"\nd = {d} float32 in a memory map, heads of 32, K = {k}; peaks beyond the start, MiB")
    print("anonymous: pages of the process itself, sampled every 5 ms; traced: what Python and")
    print(
        "NumPy ask for, exact; RSS: also pages of the file, which the system may drop at any time"
    )
    print("ratio: to the embeddings; a row: traced memory as float64 numbers an entity")
    print(f"a head of 32 is kept as float64 up to N = {KEPT // 33:,}, and read in pieces beyond")
    title = f"{'form':12}{'N':>10}{'embeddings':>12}{'RSS':>8}{'ratio':>7}{'anonymous':>11}"
    print(title + f"{'ratio':>7}{'traced':>8}{'ratio':>7}{'a row':>7}{'CPU s':>8}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        write_embeddings(path, n, d, k)
        for form in ("published", "calibrated"):
            peaks = {}
            for rows in sizes:
                words = [sys.executable, __file__, "--measure", str(path), form, str(rows), str(k)]
                out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
                peak = peaks[rows] = json.loads(out)
                line = f"{form:12}{rows:10,}{4 * rows * d / 2**20:12.0f}"
                for name, width in {"rss": 8, "anonymous": 11, "traced": 8}.items():
                    line += f"{peak[name] / 2**20:{width}.0f}{peak[name] / (4 * rows * d):7.2f}"
                print(f"{line}{peak['traced'] / 8 / rows:7.1f}{peak['seconds']:8.1f}", flush=True)
            worst = max(peaks, key=lambda rows: peaks[rows]["traced"])
            print(
                f"{form}: at most {peaks[worst]['traced'] / 2**20:.0f} MiB (traced), at N = "
                f"{worst:,}; {peaks[n]['traced'] / 2**20:.0f} MiB at N = {n:,}"
            )
            ratio = peaks[n]["traced"] / need
            note(f"memory of the {form} form", "the embeddings", None, None, ratio, unit="%")


def main() -> None:
    """Print both tables, or one of them."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    words = parser(__doc__, quick="a minute instead of many", repeats=2)
    words.add_argument("--memory", action="store_true", help="the memory alone, without timings")
    words.add_argument("--timings", action="store_true", help="the timings alone")
    words.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = words.parse_args()
    if options.measure:
        path, form, n, k = options.measure
        print(json.dumps(measure(path, form, int(n), int(k))))
        return
    if not options.memory:
        timings(
            *((4_000, 128, 10, 16) if options.quick else (20_000, 1024, 20, 32)), options.repeats
        )
    if not options.timings:
        memory([10_000, 20_000] if options.quick else [125_000, 250_000, 500_000, 1_000_000])
    keep(options)


if __name__ == "__main__":
    main()
