"""How well proportions of weights place merged models, and how far that depends on the texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments import intervals
from experiments.modelmap import merges
from helpers.modelmap import model_map


def _measures(
    log_likelihoods: ArrayLike, a: ArrayLike, b: ArrayLike, *, clip: float = 0.02
) -> dict[str, float]:
    """Return five numbers of a grid of merged models.

    `log_likelihoods` has shape (m, N), nats, and `a` and `b` (m,) the proportions. "plane": the
    share of squares of the positions on two principal components that a plane fitted to all models
    explains. "corners": the distance of the other models with a + b <= 1 from the plane through the
    three corners, all coordinates, relative to their spread (root mean squares). "plane, all" and
    "corners, two" are the same in the other space. "mean": Pearson's r of the mean log-likelihood
    with the line between the corners. Raises as `merges.fit_surface`.
    """
    values = np.asarray(log_likelihoods, float)
    a, b = np.asarray(a, float), np.asarray(b, float)
    names, keys = range(len(values)), range(values.shape[1])
    grid = model_map.fit_map(values, names, clip, texts=keys)
    two = model_map.principal_coordinates(grid, 2).positions
    corner = np.isclose(a + b, 0) | (np.isclose(a + b, 1) & np.isclose(a * b, 0))
    inside = a + b <= 1 + 1e-9
    found = {}
    for space, points in {"": grid.coordinates, ", two": two}.items():
        far = merges.fit_surface(points[inside], a[inside], b[inside], fitted=corner[inside])
        found["corners" + space] = far.residual / far.movement
    mean = values.mean(axis=1)
    return found | {
        "plane": merges.fit_surface(two, a, b).explained,
        "plane, all": merges.fit_surface(grid.coordinates, a, b).explained,
        "mean": float(np.corrcoef(mean, merges.from_corners(mean, a, b))[0, 1]),
    }


def over_texts(
    log_likelihoods: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    clip: float = 0.02,
    n_resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Return `_measures` with their 95 % intervals from texts drawn with replacement.

    One row per measure: `estimate`, `low`, `high`. The models are held fixed: other models trained
    in the same way would differ more.
    """
    values = np.asarray(log_likelihoods, float)
    drawn = intervals.drawn_rows(np.arange(values.shape[1]), n_resamples, seed)
    sample = pd.DataFrame([_measures(values[:, rows], a, b, clip=clip) for rows in drawn])
    ends = sample.quantile([0.025, 0.975]).set_axis(["low", "high"]).T
    return ends.assign(estimate=_measures(values, a, b, clip=clip))[["estimate", "low", "high"]]
