"""Published matrices of language models by texts, with benchmark scores, as data frames."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import data, ties, validation
from helpers.modelmap import pickled_arrays

_TASKS = {
    "ARC-C": "ARC",
    "HellaSwag": "HellaSwag",
    "MMLU": "MMLU",
    "TruthfulQA": "TruthfulQA",
    "Winograd": "Winogrande",
    "GSM8K": "GSM8K",
}
_VECTOR = "log-likelihood-10k"
# Makers that say they trained on the Pile, by the beginnings of their models' names.
_PILE = ("EleutherAI/pythia", "EleutherAI/gpt-neo", "cerebras/", "state-spaces/mamba")
# Makers that name the Pile, or parts of it, among other training data, by their papers or cards.
PILE_IN_PART = (
    "facebook/opt",
    "stabilityai/stablelm-base-alpha",
    "NYTK/PULI-GPTrio",
    "AI-Sweden-Models/gpt-sw3",
)
# Models whose names or cards tell from which other model of the matrix they were made.
PARENTS = {
    "Wanfq/FuseLLM-7B": "meta-llama/Llama-2-7b-hf",
    "TencentARC/LLaMA-Pro-8B": "meta-llama/Llama-2-7b-hf",
    "codellama/CodeLlama-7b-hf": "meta-llama/Llama-2-7b-hf",
    "TencentARC/Mistral_Pro_8B_v0.1": "mistralai/Mistral-7B-v0.1",
    "scb10x/typhoon-7b": "mistralai/Mistral-7B-v0.1",
    "gordicaleksa/YugoGPT": "mistralai/Mistral-7B-v0.1",
    "sail/Sailor-0.5B": "Qwen/Qwen1.5-0.5B",
    "sail/Sailor-1.8B": "Qwen/Qwen1.5-1.8B",
    "sail/Sailor-4B": "Qwen/Qwen1.5-4B",
    "sail/Sailor-7B": "Qwen/Qwen1.5-7B",
}


class Release(NamedTuple):
    """Log-likelihoods of models by texts, what is known of each model, and scores.

    `log_likelihoods`: nats in 1,000 bytes, about a text of the paper: the released bits per byte
    times -1,000 ln 2; models as rows, titles of texts as columns. A model that was scored twice has
    a second row, named "... (2)". `models`: `family`, `size` (billions of parameters, by the name
    or the second source, else NaN), `pile` (trained on it) and `step`, of a checkpoint, else NaN.
    `errors`: released errors of nine tasks, for the LAMBADA ones the logarithm of the perplexity.
    `scores`: six leaderboard tasks in percent and their `mean`, for the models for which a second
    source has all six.
    """

    log_likelihoods: pd.DataFrame
    models: pd.DataFrame
    errors: pd.DataFrame
    scores: pd.DataFrame


def load_release() -> Release:
    """Read the matrix of Thrush et al. (2024) and the scores of Ruan et al. (2024).

    What was scored is the EntiGraph prose that a model wrote about each of 263 QuALITY articles,
    averaged over pieces of it, so a value has little noise and the genre is narrow. Raises
    `DataError` when a file is unavailable. Source: repositories
    `TristanThrush/perplexity-correlations` and `ryoungj/ObsScaling`.
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
            "size": [_size(name) for name in names],
            "pile": [name.startswith(_PILE) for name in names],
            "step": steps.to_numpy(),
        },
        index=pd.Index(names, name="model"),
    )
    known = [name for name in names if name in table.index]
    sizes = table["Model Size (B)"].reindex(models.index)
    models["size"] = models["size"].fillna(sizes)
    scores = 100 * table.loc[known, list(_TASKS)].rename(columns=_TASKS).dropna()
    return Release(
        pd.DataFrame(-1000 * np.log(2) * bits.to_numpy().T, models.index, bits.index),
        models,
        errors,
        scores.assign(mean=scores.mean(axis=1)),
    )


