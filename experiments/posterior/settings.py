"""What block size, ridge, seed, basis and wrong labels do to ALP, on models of known order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd

from helpers import validation
from helpers.posterior import average_log_posterior

FORMS = ("published", "calibrated")


def noise_lead(
    X: np.ndarray, labels: Sequence, *, ridge: float = 1e-6, block: int = 8, draw: int = 0
) -> float:
    """Return by how many nats in-sample ALP puts pure noise of the same shape above `X` (N, d).

    `draw` seeds the noise and the division into blocks of `block` dimensions.
    """
    silent = validation.generator(draw).standard_normal(np.shape(X))
    options = {"form": "published", "ridge": ridge, "head_dim": block, "seed": draw}
    scores = [average_log_posterior(Z, labels, **options).score for Z in (silent, X)]
    return scores[0] - scores[1]


def flipped_skills(
    models: Mapping[str, np.ndarray],
    labels: np.ndarray,
    shares: Sequence[float],
    n_draws: int = 5,
    *,
    block: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the skill of each model when a share of the labels is another class, drawn evenly.

    `labels` are integers from 0 without gaps. The columns are `share`, `draw`, `model`, `form`
    and `skill` (nats above chance). Larger shares change the same labels and more.
    """
    rows, n_classes = [], int(np.max(labels)) + 1
    for share, draw in product(shares, range(n_draws)):
        rng = np.random.default_rng([seed, draw])
        wrong = rng.random(len(labels)) < share
        other = (labels + rng.integers(1, n_classes, len(labels))) % n_classes
        given = np.where(wrong, other, labels)
        for (model, X), form in product(models.items(), FORMS):
            result = average_log_posterior(X, given, form=form, head_dim=block, seed=draw)
            row = {"share": share, "draw": draw, "model": model, "form": form}
            rows.append(row | {"skill": result.skill})
    return pd.DataFrame(rows)


def block_skills(
    models: Mapping[str, np.ndarray], labels: Sequence, sizes: Sequence[int], seed: int = 0
) -> pd.DataFrame:
    """Return the skill of each model by form (rows) and by the size of the dimension blocks."""
    found = {
        (form, model): {
            size: average_log_posterior(X, labels, form=form, head_dim=size, seed=seed).skill
            for size in sizes
        }
        for form, (model, X) in product(FORMS, models.items())
    }
    return pd.DataFrame(found).T


def block_scatter(
    kinds: Sequence[str],
    divisions: Sequence[int],
    n_draws: int,
    *,
    n: int = 4000,
    d: int = 64,
    block: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Return in-sample scores of an embedding of which four dimensions know ten classes.

    The columns are `kind` of blocks, `divisions` averaged, `draw` and `score`; the embedding is
    the same in all rows.
    """
    rng, classes = validation.generator(seed), np.arange(n) % 10
    X = rng.standard_normal((n, d))
    X[:, :4] += 3 * rng.standard_normal((10, 4))[classes]
    rows = []
    for kind, times, draw in product(kinds, divisions, range(n_draws)):
        options = {"head_kind": kind, "n_permutations": times, "head_dim": block, "seed": draw}
        score = average_log_posterior(X, classes, form="published", **options).score
        rows.append({"kind": kind, "divisions": times, "draw": draw, "score": score})
    return pd.DataFrame(rows)
