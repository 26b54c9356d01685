"""Cell counts and patchiness: one `bincount` a codebook, against a plain grouping loop.

Run from the root of the repository: `python benchmarks/geometry.py`. Both ways get the same codes
in one process, must give the same counts and the same patchiness, and are timed in CPU-seconds,
best of several. The peer groups the points by cell in Python, as the released code of
Marbut et al. (2024) does; it is written anew here.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers import geometry


def grouped_patchiness(codes: np.ndarray, n_cells: int) -> tuple[np.ndarray, float]:
    """Return cell counts, of shape (M, n_cells), and patchiness, by grouping point by point."""
    sizes = []
    for book in range(codes.shape[1]):
        members: dict[int, list[int]] = {cell: [] for cell in range(n_cells)}
        for point, cell in enumerate(codes[:, book]):
            members[int(cell)].append(point)
        sizes.append([len(members[cell]) for cell in range(n_cells)])
    flat = [size for row in sizes for size in row]
    mean = sum(flat) / n_cells
    centre = sum(flat) / len(flat)
    variance = sum((size - centre) ** 2 for size in flat) / len(flat)
    return np.array(sizes), 1 + (variance / mean - 1) / mean


def counted_patchiness(codes: np.ndarray, n_cells: int) -> tuple[np.ndarray, float]:
    """Return the same by `helpers.geometry`."""
    counts = geometry.cell_counts(codes, n_cells)
    return counts, geometry.patchiness_as_released(counts)


def cpu_seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the least CPU time of several calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print one line: points, CPU-seconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=116_667, help="points (the paper's number)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(256, 0.5), size=4)
    codes = np.stack([rng.choice(256, options.points, p=p) for p in weights], axis=1)
    ours, peer = counted_patchiness(codes, 256), grouped_patchiness(codes, 256)
    np.testing.assert_array_equal(ours[0], peer[0])
    np.testing.assert_allclose(ours[1], peer[1], rtol=1e-12)
    fast = cpu_seconds(lambda: counted_patchiness(codes, 256), options.repeats)
    slow = cpu_seconds(lambda: grouped_patchiness(codes, 256), options.repeats)
    print(
        f"geometry: patchiness of {options.points:,} points, 4 x 256 cells: "
        f"bincount {fast:.4f} CPU-s, grouping loop {slow:.4f} CPU-s, ratio {slow / fast:.0f}"
    )


if __name__ == "__main__":
    main()
