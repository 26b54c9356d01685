"""Specification curves of sentences about SMI on clean facts, and counts in a proxy corpus."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pandas as pd

from experiments.command import Written, command, option
from experiments.retrieval import audit_tables, clean_facts, factbook_answers
from helpers import data, specifications
from helpers import models as zoo
from helpers.retrieval import factbook_facts, release, smi

LEAD, R2, NAMES = (data.PUBLISHED / f"spec_smi_{name}.csv" for name in ("lead", "r2", "names"))
HEADLINES, DOUBLINGS = (
    data.PUBLISHED / f"smi_clean_{name}.csv" for name in ("headlines", "doublings")
)
# The generations that have all models, with what their abstracts say of R².
THRESHOLDS = {"v2-v4": 0.75, "v5-v7": 0.7}
N_RESAMPLES, SEED = 200, 0
LEAD_CHOICES = {
    "generation": list(THRESHOLDS),
    "left out": ["nothing", "object in subject", "object in any question"],
    "fit": list(clean_facts.FITS),
    "draw": ["facts", "objects"],
    "models": ["all", "above 1 B"],
}
R2_CHOICES = {
    "generation": list(THRESHOLDS),
    "left out": ["nothing", "object in subject", "object in any question"],
    "bins": ["fifth of an octave", "half an octave", "octave", "fifth, five facts or more"],
    "models above": ["1 B", "2 B", "6 B"],
}
NAMES_CHOICES = {
    "model": ["SmolLM2", "Gemma"],
    "counts": ["as published", "entry named", "with dictionaries"],
    "answers": ["sampled", "beaten", "log P"],
    "leaks": ["out", "in"],
    "held fixed": ["names", "names, length", "names, length, hints"],
}
HELD = {"names": ["log2 N(s)", "log2 N(o)"]}
HELD["names, length"] = [*HELD["names"], "n_tokens"]
HELD["names, length, hints"] = [*HELD["names, length"], "hint"]
BINS = {
    "fifth of an octave": {"per_octave": 5},
    "half an octave": {"per_octave": 2},
    "octave": {"per_octave": 1},
    "fifth, five facts or more": {"per_octave": 5, "least": 5},
}


def load() -> pd.DataFrame:
    """Return the kept facts of all released models.

    Columns are those of `audit_tables.kept`, `model`, `family`, `parameters`, `corpus`, and
    `asked`, the share of a fact's questions that hold its object. Raises `data.DataError` where the
    released files are absent.
    """
    models, parts = release.load_models(), []
    for model in models.index:
        parts.append(audit_tables.kept(release.load_facts(model)).assign(model=model))
    facts = pd.concat(parts, ignore_index=True).join(models, on="model")
    names = ["subject", "relation", "object"]
    once = facts.drop_duplicates(names)
    share = clean_facts.template_share(once, release.load_templates())
    return facts.merge(once[names].assign(asked=share), on=names, validate="many_to_one")


def load_first() -> pd.DataFrame:
    """Return the facts of version 1 for its four models, as `headlines` needs them."""
    counts = {"N": "n_documents", "N_s": "n_subject", "N_o": "n_object", "N_so": "n_both"}
    sheet, parts = release.load_v1().rename(columns=counts), []
    for model, parameters in smi.V1_PARAMETERS.items():
        accuracy = sheet["ACC_" + model.removeprefix("v1-")]
        kept = audit_tables.kept(sheet.assign(accuracy=accuracy))
        parts.append(kept.assign(model=model, parameters=parameters))
    return pd.concat(parts, ignore_index=True)


def headlines(
    facts: pd.DataFrame, first: pd.DataFrame, n_resamples: int, *, seed: int = SEED
) -> pd.DataFrame:
    """Return `clean_facts.generations` of all facts, and of those without leaks.

    `facts` are those of `load`, of which the models above one billion parameters count, `first`
    those of `load_first`. The index is `facts` ("all facts" or "clean"), `generation`, `measure`.
    """
    parts, large = {}, facts[facts.parameters > 1e9]
    for what in ("all facts", "clean"):
        tables = []
        for rows, thresholds in ((first, {"v1": 0.84}), (large, THRESHOLDS)):
            part = rows if what == "all facts" else rows[~rows.leak]
            weights = clean_facts.fact_weights(part, n_resamples, seed=seed)
            tables.append(clean_facts.generations(part, weights, thresholds))
        parts[what] = pd.concat(tables)
    return pd.concat(parts, names=["facts"])


def clean_doublings(
    facts: pd.DataFrame,
    n_resamples: int,
    *,
    seed: int = SEED,
    measure: Callable[..., pd.DataFrame] = clean_facts.doublings,
) -> pd.DataFrame:
    """Return `clean_facts.doublings` of the models above one billion parameters, without leaks.

    Whole objects are drawn for the intervals, as facts that share one are not independent.
    `measure` may be `clean_facts.data_over_size` instead.
    """
    large = facts[(facts.parameters > 1e9) & ~facts.leak]
    weights = clean_facts.fact_weights(large, n_resamples, by_object=True, seed=seed)
    return measure(large, weights)


def _rest(facts: pd.DataFrame, left_out: str) -> pd.DataFrame:
    """Return the facts without those that a rule leaves out, a value of the choice "left out"."""
    rules = {
        "nothing": facts.asked < 0,
        "object in subject": facts.leak,
        "object in any question": facts.asked > 0,
    }
    return facts[~rules[left_out]]


def lead_rows(
    facts: pd.DataFrame, chosen: Sequence[dict[str, str]], n_resamples: int = N_RESAMPLES
) -> pd.DataFrame:
    """Return the mean lead of SMI over co-occurrence in R², one row per specification.

    `chosen` are rows of `specifications.combinations(**LEAD_CHOICES)`; `estimate`, `low` and `high`
    are added: the mean over models, and its percentile interval over draws of facts or objects.
    """
    sizes = facts.groupby("model").parameters.first()

    @cache
    def leads(generation: str, left_out: str, fit: str, draw: str) -> pd.DataFrame:
        part, by_object = _rest(facts, left_out), draw == "objects"
        weights = clean_facts.fact_weights(part, n_resamples, by_object=by_object, seed=SEED)
        ours, count = (
            clean_facts.draws(part, weights, generation, metric, fit=fit)
            for metric in ("SMI", "CO-OCCUR")
        )
        return ours - count

    rows = []
    for row in chosen:
        lead = leads(*(row[c] for c in ("generation", "left out", "fit", "draw")))
        lead = lead if row["models"] == "all" else lead[sizes[lead.index] > 1e9]
        mean = audit_tables.of_row(np.nanmean(lead.to_numpy(), axis=0))
        rows.append(row | clean_facts.ends(mean))
    return pd.DataFrame(rows)


def r2_rows(
    facts: pd.DataFrame, chosen: Sequence[dict[str, str]], n_resamples: int = N_RESAMPLES
) -> pd.DataFrame:
    """Return the smallest R² of any model less the abstract's threshold, one row per specification.

    `chosen` are rows of `specifications.combinations(**R2_CHOICES)`; `estimate`, `low` and `high`
    are added, with the percentile interval over draws of facts.
    """
    sizes = facts.groupby("model").parameters.first()

    @cache
    def draws(generation: str, left_out: str, bins: str) -> pd.DataFrame:
        part = _rest(facts[facts.parameters > 1e9], left_out)
        weights = clean_facts.fact_weights(part, n_resamples, seed=SEED)
        return clean_facts.draws(part, weights, generation, **BINS[bins])

    rows = []
    for row in chosen:
        r2 = draws(*(row[c] for c in ("generation", "left out", "bins")))
        r2 = r2[sizes[r2.index] > 1e9 * float(row["models above"].split()[0])]
        least = np.nanmin(r2.to_numpy(), axis=0) - THRESHOLDS[row["generation"]]
        rows.append(row | clean_facts.ends(audit_tables.of_row(least)))
    return pd.DataFrame(rows)


def counted(facts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return facts of the Factbook counted by each rule of `NAMES_CHOICES`."""
    rules = {"as published": False, "entry named": True}
    tables = {
        rule: factbook_facts.count_facts(facts, factbook_facts.documents(named=named))
        for rule, named in rules.items()
    }
    key = ["relation", "subject"]
    stored = pd.read_csv(factbook_facts.COUNTED).set_index(key)
    return tables | {"with dictionaries": facts.join(stored, on=key, how="inner")}


