"""How far two scorers of one model are apart, as a share of what parts two seeds on the map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import validation
from helpers.modelmap import placement, stored_families


class _Gap(NamedTuple):
    """What another scorer changes: nats per text, nats per token, the worst text, and the map.

    `squared` is the squared distance that the change makes on the map, nats^2 per text, and `share`
    that distance over a yardstick, such as the one between two seeds of a model; `low` and `high`
    are the ends of its 95 % interval over texts, with the yardstick taken as it is.
    """

    largest: float
    median: float
    per_token: float
    worst: int
    squared: float
    share: float
    low: float
    high: float


def compare(
    reference: ArrayLike,
    other: ArrayLike,
    n_tokens: ArrayLike,
    yardstick: float,
    *,
    threshold: float = -np.inf,
) -> _Gap:
    """Return how far another scorer's log-likelihoods of texts are from those of a reference.

    `reference`, `other` and `n_tokens` have shape (n,), one number per text, nats and tokens;
    `per_token` is the sum of all absolute differences over that of tokens. `yardstick` is a squared
    distance, nats^2 per text: `seed_distance` or `stage_distance`. `threshold` is the map's, below
    which values are cut (`model_map.ModelMap`); its means of texts cancel. The interval is that of
    percentiles (`placement.resampled`). Raises `ValueError` for unequal lengths and values that are
    not finite.
    """
    one, two = (np.asarray(values, float) for values in (reference, other))
    for name, row in (("reference", one), ("other", two)):
        if not np.isfinite(row).all():
            bad = int(np.argmin(np.isfinite(row)))
            raise ValueError(f"{name}[{bad}] is {row[bad]}; score that text again")
    gaps = np.abs(two - one)
    moved = np.maximum(two, threshold) - np.maximum(one, threshold)
    ends = np.quantile(placement.resampled(moved[None], 1000) / yardstick, [0.025, 0.975])
    gap = float(gaps.max()), float(np.median(gaps)), float(gaps.sum() / np.sum(n_tokens))
    share = float(moved.var() / yardstick)
    return _Gap(*gap, int(gaps.argmax()), float(moved.var()), share, *map(float, ends))


def seed_distance() -> float:
    """Return the squared distance on the map of two seeds of one small GPT, nats^2 per text.

    Of the pairs of seeds that the book has stored it is the nearest, the parent and the stranger
    of `stored_families.trained_further`, over 128 texts: a share of it flatters no scorer.
    """
    stored = stored_families.trained_further()
    first, second = stored.log_likelihoods.loc[["small GPT, parent", "small GPT, stranger"]].values
    return float(np.var(first - second))


def stage_distance() -> float:
    """Return the squared distance on the map of two stages of SmolLM2, nats^2 per text.

    The stages are the model as it is and after ten more steps of training on one genre, the nearer
    of the two genres that are stored, over 64 texts.
    """
    stored = stored_families.stored("smollm2")
    values = stored.log_likelihoods
    moved = values[stored.models.kind == "tuned"] - values.loc["smollm2"]
    return float(moved.var(axis=1, ddof=0).min())


def read_scores(path: str | Path, keys: Sequence[str]) -> np.ndarray:
    """Return the log-likelihoods that another engine gave texts, in the order of `keys`, nats.

    `path` is a CSV file, or JSON lines where it ends in .jsonl, with the columns `key` and
    `log_likelihood`, in any order. Raises `ValueError` for a file that cannot be read, lacks a
    column, names a text twice, lacks one or has one that is not in `keys`, and for values that are
    no finite numbers.
    """
    path, kind = Path(path), {"key": str}
    try:
        if path.suffix == ".jsonl":
            table = pd.read_json(path, lines=True, dtype=kind)
        else:
            table = pd.read_csv(path, dtype=kind)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"own {str(path)!r} cannot be read ({error}); pass CSV, or JSON lines named .jsonl"
        ) from error
    validation.columns(table, ("key", "log_likelihood"), "own")
    if found := validation.key_faults(list(table.key), keys):
        raise ValueError(
            f"own {found}; score the {len(keys)} texts of `python -m "
            f"helpers score --out FOLDER --n-texts {len(keys)}`, each once"
        )
    values = pd.to_numeric(table.set_index("key").log_likelihood[list(keys)], errors="coerce")
    if not np.isfinite(values).all():
        bad = list(values.index[~np.isfinite(values)])
        raise ValueError(
            f"own has no finite log_likelihood of {validation.name_some(bad)}; score these again"
        )
    return values.to_numpy(float)
