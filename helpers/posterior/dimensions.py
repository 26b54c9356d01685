"""Which dimensions of an embedding vary enough for a Gaussian per cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from helpers import validation


def varied(X: ArrayLike, least_share: float = 0.05) -> np.ndarray:
    """Return which dimensions differ from their most common value in at least a share of the rows.

    `X` (N, d) holds one embedding per row; the result is boolean, (d,). A pixel at the rim of an
    image, or a unit that rarely fires, has one value in nearly all rows: clusters in which it never
    changes get a Gaussian without width there. `least_share` lies between 0 and 1. It uses no
    labels. Source: this book.

    >>> from helpers.posterior.dimensions import varied
    >>> varied([[0, 0], [1, 0], [2, 0], [3, 5]], least_share=0.5)
    array([ True, False])
    """
    ordered = np.sort(validation.matrix(X), axis=0)
    n = len(ordered)
    changes = ordered[1:] != ordered[:-1]
    longest = np.empty(ordered.shape[1], dtype=int)
    for column, change in enumerate(changes.T):
        ends = np.concatenate([[0], np.flatnonzero(change) + 1, [n]])
        longest[column] = np.diff(ends).max()
    return n - longest >= least_share * n
