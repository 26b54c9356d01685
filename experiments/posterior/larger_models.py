"""ALP and its rivals on the optional set of models, beside the stored scores of the smaller two."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from experiments.command import Written, command, digest, kept, option, to_folder
from experiments.posterior import real_models, rival_scores, specifications
from experiments.posterior.agreement import difference, rank_agreement
from helpers import data, encoding, stats
from helpers.posterior import average_log_posterior

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 1
STORED = data.PUBLISHED / "alp_larger.csv"
BELOW = data.PUBLISHED / "alp_larger_noise.csv"
SPELLING = data.PUBLISHED / "alp_larger_spelling.csv"
# The choices of `spec_alp_noise.csv` that decide, of one seed.
CHOICES = {"ridge": [1e-6, 1e-2], "clip": ["none"], "block": [16, 32, 64], "seed": [0]}


def names_of_four() -> pd.DataFrame:
    """Return the stored scores of *names* with four networks: 16 layers and the controls.

    The rows are those of `rival_scores.wide`; the smaller two networks and the controls come from
    `alp_scores.csv`, the larger two from `alp_larger.csv`.
    """
    first = pd.read_csv(data.PUBLISHED / "alp_scores.csv")
    return rival_scores.wide(pd.concat([first[first.task == "names"], pd.read_csv(STORED)]))


def follows(table: pd.DataFrame, n_resamples: int = 500) -> pd.DataFrame:
    """Return how each form of ALP and LogME follows two yardsticks, networks drawn as wholes.

    `table` is one of `rival_scores.wide`. One row per yardstick and score: `estimate`, Spearman's
    rank correlation over the models, `low`, `high`; and the lead over LogME, `ahead`, with
    `ahead low` and `ahead high`.
    """
    names, rows = [*rival_scores.FORMS, "LogME"], []
    for yardstick in (rival_scores.PROBES[-1], rival_scores.DOWNSTREAM):
        found = rank_agreement(
            {"names": table}, names, yardstick, unit="unit", n_resamples=n_resamples
        )
        for name in names:
            row = found.table.loc[name, ["estimate", "low", "high"]].to_dict()
            if name != "LogME":
                keys = ("ahead", "ahead low", "ahead high")
                row |= dict(zip(keys, difference(found, name, "LogME"), strict=True))
            rows.append({"yardstick": yardstick, "score": name, **row})
    return pd.DataFrame(rows)


def larger_scores(folder: Path, names: Sequence[str] = tuple(real_models.LARGER)) -> pd.DataFrame:
    """Return `rival_scores.measured` of four layers of each larger model over names of places.

    The rows of a layer are kept in `folder`, so that a stopped run goes on.
    """
    scores, parts = rival_scores.methods() | rival_scores.yardsticks(), []

    def measured(task: real_models.Task) -> list[dict]:
        return rival_scores.measured(task, scores).to_dict("records")

    for name in names:
        package, task = real_models.LARGER[name], _places(name)
        for layer in task.trained:
            one = task._replace(models={layer: task.models[layer]})
            key = digest(VERSION, encoding.identity(package), layer, list(scores))
            rows = kept(folder / f"{key}.json", partial(measured, one), layer)
            parts.append(pd.DataFrame(rows))
    return pd.concat(parts).assign(task="names")


def below_noise(names: Sequence[str] = tuple(real_models.LARGER)) -> pd.DataFrame:
    """Return how many of seven layers of each larger model stand below noise on titles by type."""
    parts = []
    for name in names:
        task = real_models.named("titles", packages={name: real_models.LARGER[name]})
        table = specifications.noise_table(task, CHOICES)
        parts.append(table.assign(model=name, layers=len(task.trained)))
    return pd.concat(parts)


def above_spelling(names: Sequence[str] = tuple(real_models.LARGER)) -> pd.DataFrame:
    """Return by how many nats each of those layers stands above spelling, by calibrated ALP.

    One row per layer: `model`, `layer`, `estimate`, and `low` and `high`, the ends of its 95 %
    interval over the names of places.
    """
    rows = []
    for name in names:
        task = _places(name)
        values = {
            key: average_log_posterior(task.models[key], task.labels).per_entity
            for key in ("spelling", *task.trained)
        }
        for layer in task.trained:
            gap = stats.paired_difference(values[layer], values["spelling"])
            row = {"model": name, "layer": layer, "estimate": gap.difference}
            rows.append(row | {"low": gap.low, "high": gap.high})
    return pd.DataFrame(rows)


def headlines(four: pd.DataFrame, n_resamples: int = 500) -> pd.DataFrame:
    """Return what the stored tables say, a row per statement: `estimate`, `low` and `high`.

    For each larger model the layers below noise in blocks of 32 with a ridge of 1e-6, then for each
    the nats of its best layer above spelling, then how calibrated ALP follows the tuned probe over
    `four`, the table of `names_of_four`, and its lead over LogME.
    """
    below, gaps = pd.read_csv(BELOW), pd.read_csv(SPELLING)
    below = below.query("ridge == 1e-6 and block == 32").set_index("model")
    best = gaps.loc[gaps.groupby("model").estimate.idxmax()].set_index("model")
    ends, rows = ["estimate", "low", "high"], {}
    rows |= {f"layers of {m} below noise": below.loc[m, ends] for m in real_models.LARGER}
    rows |= {f"best layer of {m} above spelling": best.loc[m, ends] for m in real_models.LARGER}
    row = follows(four, n_resamples).query("score == 'ALP calibrated'").iloc[0]
    rows["rank correlation with the probe"] = row[ends]
    rows["lead over LogME"] = row[["ahead", "ahead low", "ahead high"]].set_axis(ends)
    return pd.DataFrame(rows).T.astype(float)


def _places(name: str) -> real_models.Task:
    return real_models.named("places", every=2, packages={name: real_models.LARGER[name]})


@command(
    "alp_larger",
    to_folder("folder", nargs="?"),
    option("--models", nargs="+", default=[*real_models.LARGER], choices=[*real_models.LARGER]),
)
def main(given: Namespace) -> Written:
    """Score the layers of the optional set, write three tables: ten minutes of CPU, resumable."""
    scores = larger_scores(data.cache_folder() / "alp_larger", given.models)
    yield given.folder / STORED.name, scores.round(6).to_csv(index=False)
    yield given.folder / BELOW.name, below_noise(given.models).round(6).to_csv(index=False)
    yield given.folder / SPELLING.name, above_spelling(given.models).round(6).to_csv(index=False)
