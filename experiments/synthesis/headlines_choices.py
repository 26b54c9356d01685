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
from experiments.synthesis import glass_box_forecast, headlines_checkpoints, released_truths
from experiments.synthesis import tuning_curves as curves_of
from experiments.synthesis import tuning_prices as prices_of
from experiments.synthesis.glass_box_table import TRUTHS
from experiments.synthesis.headlines_checkpoints import ALL, each, under, without
from experiments.synthesis.real_choices import SCORERS, STEPS
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


def agreement(
    table: pd.DataFrame, columns: Sequence[str], how: str, by: str = "task"
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
        part = without(without(_encoders(), tasks), models)
        rho = agreement(part, ["parameters", *scores], how)
        gaps = rho[scores].sub(rho.parameters, axis=0).to_numpy()
        sample = stats.draws(len(gaps), 2000, 0) @ gaps / len(gaps)
        return (np.quantile(sample, 0.025, axis=0) > 0).sum()

    page = {"measure": list(gate.MEASURES)[:2], "models": models[:1], "tasks": GLUE[:1]}
    page |= {"sure": list(SURE)[:1]}
    wnli = [GLUE[0], "without task wnli"]
    drawn = under(count, page | {"models": models}, page | {"tasks": wnli, "sure": list(SURE)})
    alone = under(count_by_task, {"how": HOW, "models": models, "tasks": wnli})
    words = ["" if text == headlines.PAGE else f", {text}" for text in alone.specification]
    alone["specification"] = [f"only tasks drawn{text}" for text in words]
    return headlines.joined(drawn, alone)


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


def line_gains() -> pd.DataFrame:
    """Return by how much a straight line ranks language models better than the last point."""
    curves, methods = released_truths.tuning_curves(), ["accept then stop", "last point"]
    seen = cache(partial(curves_of.predictions, curves))

    def gain(how: str, at: str, corpora: str, models: str) -> float:
        part = without(without(seen(SEEN[at]), corpora), models)
        rho = agreement(part, methods, how).mean()
        return rho[methods[0]] - rho[methods[1]]

    page = {"how": HOW, "at": list(SEEN), "corpora": CORPORA, "models": [ALL]}
    models = each(seen(SEEN["12,800 examples seen"]), "family", "tokenizer")
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
    "syn-choices-size-ranks-encoders": size_ranks_encoders,
    "syn-choices-scores-ahead-of-size": scores_ahead_of_size,
    "syn-choices-loss-ranks-language": partial(ranks_language, "after 0"),
    "syn-choices-loss-one-vocabulary": partial(ranks_language, "after 0", True),
    "syn-choices-list-ranks-language": partial(ranks_language, "static_order"),
    "syn-sealed-ranks-facts": partial(sealed_ranks, "closed_book"),
    "syn-sealed-ranks-tuning": partial(sealed_ranks, "fine_tuned"),
    "syn-sealed-ranks-probe": partial(sealed_ranks, "probe"),
    "syn-sealed-leads-facts": partial(sealed_leads, "closed_book"),
    "syn-sealed-leads-tuning": partial(sealed_leads, "fine_tuned"),
    "syn-sealed-leads-probe": partial(sealed_leads, "probe"),
}


main = headlines.command_of("choices", CLAIMS)
