"""What the order of some models costs, and what it is worth: scores and brief training.

`python -m experiments tuning_prices` makes the stored tables of the page from the registry's files.
"""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import ConstantInputWarning

from experiments.command import Written, command
from experiments.synthesis import released_truths, tuning_curves
from helpers import data, specifications, stats, validation
from helpers.stats import bootstrap_mean
from helpers.synthesis import agreement, gate

FILES = {name: data.PUBLISHED / f"price_{name}.csv" for name in ("encoders", "curves", "pairs")}
# Training examples of the GLUE tasks. Source: Wang et al. (2019), the tasks' own files.
EXAMPLES = {"mnli": 392_702, "qqp": 363_846, "qnli": 104_743, "sst2": 67_349}
EXAMPLES |= {"cola": 8_551, "mrpc": 3_668, "rte": 2_490, "wnli": 635}
# One epoch of these is longer than 500 steps: no evaluation and no early stop falls between.
LONG = ("mnli", "qqp", "qnli", "sst2")
FILES["specifications"] = data.PUBLISHED / "spec_syn_price.csv"
BATCH = 32
BRIEF = {"EarlyStop-50": "50 steps", "EarlyStop-100": "100 steps", "EarlyStop-500": "500 steps"}
# Choices behind "no brief fine-tuning and no score ranks the encoders better than their size".
SPECIFICATIONS = {
    "rank by": ["EarlyStop-500", "EarlyStop-100", "EarlyStop-50", "LogME", "best score"],
    "agreement": ["Spearman", "Kendall", "Pearson"],
    "tasks": ["all", "without WNLI", "the four large"],
}
# These cost nothing: what a model's card says, and its mean rank on the other tasks.
FREE = {"parameters": "parameters", "other tasks": "order of the other tasks"}