def names_rows(
    tables: dict[str, pd.DataFrame], chosen: Sequence[dict[str, str]] | None = None
) -> pd.DataFrame:
    """Return what joint documents say of answers beyond the names, one row per specification.

    `tables` are those of `counted`, `chosen` rows of `NAMES_CHOICES`, by default all. `estimate` is
    the partial rank correlation within relations, with Fisher's interval in `low` and `high`.
    """
    packages = {"SmolLM2": zoo.SMOLLM, "Gemma": zoo.GEMMA}
    answers = {name: factbook_answers.stored_answers(package) for name, package in packages.items()}

    @cache
    def known(model: str, counts: str) -> pd.DataFrame:
        facts = factbook_answers.by_fact(answers[model], tables[counts])
        return factbook_facts.add_signals(facts)

    rows = []
    for row in specifications.combinations(**NAMES_CHOICES) if chosen is None else chosen:
        facts = known(row["model"], row["counts"])
        facts = facts if row["leaks"] == "in" else facts[~facts.leak]
        found = factbook_answers.partial_link(
            facts, "log2 N(s,o)", row["answers"], HELD[row["held fixed"]]
        )
        rows.append(row | {"estimate": found.r, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


@command(
    "smi_specifications",
    option("--resamples", type=int, default=N_RESAMPLES, help="draws per interval"),
)
def main(given: Namespace) -> Written:
    """Write the specification curves, the headlines and the doublings into data/published."""
    names = counted(factbook_facts.draw_facts(factbook_facts.facts(), 2000))
    yield NAMES, names_rows(names).round(6).to_csv(index=False)
    facts, n = load(), given.resamples
    lead, r2 = (specifications.combinations(**c) for c in (LEAD_CHOICES, R2_CHOICES))
    first = headlines(facts, load_first(), n).reset_index()
    yield HEADLINES, first.round(6).to_csv(index=False)
    yield DOUBLINGS, clean_doublings(facts, n).round(6).to_csv(index=False)
    yield R2, r2_rows(facts, r2, n).round(6).to_csv(index=False)
    yield LEAD, lead_rows(facts, lead, n).round(6).to_csv(index=False)
