"""The binned fit of SMI: ours against a loop over bins and facts, CPU seconds in one process.

Run as `python benchmarks/retrieval.py`; needs no data, the facts are drawn at the released size.
"""

from __future__ import annotations

import numpy as np
from _timing import keep, note, parser, timed
from scipy.stats import linregress

from helpers.retrieval import smi

FACTS, MODELS, DOCUMENTS = 12_671, 24, 177_009_652


def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    subject = np.exp(rng.uniform(3, 14, FACTS)).astype(int) + 2
    both = (subject * rng.beta(1, 6, FACTS)).astype(int) + 1
    obj = both + np.exp(rng.uniform(6, 16, FACTS)).astype(int)
    return subject, obj, both, rng.integers(0, 401, FACTS) / 400


def ours(subject: np.ndarray, obj: np.ndarray, both: np.ndarray, accuracy: np.ndarray) -> tuple:
    information = smi.mutual_information(DOCUMENTS, subject, obj, both)
    kept = smi.keep(information, "v5-v7")
    bins = smi.bin_statistics(smi.log_bins(information[kept]), accuracy[kept])
    x = smi.positions(bins, 12e9, "v5-v7", "SMI")
    return tuple(smi.fit_bins(bins, x)[["a", "b", "R2", "MSE"]])


def loop(subject: np.ndarray, obj: np.ndarray, both: np.ndarray, accuracy: np.ndarray) -> tuple:
    points: list[tuple[float, float]] = []
    for s, o, so, right in zip(subject, obj, both, accuracy, strict=True):
        p = so / DOCUMENTS
        value = p * np.log2(p / ((s / DOCUMENTS) * (o / DOCUMENTS)))
        if value > 0:
            points.append((np.trunc(5 * np.log2(value)) / 5, right))
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    power = 1 + 1 / np.log2(12e9)
    groups: dict[float, list[float]] = {}
    for x, right in points:
        groups.setdefault(((x - low) / (high - low)) ** power, []).append(right)
    xs = sorted(groups)
    fit = linregress(xs, [np.mean(groups[x]) for x in xs])
    errors = [np.mean([(r - fit.slope * x - fit.intercept) ** 2 for r in groups[x]]) for x in xs]
    return fit.slope, fit.intercept, fit.rvalue**2, float(np.mean(errors))


def main() -> None:
    given = parser(__doc__, quick="3 models", repeats=1).parse_args()
    models = 3 if given.quick else MODELS
    facts = [draw(np.random.default_rng(seed)) for seed in range(models)]
    seconds, results = {}, {}
    for name, function in {"ours": ours, "loop": loop}.items():
        results[name], seconds[name] = timed(
            lambda function=function: [function(*one) for one in facts], given.repeats
        )
    assert np.allclose(results["ours"], results["loop"], rtol=1e-9, atol=1e-12)
    print(f"{models} models x {FACTS:,} facts, identical results")
    for name, value in seconds.items():
        print(f"{name:6} {value:8.2f} CPU s   {value / seconds['ours']:6.1f} x ours")
    own, slow = seconds["ours"], seconds["loop"]
    note("binned fits of SMI", "a loop over facts and bins", own, slow, slow / own)
    keep(given)


if __name__ == "__main__":
    main()
