"""A published matrix of 90 language models by 263 texts, with scores, as data frames."""

from __future__ import annotations

import ast
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import data

TASKS = {
    "ARC-C": "ARC",
    "HellaSwag": "HellaSwag",
    "MMLU": "MMLU",
    "TruthfulQA": "TruthfulQA",
    "Winograd": "Winogrande",
    "GSM8K": "GSM8K",
}
# Makers that say they trained on the Pile, by the beginnings of their models' names.
PILE = ("EleutherAI/pythia", "EleutherAI/gpt-neo", "cerebras/", "state-spaces/mamba")


class Release(NamedTuple):
    """Log-likelihoods of models by texts, what is known of each model, and scores.

    `log_likelihoods`: nats in 1,000 bytes, about a text of the paper: the released bits per byte
    times -1,000 ln 2; models as rows, titles of texts as columns. A model that was scored twice has
    a second row, named "... (2)". `models`: `family`, `pile` (trained on it) and `step`, of a
    checkpoint, NaN for a finished model. `errors`: released errors of nine tasks, for the LAMBADA
    ones the logarithm of the perplexity. `scores`: six leaderboard tasks in percent and their
    `mean`, for the models for which a second source has all six.
    """

    log_likelihoods: pd.DataFrame
    models: pd.DataFrame
    errors: pd.DataFrame
    scores: pd.DataFrame


def load_release() -> Release:
    """Read the matrix of Thrush et al. (2024) and the scores of Ruan et al. (2024).

    What was scored is machine-written text about each article, averaged over pieces of it, so a
    value has little noise and the genre is narrow. Raises `DataError` when a file cannot be had.
    Source: repositories `TristanThrush/perplexity-correlations` and `ryoungj/ObsScaling`.
    """
    bits = pd.read_csv(data.fetch("perplexity_correlations/bits_per_byte.csv"), index_col="id")
    errors = pd.read_csv(data.fetch("perplexity_correlations/error.csv"), index_col="benchmark")
    table = pd.read_csv(data.fetch("obsscaling/base_llm_benchmark_eval.csv"), index_col="Model")
    # Columns are written as Python pairs of family and name.
    families, _ = zip(*map(ast.literal_eval, bits.columns), strict=True)
    names = _names(bits)
    errors = errors.set_axis(_names(errors), axis=1).T.loc[names]
    perplexities = [name for name in errors if name.startswith("lambada")]
    errors[perplexities] = np.log(errors[perplexities])
    steps = pd.Series(names).str.extract(r"_step(\d+)$")[0].astype(float)
    models = pd.DataFrame(
        {
            # One family is written in two ways.
            "family": ["amber" if family == "llm360" else family for family in families],
            "pile": [name.startswith(PILE) for name in names],
            "step": steps.to_numpy(),
        },
        index=pd.Index(names, name="model"),
    )
    known = [name for name in names if name in table.index]
    scores = 100 * table.loc[known, list(TASKS)].rename(columns=TASKS).dropna()
    return Release(
        pd.DataFrame(-1000 * np.log(2) * bits.to_numpy().T, models.index, bits.index),
        models,
        errors,
        scores.assign(mean=scores.mean(axis=1)),
    )


def _names(table: pd.DataFrame) -> list[str]:
    """Return the models of the columns; one that is scored again gets a number."""
    names = pd.Series([ast.literal_eval(column)[1] for column in sorted(table)], sorted(table))
    again = names.groupby(names).cumcount()
    return list(
        names.where(again == 0, names + " (" + (again + 1).astype(str) + ")")[table.columns]
    )


def same_family_rate(distances: np.ndarray, families: pd.Series) -> float:
    """Return the share of models whose nearest other model is of their family.

    Models without a relative are not counted, but may be nearest. Raises `ValueError` for unequal
    lengths or families of one.
    """
    if len(distances) != len(families):
        raise ValueError(
            f"families has length {len(families)} but there are {len(distances)} models"
        )
    apart = np.array(distances, float)
    np.fill_diagonal(apart, np.inf)
    names = np.asarray(families)
    many = pd.Series(names).map(pd.Series(names).value_counts()).to_numpy() > 1
    if not many.any():
        raise ValueError("families has no family of two; pass broader ones")
    return float((names[apart.argmin(axis=1)] == names)[many].mean())


def diffusion_exponent(distances: np.ndarray, steps: np.ndarray, start: int = 0) -> float:
    """Return the slope of log squared distance on log elapsed steps, from one checkpoint on.

    `distances` are squared, shape (c, c), `steps` ascending, `start` the number of the checkpoint
    from which both are measured to all later ones. 1 is what a random walk gives, below it movement
    is subdiffusive. Raises `ValueError` for fewer than two later checkpoints. Source: the released
    code of arXiv 2505.15353, which takes the next ten.
    """
    steps = np.asarray(steps, float)
    if len(steps) - start < 3:
        raise ValueError(f"start is {start} of {len(steps)} steps; two later ones are needed")
    elapsed = np.log(steps[start + 1 :] - steps[start])
    apart = np.log(np.asarray(distances, float)[start, start + 1 :])
    return float(np.polyfit(elapsed, apart, 1)[0])
