"""Equal rows and equal values: choices that rounding, and so the processor, must not make."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# Values nearer than this share of the largest differ by rounding only.
ROUNDING = 1e-12


def equal_rows(x: np.ndarray) -> np.ndarray:
    """Return for each row of an array the number of the first row that equals it, int64 (n,).

    `x` has shape (n, d), float32 or float64, no NaN. 0 and -0 are equal.
    """
    x = np.ascontiguousarray(x)
    with np.errstate(over="ignore", invalid="ignore"):
        _, group, sizes = np.unique(x.sum(axis=1), return_inverse=True, return_counts=True)
    names, first = np.arange(len(x)), {}
    for i in np.flatnonzero(sizes[group] > 1):
        # Adding zero turns -0 into 0, which equals it but has other bits.
        names[i] = first.setdefault((x[i] + x.dtype.type(0)).tobytes(), i)
    return names


def first_largest(values: ArrayLike, axis: int = -1) -> np.ndarray:
    """Return the place of the largest value along an axis, the first of those that are equal.

    Equal are values that differ by less than 1e-12 of the largest magnitude: which of them comes
    out larger is up to the order of sums, and so to the processor. Infinite values are allowed.
    """
    values = np.asarray(values, float)
    finite = np.where(np.isfinite(values), values, 0)
    size = np.abs(finite).max(axis=axis, keepdims=True)
    least = values.max(axis=axis, keepdims=True) - ROUNDING * size
    return (values >= least).argmax(axis=axis)


def first_smallest(values: ArrayLike, axis: int = -1) -> np.ndarray:
    """Return the place of the smallest value along an axis, as `first_largest`."""
    return first_largest(-np.asarray(values, float), axis)
