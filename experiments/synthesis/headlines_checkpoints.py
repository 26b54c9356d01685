"""Sentences on checkpoints and seeds of the glass box, each under other reasonable choices.

A function gives the specifications of one claim; the first value of every choice is the page's.
`experiments.synthesis.headlines_choices` writes the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from experiments import headlines
from experiments.synthesis import glass_box_report as report
from experiments.synthesis import glass_box_table as box
from experiments.synthesis import glass_box_world as world_of
from experiments.synthesis import text_sources
from helpers.synthesis import paired_tests

ALL = "all models"
# Significance levels, and corrections for the number of tests.
LEVELS = {"level .05": (0.05, ""), "level .01": (0.01, ""), "level .10": (0.1, "")}
LEVELS |= {"Holm's correction": (0.05, "holm"), "Bonferroni's correction": (0.05, "bonferroni")}
LEVELS |= {"Benjamini and Hochberg's correction": (0.05, "fdr_bh")}
LEVELS |= {"Holm's correction at .01": (0.01, "holm"), "Holm's correction at .10": (0.1, "holm")}
SINGLE, CORRECTED = list(LEVELS)[:4], list(LEVELS)[3:]
TESTS = ["paired t-test", "Wilcoxon's test", "sign test", "genres as the unit"]
SCORES = {"both tasks": "fine_tuned", "sections only": "fine_tuned_section"}
SCORES |= {"same field only": "fine_tuned_same_field"}
LEAST = {"changes above .01": 0.01, "changes of any size": 0.0}
LEAST |= {"changes above .005": 0.005, "changes above .02": 0.02}
ESTIMATORS = ["by the normal distribution", "corrected for Student's t", "genres as the unit"]
# How the items of one model enter the test of its two halves.
SCALES = {"log probabilities": np.asarray, "probabilities": np.exp, "ranks": stats.rankdata}
DRAWS = {"400 draws": (400, 0), "400 other draws": (400, 1), "40 draws": (40, 0)}
UNITS = ["packages as the unit", "code and docstrings of a package apart"]
TEXTS = ["code and docstrings", "code only", "docstrings only"]
EVERY = ["all packages", *(f"without package {name}" for name in text_sources.PACKAGES)]
AVERAGES = {"mean": np.mean, "median": np.median, "harmonic mean": stats.hmean}


def under(measure: Callable[..., float], *blocks: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return `headlines.rows` of all blocks of choices, the first value of each being the page's.

    A block crosses its choices; those that it does not name stay as on the page.
    """
    page = {name: next(iter(values)) for block in blocks for name, values in block.items()}
    single = {name: [value] for name, value in page.items()}
    return headlines.joined(*(headlines.rows(measure, single | block, page) for block in blocks))


def each(table: pd.DataFrame, *columns: str) -> list[str]:
    """Return `ALL`, and for every value of the columns the words that leave it out."""
    return [ALL, *(f"without {c} {v}" for c in columns for v in dict.fromkeys(table[c]))]


def without(table: pd.DataFrame, words: str) -> pd.DataFrame:
    """Return the rows that words of `each` leave."""
    if not words.startswith("without "):
        return table
    _, column, value = words.split(" ", 2)
    return table[table[column].astype(str) != value]


def _found(p_values: pd.Series, level: str) -> np.ndarray:
    alpha, method = LEVELS[level]
    return multipletests(p_values, alpha, method)[0] if method else (p_values < alpha).to_numpy()


suite = cache(box.load)


@cache
def _pairs(kind: str, seeds: bool = False) -> pd.DataFrame:
    """Return the pairs of checkpoints, or of seeds, of a kind, with a p-value for each of `TESTS`.

    `effect` is the design effect of the genres of the texts.
    """
    found = report.seed_pairs(suite()) if seeds else report.checkpoint_pairs(suite())
    found = found[(found["items"] == report.ITEMS["log_likelihoods"]) & (found.kind == kind)]
    rows, genre = [], world_of.unseen_texts().genre
    for pair in zip(found.before, found.after, strict=True):
        a, b = (suite().log_likelihoods.loc[name].to_numpy() for name in pair)
        grouped = paired_tests.clustered_test(a, b, genre)
        p_values = [paired_tests.paired_test(a, b).p_value, stats.wilcoxon(b - a).pvalue]
        p_values += [stats.binomtest(int((b > a).sum()), len(a)).pvalue, grouped.p_value]
        rows.append(dict(zip(TESTS, p_values, strict=True)) | {"effect": grouped.design_effect})
    table = found[["before", "after", "difference"]].reset_index(drop=True).join(pd.DataFrame(rows))
    if not seeds:
        table["stage"] = found.stage.to_numpy()
    about = suite().table[["width", "mix", "seed", "step"]].rename(columns={"mix": "corpus"})
    return table.join(about, on="before")


