"""ALP and its rivals on the optional set of models, beside the stored scores of the smaller two."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.posterior import real_models, rival_scores, specifications
from experiments.posterior.agreement import difference, rank_agreement
from helpers import data, encoding, storage

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 1
STORED = data.PUBLISHED / "alp_larger.csv"
BELOW = data.PUBLISHED / "alp_larger_noise.csv"
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
    for name in names:
        package = real_models.LARGER[name]
        task = real_models.named("places", every=2, packages={name: package})
        for layer in task.trained:
            text = json.dumps([VERSION, encoding.identity(package), layer, list(scores)])
            place = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
            rows = storage.stored(place)
            if rows is None:
                one = task._replace(models={layer: task.models[layer]})
                rows = rival_scores.measured(one, scores).to_dict("records")
                storage.store(place, rows)
                print(layer, file=sys.stderr, flush=True)
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


def main(words: Sequence[str] | None = None) -> int:
    """Score the layers of the optional set and write two tables: ten minutes of CPU, resumable."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments alp_larger", description=main.__doc__
    )
    parser.add_argument("folder", nargs="?", type=Path, default=data.PUBLISHED)
    known = list(real_models.LARGER)
    parser.add_argument("--models", nargs="+", default=known, choices=known)
    given = parser.parse_args(words)
    kept = data.cache_folder() / "alp_larger"
    tables = {
        STORED: lambda: larger_scores(kept, given.models),
        BELOW: lambda: below_noise(given.models),
    }
    for path, make in tables.items():
        data.write_atomically(given.folder / path.name, make().round(6).to_csv(index=False))
        print(given.folder / path.name, flush=True)
    return 0
