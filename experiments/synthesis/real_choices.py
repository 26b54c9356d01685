"""Which cheap signal would have chosen the right real model: every table of the page, one by one.

`python -m experiments real_choices` writes `data/published/real_choices.csv`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from experiments.command import Written, command, option
from experiments.synthesis import released_truths
from helpers import data, figures
from helpers.synthesis import gate

TABLE = data.PUBLISHED / "real_choices.csv"
STEPS = {f"EarlyStop-{n}": f"{n} steps of fine-tuning" for n in (50, 100, 500)}
# Scores of frozen embeddings, as the released files call them.
SCORERS = {
    "SFDA": "SFDA",
    "HScoreR": "H-score, shrunk",
    "HScore": "H-score",
    "LogME": "LogME",
    "Logistic": "logistic probe",
    "PACTran-10-100": "PACTran (10, 100)",
    "PACTran-1-10": "PACTran (1, 10)",
    "NLEEP": "N-LEEP",
    "PARC-corr": "PARC",
    "GBC": "GBC",
    "kNN-5-l2": "nearest neighbours, Euclidean",
    "kNN-5-corr": "nearest neighbours, correlation",
    "LFC-cos": "LFC",
    "MSC-cos": "MSC",
    "TransRate": "TransRate",
}
LOSSES = {f"after {n}": f"loss after {n:,} examples" for n in (200, 1600, 12800, 102400)}
LOSSES = {"after 0": "loss before tuning", **LOSSES}
# The gate: what costs the chooser nothing.
RIVALS = {
    "parameters": "parameters",
    "corpus_gb": "size of the pre-training text",
    "width": "width of the embedding",
    "n_labels": "classes seen in pre-training",
    "family_order": "order of the family, other tasks",
    "source_order": "order of its source, other tasks",
    "static_order": "order on other tasks",
    "any": "a random choice",
}
# Ours, of the glass box: `experiments.synthesis.class_fits`.
OWN = {
    "sfda": "SFDA",
    "nleep": "N-LEEP",
    "pactran": "PACTran",
    "log_me": "LogME",
    "h_score": "H-score, shrunk",
}
LABELS = {**STEPS, **SCORERS, **LOSSES, **RIVALS, **OWN}
# What a signal costs, and so its colour.
KINDS = ("costs nothing", "needs a forward pass", "needs fine-tuning")
# The rivals that a signal is compared with one by one.
BARS = ("parameters", "static_order")
TITLES = {
    "encoders": "six encoders, eight GLUE tasks",
    "encoders, seven tasks": "the same without WNLI",
    "encoders, like size": "the same among models of similar size",
    "language models": "30 language models, three corpora",
    "one vocabulary": "17 decoders with GPT-2's vocabulary",
    "image models": "180 image models, 12 tasks",
    "one architecture": "ViT of one width, 12 tasks",
}
COLUMNS = ["analysis", "signal", "rival", "left_out", "measure", "value", "low", "high"]
COLUMNS += ["n_tasks", "n_models"]
EMPTY = {"rival": "", "left_out": ""}


class Analysis(NamedTuple):
    """A table of `gate`, the signals to judge, the rivals beside them, and if tasks are drawn."""

    table: pd.DataFrame
    signals: list[str]
    rivals: list[str]
    draw_tasks: bool = True


def _with_rivals(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the orders of `RIVALS` that need other tasks, and `any`."""
    orders = {"static_order": gate.static_order(table), "family_order": gate.family_order(table)}
    if "source" in table:
        orders["source_order"] = gate.family_order(table, "source")
    return table.assign(**orders, any=0.0)


def encoder_analyses(table: pd.DataFrame) -> dict[str, Analysis]:
    """Return the analyses of `released_truths.encoders`: all tasks, seven, and like sizes.

    Like sizes are the three base models and the three distilled ones: each task falls into two, in
    which no model has twice the parameters of another. The rivals are those of the whole table.
    """
    signals = [*STEPS, *SCORERS]
    rivals = ["parameters", "corpus_gb", "family_order", "static_order", "any"]
    full = _with_rivals(table)
    small = full.model.str.startswith("distil").map({True: ", distilled", False: ", base"})
    return {
        "encoders": Analysis(full, signals, rivals),
        "encoders, seven tasks": Analysis(
            _with_rivals(table[table.task != "wnli"]), signals, rivals
        ),
        "encoders, like size": Analysis(full.assign(task=full.task + small), signals, rivals),
    }


