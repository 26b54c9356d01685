"""Synthetic clouds whose shape is known, and the patchiness that quantizers give them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers import validation
from helpers.geometry import spread
from helpers.geometry.quantization import cell_counts, lloyd_index
from helpers.geometry.quantizers import quantize

QUANTIZERS = {"lsq": "LSQ", "pq": "PQ", "kmeans": "k-means"}
TAILS, EQUAL = "heavy tails, no cluster", "20 equal clusters"
WIDTH, BITS = 128, 5


def _clouds(n: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return eight clouds of `n` points in 128 dimensions, by name.

    A collapsed cloud is a common vector plus small isotropic noise; the heavy tails are Student's
    t with three degrees of freedom.
    """
    rng = validation.generator(seed)
    ball, centres = rng.standard_normal((n, WIDTH)), 4 * rng.standard_normal((100, WIDTH))
    zipf = 1 / np.arange(1, 101)
    heavy = np.sqrt(rng.chisquare(3, (n, 1)) / 3)
    return {
        "isotropic Gaussian": ball,
        "Gaussian on a plane": rng.standard_normal((n, 2)) @ rng.standard_normal((2, WIDTH)),
        EQUAL: centres[rng.integers(20, size=n)] + ball,
        "100 Zipf clusters": centres[rng.choice(100, n, p=zipf / zipf.sum())] + ball,
        TAILS: ball / heavy,
        "half the points are one": np.where(np.arange(n)[:, None] % 2, ball, ball[0]),
        "collapsed to 1 %": centres[0] + 0.04 * ball,
        "collapsed to 0.003 %": centres[0] + 1e-4 * ball,
    }


def table(n: int, *, seed: int = 0) -> pd.DataFrame:
    """Return a row per cloud and quantizer of 32 cells.

    Columns: `cloud`, `quantizer`, `lloyd`, `error`, `empty` (share of cells), `cosine` (mean).
    """
    rows = []
    for name, cloud in _clouds(n, seed=seed).items():
        for kind, label in QUANTIZERS.items():
            counts, error = _quantized(cloud, kind, seed)
            row = {"cloud": name, "quantizer": label, "lloyd": lloyd_index(counts)}
            row |= {"error": error, "empty": float((counts == 0).mean())}
            rows.append(row | {"cosine": spread.mean_cosine(cloud)})
    return pd.DataFrame(rows)


def _quantized(cloud: np.ndarray, kind: str, seed: int) -> tuple[np.ndarray, float]:
    codes, error = quantize(cloud, quantizer=kind, bits=BITS, seed=seed)
    return cell_counts(codes, 2**BITS), error


def heavy_tail_ratios(n: int, n_clouds: int, *, seed: int = 0) -> pd.DataFrame:
    """Return Lloyd's index of heavy tails over that of twenty equal clusters.

    A row per seeded pair of clouds, a column per quantizer.
    """
    rows = []
    for number in range(n_clouds):
        both, row = _clouds(n, seed=seed + number), {}
        for kind, label in QUANTIZERS.items():
            parts = [_quantized(both[name], kind, number)[0] for name in (TAILS, EQUAL)]
            row[label] = lloyd_index(parts[0]) / lloyd_index(parts[1])
        rows.append(row)
    return pd.DataFrame(rows).rename_axis("cloud")
