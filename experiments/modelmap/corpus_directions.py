"""In which direction a corpus, a design or tuning moves the log-likelihoods of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments.modelmap import corpus_names
from helpers import ties, validation


def tuned_names(
    changes: ArrayLike, values: ArrayLike, labels: ArrayLike
) -> list[tuple[str, float]]:
    """Return for each change of a model the label whose models stand out in its direction.

    `changes` (m, d) are differences of log-likelihoods per byte, tuned less parent, `values`
    (n, d) those of other models with `labels` (n,). Both lose their row means, and `values` the
    mean of all models; compared are cosines with the mean of each label. Each result has the
    label and the cosine.
    """
    D, X = validation.numbers(changes, "changes"), validation.numbers(values, "values")
    X = X - X.mean(axis=1, keepdims=True)
    X, D = X - X.mean(axis=0), D - D.mean(axis=1, keepdims=True)
    names = np.asarray(labels)
    kinds = np.unique(names)
    centres = np.array([X[names == kind].mean(axis=0) for kind in kinds])
    scale = np.linalg.norm(D, axis=1)[:, None] * np.linalg.norm(centres, axis=1)
    cosines = D @ centres.T / np.maximum(scale, 1e-300)
    best = ties.first_smallest(-cosines)
    return [(str(kinds[i]), float(row[i])) for i, row in zip(best, cosines, strict=True)]


def design_and_data(values: ArrayLike, table: pd.DataFrame, pivot: str, shared: str) -> pd.Series:
    """Return how far a signature moves for another architecture, over how far for another corpus.

    `table` has `architecture` and `corpus`. Distances are between means: of the architecture
    `pivot` on the corpus `shared` to each other architecture on that corpus (numerators, one
    row each), and of `pivot` on `shared` to `pivot` on each other corpus (their mean divides).
    """
    X, about = validation.numbers(values, "values"), table.reset_index(drop=True)
    means = {key: X[rows].mean(axis=0) for key, rows in
             about.groupby(["architecture", "corpus"]).indices.items()}  # fmt: skip
    centre = means[pivot, shared]
    away = {key: float(np.linalg.norm(mean - centre)) for key, mean in means.items()}
    corpora = [d for (name, corpus), d in away.items() if name == pivot and corpus != shared]
    designs = {name: d for (name, corpus), d in away.items() if name != pivot and corpus == shared}
    return pd.Series(designs) / float(np.mean(corpora))


def design_ratios(
    table: pd.DataFrame, texts: Mapping[str, Sequence[str]], sizes: tuple[float, float]
) -> pd.DataFrame:
    """Return `design_and_data` of Llama and the Pile for several sets of texts: a row each.

    `texts` names the columns of losses of each set; the index is their names, and one column per
    architecture has the ratio for signatures. Columns: first `of` ("signature" or "log losses",
    with their level) and `models` ("all", or "like size": a `size` within the two of `sizes`).
    Models without one of the losses are left out. Raises `ValueError` for a loss not above 0.
    """
    rows = {}
    for name, columns in texts.items():
        whole = table.dropna(subset=list(columns))
        for models, part in {
            "all": whole,
            "like size": whole[whole["size"].between(*sizes)],
        }.items():
            losses = part[list(columns)]
            values = {"signature": corpus_names.signatures(losses), "log losses": np.log(losses)}
            for of, X in values.items():
                rows[name, of, models] = design_and_data(X, part, "Llama", "The Pile")
    return pd.DataFrame(rows).T.rename_axis(["texts", "of", "models"])
