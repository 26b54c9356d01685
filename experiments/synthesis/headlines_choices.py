"""Sentences on seeds, prices, real models and the sealed forecast, each under other choices.

`python -m experiments choices_headlines` writes one table of these and of the sentences of
`headlines_checkpoints`; it needs the registry's files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import pandas as pd

from experiments import headlines
from experiments.synthesis import (
    glass_box_forecast,
    glass_box_table,
    headlines_checkpoints,
    real_choices,
    released_truths,
)
from experiments.synthesis import tuning_curves as curves_of
from experiments.synthesis import tuning_prices as prices_of
from experiments.synthesis.glass_box_table import TRUTHS
from experiments.synthesis.headlines_checkpoints import ALL, SCORES, each, under, without
from experiments.synthesis.real_choices import BARS, SCORERS, STEPS
from helpers import stats
from helpers.synthesis import gate

HOW = ["Spearman's correlation", "Kendall's correlation", "Pearson's correlation"]
GLUE = ["eight tasks", *(f"without task {task}" for task in released_truths.GLUE)]
CORPORA = ["three corpora", *(f"without task {task}" for task in released_truths.CORPORA)]
ALONE = {f"{task} alone": task for task in released_truths.CORPORA}
AFTER = {"after all examples": 1_638_400, "after 819,200 examples": 819_200}
AFTER |= {"after 102,400 examples": 102_400, "after 12,800 examples": 12_800}
# Sizes of the tuning set that the beginning of a curve holds.
SEEN = {"12,800 examples seen": 7, "3,200 examples seen": 5, "6,400 examples seen": 6}
SEEN |= {"25,600 examples seen": 8, "51,200 examples seen": 9, "102,400 examples seen": 10}
WITHIN = {"all together": "task", "within a checkpoint": "step", "within a width": "width"}
RIVALS = ["the best of the gate", "the same recipe only"]
SURE = {"95 % intervals": 0.95, "90 % intervals": 0.9}
DRAWN = ["tasks and models drawn", "only models drawn"]
# Models among which LogME is compared, and the columns that these have in common.
AMONG = {"one width": [], "one width and checkpoint": ["step"], "one width and corpus": ["corpus"]}


def agreement(
    table: pd.DataFrame, columns: Sequence[str], how: str, by: str | list[str] = "task"
) -> pd.DataFrame:
    """Return the correlation of columns with the truth, a row a group; 0 where one is flat."""
    method = how.split("'")[0].lower()
    parts = {
        name: part[[*columns, "truth"]].corr(method=method).loc[list(columns), "truth"]
        for name, part in table.groupby(by)
    }
    return pd.DataFrame(parts).T.fillna(0)


@cache
def _encoders() -> pd.DataFrame:
    table = released_truths.encoders()
    return table.assign(parameters=np.log(table.parameters))


@cache
def _language(after: str, one_vocabulary: bool) -> pd.DataFrame:
    curves = released_truths.tuning_curves()
    table = released_truths.language_models(curves, AFTER[after])
    table = table.assign(parameters=np.log(table.parameters))
    if one_vocabulary:
        table = table[(table.tokenizer == "GPT-2 BPE") & table.decoder]
    return table.assign(static_order=gate.static_order(table))


def size_ranks_encoders() -> pd.DataFrame:
    """Return how the number of parameters ranks the encoders."""

    def mean(how: str, tasks: str, models: str) -> float:
        part = without(without(_encoders(), tasks), models)
        return agreement(part, ["parameters"], how).mean().iloc[0]

    page = {"how": HOW, "tasks": GLUE[:1], "models": [ALL]}
    return under(mean, page | {"tasks": GLUE}, page | {"models": each(_encoders(), "model")})


def scores_ahead_of_size() -> pd.DataFrame:
    """Return how many of 18 scores have a lead over size whose interval lies above 0.

    The page draws tasks and models. Drawn alone, the tasks give narrower intervals.
    """
    scores, models = [*STEPS, *SCORERS], each(_encoders(), "model")

    @cache
    def leads(models: str, tasks: str, sure: str) -> pd.DataFrame:
        part = without(without(_encoders(), tasks), models)
        return gate.leads(part, scores, ["parameters"], confidence=SURE[sure])

    def count(measure: str, models: str, tasks: str, sure: str) -> int:
        found = leads(models, tasks, sure)
        return (found[found.measure == measure].low > 0).sum()

    def count_by_task(how: str, models: str, tasks: str) -> int:
        return _ahead(without(without(_encoders(), tasks), models), how, ["parameters"])

    page = {"measure": list(gate.MEASURES)[:2], "models": models[:1], "tasks": GLUE[:1]}
    page |= {"sure": list(SURE)[:1]}
    wnli = [GLUE[0], "without task wnli"]
    drawn = under(count, page | {"models": models}, page | {"tasks": wnli, "sure": list(SURE)})
    alone = under(count_by_task, {"how": HOW, "models": models, "tasks": wnli})
    return headlines.joined(drawn, _only_tasks(alone))


def _ahead(table: pd.DataFrame, how: str, rivals: Sequence[str]) -> int:
    """Return how many leads of scores over rivals have an interval above 0, tasks drawn."""
    scores = [*STEPS, *SCORERS]
    rho = agreement(table, [*rivals, *scores], how)
    gaps = np.hstack([rho[scores].sub(rho[rival], axis=0) for rival in rivals])
    sample = stats.draws(len(gaps), 2000, 0) @ gaps / len(gaps)
    return (np.quantile(sample, 0.025, axis=0) > 0).sum()


def leads_however_asked() -> pd.DataFrame:
    """Return how many leads of 18 scores, over two rivals and three sets, are shown above 0.

    The page draws tasks and models, and counts both in the correlation and in the regret. Where
    tasks alone are drawn, the leads are those in the correlation.
    """

    @cache
    def tables(models: str) -> list[pd.DataFrame]:
        analyses = real_choices.encoder_analyses(without(_encoders(), models))
        return [analysis.table for analysis in analyses.values()]

    def count(models: str, sure: str, drawn: str, seed: str) -> int:
        how = {"confidence": SURE[sure], "draw_tasks": drawn == DRAWN[0], "seed": int(seed[-1])}
        leads = [gate.leads(table, [*STEPS, *SCORERS], BARS, **how) for table in tables(models)]
        return sum((t.low[t.measure.isin(list(gate.MEASURES)[:2])] > 0).sum() for t in leads)

    def count_by_task(how: str, models: str) -> int:
        return sum(_ahead(table, how, BARS) for table in tables(models))

    models, seeds = each(_encoders(), "model"), [f"draws of seed {seed}" for seed in range(3)]
    page = {"models": models, "sure": list(SURE), "drawn": DRAWN[:1], "seed": seeds[:1]}
    drawn = under(count, page, page | {"models": [ALL], "drawn": DRAWN, "seed": seeds})
    alone = under(count_by_task, {"how": HOW, "models": models})
    return headlines.joined(drawn, _only_tasks(alone))


def _only_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose intervals draw the tasks alone, named so."""
    words = ["" if text == headlines.PAGE else f", {text}" for text in table.specification]
    return table.assign(specification=[f"only tasks drawn{text}" for text in words])


