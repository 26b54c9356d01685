"""SFDA, N-LEEP, PACTran, LogME and H-score of the glass box's models, beside their tuned scores.

`python -m experiments class_fits` writes `data/published/class_fits.csv` in some minutes of CPU.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.command import Written, command, log
from experiments.synthesis import glass_box_measures, glass_box_runs, glass_box_table, real_choices
from helpers import data, glue, probing
from helpers.posterior import class_fit, transferability
from helpers.synthesis import gate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TABLE = data.PUBLISHED / "class_fits.csv"
TASKS = glass_box_measures.TUNED
SCORERS = {
    "sfda": class_fit.sfda,
    "nleep": class_fit.nleep,
    "pactran": class_fit.pactran,
    "log_me": transferability.log_me,
    "h_score": transferability.h_score,
}


def names() -> list[str]:
    """Return the stored models of the glass box at the last step of their training, in order."""
    about = glass_box_table.load().table
    last = about.step == about.groupby("kind").step.transform("max")
    stored = set(glass_box_runs.stored_names())
    return [name for name in about.index[last] if name in stored]


def _score_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tasks: dict[str, glue.Task]
) -> pd.DataFrame:
    """Return the scores of one model on the rows of frozen probes, one row per task.

    Columns: `task`, the names of `SCORERS` and the CPU seconds of each as `seconds_NAME`. Columns
    of the features are divided by their common standard deviation, for SFDA and PACTran depend on
    the scale.
    """
    rows = []
    for name, task in tasks.items():
        sizes = {"n_train": glass_box_measures.N_TRAIN, "n_test": glass_box_measures.N_TEST}
        found = probing.probe_features(model.base_model, tokenizer, task, **sizes)
        X, row = found.X_train / found.X_train.std(), {"task": name}
        for scorer, function in SCORERS.items():
            start = time.process_time()
            row[scorer] = function(X, found.y_train)
            row[f"seconds_{scorer}"] = time.process_time() - start
        rows.append(row)
    return pd.DataFrame(rows)


def load() -> pd.DataFrame:
    """Return the stored scores beside the suite's facts, one row per model and task.

    Columns: `model`, `task`, `truth` (the fine-tuned score in percent), `kind`, `parameters`,
    `mix` (the corpus), and those of `_score_model`.
    """
    suite = glass_box_table.load().table
    table = pd.read_csv(TABLE)
    facts = suite.loc[table.model, ["kind", "parameters", "mix"]].reset_index(drop=True)
    pairs = zip(table.model, table.task, strict=True)
    truth = [100 * suite.loc[model, f"fine_tuned_{task}"] for model, task in pairs]
    return pd.concat([table, facts], axis=1).assign(truth=np.array(truth))


def analyses(table: pd.DataFrame) -> dict[str, real_choices.Analysis]:
    """Return what `real_choices.judged` judges: each kind of model, of all widths and of one.

    `table` is that of `load`. Of one width, each task falls into one per width, and the number of
    parameters says nothing. Two tasks are too few to draw from.
    """
    found = {}
    for kind, part in table.groupby("kind"):
        full = part.reset_index(drop=True)
        full = full.assign(static_order=gate.static_order(full), any=0.0)
        one = full.assign(task=full.task + full.parameters.astype(int).astype(str))
        for name, frame in (("all widths", full), ("one width", one)):
            rivals = ["parameters", "static_order", "any"]
            found[f"{kind}, {name}"] = real_choices.Analysis(frame, list(SCORERS), rivals, False)
    return found


def again(names: Sequence[str]) -> float:
    """Score stored models again; return the largest difference from the table, relative to it."""
    tokenizer, stored = glass_box_runs.stored_tokenizer(), pd.read_csv(TABLE)
    tasks = {name: glue.load_task(name) for name in TASKS}
    away = []
    for name in names:
        model = glass_box_runs.load_named(name, tokenizer)
        rows = stored[stored.model == name].set_index("task")[list(SCORERS)]
        scores = _score_model(model, tokenizer, tasks).set_index("task")[list(SCORERS)]
        away.append(float(((scores - rows).abs() / rows.abs()).max(axis=None)))
    return max(away)


@command("class_fits")
def main(_: Namespace) -> Written:
    """Write the stored table of scores of the glass box's last checkpoints."""
    tokenizer, parts = glass_box_runs.stored_tokenizer(), []
    tasks = {name: glue.load_task(name) for name in TASKS}
    for name in names():
        model = glass_box_runs.load_named(name, tokenizer)
        parts.append(_score_model(model, tokenizer, tasks).assign(model=name))
        log.info(name)
    table = pd.concat(parts, ignore_index=True)
    first = ["model", "task"]
    table = table[first + [c for c in table if c not in first]]
    yield TABLE, table.round(6).to_csv(index=False)