def _forward_seconds(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the estimated seconds of one pass over a task's training texts: `task`, `model`.

    `runs` is that of `released_truths.encoder_runs`. A step of training is (time of 500 steps -
    time of 100) / 400, the mean over the tasks of `LONG`; a pass forward is a third of it per batch
    of 32, the default of the released code. The released times of the scores leave this pass out.
    """
    seconds = runs.groupby(["scorer", "task", "model"])["seconds"].mean()
    gap = (seconds["EarlyStop-500"] - seconds["EarlyStop-100"]) / 400
    step = gap.unstack("task")[list(LONG)].mean(axis=1)
    rows = [
        {"task": task, "model": model, "forward": n / BATCH * one / 3}
        for task, n in EXAMPLES.items()
        for model, one in step.items()
    ]
    return pd.DataFrame(rows)


def encoder_prices(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return what each way to order six encoders costs on each task, and what it is worth.

    `table` and `runs` are those of `released_truths`. Columns: `signal`, `task`, `rho` (rank
    correlation with the fully tuned score), `regret` (points lost by its choice), `right` (whether
    it chose the best), `released` (seconds for all six models) and `seconds`, with the pass forward
    that scores need.
    """
    table = table.assign(**{"other tasks": gate.static_order(table)})
    spent = runs.groupby(["scorer", "model", "task"])["seconds"].mean()
    spent = spent.groupby(["scorer", "task"]).sum()
    passes = _forward_seconds(runs).groupby("task")["forward"].sum()
    scorers, rows = list(dict.fromkeys(runs["scorer"])), []
    for task, part in table.groupby("task", sort=False):
        for signal in [*FREE, *scorers]:
            released = 0.0 if signal in FREE else float(spent[signal, task])
            extra = 0.0 if signal in FREE or signal in BRIEF else float(passes[task])
            lost = tuning_curves.regret(part[signal], part["truth"])
            row = {"signal": BRIEF.get(signal, signal), "task": task, "regret": lost}
            row |= {"rho": tuning_curves.spearman(part[signal], part["truth"]), "right": lost == 0}
            rows.append(row | {"released": released, "seconds": released + extra})
    return pd.DataFrame(rows)


def summary(
    prices: pd.DataFrame, *, column: str = "seconds", n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return one row per signal: mean quality over tasks with intervals, cost, and the frontier.

    `prices` is that of `encoder_prices`. Columns: `rho`, `low`, `high` (95 %, tasks drawn with
    replacement), `regret`, `right`, `seconds` (geometric mean over tasks of `column`; 0 is free),
    `behind`, `behind_low`, `behind_high` (paired difference in rho from the number of parameters),
    `frontier`.
    """
    rho = prices.pivot(index="task", columns="signal", values="rho")
    rng, n = validation.generator(seed), len(rho)
    draws = rng.integers(n, size=(n_resamples, n))
    values = rho.to_numpy()
    sample = values[draws].mean(axis=1)
    gap = values - rho[["parameters"]].to_numpy()
    apart = gap[draws].mean(axis=1)
    grouped = prices.groupby("signal")
    logs = np.log(prices[column].where(prices[column] > 0))
    ends = (np.quantile(x, [0.025, 0.975], axis=0) for x in (sample, apart))
    (low, high), (behind_low, behind_high) = ends
    out = {"rho": values.mean(axis=0), "low": low, "high": high, "behind": gap.mean(axis=0)}
    out |= {"behind_low": behind_low, "behind_high": behind_high}
    out = pd.DataFrame(out, rho.columns)
    out["regret"], out["right"] = grouped["regret"].mean(), grouped["right"].mean()
    out["seconds"] = np.exp(logs.groupby(prices["signal"]).mean()).fillna(0.0)
    out["frontier"] = frontier(out["seconds"], out["rho"])
    return out.sort_values("rho", ascending=False, kind="stable")


def frontier(cost: ArrayLike, quality: ArrayLike) -> np.ndarray:
    """Return which options no other beats: none is as good for less, or better for as much."""
    c, q = validation.numbers(cost, "cost"), validation.numbers(quality, "quality")
    beats = (c[:, None] <= c) & (q[:, None] >= q) & ((c[:, None] < c) | (q[:, None] > q))
    return ~beats.any(axis=0)


def machine_seconds(
    parameters: Sequence[float], n_examples: int, gigaflops: float, *, tokens: int = 128
) -> pd.Series:
    """Return the estimated seconds for all models of each kind of work on a machine.

    `parameters` has one number per model. A pass forward takes 2 operations per parameter and
    token, a step of training 6, on batches of 32 texts of `tokens` tokens; scores read `n_examples`
    texts once. `gigaflops` is what the machine sustains. Source: Kaplan et al. (2020), 2.1.
    """
    unit = float(np.sum(parameters)) * tokens / (gigaflops * 1e9)
    steps = {f"{n} steps": 6 * unit * BATCH * n for n in (50, 100, 500)}
    return pd.Series({"nothing": 0.0, "a score": 2 * unit * n_examples, **steps}, name="seconds")


def advice(table: pd.DataFrame, seconds: Mapping[str, float], budget: float) -> pd.DataFrame:
    """Return the options of a `summary` with their cost here, and which to run within a budget.

    `seconds` is that of `machine_seconds`, `budget` in seconds. Columns: `here`, `fits` and `run`:
    the best of those that fit, unless its lead over the number of parameters includes 0; then the
    number of parameters itself.
    """
    validation.non_negative(budget, "budget")
    free = table.index.isin(list(FREE))
    kinds = [name if name in seconds else "a score" for name in table.index]
    here = np.where(free, 0.0, [seconds[kind] for kind in kinds])
    out = table[["rho", "low", "high", "behind_low", "behind_high"]].assign(here=here)
    # The order of the other tasks needs these tuned; a reader with one task has none.
    out["fits"] = (out["here"] <= budget) & (out.index != "other tasks")
    best = out.index[out["fits"]][int(np.argmax(out.loc[out["fits"], "rho"].to_numpy()))]
    if out.loc[best, "behind_low"] <= 0:
        best = "parameters"
    return out.assign(run=out.index == best).sort_values("here", kind="stable")


def leave_one_out(table: pd.DataFrame, signals: Sequence[str]) -> pd.DataFrame:
    """Return each signal's mean rank correlation over tasks without one model: a row per model.

    `table` has one row per model and task, with `truth` and the signals.
    """
    long = gate.without_each(table, signals)
    wide = long.pivot(index="left_out", columns="signal", values="rank correlation")
    return wide.loc[table["model"].unique(), list(signals)].rename_axis("without")


def specification_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return by how much other orders of the encoders beat that by size, a row per specification.

    `table` is that of `released_truths.encoders`. The choices are `SPECIFICATIONS` and `models`:
    all, or all but one. `estimate` is the mean difference over tasks of the correlations with the
    truth, `low` and `high` its 95 % interval, tasks drawn. "Best score" is the best of the fifteen
    over the same tasks and models, chosen afterwards, and so flattered. `size` is the mean
    correlation of the number of parameters itself.
    """
    facts = ["model", "task", "truth", "parameters"]
    scorers = [c for c in table if c not in [*facts, "family", "corpus_gb"]]
    scores = [c for c in scorers if c not in BRIEF]
    parts = {"all": table}
    parts |= {f"no {m}": table[table.model != m] for m in dict.fromkeys(table["model"])}
    keep = {"all": [*dict.fromkeys(table["task"])], "the four large": [*LONG]}
    keep["without WNLI"] = [task for task in keep["all"] if task != "wnli"]
    choices = SPECIFICATIONS | {"models": [*parts]}
    gaps, sizes = {}, {}
    for how, (models, part) in product(choices["agreement"], parts.items()):
        values = part.assign(parameters=np.log(part["parameters"])).groupby("task")
        method = how.lower()
        with warnings.catch_warnings():  # of a score that is the same for all models
            warnings.simplefilter("ignore", ConstantInputWarning)
            rho = values[[*scorers, "parameters", "truth"]].apply(
                lambda one, method=method: one.drop(columns="truth").corrwith(
                    one["truth"], method=method
                )
            )
        sizes[how, models] = rho["parameters"]
        gaps[how, models] = rho[scorers].sub(rho["parameters"], axis=0)
    rows = []
    for choice in specifications.combinations(**choices):
        place, tasks = (choice["agreement"], choice["models"]), keep[choice["tasks"]]
        gap, size = gaps[place].loc[tasks], float(sizes[place][tasks].mean())
        name = choice["rank by"]
        name = gap[scores].mean().idxmax() if name == "best score" else name
        values = gap[name].dropna().to_numpy()
        sample = stats.draws(len(values), 2000, 0) @ values / len(values)
        low, high = np.quantile(sample, [0.025, 0.975])
        ends = {"estimate": round(values.mean(), 9), "low": low, "high": high}
        rows.append(choice | ends | {"size": size})
    return pd.DataFrame(rows).replace({"rank by": BRIEF})


def given_size(
    table: pd.DataFrame, signal: str, truth: str, *, n_resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean rank correlation among models of one kind and width, and its ends.

    `table` is that of `glass_box_table.load`; the cells of kind and width are drawn (95 %).
    """
    cells = [
        tuning_curves.spearman(p[signal], p[truth]) for _, p in table.groupby(["kind", "width"])
    ]
    mean = bootstrap_mean(cells, n_resamples=n_resamples, seed=seed)
    return mean.mean, mean.low, mean.high


def glass_box_prices(table: pd.DataFrame, *, n_resamples: int = 500, seed: int = 0) -> pd.DataFrame:
    """Return cost and quality of the glass box's signals for its fine-tuned score.

    `table` is that of `glass_box_table.load`. Columns: `kind`, `signal`, `r`, `low`, `high` (rank
    correlation over the models of a kind; cells of width and corpus drawn), `given_size` (the mean
    rank correlation among models of one width) and `seconds` (CPU, one model).
    """
    signs, rows = {"bits_per_byte": -1}, []
    spent = {"lloyd_index": "geometry", "parameters": ""}
    for kind, part in table.groupby("kind"):
        part = part.assign(cell=part["width"].astype(str) + part["mix"])
        for name in ("parameters", "rankme", "bits_per_byte", "log_me", "probe", "alp"):
            part = part.assign(**{name: signs.get(name, 1) * part[name]})
        names = ["parameters", "rankme", "bits_per_byte", "log_me", "probe", "alp", "lloyd_index"]
        ranked = agreement.rank_correlations(
            part, names, ["fine_tuned"], groups="cell", n_resamples=n_resamples, seed=seed
        ).set_index("signal")
        for name in names:
            column = f"seconds_{spent.get(name, name)}"
            within = [
                tuning_curves.spearman(one[name], one["fine_tuned"])
                for _, one in part.groupby("width")
            ]
            row = {"kind": kind, "signal": name, **ranked.loc[name, ["r", "low", "high"]]}
            row["given_size"] = float(np.nanmean(within)) if name != "parameters" else np.nan
            rows.append(row | {"seconds": part[column].mean() if column in part else 0.0})
    return pd.DataFrame(rows)


def sustained_gigaflops(n: int = 1024) -> float:
    """Return how many 10^9 operations per second this process sustains on a product of matrices."""
    import time

    square = np.ones((n, n), np.float32)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e9


@command("tuning_prices")
def main(_: Namespace) -> Written:
    """Write the tables that the page shows where the released scores cannot be fetched."""
    runs, curves = released_truths.encoder_runs(), released_truths.tuning_curves()
    prices = encoder_prices(released_truths.encoders(runs), runs)
    yield FILES["encoders"], prices.round(5).to_csv(index=False)
    curve = specification_rows(released_truths.encoders(runs))
    yield FILES["specifications"], curve.round(5).to_csv(index=False)
    qualities = tuning_curves.curve_qualities(curves, range(4, 14))
    yield FILES["curves"], qualities.round(5).to_csv(index=False)
    pairs = tuning_curves.all_pairs(tuning_curves.predictions(curves, 8))
    yield FILES["pairs"], pairs.round(5).to_csv(index=False)