def ranks_like_size(signal: str) -> pd.DataFrame:
    """Return how a signal ranks encoders of similar size: three base models, three distilled."""
    table = real_choices.encoder_analyses(released_truths.encoders())["encoders, like size"].table
    table[["task", "size"]] = table.task.str.split(", ", expand=True).to_numpy()
    runs = released_truths.encoder_runs().query("scorer == @signal")
    single = runs.pivot(index=["model", "task"], columns="run", values="score")
    table = table.join(single.add_prefix("run "), on=["model", "task"])
    alone = {f"{size} models alone": size for size in table["size"].unique()}

    def mean(how: str, tasks: str, models: str, runs: str) -> float:
        part = without(without(table, tasks), models)
        part = part[part["size"] == alone[models]] if models in alone else part
        column = signal if runs == "all runs" else runs
        return agreement(part, [column], how, ["task", "size"]).mean().iloc[0]

    columns = [*single.add_prefix("run ")] if single.shape[1] > 1 else []
    page = {"how": HOW, "tasks": GLUE[:1], "models": [ALL], "runs": ["all runs"]}
    models = {"models": [*each(table, "model"), *alone]}
    return under(
        mean, page | {"tasks": GLUE}, page | models, page | {"runs": ["all runs", *columns]}
    )


def list_ranks_images() -> pd.DataFrame:
    """Return how the order on the other tasks ranks image models; what is left out is unknown."""
    analyses = real_choices.image_analyses(released_truths.image_models())
    table, one = (analyses[name].table for name in ("image models", "one architecture"))

    def mean(how: str, tasks: str, models: str) -> float:
        part = without(without(one if models == "ViT of one width" else table, tasks), models)
        part = part.assign(static_order=gate.static_order(part))
        return agreement(part, ["static_order"], how).mean().iloc[0]

    # Families and sources with a handful of models or more.
    models = each(table, "family", "source")
    models = [words for words in models if len(without(table, words)) < len(table) - 50]
    page = {"how": HOW, "tasks": each(table, "task"), "models": [ALL]}
    few = {"tasks": page["tasks"][:1], "models": [ALL, "ViT of one width", *models]}
    return under(mean, page, page | few)