def sees_every_step(kind: str = "gpt") -> pd.DataFrame:
    """Return the share of pairs of checkpoints in which a test finds the loss improved."""
    pairs = _pairs(kind)

    def share(test: str, models: str, level: str = SINGLE[0]) -> float:
        part = without(pairs, models)
        return (_found(part[test], level) & (part.difference > 0)).mean()

    models = each(pairs, "width", "corpus", "seed", "stage")
    return under(
        share, {"test": TESTS, "models": models}, {"test": TESTS, "level": SINGLE, "models": [ALL]}
    )


def texts_needed(kind: str) -> pd.DataFrame:
    """Return the texts that are enough in nine of ten pairs of checkpoints."""

    def texts(estimator: str, models: str, level: str, power: str) -> float:
        part, alpha = without(_pairs(kind), models), LEVELS[level][0]
        values, how = suite().log_likelihoods, {"level": alpha, "wanted": float(power[-2:])}
        pairs = zip(part.before, part.after, strict=True)
        n = np.array([paired_tests.items_needed(*values.loc[list(p)].to_numpy(), **how)
                      for p in pairs])  # fmt: skip
        if estimator == ESTIMATORS[1]:  # Guenther (1981)
            n = n + stats.norm.ppf(1 - alpha / 2) ** 2 / 2
        elif estimator == ESTIMATORS[2]:
            n = n * part.effect.to_numpy()
        return np.quantile(n, 0.9)

    models = each(_pairs(kind), "width", "corpus", "seed", "stage")
    levels, powers = SINGLE[:2], ["a power of .8", "a power of .9"]
    all_of = {"estimator": ESTIMATORS, "models": models, "level": levels[:1], "power": powers[:1]}
    return under(texts, all_of, all_of | {"models": [ALL], "level": levels, "power": powers})


def loss_means_tuning(kind: str) -> pd.DataFrame:
    """Return the share of moved fine-tuned scores that rose where the loss improved."""
    pairs, values = _pairs(kind), suite().table

    def share(least: str, models: str, score: str = "both tasks", level: str = SINGLE[0]) -> float:
        part = without(pairs, models)
        part = part[_found(part[TESTS[0]], level) & (part.difference > 0)]
        column = values[SCORES[score]]
        change = column.loc[part.after].to_numpy() - column.loc[part.before].to_numpy()
        return (change[abs(change) > LEAST[least]] > 0).mean()

    models = each(pairs, "width", "corpus", "seed", "stage")
    asked = {"score": list(SCORES), "level": SINGLE, "models": [ALL]}
    least = {"least": list(LEAST)}
    return under(share, least | {"models": models}, least | asked)


def seeds_told_apart() -> pd.DataFrame:
    """Return the share of settings in which a test finds that two seeds differ."""
    twins = _pairs("gpt", seeds=True)

    def share(test: str, models: str, level: str = SINGLE[0]) -> float:
        return _found(without(twins, models)[test], level).mean()

    models = each(twins, "width", "corpus", "step")
    return under(
        share, {"test": TESTS, "models": models}, {"test": TESTS, "level": SINGLE, "models": [ALL]}
    )


@cache
def _by_source(unit: str, texts: str, packages: str) -> pd.DataFrame:
    """Return `text_sources.seed_tests` of the GPTs on some of the texts."""
    whole = text_sources.load()
    kept = without(whole.texts, packages)
    kept = kept if texts == TEXTS[0] else kept[kept.part == texts.split(" ")[0]]
    values = whole.log_likelihoods[kept.index]
    if unit == UNITS[1]:
        kept = kept.assign(package=kept.package + kept.part)
    found = text_sources.seed_tests(
        whole._replace(texts=kept, log_likelihoods=values), suite().table
    )
    return found[found.kind == "gpt"].rename(columns={"mix": "corpus"})


def _sourced(measure: Callable[..., float], name: str, values: Sequence[str]) -> pd.DataFrame:
    """Return a measure of `_by_source` by texts, units, packages, models and one choice more."""
    models = each(_by_source(UNITS[0], TEXTS[0], EVERY[0]), "width", "corpus")
    page = {"unit": UNITS[:1], "texts": TEXTS[:1], "packages": EVERY[:1], "models": models[:1]}
    return under(
        measure,
        page | {"texts": TEXTS, name: values},
        page | {"unit": UNITS, name: values},
        page | {"texts": TEXTS, "models": models, name: values[:2]},
        page | {"packages": EVERY, name: values[:1]},
    )


def seeds_by_package() -> pd.DataFrame:
    """Return the share of settings in which two seeds differ on new packages, corrected."""

    def share(unit: str, texts: str, packages: str, models: str, level: str) -> float:
        return _found(without(_by_source(unit, texts, packages), models).clustered, level).mean()

    return _sourced(share, "level", CORRECTED)


