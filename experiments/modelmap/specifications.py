"""Headlines of the model map, each under every reasonable way to measure it.

`python -m experiments map_specifications` writes the tables.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments import intervals
from experiments.command import Written, command, to_folder
from experiments.modelmap import distance_tables, lineage_benchmark
from helpers import data, specifications, stats, validation
from helpers.modelmap import baselines, lineage, model_map, release
from helpers.modelmap import score_prediction as scoring

SCORES = data.PUBLISHED / "spec_map_scores.csv"
NEIGHBOURS = data.PUBLISHED / "spec_map_neighbours.csv"
FACTOR = data.PUBLISHED / "spec_map_factor.csv"
LINEAGE = data.PUBLISHED / "spec_map_lineage.csv"

SCORE_CHOICES: dict[str, Sequence[Any]] = {
    "rival": baselines.FORMS,
    "penalties": ("as released", "down to 0.01"),
    "models": ("all", "not of the Pile"),
    "splits": ("five folds", "each family"),
    "target": ("mean", "MMLU", "HellaSwag"),
}
NEIGHBOUR_CHOICES: dict[str, Sequence[Any]] = {
    "near-copies": ("in", "pairs out", "models out"),
    "coordinates": ("centred", "raw"),
    "clip": (0.0, 0.02, 0.1),
    "texts": ("all", "half"),
    "unit": ("models", "families"),
}
LINEAGE_CHOICES: dict[str, Sequence[Any]] = {
    "rival": ("weights", "answers", "mean log-likelihood"),
    "measure": ("parent found", "strangers farther away"),
    "edits": ("all", "units in order", "not trained on", "mild"),
    "parents": ("all", "width 32", "width 64"),
    "unit": ("kinds of edit", "children"),
}
# Edits by which a model keeps most of what it does.
MILD = ("rounded 8", "rounded 4", "noise 5", "pruned 30", "tuned 20 tables", "tuned 20 romance")
MILD += ("units reordered 1",)
PENALTIES = {"as released": scoring.ALPHAS, "down to 0.01": tuple(10.0**e for e in range(-2, 10))}


def copies_of(names: Sequence[str]) -> np.ndarray:
    """Return a mask (K, K) of pairs of models with one stem, the diagonal left out."""
    stem = release.stems(names).to_numpy()
    return (stem[:, None] == stem) & ~np.eye(len(stem), dtype=bool)


def newest(models: pd.DataFrame) -> np.ndarray:
    """Return a priority for each model: a finished model before any checkpoint, then its step."""
    step = models["step"].fillna(np.inf).to_numpy()
    return np.where(np.isfinite(step), step, 1e12)


def score_gain(
    source: release.Release,
    *,
    rival: str,
    penalties: str,
    models: str,
    splits: str,
    target: str,
    seeds: int = 3,
    n_resamples: int = 1000,
    kept: dict[tuple, pd.DataFrame] | None = None,
) -> tuple[float, float, float]:
    """Return the gain in r of the centred vector over a curve in the mean, and its interval.

    The keywords up to `target` are a row of `SCORE_CHOICES`. Families are drawn for the interval.
    `kept` holds predictions of all targets between calls.
    """
    kept = {} if kept is None else kept
    made = model_map.fit_map(source.log_likelihoods)
    scores = source.scores[[name for name in SCORE_CHOICES["target"] if name in source.scores]]
    if models == "not of the Pile":
        scores = scores[~source.models.loc[scores.index, "pile"]]
    rows = source.models.index.get_indexer(scores.index)
    family = source.models.family.iloc[rows]
    options: dict[str, int] = {"seeds": seeds}
    if splits == "each family":
        options = {"seeds": 1, "n_splits": family.nunique()}
    vector, curve = (penalties, models, splits), (rival, models, splits)
    if vector not in kept:
        X, grid = made.coordinates[rows], PENALTIES[penalties]
        _, kept[vector] = scoring.repeated(X, scores, family, grid, **options)
    if curve not in kept:
        mean = made.mean_log_likelihood.to_numpy()[rows]
        _, kept[curve] = baselines.repeated(mean, scores, family, rival, **options)
    pair = kept[vector][target], kept[curve][target]
    return scoring.prediction_gain(*pair, scores[target], family, n_resamples=n_resamples)


def neighbour_gain(
    log_likelihoods: pd.DataFrame, families: ArrayLike, copies: np.ndarray, priority: ArrayLike,
    *, n_shuffles: int = 200, seed: int = 0, **choice: Any,
) -> tuple[float, float, float]:  # fmt: skip
    """Return by how much the share of same-family neighbours exceeds chance, and its interval.

    `copies` (K, K) marks near-copies, of which the models of the highest `priority` (K,) stay
    where models go; the keywords are a row of `NEIGHBOUR_CHOICES`.
    """
    names, values = np.asarray(families), log_likelihoods
    if choice["near-copies"] == "models out":
        keep = lineage.one_of_each(copies, priority)
        names, values, copies = names[keep], values[keep], copies[np.ix_(keep, keep)]
    if choice["texts"] == "half":
        drawn = validation.generator(seed).permutation(values.shape[1])[: values.shape[1] // 2]
        values = values.iloc[:, np.sort(drawn)]
    made = model_map.fit_map(values, clip=choice["clip"])
    centred = choice["coordinates"] == "centred"
    apart = made.distances() if centred else lineage.simpler(made)["raw"]
    barred = None if choice["near-copies"] == "in" else copies
    options = {"copies": barred, "n_shuffles": n_shuffles, "seed": seed}
    return lineage.recovered(apart, names, by=choice["unit"], **options).gain


def factor_rows(
    ngrams: pd.DataFrame | None, *, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return the factor by which the formula exceeds the divergence, a row per specification.

    `ngrams` is the table of `distance_tables.ngram_ratios`; without it there are rows of the stored
    GPTs and of SmolLM2 only. Columns `models`, `texts`, `summary`, `estimate`, `low`, `high`.
    Intervals draw first models with replacement.
    """
    parts = distance_tables.stored_ratios()
    if ngrams is not None:
        parts = {"n-grams": ngrams, **parts}
        parts["n-grams and GPTs"] = pd.concat([ngrams, parts["tiny GPTs"]], ignore_index=True)
        parts["all three"] = pd.concat(list(parts.values())[:3], ignore_index=True)
    rows = []
    for models, part in parts.items():
        for texts in part.columns.drop(["true", "p"]):
            ratio = (part[texts] / part["true"]).dropna()
            if len(ratio) < len(part):
                continue
            for summary in ("median", "geometric mean"):
                options = {"n_resamples": n_resamples, "seed": seed}
                found = intervals.ratio_interval(ratio, part["p"], summary, **options)
                rows.append((models, texts, summary, *found))
    columns = ["models", "texts", "summary", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def lineage_gain(bench: pd.DataFrame, **choice: str) -> tuple[float, float, float]:
    """Return how much better the map finds parents than a rival does, and its interval.

    `bench` is the table of `lineage_benchmark`, the keywords a row of `LINEAGE_CHOICES`. Parents
    are drawn for the interval.
    """
    part = bench[bench.way.isin(["map", choice["rival"]])]
    if (width := choice["parents"]) != "all":
        part = part[part.parent.str.startswith(f"gpt-{width.split()[1]}x")]
    if choice["edits"] == "mild":
        part = part[(part.kind + " " + part.level).isin(MILD)]
    elif choice["edits"] != "all":
        out = {"units in order": "units reordered", "not trained on": "trained on"}
        part = part[part.kind != out[choice["edits"]]]
    value = part["area"] if choice["measure"].startswith("strangers") else part["rank"] == 1
    cells = part.assign(value=value.astype(float)).pivot(
        index=["parent", "kind", "level"], columns="way", values="value"
    )
    gap = cells["map"] - cells[choice["rival"]]
    if choice["unit"] == "kinds of edit":
        gap = gap.groupby(["parent", "kind"]).mean()
    return stats.bootstrap_mean(gap.groupby("parent").mean(), seed=0)[:3]


def lineage_rows(bench: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return `lineage_gain` of every specification, by default of the stored benchmark."""
    bench = pd.read_csv(lineage_benchmark.TABLE) if bench is None else bench
    return table(LINEAGE_CHOICES, lambda **row: lineage_gain(bench, **row))


def table(
    choices: dict[str, Sequence[Any]], measure: Any, rows: Sequence[int] | None = None
) -> pd.DataFrame:
    """Return the specifications of `choices`, or some `rows`, with estimate and interval."""
    every = specifications.combinations(**choices)
    chosen = every if rows is None else [every[i] for i in rows]
    found = [measure(**choice) for choice in chosen]
    ends = pd.DataFrame(found, columns=["estimate", "low", "high"])
    return pd.DataFrame(chosen).join(ends)


@command("map_specifications", to_folder("--folder"))
def main(given: Namespace) -> Written:
    """Measure the headlines under all specifications and write the tables."""
    yield given.folder / LINEAGE.name, lineage_rows().round(4).to_csv(index=False)
    found, known = release.load_release(), {}
    gains = table(SCORE_CHOICES, lambda **row: score_gain(found, kept=known, **row))
    about = newest(found.models)
    options = found.log_likelihoods, found.models.family, copies_of(found.models.index), about
    others = table(NEIGHBOUR_CHOICES, lambda **row: neighbour_gain(*options, **row))
    factors = factor_rows(distance_tables.ngram_ratios())
    for file, rows, above in ((SCORES, gains, 0), (NEIGHBOURS, others, 0), (FACTOR, factors, 1.1)):
        print(specifications.share(rows, above=above))
        yield given.folder / file.name, rows.round(4).to_csv(index=False)