def _language_analyses(curves: pd.DataFrame) -> dict[str, Analysis]:
    """Return the analyses of `released_truths.tuning_curves`: all models, and one vocabulary.

    Three corpora are too few to draw from: intervals draw models, and speak of these corpora.
    """
    table = released_truths.language_models(curves)
    one = table[(table.tokenizer == "GPT-2 BPE") & table.decoder]
    rivals = ["parameters", "family_order", "static_order", "any"]
    return {
        name: Analysis(_with_rivals(part), list(LOSSES), rivals, draw_tasks=False)
        for name, part in (("language models", table), ("one vocabulary", one))
    }


def image_analyses(table: pd.DataFrame) -> dict[str, Analysis]:
    """Return the analyses of `released_truths.image_models`: all, and ViT of one width."""
    rivals = ["width", "n_labels", "family_order", "source_order", "static_order", "any"]
    one = table[(table.family == "ViT") & (table.width == 768)]
    return {
        "image models": Analysis(_with_rivals(table), [], rivals),
        "one architecture": Analysis(
            _with_rivals(one), [], [r for r in rivals if r not in ("width", "family_order")]
        ),
    }


def judged(analyses: Mapping[str, Analysis], **options: int) -> pd.DataFrame:
    """Return estimates, and leads over `BARS`, of all analyses, with the columns `COLUMNS`.

    A row without `rival` has a measure of the signal, one with it the lead over that rival.
    """
    parts = []
    for name, (table, signals, rivals, draw_tasks) in analyses.items():
        options |= {"draw_tasks": draw_tasks}
        found = gate.judge(table, [*signals, *rivals], **options)
        parts.append(found.rename(columns={"estimate": "value"}).assign(analysis=name))
        bars = [bar for bar in BARS if bar in rivals]
        others = [*signals, *(r for r in rivals if r not in bars)]
        ahead = gate.leads(table, [*others, *bars], bars, **options)
        parts.append(ahead.rename(columns={"lead": "value"}).assign(analysis=name))
    table = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    return table.astype({"rival": object, "left_out": object}).fillna(EMPTY)


def _by_examples(curves: pd.DataFrame, signals: Sequence[str]) -> pd.DataFrame:
    """Return how signals rank models by their loss after each number of examples, corpus by corpus.

    Columns: `analysis` ("language models" or "one vocabulary"), `task`, `examples`, `signal`,
    `value`, Spearman's correlation. The rivals see the same size of the other corpora. Before any
    tuning no signal is measured.
    """
    rows = []
    for examples in sorted(curves.examples.unique())[1:]:
        table = released_truths.language_models(curves, examples)
        one = table[(table.tokenizer == "GPT-2 BPE") & table.decoder]
        for name, part in (("language models", table), ("one vocabulary", one)):
            for task, group in _with_rivals(part).groupby("task"):
                ranks = group[[*signals, "truth"]].rank().corr()["truth"]
                row = {"analysis": name, "task": task, "examples": examples}
                rows += [{**row, "signal": s, "value": ranks[s]} for s in signals]
    return pd.DataFrame(rows)