def load_authors(path: str | Path) -> Release:
    """Read the matrix of 1,018 models by 10,000 texts of arXiv 2502.16173, where a reader has it.

    `path` is `model-data-1018.pkl`, a list with one dict a model, or a file of log-likelihoods
    alone, a dict from names to vectors, such as `raw_log-likelihood_1018.pkl`; nothing in it is
    executed (`pickled_arrays`). `log_likelihoods` are nats per text and texts have numbers;
    `family` is the model's type, without one its maker; `errors` has no column, and `scores` the
    models that have all six. Raises `ValueError` for other contents, naming the model. Source:
    repository `shimo-lab/modelmap`.
    """
    found = pickled_arrays.read(path)
    if isinstance(found, dict):
        found = [{"model_name": name, _VECTOR: vector} for name, vector in found.items()]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError("path holds neither vectors by name nor one dict a model")
    rows: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(found):
        name, vector = row.get("model_name"), row.get(_VECTOR)
        if not isinstance(name, str) or name in rows:
            raise ValueError(f"path has no model_name of its own in entry {number}")
        if not isinstance(vector, np.ndarray) or vector.ndim != 1:
            raise ValueError(f"path has no vector {_VECTOR!r} for {name}")
        rows[name] = row
    lengths = {len(row[_VECTOR]) for row in rows.values()}
    if len(lengths) != 1:
        raise ValueError(
            f"path has vectors of {validation.name_some(sorted(lengths))} texts; one set"
        )
    models = pd.DataFrame(
        {
            "family": [row.get("model_type") or name.split("/")[0] for name, row in rows.items()],
            "size": [_number(row.get("model_size")) for row in rows.values()],
            "pile": [name.startswith(_PILE) for name in rows],
            "step": np.nan,
        },
        index=pd.Index(rows, name="model"),
    )
    vectors = np.array([row[_VECTOR] for row in rows.values()], float)
    tasks = {task: f"score_v1_{task}" for task in _TASKS.values()}
    scores = pd.DataFrame(
        {task: [_number(row.get(key)) for row in rows.values()] for task, key in tasks.items()},
        models.index,
    ).dropna()
    return Release(
        pd.DataFrame(vectors, models.index, [f"text {i}" for i in range(vectors.shape[1])]),
        models,
        pd.DataFrame(index=models.index),
        scores.assign(mean=scores.mean(axis=1)),
    )


def stems(names: Sequence[str]) -> pd.Series:
    """Return a name for each model without what tells near-copies apart, indexed by the names.

    Dropped are the step of a checkpoint, the mark of a second scoring, and "-deduped" and "-v0" of
    Pythia, whose models of one size were trained in the same way on nearly the same data.

    >>> from helpers.modelmap.release import stems
    >>> stems(["EleutherAI/pythia-1.4b-v0", "EleutherAI/pythia-1.4b-deduped_step20000"]).nunique()
    1
    """
    index = pd.Index(names, name="model")
    found = index.to_series().str.replace(r" \(\d+\)$", "", regex=True)
    for mark in (r"_step\d+$", r"-deduped$", r"-v0$", r"-(?:intermediate-)?step-.*$"):
        found = found.str.replace(mark, "", regex=True)
    return found


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float, np.number)) else np.nan


def _size(name: str) -> float:
    """Return the billions of parameters that a name tells, as in -1.4b, -160m or 1_6b."""
    found = re.search(r"(?<![\d.])(\d+(?:[._]\d+)?)([bm])(?![a-z])", name.lower())
    if not found:
        return np.nan
    return float(found[1].replace("_", ".")) / (1 if found[2] == "b" else 1000)


def _names(table: pd.DataFrame) -> list[str]:
    """Return the models of the columns; one that is scored again gets a number."""
    names = pd.Series([ast.literal_eval(column)[1] for column in sorted(table)], sorted(table))
    again = names.groupby(names).cumcount()
    return list(
        names.where(again == 0, names + " (" + (again + 1).astype(str) + ")")[table.columns]
    )


def same_family_rate(distances: np.ndarray, families: pd.Series) -> float:
    """Return the share of models whose nearest other model is of their family.

    Models without a relative are not counted, but may be nearest; NaN for families of one.
    """
    apart, names = np.array(distances, float), pd.Series(np.asarray(families))
    np.fill_diagonal(apart, np.inf)
    found = names[ties.first_smallest(apart)].to_numpy() == names
    return float(found[names.duplicated(keep=False)].mean())


def diffusion_exponent(distances: np.ndarray, steps: np.ndarray, start: int = 0) -> float:
    """Return the slope of log squared distance on log elapsed steps, from one checkpoint on.

    `distances` are squared, shape (c, c), `steps` ascending, `start` the number of the checkpoint
    from which both are measured to all later ones. 1 is what a random walk gives, below it movement
    is subdiffusive. Source: the released code of arXiv 2505.15353, which takes the next ten.
    """
    steps = np.asarray(steps, float)
    elapsed = np.log(steps[start + 1 :] - steps[start])
    apart = np.log(np.asarray(distances, float)[start, start + 1 :])
    return float(np.polyfit(elapsed, apart, 1)[0])
