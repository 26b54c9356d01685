"""The sentences of the geometry part that carry a number, under other choices."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from experiments.geometry import base_encoder, glass_box_geometry, noise_tables
from experiments.geometry import specifications as specs
from experiments.headlines import (
    CORRELATIONS,
    KENDALL,
    PEARSON,
    SPEARMAN,
    command_of,
    correlation,
    first,
    joined,
    of_table,
    rows,
)
from helpers import data, stats
from helpers.geometry import release

Ends = tuple[float, float, float]
_NOISE = data.PUBLISHED / "geometry_noise.csv"
_QUANTIZERS = {"additive": "aq_patchiness", "product quantizer": "pq_patchiness"}
# The same of this book's own runs.
_TOOLS = {"additive": "lloyd_index", "product quantizer": "pq_lloyd_index"}
_TOOLS["k-means"] = "km_lloyd_index"
_NOISY = {"all": "alpha >= 0", "up to 20 % noise": "alpha <= 20", "over 2 % noise": "alpha > 2"}


def _bert_small() -> pd.DataFrame:
    """Return r of patchiness and GLUE in BERT-small; not Kendall's, for 0.9 is no tau.

    The last rows leave a task out of the average, which is then one of the tasks that were run.
    """
    runs = release.load_perturbed_runs().query("architecture == 'bert-small'")
    medians = runs.groupby("alpha").median(numeric_only=True).reset_index()
    units = {"all": runs, "medians of noise levels": medians}
    units |= {f"copies {i} alone": runs[runs["replicate"] == i] for i in (1, 2, 3)}

    def measure(quantizer: str, models: pd.DataFrame, levels: str, kind: str) -> Ends:
        part = models.query(levels)
        return correlation(part[quantizer], part["glue"], kind)

    choices = {"quantizer": _QUANTIZERS, "models": units, "levels": _NOISY}
    names = [name for name in runs.filter(like="task_") if name != "task_wnli"]
    tasks = {f"without {name.removeprefix('task_').upper()}": name for name in names}

    def without(task: str) -> Ends:
        left = runs[[name for name in names if name != task]].mean(axis=1)
        return correlation(runs["aq_patchiness"], left, PEARSON)

    return joined(
        rows(measure, choices | {"kind": [PEARSON, SPEARMAN]}),
        rows(without, {"task": tasks}, {"task": "none"}),
    )


def _pooled() -> pd.DataFrame:
    """Return r of patchiness and GLUE over architectures; not Kendall's, for 0.9 is no tau."""
    runs = release.load_perturbed_runs()
    medians = runs.groupby(["architecture", "alpha"]).median(numeric_only=True).reset_index()
    units = {"single models": runs, "medians of noise levels": medians}
    left = {"all": ""} | {f"without {name}": name for name in runs["architecture"].unique()}

    def measure(
        quantizer: str, models: pd.DataFrame, left_out: str, kind: str, form: str, levels: str
    ) -> Ends:
        part = models[models["architecture"] != left_out].query(levels)
        if form == "one line":
            return correlation(part[quantizer], part["glue"], kind)
        pair = part[[quantizer, "glue"]]
        x, y = (pair.rank() if kind == SPEARMAN else pair).to_numpy(float).T
        return stats.partial_correlation(x, y, pd.get_dummies(part["architecture"]))[:3]

    choices = {"quantizer": _QUANTIZERS, "models": units, "left_out": left}
    choices |= {"kind": [PEARSON, SPEARMAN], "form": ["one line", "an offset per architecture"]}
    alone = first(choices) | {"models": units, "kind": [PEARSON, SPEARMAN], "levels": _NOISY}
    return joined(rows(measure, choices | {"levels": {"all": _NOISY["all"]}}), rows(measure, alone))


def _variants_order() -> pd.DataFrame:
    """Return the order of models changed in other ways, as the stored curve and one by one."""
    variants = pd.read_csv(data.PUBLISHED / "geometry_variants.csv")
    sweep = pd.read_csv(_NOISE)
    table = specs.variant_rows(variants, sweep)
    sizes = {"full": "full measurement", "small": "small measurement"}
    table = table.replace({"quantizer": {"PQ": "product quantizer"}, "size": sizes})
    page = {"quantizer": "AQ", "size": sizes["full"], "models": "all", "scale": "ranks"}
    full = variants[variants["size"] == "full"]
    noisy = sweep.query("size == 'full' and rule == 'published' and level > 0")

    def without(quantizer: str, left_out: str, kind: str) -> Ends:
        models = full[full["model"] != left_out]
        guess = np.polyval(np.polyfit(noisy[quantizer], noisy["score"], 1), models[quantizer])
        return correlation(guess, models["score"], kind)

    names = {"none": ""} | {f"without {name}": name for name in full["model"]}
    every = {"quantizer": _TOOLS, "left_out": {"none": ""}, "kind": [SPEARMAN, KENDALL]}
    one = first(every) | {"left_out": names, "kind": every["kind"]}
    return joined(of_table(table, page), rows(without, one), rows(without, every))


