"""MiniLM with noise, fine-tuned to the end on GLUE: the truth that frozen probes stand for.

`python -m experiments full_tuning` keeps every fine-tuning (a quarter of an hour) and goes on.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from itertools import product
from typing import Any

import pandas as pd

from experiments.command import Written, command, option, parts
from experiments.geometry import noise_sweep
from helpers import data, fine_tuning, glue, injection, models

FILE = data.PUBLISHED / "geometry_full_tuning.csv"
# Steps of 16 examples: three epochs, as the library's trainer takes; of SST-2 two fifths of one.
STEPS = {"stsb": 1080, "cola": 1605, "rte": 470, "mrpc": 690, "sst2": 1600}
TUNING = {"learning_rate": 5e-5, "batch_size": 16, "max_tokens": 128}
# The first two are those between which tuning and probe part; a stop leaves each noisy copy its
# healthy one.
LEVELS = (0.0, 2.0, 4.0, 10.0)
REPLICATES = (0, 1)


def plan() -> list[dict[str, Any]]:
    """Return the settings of all fine-tunings in their order: 0 and 2 % of noise by task first."""
    rounds = product([LEVELS[:2], LEVELS[2:]], REPLICATES)
    return [
        {"task": task, "level": level, "replicate": replicate}
        for levels, replicate in rounds
        for task, level in product(STEPS, levels)
    ]


def tuned_row(task: str, level: float, replicate: int) -> dict[str, Any]:
    """Fine-tune a noisy copy of MiniLM on all rows of a task, and score it on its test rows.

    The noise is that of the sweep's copy of this number, which is also the seed of the tuning.
    """
    tokenizer, model = models.load_model()
    noisy, _ = injection.inject_noise(model, level, seed=noise_sweep.noise_seed(level, replicate))
    options = {**TUNING, "steps": STEPS[task], "seed": replicate}
    tuned = fine_tuning.fine_tune(noisy, tokenizer, glue.load_task(task), **options)
    return {"score": tuned.score, "loss": tuned.history["loss"].tail(20).mean()}


def beside_probes(rows: pd.DataFrame, sweep: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of tuned models and of their frozen probes, and what noise took from each.

    `rows` is the stored table of this run, `sweep` that of `noise_sweep`. A row per `task`, `level`
    and `replicate`: `tuned`, `frozen`, and `tuned_lost` and `frozen_lost`, the score without noise
    in the same replicate minus this one.
    """
    copies = sweep.query("size == 'full' and rule == 'published'")
    probes = copies.set_index(["level", "replicate"])
    keys = ["task", "level", "replicate"]
    out = rows[keys].assign(tuned=rows["score"])
    out["frozen"] = [
        probes.at[key[1:], f"task_{key[0]}"] for key in out[keys].itertuples(index=False)
    ]
    whole = out.query("level == 0").set_index(["task", "replicate"])
    for kind in ("tuned", "frozen"):
        without = whole[kind].reindex(pd.MultiIndex.from_frame(out[["task", "replicate"]]))
        out[f"{kind}_lost"] = without.to_numpy() - out[kind]
    return out


def lost_to_noise(tasks: Sequence[str], level: float = 2.0) -> float:
    """Return the score that noise takes from MiniLM fine-tuned to the end, mean over some tasks.

    `level` is in percent. Each noisy copy is compared with the healthy one of its replicate, from
    the stored table. Raises `KeyError` for a task or level that the table lacks.
    """
    scores = pd.read_csv(FILE).pivot(index=["task", "replicate"], columns="level", values="score")
    lost = (scores[0.0] - scores[level]).groupby("task").mean()
    return float(lost.loc[[*tasks]].mean())


@command(
    "full_tuning",
    option("--stored", action="store_true", help="write what is kept, and tune nothing"),
    parts("makes every k-th row"),
    one_thread=True,
)
def main(given: Namespace) -> Written:
    """Fine-tune noisy copies of MiniLM on five tasks to the end."""
    folder, key = data.cache_folder() / "full_tuning", {"steps": STEPS, **TUNING}
    if not given.stored:
        noise_sweep.collect_rows(plan()[given.part], tuned_row, folder, key=key)
    table = noise_sweep.collect_rows(plan(), None, folder, key=key)
    return [(FILE, table.round(6).to_csv(index=False))]
