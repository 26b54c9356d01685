"""Penalties that shape a latent space in fine-tuning: soft patchiness, and spread beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from helpers import validation
from helpers.geometry import quantizers

if TYPE_CHECKING:
    from torch import Tensor

    Penalty = Callable[[Tensor, Tensor], Tensor]


def codebook(points: ArrayLike, *, bits: int = 6, seed: int = 0) -> np.ndarray:
    """Return the centroids of flat k-means, 25 iterations, as float32 of shape (2**bits, d).

    `points` has shape (N, d), taken as float32, with at least one row per centroid. Their cells are
    those that `quantizers.quantize` counts with quantizer="kmeans" and the same seed; above 256
    points a centroid, that many are drawn for the training. The seed fixes the result.
    """
    x = quantizers.for_quantizer(points)
    return quantizers.flat_k_means(x, bits, 25, int(seed)).centroids.copy()


def _soft_counts(points: Tensor, centroids: Tensor, temperature: float) -> Tensor:
    """Return how many points each cell holds when every point is shared out among the cells.

    `points` is a real tensor (N, d), `centroids` (K, d) with K at least 2; the result has shape
    (K,), sums to N, and is differentiable in both. Point i goes to cell k by the share
    softmax_k(-|x_i - c_k|² / (temperature * s)), with s the mean squared distance of two different
    centroids, so that a common factor on points and centroids changes nothing, and the scale does
    not move with the batch. Near temperature 0 these are the counts of the nearest centroids; at a
    high temperature all cells get N / K. Half precision is raised to float32, under autocast too.
    Raises `ValueError` for a temperature not above 0, or centroids that are all equal.
    """
    import torch

    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"temperature is {temperature}; pass a finite number above 0, such as 0.05 (for hard "
            "counts take quantization.cell_counts)"
        )
    with torch.autocast(points.device.type, enabled=False):
        points = _raised(points)
        centroids = centroids.to(points)
        middle = centroids.mean(dim=0)
        cells = centroids - middle
        squares = cells.square().sum(dim=1)
        scale = 2 * squares.sum() / (len(cells) - 1)
        if not scale > 0:
            raise ValueError("centroids are all equal; pass at least two different ones")
        # |x|² is the same for every cell, so that the softmax does not see it.
        nearness = 2 * (points - middle) @ cells.T - squares
        return torch.softmax(nearness / (temperature * scale), dim=1).sum(dim=0)


def soft_lloyd_index(points: Tensor, centroids: Tensor, *, temperature: float) -> Tensor:
    """Return Lloyd's index of the soft counts, a differentiable scalar: 1 + (V / n - 1) / n.

    Arguments as in `_soft_counts`; n = N / K is the mean count and V the population variance of the
    K counts. Near temperature 0 it is `quantization.lloyd_index` of the nearest centroids, at a
    high temperature 1 - 1/n, the value of equal counts; softness only blurs the counts in between.

    It is noisy in a small batch: for points scattered at random over equal cells, the hard index
    has mean about 1 and standard deviation about √(2 / K) / n. A batch of 500 tokens on 64
    cells has n = 8 and a deviation of 0.02, one of 50 tokens 0.2. Keep n at 5 or above: take larger
    batches or fewer bits. Raises as `_soft_counts` does. Source: Lloyd (1967) for the index; the
    soft form is this book's.
    """
    counts = _soft_counts(points, centroids, temperature)
    n = counts.mean()
    return 1 + (counts.var(correction=0) / n - 1) / n


def _batch_isoscore(points: Tensor) -> Tensor:
    """Return IsoScore of points (N, d), a differentiable scalar: 0 for one direction, 1 for all.

    It is (P - 1) / (d - 1), with P = tr(C)² / tr(C²) the participation ratio of the covariance C:
    `spread.isoscore` without an eigen-decomposition, whose gradient is not defined where two
    eigenvalues are equal. It is low in a small batch, where P cannot pass N - 1. Half precision is
    raised to float32. Raises `ValueError` for points that are all equal. Source: Rudman et al.
    (2022).
    """
    import torch

    with torch.autocast(points.device.type, enabled=False):
        x = _raised(points)
        x = x - x.mean(dim=0)
        total = x.square().sum()
        if not total > 0:
            raise ValueError("points are all equal; they have no directions")
        x = x / total.sqrt()
        # X'X and XX' have the same squared norm; the smaller one is cheaper.
        product = x @ x.T if len(x) < x.shape[1] else x.T @ x
        return (1 / product.square().sum() - 1) / (points.shape[1] - 1)


def patchiness_penalty(
    centroids: ArrayLike, *, temperature: float, target: float | None = None
) -> Penalty:
    """Return a penalty on the patchiness of a batch: f(last_hidden_state, attention_mask).

    `centroids` is an array or tensor (K, d), such as `codebook` gives; they stay where they are.
    The function takes states (B, T, d) and a mask (B, T), 0 for padding, and returns the
    `soft_lloyd_index` of all tokens that the mask keeps, a scalar to add to a loss. A positive
    weight makes the space less patchy, a negative one more so. With a `target` it is the squared
    distance of the index from it, and the weight is positive. See `soft_lloyd_index` for the noise
    of a small batch. Raises `ValueError` for bad centroids or temperature at once, and for states
    that do not fit, or no tokens, when called. Source: this book's, from `soft_lloyd_index`.

    >>> import torch
    >>> from helpers.geometry import patchiness_penalty
    >>> penalty = patchiness_penalty([[0.0, 1.0], [0.0, -1.0]], temperature=0.01)
    >>> even, mask = torch.tensor([[[0.0, 1.0], [0.0, -1.0]] * 4]), torch.ones(1, 8)
    >>> round(float(penalty(even, mask)), 3), round(float(penalty(even.abs(), mask)), 3)
    (0.75, 1.75)
    """
    import torch

    if isinstance(centroids, torch.Tensor):
        centroids = centroids.detach().double().cpu().numpy()
    cells = torch.tensor(validation.matrix(centroids, "centroids"))
    _soft_counts(cells, cells, temperature)

    def measure(points: Tensor) -> Tensor:
        return soft_lloyd_index(points, cells, temperature=temperature)

    return _penalty(measure, target)


def covariance_penalty(*, target: float | None = None) -> Penalty:
    """Return a penalty on the spread of a batch, the rival of `patchiness_penalty`.

    The function takes the same arguments and returns `_batch_isoscore` of the batch's tokens. A
    positive weight draws the tokens to few directions, a negative one spreads them over all. With a
    `target` it is the squared distance of the score from it; 1 asks for an isotropic cloud, which a
    batch with few tokens cannot reach. Raises `ValueError`, when called, for states that do not fit
    or fewer than 2 tokens.
    """
    return _penalty(_batch_isoscore, target)


def _penalty(measure: Callable[[Tensor], Tensor], target: float | None) -> Penalty:
    def penalty(last_hidden_state: Tensor, attention_mask: Tensor) -> Tensor:
        if last_hidden_state.ndim != 3 or last_hidden_state.shape[:2] != attention_mask.shape:
            raise ValueError(
                f"last_hidden_state has shape {tuple(last_hidden_state.shape)} and attention_mask "
                f"{tuple(attention_mask.shape)}; pass (B, T, d) and (B, T)"
            )
        kept = attention_mask.to(last_hidden_state.device).bool()
        if not kept.any():
            raise ValueError("attention_mask keeps no token; leave an empty batch out")
        value = measure(last_hidden_state[kept])
        return value if target is None else (value - target) ** 2

    return penalty


def _raised(points: Tensor) -> Tensor:
    """Return the points in float64 if they are, in float32 otherwise."""
    import torch

    return points if points.dtype == torch.float64 else points.float()
