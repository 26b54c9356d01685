"""The sentences of the posterior part that carry a number, under other choices."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from experiments.headlines import (
    KENDALL,
    SPEARMAN,
    command_of,
    correlation,
    first,
    joined,
    of_table,
    rows,
)
from experiments.posterior import images, rival_scores, specifications
from experiments.posterior.agreement import difference, rank_agreement
from experiments.synthesis import glass_box_table
from helpers import data
from helpers.posterior import average_log_posterior, linear_probe
from helpers.posterior.dimensions import varied
from helpers.posterior.transferability import tuned_probe
from helpers.synthesis import gate

Ends = tuple[float, float, float]
_ALP = {"whole space": "ALP calibrated", "blocks": "ALP calibrated, blocks", "recipe": "ALP recipe"}
# Forms of ALP on digits: the whole space for the recipe, else blocks of 8 dimensions.
_FORMS = {
    "calibrated, rotated": {"form": "calibrated", "head_kind": "rotations"},
    "calibrated": {"form": "calibrated"},
    "in-sample": {"form": "published"},
    "in-sample, rotated": {"form": "published", "head_kind": "rotations"},
    "recipe": {},
}


@cache
def _tables() -> dict[str, pd.DataFrame]:
    stored = pd.read_csv(data.PUBLISHED / "alp_scores.csv")
    return {task: rival_scores.wide(part) for task, part in stored.groupby("task", sort=False)}


def _sets(*, alone: bool) -> dict[str, list[str]]:
    """Return all tasks, all but one, and with `alone` one at a time, but films of one width."""
    names = list(_tables())
    found = {"all": names}
    found |= {f"without {name}": [n for n in names if n != name] for name in names}
    return found | ({f"{name} alone": [name] for name in names if name != "films"} if alone else {})


def _chosen(tasks: list[str], models: str) -> dict[str, pd.DataFrame]:
    """Return the tables of some tasks: all models, or without the controls or one network."""
    parts = {name: _tables()[name] for name in tasks}
    if models == "without controls":
        return {name: part[part["trained"]] for name, part in parts.items()}
    unit = models.removeprefix("without ")
    return {name: part[part["unit"] != unit] for name, part in parts.items()}


def _logme() -> pd.DataFrame:
    """Return how much closer ALP follows a yardstick than LogME does, as in the stored curve."""
    table = rival_scores.rival_table(_tables())
    table["models"] = table["models"].replace("trained", "without controls")
    table["tasks"] = table["tasks"].where(table["tasks"] == "all", table["tasks"] + " alone")
    page = {"yardstick": "probe, tuned", "form": "calibrated", "tasks": "all", "models": "all"}
    return of_table(table, page)


def _over_published() -> pd.DataFrame:
    """Return how much closer calibrated ALP follows a yardstick than the published form does."""
    yardsticks = {"tuned probe": "probe, tuned", "downstream result": "downstream"}
    yardsticks |= {f"probe with C = {C:g}": f"probe, C = {C:g}" for C in rival_scores.FIXED[1:]}
    sets = _sets(alone=True) | {"films alone": ["films"]}

    def measure(yardstick: str, form: str, kind: str, models: str, tasks: list[str]) -> Ends:
        chosen, pair = _chosen(tasks, models), [form, "ALP published"]
        if kind == SPEARMAN:
            found = rank_agreement(chosen, pair, yardstick, unit="unit")
            return difference(found, *pair)
        each = [[correlation(part[x], part[yardstick], kind)[0] for x in pair]
                for part in chosen.values()]  # fmt: skip
        ours, theirs = np.mean(each, axis=0)
        return float(ours - theirs), np.nan, np.nan

    choices = {"yardstick": yardsticks, "form": _ALP, "kind": [SPEARMAN, KENDALL]}
    every = choices | {"models": ["all", "without controls"], "tasks": {"all": sets["all"]}}
    alone = {"kind": [SPEARMAN], "models": ["all"], "tasks": sets}
    return joined(rows(measure, every), rows(measure, choices | alone))


def _gate_lead(forms: dict[str, str], sets: dict[str, list[str]] | None = None) -> pd.DataFrame:
    """Return the lead of a score over the width, by its form, tasks, models and correlation.

    With `sets` of tasks, of which the first is the page's, networks are left out one by one, too.
    """
    one_by_one, sets = bool(sets), sets or _sets(alone=True)
    free = gate.FREE | {"parameters": "gate: width of the embedding"}
    page, whole = next(iter(forms.values())), next(iter(sets.values()))

    def measure(score: str, tasks: list[str], models: str, kind: str) -> Ends:
        chosen = _chosen(tasks, models)
        if kind == KENDALL:
            # A width that is the same everywhere orders nothing.
            found = [
                [correlation(part[x], part["downstream"], kind)[0] for x in (score, "width")]
                for part in chosen.values()
            ]
            ours, width = np.nan_to_num(found).mean(axis=0)
            return float(ours - width), np.nan, np.nan
        frames = {t: p.set_index(f"{t}: " + p.index) for t, p in chosen.items()}
        stack = gate.stacked(frames, "downstream").rename(columns={"width": "parameters"})
        own = score == page and tasks == whole and models == "all"
        return _lead(stack, score, page=own, n_resamples=500, free=free, unit="unit")

    choices = {"score": forms, "tasks": sets, "models": ["all", "without controls"]}
    kinds = {"kind": [SPEARMAN, KENDALL]}
    table = rows(measure, choices | kinds)
    if not one_by_one:
        return table
    units = pd.concat([_tables()[name]["unit"] for name in whole]).unique()
    left = {"models": ["all", *(f"without {unit}" for unit in units)]}
    return joined(table, rows(measure, first(choices) | left | kinds))


def _logme_over_width() -> pd.DataFrame:
    """Return the lead of LogME over the width, in the tasks whose models differ in width."""
    two = [name for name, part in _tables().items() if part["width"].nunique() > 1]
    return _gate_lead({"LogME": "LogME"}, {"both": two} | {f"{name} alone": [name] for name in two})


def _lead(stack: pd.DataFrame, score: str, *, page: bool, n_resamples: int, **how: Any) -> Ends:
    """Return the lead over the best of the gate, with its interval in the row of the page alone."""
    drawn = n_resamples if page else 2
    row = gate.beside(stack, {score: score}, draw_tasks=False, n_resamples=drawn, **how).loc[score]
    return row["lead"], *(row[["lead_low", "lead_high"]] if page else (np.nan, np.nan))


def _fooled() -> pd.DataFrame:
    """Return how many models in-sample ALP ranks below noise, by what says that they know more."""
    sets = _sets(alone=False)
    margins = {"0.05 nats": 0.05, "margin 0": 0.0, "margin 0.02 nats": 0.02, "margin 0.1 nats": 0.1}

    def measure(probe: str, margin: float, tasks: list[str]) -> float:
        chosen, names = {task: _tables()[task] for task in tasks}, ["ALP published"]
        found = rival_scores.fooled_by_noise(chosen, names, probe=probe, margin=margin)
        return float(found.iloc[0])

    probes = rival_scores.PROBES[::-1]
    return rows(measure, {"probe": probes, "margin": margins, "tasks": sets})


def _probe_cost(dearest: bool) -> pd.DataFrame:
    """Return the seconds of a tuned probe over those of ALP, of all models or the dearest task."""
    averages = {
        "ratio of means": lambda probe, alp: probe.mean() / alp.mean(),
        "ratio of medians": lambda probe, alp: probe.median() / alp.median(),
        "geometric mean of ratios": lambda probe, alp: np.exp(np.log(probe / alp).mean()),
    }
    stored, sets = pd.read_csv(data.PUBLISHED / "alp_scores.csv"), _sets(alone=False)
    ways = ["dearest task"] if dearest else ["all together", "mean of tasks"]

    def measure(form: str, average: str, models: str, tasks: list[str], way: str) -> float:
        part = stored[stored["task"].isin(tasks) & (stored["trained"] | (models == "all"))]
        seconds = part.pivot(index=["task", "model"], columns="score", values="seconds")
        together = way == "all together"
        groups = [seconds] if together else [one for _, one in seconds.groupby("task")]
        ratios = [averages[average](one["probe, tuned"], one[form]) for one in groups]
        return float(max(ratios) if dearest else np.mean(ratios))

    choices = {"form": _ALP, "average": [*averages], "models": ["all", "without controls"]}
    choices |= {"tasks": sets, "way": ways}
    return joined(
        rows(measure, choices | {"way": ways[:1]}),
        rows(measure, choices | {"tasks": {"all": sets["all"]}}),
    )


def _noise_first() -> pd.DataFrame:
    """Return how many layers of language models stand below noise, as in the stored curve."""
    table = pd.read_csv(data.PUBLISHED / "spec_alp_noise.csv")
    page = {"ridge": "ridge 1e-06", "clip": "no clip", "block": "blocks of 32", "seed": "seed 0"}
    table["ridge"] = table["ridge"].map("ridge {:g}".format)
    table["clip"] = ("clip at " + table["clip"]).replace("clip at none", "no clip")
    table["block"] = table["block"].map("blocks of {}".format)
    return of_table(table.assign(seed=table["seed"].map("seed {}".format)), page)


def _glass_box_gain(checkpoints: str) -> pd.DataFrame:
    """Return the share of the error that ALP saves in GPTs, by what is left out and by scale."""
    corpora = {"three corpora": False, "six corpora": True}
    suites = {k: glass_box_table.load(added=v).table.query("kind == 'gpt'")
              for k, v in corpora.items()}  # fmt: skip
    one = suites["three corpora"]
    some = {"all": "step > 0"}
    some |= {f"seed {seed} alone": f"seed == {seed}" for seed in one["seed"].unique()}
    some |= {f"without width {width}": f"width != {width}" for width in one["width"].unique()}
    if checkpoints == "all":
        some["without the first step"] = f"step > {one['step'].min()}"

    def measure(suite: pd.DataFrame, left_out: str, scale: str, models: str) -> Ends:
        how = {"left_out": left_out, "scale": scale, "checkpoints": checkpoints}
        return specifications.glass_box_gain(suite.query(models), **how)

    choices = {"suite": suites, "left_out": {"corpus left out": "mix", "width left out": "width"}}
    return rows(measure, choices | {"scale": ["ranks", "values"], "models": some})


def _digits(seed: int) -> dict[str, pd.DataFrame]:
    """Return forms of ALP and probes of ten representations, for both levels of classes."""
    models, digits = images.digit_representations(seed)
    labels, found = {"ten digits": digits, "odd or even": digits % 2}, {}
    alp = partial(average_log_posterior, seed=0)
    for level, (name, X) in product(labels, models.items()):
        y, row = labels[level], {"parameters": X.shape[1]}
        # As on the page, where only the digits themselves have a tuned probe.
        if level == "ten digits":
            probe, _ = tuned_probe(X, y, penalties=[0.01, 0.1], seed=0)
        else:
            probe = linear_probe(X, y, C=0.1, seed=0)
        row |= {"accuracy": probe.accuracy, "log likelihood": probe.log_likelihood}
        for form, how in _FORMS.items():
            columns = X[:, varied(X, 0.05)] if form == "recipe" else X
            row[form] = alp(columns, y, **how, **({"head_dim": 8} if how else {})).skill
        found[level, name] = row
    table = pd.DataFrame.from_dict(found, orient="index")
    return {level: table.loc[level] for level in labels}


def _images() -> pd.DataFrame:
    """Return how far ALP leads the gate over representations of digits, by draw and form."""
    draws = {"first draw": 0, "second draw": 1, "third draw": 2}
    levels = {name: _digits(seed) for name, seed in draws.items()}
    page = levels["first draw"]
    free = gate.FREE | {"parameters": "gate: number of dimensions"}

    def measure(draw: dict[str, pd.DataFrame], form: str, truth: str, left_out: list[str]) -> Ends:
        frames = {level: table.drop(index=left_out) for level, table in draw.items()}
        own = draw is page and form == "calibrated, rotated" and truth == "accuracy"
        how = {"page": own and not left_out, "n_resamples": 1000, "free": free}
        return _lead(gate.stacked(frames, truth), form, **how)

    choices = {"draw": levels, "form": [*_FORMS], "truth": ["accuracy", "log likelihood"]}
    choices["left_out"] = {"none": [], "without noise": ["noise", "pixels + noise"]}
    return rows(measure, choices)


def _quiet(make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    with warnings.catch_warnings():
        # Of the in-sample form, and of dimensions that do not vary.
        warnings.simplefilter("ignore")
        return make()


CLAIMS = {
    "alp-rivals-no-better-than-logme": _logme,
    "alp-rivals-published-noise": _fooled,
    "alp-glass-box-gain": partial(_glass_box_gain, "all"),
    "alp-glass-box-gain-last": partial(_glass_box_gain, "last"),
    "alp-rivals-gate-lead": partial(_gate_lead, _ALP),
    "alp-rivals-gate-logme": partial(_gate_lead, {"LogME": "LogME"}),
    "alp-rivals-gate-logme-two-tasks": _logme_over_width,
    "alp-rivals-calibrated-over-published": _over_published,
    "alp-rivals-tuned-probe-cost": partial(_probe_cost, dearest=False),
    "alp-rivals-tuned-probe-cost-most": partial(_probe_cost, dearest=True),
    "alp-lm-published-noise-first": _noise_first,
    "alp-images-gate-lead": _images,
}
CLAIMS = {name: partial(_quiet, make) for name, make in CLAIMS.items()}
main = command_of("posterior", CLAIMS)
