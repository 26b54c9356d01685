"""How far two scorers of one model are apart, as a share of what parts two seeds on the map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from helpers import checks


class Gap(NamedTuple):
    """What another scorer changes: nats per text, nats per token, the worst text, and the map.

    `squared` is the squared distance that the change makes on the map, nats per text, and `share`
    that distance over the one between two seeds of a model.
    """

    largest: float
    median: float
    per_token: float
    worst: int
    squared: float
    share: float


def compare(
    reference: ArrayLike,
    other: ArrayLike,
    n_tokens: ArrayLike,
    seed_distance: float,
    *,
    threshold: float = -np.inf,
) -> Gap:
    """Return how far another scorer's log-likelihoods of texts are from those of a reference.

    `reference`, `other` and `n_tokens` have shape (n,), one number a text, nats and tokens;
    `per_token` is the sum of all absolute differences over that of tokens. `seed_distance` is the
    squared distance of two seeds, nats per text. `threshold` is the map's, below which values are
    cut (`modelmap.ModelMap`); its means of texts cancel. Raises `ValueError` for unequal lengths,
    values that are not finite, tokens below 1, and a `seed_distance` that is not above 0.
    """
    rows = [checks.numbers(v, k) for k, v in (("reference", reference), ("other", other))]
    tokens = checks.numbers(n_tokens, "n_tokens")
    checks.positive(seed_distance, "seed_distance")
    if rows[0].ndim != 1 or not len(rows[0]) or rows[0].shape != rows[1].shape:
        raise ValueError(
            f"reference has shape {rows[0].shape} and other {rows[1].shape}; pass one log-"
            "likelihood a text in both, in one order"
        )
    if tokens.shape != rows[0].shape or not (tokens >= 1).all():
        raise ValueError(f"n_tokens must hold {len(rows[0])} numbers of 1 or more, one a text")
    for name, row in zip(("reference", "other"), rows, strict=True):
        if not np.isfinite(row).all():
            bad = int(np.argmin(np.isfinite(row)))
            raise ValueError(f"{name}[{bad}] is {row[bad]}; score that text again")
    gaps = np.abs(rows[1] - rows[0])
    moved = np.maximum(rows[1], threshold) - np.maximum(rows[0], threshold)
    squared = float(moved.var())
    return Gap(
        float(gaps.max()),
        float(np.median(gaps)),
        float(gaps.sum() / tokens.sum()),
        int(gaps.argmax()),
        squared,
        float(squared / seed_distance),
    )