def log_me_within_width() -> pd.DataFrame:
    """Return how LogME ranks the glass box's models of one kind and width by fine-tuned scores."""
    corpora = {"three corpora": False, "six corpora": True}
    suites = {name: glass_box_table.load(added=added).table.rename(columns={"mix": "corpus"})
              for name, added in corpora.items()}  # fmt: skip
    page_of = suites["three corpora"]
    first, last = (page_of.groupby("kind").step.agg(end) for end in ("min", "max"))

    def mean(how: str, among: str, score: str, steps: str, corpora: str, models: str) -> float:
        table = suites[corpora].rename(columns={SCORES[score]: "truth"})
        part = without(table, models)
        if steps != "all checkpoints":
            ends = part.kind.map(last if steps == "last checkpoints" else first)
            part = part[(part.step == ends) == (steps == "last checkpoints")]
        return agreement(part, ["log_me"], how, ["kind", "width", *AMONG[among]]).mean().iloc[0]

    choices = {"among": list(AMONG), "score": list(SCORES), "corpora": list(suites)}
    choices["steps"] = ["all checkpoints", "last checkpoints", "without the first checkpoints"]
    choices["models"] = each(page_of, "kind", "width", "corpus", "seed")
    page = {"how": HOW} | {name: values[:1] for name, values in choices.items()}
    both = {name: choices[name] for name in ("among", "score")}
    return under(mean, *(page | {name: values} for name, values in choices.items()), page | both)


def ranks_language(signal: str, one_vocabulary: bool = False) -> pd.DataFrame:
    """Return how a signal ranks language models by their loss after tuning."""

    def mean(how: str, after: str, corpora: str, models: str) -> float:
        part = without(without(_language(after, one_vocabulary), corpora), models)
        if corpora in ALONE:
            part = part[part.task == ALONE[corpora]]
        return agreement(part, [signal], how).mean().iloc[0]

    table = _language("after all examples", one_vocabulary)
    page = {"how": HOW, "after": list(AFTER)[:1], "corpora": CORPORA, "models": [ALL]}
    return under(
        mean,
        page | {"after": list(AFTER)},
        page | {"corpora": [CORPORA[0], *ALONE]},
        page | {"corpora": CORPORA[:1], "models": each(table, "family")},
    )


def lead_over_size(rank_by: str) -> pd.DataFrame:
    """Return a lead over size among encoders, of the rows that `tuning_prices` stores."""
    rows = prices_of.specification_rows(released_truths.encoders())
    rows = rows[rows["rank by"] == rank_by]
    names = ["agreement", "tasks", "models"]
    estimates = rows.set_index(names).estimate
    return under(
        lambda **row: estimates[tuple(row[name] for name in names)],
        {name: list(dict.fromkeys(rows[name])) for name in names},
    )


def line_gains(rival: str = "last point", tokenizer: str = "") -> pd.DataFrame:
    """Return by how much a straight line ranks language models better than a rival.

    With a `tokenizer` only models that have it are ranked.
    """
    curves, methods = released_truths.tuning_curves(), ["accept then stop", rival]

    @cache
    def seen(k: int) -> pd.DataFrame:
        table = curves_of.predictions(curves, k)
        return table[table.tokenizer == tokenizer] if tokenizer else table

    def gain(how: str, at: str, corpora: str, models: str) -> float:
        part = without(without(seen(SEEN[at]), corpora), models)
        rho = agreement(part, methods, how).mean()
        return rho[methods[0]] - rho[methods[1]]

    page = {"how": HOW, "at": list(SEEN), "corpora": CORPORA, "models": [ALL]}
    columns = ["family"] if tokenizer else ["family", "tokenizer"]
    models = each(seen(SEEN["12,800 examples seen"]), *columns)
    return under(
        gain, page, page | {"at": list(SEEN)[:1], "corpora": CORPORA[:1], "models": models}
    )


