"""Which models made here are near-copies of one another, so that finding them proves little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.modelmap import lineage

# From what counts as a copy of an n-gram model of the same corpus to the number of steps in which
# sizes and orders may differ, and whether either or both must be so near.
RULES = {
    "same bytes and next order": (0, 1, False),
    "same bytes or next order": (0, 1, True),
    "next bytes or next order": (1, 1, True),
}
# A model rounded to so many bits or more is taken for the model itself.
FINE_BITS = 6


def of_ngrams(known: pd.DataFrame, rule: str) -> np.ndarray:
    """Return a mask (K, K) of n-gram models of one corpus that are near-copies by a rule.

    `known` has `corpus`, `n_bytes` and `order`, a row per model; `rule` is one of `RULES`.
    Sizes and orders are counted in steps of those that there are. The diagonal is left out.
    """
    size_steps, order_steps, either = RULES[rule]
    corpus = known["corpus"].to_numpy()
    near = []
    for column, most in (("n_bytes", size_steps), ("order", order_steps)):
        place = np.unique(known[column], return_inverse=True)[1]
        near.append(np.abs(np.subtract.outer(place, place)) <= most)
    close = near[0] | near[1] if either else near[0] & near[1]
    return close & (corpus[:, None] == corpus) & ~np.eye(len(corpus), dtype=bool)


def of_families(models: pd.DataFrame) -> np.ndarray:
    """Return a mask (K, K) of neighbouring checkpoints of one run, and of models rounded finely.

    `models` has `family`, `kind` and `level`, a row per model: of the kind "training" the steps
    next to one another in a family are copies, of the kind "rounded" those of `FINE_BITS` or more
    and what they were rounded from, which is of the kind "as it is".
    """
    copies = np.zeros((len(models), len(models)), bool)
    numbered = models.reset_index(drop=True)
    level = pd.to_numeric(numbered["level"], errors="coerce")
    for _, part in numbered.groupby("family"):
        steps = level[part.index[part["kind"] == "training"]].sort_values(kind="stable").index
        copies[steps[:-1], steps[1:]] = True
        fine = part.index[(part["kind"] == "rounded") & (level[part.index] >= FINE_BITS)]
        same = [*fine, *part.index[part["kind"] == "as it is"]]
        copies[np.ix_(same, same)] = True
    copies |= copies.T
    np.fill_diagonal(copies, False)
    return copies


def joined(names: Sequence[str], masks: Sequence[tuple[Sequence[str], np.ndarray]]) -> np.ndarray:
    """Return one mask over all `names` from masks over some of them, each with its own names."""
    every = pd.Index(names)
    whole = np.zeros((len(every), len(every)), bool)
    for some, mask in masks:
        rows = every.get_indexer(some)
        whole[np.ix_(rows, rows)] |= mask
    return whole


def corpus_rates(
    distances: np.ndarray, known: pd.DataFrame, *, n_shuffles: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Return how often an n-gram model's nearest neighbour has its corpus, by what is barred.

    Rows: everything in, each of `RULES` out, and one order, the middle one, per corpus and size;
    columns those of `lineage.Recovery`. Rules that leave no model a relative have no row.
    """
    options, corpus = {"n_shuffles": n_shuffles, "seed": seed}, known["corpus"].to_numpy()
    rates = {"everything": lineage.recovered(distances, corpus, **options)}
    same = (corpus[:, None] == corpus) & ~np.eye(len(corpus), dtype=bool)
    for rule in RULES:
        barred = of_ngrams(known, rule)
        if (same & ~barred).any():
            rates[f"{rule} out"] = lineage.recovered(distances, corpus, copies=barred, **options)
    orders = np.unique(known["order"])
    few = (known["order"] == orders[len(orders) // 2]).to_numpy()
    if same[np.ix_(few, few)].any():
        apart = distances[np.ix_(few, few)]
        rates["one order per corpus and size"] = lineage.recovered(apart, corpus[few], **options)
    return pd.DataFrame({name: rate._asdict() for name, rate in rates.items()}).T
