"""What models are asked about: a reader's entities, facts, corpus, texts, or the book's own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import data
from helpers.model_files import sentence
from helpers.posterior import entities
from helpers.retrieval import corpora, corpus_counts, factbook_facts

_FACTBOOK = "factbook"
_ENTITIES = ["text", "label", "group"]
FACTS = ["relation", "subject", "object", "prompt", "choices", "block", "hint"]
# Rows that a label must have.
LEAST = 10


class Inputs(NamedTuple):
    """What the models are asked about, and why some of it is missing.

    `entities` has `text`, `label` and `group`, which names what stands or falls together; `facts`
    has the columns `FACTS`, and those of `smi.COUNTS` where a corpus was counted; `texts` are the
    reader's own. `own` has the names of the inputs that the reader gave, `missing` says by signal
    why it cannot be had.
    """

    entities: pd.DataFrame
    facts: pd.DataFrame
    texts: list[str]
    own: frozenset[str]
    missing: dict[str, str]


def read_inputs(
    *,
    entities_file: str = "",
    facts_file: str = "",
    corpus: str = "",
    texts_file: str = "",
    n_per_label: int = 60,
    n_facts: int = 60,
    n_choices: int = 12,
    most_texts: int = 64,
    seed: int = 0,
) -> Inputs:
    """Read the reader's files, or the defaults of this book where a name is empty; never raises.

    `entities_file` is a CSV with the columns `text` and `label`, or whose first two columns are
    these, and perhaps `group`, such as the country of a town; of each label `n_per_label` rows are
    drawn, and labels with fewer than 10 are left out. `facts_file` is a CSV with `subject` and
    `object`, and with `prompt`, which ends where the answer begins, or `relation`, one of
    `factbook_facts.TEMPLATES`; `n_facts` are drawn, each with up to `n_choices` - 1 other objects
    of its relation as wrong answers. `corpus` is a path, glob or folder of
    `corpora.read_documents`, or "factbook", a stand-in. `texts_file` has a text per line, or JSON
    lines; the first `most_texts` are taken. A file that cannot be read leaves its signals out,
    with the reason in `missing`.

    >>> from helpers.synthesis import read_inputs
    >>> inputs = read_inputs(texts_file="nowhere.txt")
    >>> inputs.missing["my texts"]
    'no file nowhere.txt; correct the path or the pattern'
    """
    missing: dict[str, str] = {}
    given = {"entities": entities_file, "facts": facts_file, "corpus": corpus, "texts": texts_file}
    known, asked, lines = pd.DataFrame(), pd.DataFrame(), []
    try:
        known = read_entities(entities_file, n_per_label, seed)
    except (ValueError, OSError) as error:
        missing["categories"] = sentence(error)
    try:
        asked = _read_facts(facts_file, n_facts, n_choices, seed)
    except (ValueError, OSError) as error:
        missing["facts"] = missing["corpus"] = sentence(error)
    if not corpus:
        missing.setdefault("corpus", "no corpus was given; name files by `corpus`")
    elif corpus == _FACTBOOK and facts_file:
        why = "no corpus was given, and the Factbook stands in for the book's own facts only; "
        missing.setdefault("corpus", why + "name files by `corpus`")
    elif len(asked):
        try:
            asked = _count_facts(asked, corpus)
        except (ValueError, OSError, RuntimeError) as error:
            missing["corpus"] = sentence(error)
    if not texts_file:
        missing["my texts"] = "no texts were given; name a file by `texts`"
    else:
        try:
            lines = corpora.read_texts(texts_file)[:most_texts]
            if not lines:
                raise ValueError(f"texts {texts_file!r} is empty; write one text per line")
        except (ValueError, OSError, RuntimeError) as error:
            missing["my texts"] = sentence(error)
    own = frozenset(name for name, value in given.items() if value not in ("", _FACTBOOK))
    return Inputs(known, asked, lines, own, missing)


def read_entities(path: str = "", n_per_label: int = 60, seed: int = 0) -> pd.DataFrame:
    """Return entities as `text`, `label`, `group`; provinces by region and country for no path.

    Raises `ValueError` for a file without two columns, or with fewer than two labels of 10 rows.
    """
    if not path:
        table = entities.factbook_entities(n_per_label, seed)
        return table.rename(columns={"region": "label", "country": "group"})[_ENTITIES]
    table = entities.read_csv(path, "entities", dtype=str)
    names = ["text", "label"] if {"text", "label"} <= set(table) else list(table.columns[:2])
    if len(names) < 2:
        raise ValueError(f"entities {path!r} has one column; write `text` and `label`")
    group = table["group"] if "group" in table else table[names[0]]
    table = table[names].set_axis(["text", "label"], axis=1).assign(group=group)
    table = table.dropna().drop_duplicates("text")
    table = table.iloc[np.random.default_rng(seed).permutation(len(table))]
    table = table[table.groupby("label").cumcount() < n_per_label]
    table = table[table.groupby("label")["text"].transform("size") >= LEAST]
    if table["label"].nunique() < 2:
        raise ValueError(
            f"entities {path!r} has fewer than 2 labels with {LEAST} different texts each; add rows"
        )
    return table.reset_index(drop=True)


def _read_facts(
    path: str = "", n_facts: int = 60, n_choices: int = 12, seed: int = 0
) -> pd.DataFrame:
    """Return facts as `relation`, `subject`, `object`, `prompt`; the Factbook's for no path.

    `choices`, `block` and `hint` are those of `_add_choices`. Raises `ValueError` for a file
    without `subject` and `object`, or from which no question can be made, and where no relation has
    two different objects.
    """
    table = factbook_facts.facts() if not path else entities.read_csv(path, "facts", dtype=str)
    if absent := [c for c in ("subject", "object") if c not in table]:
        raise ValueError(
            f"facts {path!r} has no column {absent[0]!r}; name the columns in a header"
        )
    if "relation" not in table:
        table["relation"] = "fact"
    table = table.dropna(subset=["relation", "subject", "object"])
    if "prompt" not in table:
        if unknown := sorted(set(table["relation"]) - set(factbook_facts.TEMPLATES)):
            raise ValueError(
                f"facts {path!r} has no column `prompt`, and no question is known for "
                f"{unknown[0]!r}; add `prompt`, such as 'The capital of France is', or `relation`, "
                f"one of {', '.join(factbook_facts.TEMPLATES)}"
            )
        table["prompt"] = factbook_facts.prompts(table["relation"], table["subject"], 0)
    table = table[["relation", "subject", "object", "prompt"]].dropna()
    table["prompt"] = table["prompt"].str.strip()
    table = table.drop_duplicates(["relation", "subject"])
    table = table[table.groupby("relation")["object"].transform("nunique") > 1]
    if not len(table):
        raise ValueError(f"facts {path!r} has no relation with two different objects; add rows")
    drawn = factbook_facts.draw_facts(table, n_facts, seed=seed)
    return _add_choices(table, drawn, n_choices, seed)


def _add_choices(
    table: pd.DataFrame, drawn: pd.DataFrame, most: int = 12, seed: int = 0
) -> pd.DataFrame:
    """Return facts with `block`, `choices` and `hint`: who is asked about the same answers.

    A block has facts of one relation with at most `most` different objects. All are asked about the
    same answers, their own objects first among them, then, up to `most`, others of the relation in
    `table`; so it can be seen what a model answers whoever is asked about. `hint` says that names
    of subject and object share a word's first four letters, or one holds the other.
    """
    drawn = drawn.assign(block="", hint=factbook_facts.hints(drawn["subject"], drawn["object"]))
    answers: dict[str, list[str]] = {}
    for relation, part in drawn.groupby("relation", sort=False):
        objects = list(dict.fromkeys(part["object"]))
        others = sorted(set(table["object"][table["relation"] == relation]) - set(objects))
        fill = np.random.default_rng(seed).permutation(others)
        for k, names in enumerate(np.array_split(objects, -(-len(objects) // most))):
            block = f"{relation}/{k}"
            drawn.loc[part.index[part["object"].isin(names)], "block"] = block
            answers[block] = [*map(str, names), *map(str, fill[: most - len(names)])]
    rows = zip(drawn["object"], drawn["block"], strict=True)
    return drawn.assign(choices=[[o, *(a for a in answers[b] if a != o)] for o, b in rows])


def _count_facts(table: pd.DataFrame, corpus: str) -> pd.DataFrame:
    """Return facts with the counts of a corpus and what they say (`factbook_facts.add_signals`)."""
    if corpus == _FACTBOOK:
        return factbook_facts.add_signals(
            factbook_facts.count_facts(table, factbook_facts.paragraphs(named=True))
        )
    pairs = list(zip(table["subject"], table["object"], strict=True))
    folder = data.cache_folder() / "your_model" / "counts"
    found = corpus_counts.count_corpus(corpus, pairs, folder, resume=True)
    if not found.n_documents:
        raise ValueError(f"corpus {corpus!r} has no documents; correct the path")
    counts = found.table[["n_subject", "n_object", "n_both"]].set_index(table.index)
    return factbook_facts.add_signals(table.assign(n_documents=found.n_documents, **counts))