@cache
def _sealed() -> pd.DataFrame:
    """Return the sealed models, a row per model and truth, with the forecast and the gate."""
    expected = glass_box_forecast.outcome()
    wide = expected.pivot(index=["truth", "model"], columns="method", values="expected")
    known = pd.read_csv(glass_box_forecast.SIGNALS, index_col="model")
    truths = pd.read_csv(glass_box_forecast.TRUTH, index_col="model")[list(TRUTHS)]
    stack = glass_box_forecast.candidates(known.join(truths))
    places = pd.MultiIndex.from_frame(stack[["task", "model"]])
    found = {name: wide[name].reindex(places).to_numpy() for name in wide}
    found |= {"static_order": gate.static_order(stack), "family_order": gate.family_order(stack)}
    found |= {name: np.log(stack[name]) for name in ("parameters", "tokens")}
    return stack.assign(**found).rename(columns={"mix": "corpus"})


def _of_the_sealed(
    truth: str, measure: Callable[[pd.Series, str], float], rivals: list[str]
) -> pd.DataFrame:
    """Return what a measure makes of the mean correlations of all columns, by rival."""
    table, columns = _sealed()[lambda t: t.task == truth], ["signals", "recipe", *gate.FREE]

    def value(how: str, models: str, within: str, rival: str) -> float:
        part = without(table, models)
        return measure(agreement(part, columns, how, WITHIN[within]).mean(), rival)

    page = {"how": HOW, "models": [ALL], "within": list(WITHIN)[:1], "rival": rivals}
    models = each(table, "width", "corpus", "step")
    return under(value, page | {"models": models}, page | {"within": list(WITHIN)})


def sealed_ranks(truth: str) -> pd.DataFrame:
    """Return how the sealed forecast ranks the models of the third seed."""
    return _of_the_sealed(truth, lambda rho, _: rho["signals"], RIVALS[:1])


def sealed_leads(truth: str) -> pd.DataFrame:
    """Return by how much the sealed forecast ranks better than what costs nothing."""

    def lead(rho: pd.Series, rival: str) -> float:
        best = rho.drop("signals").max() if rival == RIVALS[0] else rho["recipe"]
        return rho["signals"] - best

    return _of_the_sealed(truth, lead, RIVALS)


CLAIMS: dict[str, Callable[[], pd.DataFrame]] = headlines_checkpoints.CLAIMS | {
    "syn-price-500-steps": partial(lead_over_size, "500 steps"),
    "syn-price-best-score": partial(lead_over_size, "best score"),
    "syn-price-stop-gains": line_gains,
    "syn-price-stop-gains-one-tokenizer": partial(line_gains, tokenizer="GPT-2 BPE"),
    "syn-price-stop-beyond-list": partial(line_gains, "other tasks"),
    "syn-price-glass-box-size": log_me_within_width,
    "syn-choices-size-ranks-encoders": size_ranks_encoders,
    "syn-choices-scores-ahead-of-size": scores_ahead_of_size,
    "syn-choices-no-lead-however-asked": leads_however_asked,
    "syn-choices-log-me-like-size": partial(ranks_like_size, "LogME"),
    "syn-choices-500-like-size": partial(ranks_like_size, "EarlyStop-500"),
    "syn-choices-loss-ranks-language": partial(ranks_language, "after 0"),
    "syn-choices-loss-one-vocabulary": partial(ranks_language, "after 0", True),
    "syn-choices-list-ranks-language": partial(ranks_language, "static_order"),
    "syn-choices-size-ranks-language": partial(ranks_language, "parameters"),
    "syn-choices-list-ranks-images": list_ranks_images,
    "syn-sealed-ranks-facts": partial(sealed_ranks, "closed_book"),
    "syn-sealed-ranks-tuning": partial(sealed_ranks, "fine_tuned"),
    "syn-sealed-ranks-probe": partial(sealed_ranks, "probe"),
    "syn-sealed-leads-facts": partial(sealed_leads, "closed_book"),
    "syn-sealed-leads-tuning": partial(sealed_leads, "fine_tuned"),
    "syn-sealed-leads-probe": partial(sealed_leads, "probe"),
}


main = headlines.command_of("choices", CLAIMS)