def _ablated(analyses: Mapping[str, Analysis]) -> pd.DataFrame:
    """Return the measures with each model left out, in the columns of `COLUMNS`."""
    parts = []
    for name, (table, signals, rivals, _) in analyses.items():
        wide = gate.without_each(table, [*signals, *rivals])
        long = wide.melt(["left_out", "signal"], var_name="measure").assign(analysis=name)
        parts.append(long[long.measure.isin(["rank correlation", "regret"])])
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def _single_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the measures of one run of a few steps of fine-tuning, in the columns of `COLUMNS`.

    `runs` is that of `released_truths.encoder_runs`. The released score of a few steps is the mean
    of five runs; whoever trains once has one of them. Analyses are "encoders, run 0" and so on.
    """
    parts = []
    for run, part in runs[runs.scorer.isin(STEPS)].groupby("run"):
        scores = part.pivot(index=["model", "task"], columns="scorer", values="score")
        truth = released_truths.tuned_encoders()
        table = truth.merge(scores.reset_index(), on=["model", "task"], validate="1:1")
        found = gate.judge(table, list(STEPS), n_resamples=2)
        found = found.rename(columns={"estimate": "value"}).drop(columns=["low", "high"])
        parts.append(found.assign(analysis=f"encoders, run {run}"))
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def everything(**options: int) -> pd.DataFrame:
    """Return all that the page shows, in the columns of `COLUMNS`; it needs the registry's files.

    The correlations by data size stand in analyses "language models, flan at 200" and so on.
    """
    curves = released_truths.tuning_curves()
    runs = released_truths.encoder_runs()
    encoders = encoder_analyses(released_truths.encoders(runs))
    language = _language_analyses(curves)
    analyses = encoders | language | image_analyses(released_truths.image_models())
    sizes = _by_examples(curves, ["after 0", "parameters", "family_order", "static_order"])
    sizes["analysis"] += ", " + sizes.task + " at " + sizes.examples.astype(str)
    sizes = sizes.assign(measure="rank correlation").reindex(columns=COLUMNS)
    single = _ablated(
        {name: (encoders | language)[name] for name in ("encoders", "one vocabulary")}
    )
    table = judged(analyses, **options)
    parts = [table, _single_runs(runs), single, sizes]
    table = pd.concat(parts, ignore_index=True)
    return table.astype({"rival": object, "left_out": object}).fillna(EMPTY)


def load() -> pd.DataFrame:
    """Return the stored table of `everything`."""
    return pd.read_csv(TABLE, dtype={"rival": object, "left_out": object}).fillna(EMPTY)


def pick(
    table: pd.DataFrame,
    analysis: str,
    signal: str,
    measure: str = "rank correlation",
    *,
    rival: str = "",
) -> tuple[float, tuple[float, float]]:
    """Return the value of a signal, or its lead over a rival, and its 95 % interval."""
    rows = table[(table.left_out == "") & (table.rival == rival)].set_index(COLUMNS[:2])
    row = rows[rows.measure == measure].loc[(analysis, signal)]
    return float(row.value), (float(row.low), float(row.high))


def _kind_of(signal: str) -> str:
    """Return what a signal costs: one of `KINDS`."""
    if signal in RIVALS:
        return KINDS[0]
    return KINDS[2] if signal in STEPS or signal in list(LOSSES)[1:] else KINDS[1]


def draw(axs: Sequence[Axes], table: pd.DataFrame, analysis: str, unit: str) -> None:
    """Draw rank correlation and regret of all signals of an analysis, best on top, on two axes.

    Colours and markers are those of `KINDS`; the dashed line is the best rival's estimate.
    """
    whole = table[(table.analysis == analysis) & (table.rival == "") & (table.left_out == "")]
    ranks = whole[whole.measure == "rank correlation"].sort_values("value", ascending=False)
    order = list(ranks.signal)
    for ax, measure in zip(axs, ("rank correlation", "regret"), strict=True):
        rows = whole[whole.measure == measure].set_index("signal").loc[order]
        for i, kind in enumerate(KINDS):
            y = [j for j, name in enumerate(order) if _kind_of(name) == kind]
            part = rows.iloc[y]
            ends = [part.value - part.low, part.high - part.value]
            style = {"color": figures.PALETTE[i], "fmt": figures.MARKERS[i], "elinewidth": 1.2}
            if y:
                ax.errorbar(part.value, y, xerr=ends, label=kind, **style)
        rivals = rows[[name in RIVALS for name in order]].value
        best = rivals.max() if measure == "rank correlation" else rivals.min()
        figures.reference(ax, x=float(best))
        ax.grid(axis="y", visible=False)
        ax.set(xlabel=measure + (f" ({unit})" if measure == "regret" else ""))
    axs[0].set_yticks(range(len(order)), [LABELS[name] for name in order])
    axs[0].set(ylim=(len(order) - 0.4, -0.6), xlim=(-1.05, 1.05))


@command("real_choices", option("--resamples", type=int, default=1000))
def main(given: Namespace) -> Written:
    """Write the stored table of real choices from the registry's files."""
    yield TABLE, everything(n_resamples=given.resamples).round(4).to_csv(index=False)