def seeds_plain() -> pd.DataFrame:
    """Return the share of settings in which two seeds differ at the last checkpoints, by texts.

    The last rows are of the suite's own 128 texts, by other tests too.
    """
    twins = _pairs("gpt", seeds=True)
    last, own = twins[twins.step == twins.step.max()], "the suite's 128 texts"

    def share(texts: str, packages: str, models: str, level: str, test: str) -> float:
        if texts == own:
            return _found(without(last, models)[test], level).mean()
        tests = without(_by_source(UNITS[0], texts, packages), models)
        return _found(tests.plain, level).mean() if test == TESTS[0] else np.nan

    models, levels = each(_by_source(UNITS[0], TEXTS[0], EVERY[0]), "width", "corpus"), SINGLE
    page = {"texts": TEXTS[:1], "packages": EVERY[:1], "models": models[:1], "level": levels[:1]}
    page |= {"test": TESTS[:1]}
    return under(
        share,
        page | {"texts": TEXTS, "models": models, "level": levels[:2]},
        page | {"texts": TEXTS, "level": levels},
        page | {"packages": EVERY},
        page | {"texts": [TEXTS[0], own], "level": levels[:2], "test": TESTS},
    )


def design_effect() -> pd.DataFrame:
    """Return how much larger packages make the variance of the difference of two seeds."""

    def effect(unit: str, texts: str, packages: str, models: str, average: str) -> float:
        part = without(_by_source(unit, texts, packages), models)
        return AVERAGES[average](part.design_effect)

    return _sourced(effect, "average", list(AVERAGES))


@cache
def _alarms(
    what: str, texts: str, packages: str, scale: str, draws: str, last: bool
) -> pd.DataFrame:
    """Return the GPTs with the share of draws in which two halves of one's items seem to differ."""
    if what == "texts":
        sources = text_sources.load()
        kept = without(sources.texts, packages)
        kept = kept if texts == TEXTS[0] else kept[kept.part == texts.split(" ")[0]]
        values, groups = sources.log_likelihoods[kept.index], kept.package
    else:
        values, groups = suite().log_posterior, world_of.make_world().people.community
    models = suite().table[suite().table.kind == "gpt"].rename(columns={"mix": "corpus"})
    models = models[(models.step == models.step.max()) | (not last)]
    models = models[np.ptp(values.loc[models.index].to_numpy(), axis=1) > 1e-6]
    n_draws, seed = DRAWS[draws]
    how = {"groups": np.asarray(groups), "n_draws": n_draws, "seed": seed}
    rows = [SCALES[scale](row) for row in values.loc[models.index].to_numpy()]
    return models.assign(alarms=[paired_tests.false_alarms(row, **how) for row in rows])


def false_alarms_on_packages() -> pd.DataFrame:
    """Return how often a model differs from itself on two halves of the packages."""
    models = each(_alarms("texts", TEXTS[0], EVERY[0], "log probabilities", "400 draws", True),
                  "width", "corpus", "seed")  # fmt: skip
    scales = ["log probabilities", "ranks"]

    def share(texts: str, packages: str, scale: str, draws: str, models: str) -> float:
        return without(_alarms("texts", texts, packages, scale, draws, True), models).alarms.mean()

    page = {"texts": TEXTS, "packages": EVERY[:1], "scale": scales, "draws": list(DRAWS)[:1]}
    return under(
        share,
        page | {"models": models},
        page | {"scale": scales[:1], "draws": list(DRAWS), "models": [ALL]},
        page | {"texts": TEXTS[:1], "packages": EVERY, "models": [ALL]},
    )


def false_alarms_on_communities() -> pd.DataFrame:
    """Return how often ALP of a model differs from itself on two halves of the communities."""

    def share(steps: str, scale: str, draws: str, models: str) -> float:
        found = _alarms("people", TEXTS[0], EVERY[0], scale, draws, steps == "last checkpoints")
        return without(found, models).alarms.mean()

    models = each(suite().table.rename(columns={"mix": "corpus"}), "width", "corpus", "seed")
    page = {"steps": ["last checkpoints", "all checkpoints"], "scale": list(SCALES)}
    page |= {"draws": list(DRAWS)[:1], "models": [ALL]}
    return under(share, page | {"models": models}, page | {"draws": list(DRAWS)})


CLAIMS: dict[str, Callable[[], pd.DataFrame]] = {
    "syn-loss-sees-every-step": sees_every_step,
    "syn-few-texts-are-enough": partial(texts_needed, "gpt"),
    "syn-few-texts-are-enough-bert": partial(texts_needed, "bert"),
    "syn-loss-means-tuning": partial(loss_means_tuning, "gpt"),
    "syn-loss-means-tuning-bert": partial(loss_means_tuning, "bert"),
    "syn-seeds-are-told-apart": seeds_told_apart,
    "syn-seeds-plain-last": seeds_plain,
    "syn-seeds-by-package": seeds_by_package,
    "syn-design-effect": design_effect,
    "syn-plain-tests-keep-their-level": false_alarms_on_packages,
    "syn-alp-new-communities": false_alarms_on_communities,
}
