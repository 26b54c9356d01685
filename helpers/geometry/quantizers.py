"""Quantizers of FAISS, alike on every processor: codes of points, and what they restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from helpers import ties, validation

if TYPE_CHECKING:
    import faiss

# Rows restored at a time in float64.
_ROWS = 256
# FAISS adds squares up in float32: beyond, sums of them overflow, or those below are lost.
_LARGEST = 1e15
QUANTIZERS = ("lsq", "pq", "rq", "kmeans")


def quantize(
    points: ArrayLike,
    *,
    quantizer: str = "lsq",
    codebooks: int = 4,
    bits: int = 8,
    train_iters: int = 25,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """Train a quantizer on the points and return their codes and the reconstruction error.

    `points` has shape (n, d) and is taken as float32. `quantizer` is `lsq` (additive, local search:
    the paper's AQ), `pq` (product), `rq` (residual, greedy) or `kmeans` (flat, one codebook, so
    that `codebooks` does not count). Each codebook has 2**`bits` cells. The codes are int64 of
    shape (n, codebooks); the error is the sum of squared residuals over the sum of squared
    coordinates, neither centred, from 0 to about 1. The seed fixes the result. FAISS takes
    distances from float32 products: when the mean is a thousand times the spread, rounding makes
    patches that are gone once the mean is subtracted. Raises `ValueError` for fewer points
    than cells, values that are not finite or beyond `for_quantizer`, or, for `pq`, a width that the
    codebooks do not divide.
    Source: Marbut et al. (2024), released code, FAISS with 4 codebooks of 8 bits.

    >>> import numpy as np
    >>> from helpers.geometry import cell_counts, quantize
    >>> points = np.repeat([[0.0, 1.0], [0.0, -1.0]], [30, 70], axis=0)
    >>> codes, error = quantize(points, quantizer="kmeans", bits=1)
    >>> sorted(cell_counts(codes, 2)[0].tolist()), error
    ([30, 70], 0.0)
    """
    settings = (quantizer, codebooks, bits, train_iters, seed)
    x = _for_faiss(points, *settings)
    codes, restored = _train(x, *settings)
    return codes, residuals(x, restored)[1]


def quantize_and_restore(
    points: ArrayLike,
    *,
    quantizer: str = "lsq",
    codebooks: int = 4,
    bits: int = 8,
    train_iters: int = 25,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Train a quantizer on the points and return their codes and the points that these restore.

    As `quantize`, but with the restored points, float32 of shape (n, d), in place of their error:
    what `quantized_measures` takes. Raises as `quantize` does.
    """
    settings = (quantizer, codebooks, bits, train_iters, seed)
    return _train(_for_faiss(points, *settings), *settings)


def _for_faiss(
    points: ArrayLike, quantizer: str, codebooks: int, bits: int, train_iters: int, seed: int
) -> np.ndarray:
    """Return the points in float32, once they and the settings are found fit for a quantizer."""
    validation.choice(quantizer, QUANTIZERS, "quantizer")
    validation.counts(codebooks=(codebooks, 1), bits=(bits, 1), train_iters=(train_iters, 1))
    validation.counts(seed=(seed, 0))
    x = for_quantizer(points)
    cells = 2**bits
    if len(x) < cells:
        raise ValueError(
            f"points has {len(x)} rows for {cells} cells; pass more points, or fewer bits than "
            f"{bits} (with four codebooks of LSQ the bias is small from 60 points a cell on)"
        )
    if quantizer == "pq" and x.shape[1] % codebooks:
        raise ValueError(
            f"points has {x.shape[1]} columns, which {codebooks} codebooks do not divide; "
            "choose codebooks that do, or quantizer='lsq'"
        )
    return x


def for_quantizer(points: ArrayLike) -> np.ndarray:
    """Return points (n, d) in float32, whose squares FAISS can add up.

    Raises `ValueError` for values that are not finite, one beyond 1e15, where the squares overflow
    and FAISS may end the process, or a cloud all below 1e-15, where they are lost.
    """
    x = as_float32(points)
    largest = max(abs(float(x.min())), abs(float(x.max())))
    if largest and not 1 / _LARGEST <= largest <= _LARGEST:
        side = "above 1e15" if largest > 1 else "below 1e-15 only"
        raise ValueError(
            f"points has values {side}, whose squares float32 loses; rescale the cloud"
        )
    return x


def as_float32(points: ArrayLike) -> np.ndarray:
    """Return a finite matrix of points in float32; `ValueError` for values beyond its range."""
    points = validation.matrix(points, "points")
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(points, dtype=np.float32)
    if points.dtype.itemsize > 4 and not np.isfinite(x).all():
        raise ValueError("points has values beyond 3e38, the range of float32; rescale the cloud")
    return x


def flat_k_means(x: np.ndarray, bits: int, iterations: int, seed: int) -> faiss.Kmeans:
    """Return FAISS's k-means with 2**`bits` centroids, trained on float32 points (n, d)."""
    import faiss

    clusters = faiss.Kmeans(x.shape[1], 2**bits, **_rule(iterations, seed))
    clusters.train(x)
    return clusters


def _rule(iterations: int, seed: int) -> dict[str, int]:
    # FAISS prints a warning below 39 points a cell; `quantize` has its own rule for that.
    return {"niter": iterations, "seed": seed, "min_points_per_centroid": 1}


def _train(
    x: np.ndarray, quantizer: str, codebooks: int, bits: int, iterations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train a quantizer on all of `x`; return the codes in int64 and the restored points.

    Each distinct point is encoded once. Rounding, chance and the place of a point among the others
    would put equal ones into different cells, and not the same ones on each processor.
    """
    import faiss

    first, which = np.unique(ties.equal_rows(x), return_inverse=True)
    distinct = x if len(first) == len(x) else x[first]
    if quantizer == "kmeans":
        clusters = flat_k_means(x, bits, iterations, seed)
        codes = clusters.index.search(distinct, 1)[1].astype(np.int64)[which]
        return codes, clusters.centroids[codes[:, 0]]
    kinds = {
        "lsq": faiss.LocalSearchQuantizer,
        "pq": faiss.ProductQuantizer,
        "rq": faiss.ResidualQuantizer,
    }
    tool = kinds[quantizer](x.shape[1], codebooks, bits)
    if quantizer == "lsq":
        tool.train_iters, tool.random_seed = iterations, seed
    else:
        for name, value in _rule(iterations, seed).items():
            setattr(tool.cp, name, value)
    tool.train(x)
    packed = tool.compute_codes(distinct)
    codes = faiss.unpack_bitstrings(packed, codebooks, bits)
    return codes.astype(np.int64)[which], tool.decode(packed)[which]


def residuals(x: np.ndarray, restored: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the norms of the residuals, and their squares over those of the points."""
    squares, total = np.empty(len(x)), 0.0
    for start in range(0, len(x), _ROWS):
        rows = x[start : start + _ROWS].astype(np.float64)
        total += float(np.einsum("nd,nd->", rows, rows))
        rows -= restored[start : start + _ROWS]
        squares[start : start + _ROWS] = np.einsum("nd,nd->n", rows, rows)
    return np.sqrt(squares), float(squares.sum()) / total if total else 0.0