def _base() -> pd.DataFrame:
    """Return r of patchiness and scores in noisy copies of MPNet, noise levels resampled."""
    noisy = base_encoder.load_sweeps().query("encoder == 'MPNet' and level > 0")
    means = noisy.groupby("level", as_index=False).mean(numeric_only=True)
    scores = {"mean score": "score", "SST-2 alone": "task_sst2", "STS-B alone": "task_stsb"}
    levels = {"all": "level > 0", "up to 20 % noise": "level <= 20"}
    levels |= {"without 3 to 6 % noise": "level < 3 or level > 6", "from 4 % noise": "level >= 4"}
    units = {"single models": noisy, "means of noise levels": means}
    left = {f"without {n:g} % noise": f"level != {n}" for n in means["level"]}

    def measure(quantizer: str, score: str, levels: str, models: pd.DataFrame, kind: str) -> Ends:
        part = models.query(levels)[[quantizer, score, "level"]]
        if kind == SPEARMAN:
            part = part.rank().assign(level=part["level"])
        return stats.bootstrap_correlation(part, quantizer, score, groups="level")[:3]

    choices = {"quantizer": _TOOLS, "score": scores, "levels": levels, "models": units}
    choices["kind"] = [PEARSON, SPEARMAN]
    alone = first(choices) | {"levels": {"all": levels["all"]} | left}
    return joined(rows(measure, choices | {"models": {"single models": noisy}}),
                  rows(measure, choices | {"score": {"mean score": "score"}}),
                  rows(measure, alone))  # fmt: skip


def _beyond_dose() -> pd.DataFrame:
    """Return the partial correlations of BERT-small given the noise, by the form of the control."""
    found = specs.both(release.load_perturbed_runs(), pd.read_csv(_NOISE))["beyond_noise"]
    table = found[found["models"] == "BERT-small"].replace({"PQ": "product quantizer"})
    table["noise"] = "noise held by " + table["noise"]
    page = {"noise": "noise held by levels", "quantizer": "AQ", "scale": "values"}
    return of_table(table, page)


def _tuned_follows() -> pd.DataFrame:
    """Return how frozen probes follow fine-tuning: both tasks by the lesser, or one of them."""
    arm = pd.read_csv(data.PUBLISHED / "geometry_finetuned.csv")
    sweep = pd.read_csv(_NOISE).query("size == 'full' and rule == 'published'")
    copies = {"mean of copies": sweep, "the tuned copy alone": sweep[sweep["replicate"] == 0]}
    frozen = {k: part.groupby("level").mean(numeric_only=True) for k, part in copies.items()}
    tasks = {"lesser": ["sst2", "stsb"], "SST-2 alone": ["sst2"], "STS-B alone": ["stsb"]}
    levels = {"all": -1} | {f"without {level} % noise": level for level in arm["level"].unique()}

    def measure(kind: str, probed: pd.DataFrame, tasks: list[str], left_out: int) -> Ends:
        part = arm[arm["level"] != left_out]
        found = []
        for name in tasks:
            one = part[part["task"] == name]
            probe = probed.loc[one["level"], f"task_{name}"]
            found.append(correlation(probe, one["tuned"], kind))
        return min(found, key=lambda ends: ends[0])

    choices = {"kind": CORRELATIONS, "probed": frozen, "tasks": tasks, "left_out": levels}
    return rows(measure, choices)


def _bert_patchiness() -> pd.DataFrame:
    """Return the correlation of patchiness and fine-tuned scores of BERTs at equal width."""
    suite = pd.read_csv(data.PUBLISHED / "glass_box.csv", index_col="model")
    again = pd.read_csv(glass_box_geometry.TABLE, index_col="model")
    berts = glass_box_geometry.joined(suite, again).query("kind == 'bert'")
    own = pd.get_dummies(berts["width"], prefix="width", dtype=float)
    berts = berts.join(own)
    measures = {"additive, 32 cells": "lloyd_index", "16 cells": "lsq_16"}
    measures |= {"product quantizer": "pq_32", "k-means": "kmeans_32"}
    measures |= {"less its null": "free_lloyd_index", "measured again": "again_lloyd_index"}
    truths = {"mean of tasks": "fine_tuned", "task of sections": "fine_tuned_section"}
    truths["task of same fields"] = "fine_tuned_same_field"
    held = {"line": ["width"], "each width its own level": list(own)}
    left = {"all": berts}
    for column in ("mix", "width", "seed"):
        values = berts[column].unique()
        left |= {f"without {column} {v}": berts[berts[column] != v] for v in values}

    def measure(cells: str, truth: str, width: list[str], scale: str, models: pd.DataFrame) -> Ends:
        if scale == "values":
            return stats.partial_correlation(models[cells], models[truth], models[width])[:3]
        rank = partial(noise_tables.partial_rank, x=cells, y=truth, given=width)
        return noise_tables.resampled(models, rank, None, n_resamples=200, seed=0)[:3]

    choices, scales = {"cells": measures, "truth": truths, "width": held}, ["ranks", "values"]
    every = choices | {"scale": scales, "models": {"all": berts}}
    return joined(
        rows(measure, every), rows(measure, first(choices) | {"scale": scales, "models": left})
    )


CLAIMS = {
    "geo-noise-tuned-follows": _tuned_follows,
    "geo-glass-patchiness-bert": _bert_patchiness,
    "geo-r-patchiness-bert-small": _bert_small,
    "geo-beyond-dose": _beyond_dose,
    "geo-variants-order": _variants_order,
    "geo-r-patchiness-pooled": _pooled,
    "geo-base-new-model": _base,
}
main = command_of("geometry", CLAIMS)
