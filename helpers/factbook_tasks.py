"""Sentence tasks made from the World Factbook, for where the GLUE files cannot be had."""

from __future__ import annotations

import html
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers import data, factbook

# Share of the countries, and of the question groups of QNLI, that make a test.
TEST_SHARE = 0.3
PAIR = ("sentence1", "sentence2", "label")
NAMES = ("section", "word_order", "same_field", "region")
_SECTIONS = "Introduction Geography Government Economy Communications".split() + [
    "Military and Security"
]
_CONTINENTS = {
    "africa": "Africa",
    "australia-oceania": "Oceania",
    "central-america-n-caribbean": "North America",
    "central-asia": "Asia",
    "east-n-southeast-asia": "Asia",
    "europe": "Europe",
    "middle-east": "Asia",
    "north-america": "North America",
    "south-america": "South America",
    "south-asia": "Asia",
}
_CONTINENT_WORDS = r"\w*(?:Africa|Asia|Europe|Oceania|America|Caribbean|Australia)\w*"


@lru_cache
def _every_sentence() -> pd.DataFrame:
    """Return every sentence that occurs once, with country, continent, section, field and side."""
    made_of = [Path(__file__), Path(factbook.__file__), factbook.package().__version__]
    return pd.DataFrame(data.kept("factbook-tasks", made_of, _find_sentences))


def _find_sentences() -> dict[str, list[Any]]:
    book = factbook.package()
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for folder in sorted((Path(book.__path__[0]) / "data").iterdir()):
        if folder.name not in _CONTINENTS:
            continue
        codes = sorted(file.stem for file in folder.glob("*.json"))
        tested = set(rng.permutation(codes)[: round(TEST_SHARE * len(codes))])
        for code in codes:
            entry = book.load_country(code).to_dict()
            common = {
                "country": code,
                "continent": _CONTINENTS[folder.name],
                "is_test": code in tested,
            }
            told = re.compile(rf"\b(?:{_names(entry)}|{_CONTINENT_WORDS})(?:s|'s|’s)?\b")
            rows += [
                {
                    **common,
                    "section": section,
                    "field": field,
                    "sentence1": sentence,
                    "masked": told.sub("[country]", sentence),
                }
                for section, fields in entry.items()
                if isinstance(fields, dict)
                for field, values in fields.items()
                if isinstance(values, dict)
                for text in factbook.texts(values)
                for sentence in factbook.sentences(text)
            ]
    table = pd.DataFrame(rows).drop_duplicates("sentence1", keep=False)
    return table.drop_duplicates("masked", keep=False).to_dict("list")


def sentences(*, test: bool) -> list[str]:
    """Return the Factbook's sentences of the countries tested on, or of those trained on."""
    book = _every_sentence()
    return list(book.loc[book["is_test"] == test, "sentence1"])


def _names(entry: dict[str, Any]) -> str:
    """Return a pattern of the names of a country and its people, the longest first."""
    written = entry.get("Government", {}).get("Country name", {})
    people = entry.get("People and Society", {}).get("Nationality", {})
    kept = [text for field, text in written.items() if "etymology" not in field]
    texts = factbook.texts(dict(enumerate([*kept, *people.values()])))
    plain = [re.sub(r"<[^>]+>|\([^)]*\)", "", html.unescape(text)) for text in texts]
    names = {name.strip() for text in plain for name in re.split(r"[,;/]| or ", text)}
    names = {name for name in names if len(name) > 1 and name[0].isupper()}
    return "|".join(re.escape(n) for n in sorted(names, key=lambda n: (-len(n), n))) or "$^"


def load(name: str) -> tuple[pd.DataFrame, pd.DataFrame, str, str]:
    """Return the training and the test rows of a task of `NAMES`, its kind and its metric.

    Countries lie whole on one side. The frames and words are those of `glue.Task`.
    """
    kind = "classes" if name in ("section", "region") else "binary"
    train, test = (part.copy() for part in _parts(name))
    return train, test, kind, "matthews" if name == "word_order" else "accuracy"


@lru_cache
def _parts(name: str) -> tuple[pd.DataFrame, ...]:
    book = _every_sentence()
    make = {"section": _section, "word_order": _order, "same_field": _field, "region": _region}
    parts = []
    for side in (False, True):
        rng = np.random.default_rng([NAMES.index(name), side])
        part = book[book["is_test"] == side]
        # Shuffled, so that the first rows are a fair sample.
        part = make[name](part.iloc[rng.permutation(len(part))], rng)
        columns = [c for c in PAIR if c in part]
        parts.append(part.iloc[rng.permutation(len(part))][columns].reset_index(drop=True))
    return tuple(parts)


def _even(table: pd.DataFrame) -> pd.DataFrame:
    """Keep as many rows of each label as the rarest has."""
    sizes = table["label"].value_counts()
    return table[table.groupby("label").cumcount() < sizes.min()]


def _section(book: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    chosen = book[book["section"].isin(_SECTIONS)]
    return _even(chosen.assign(label=chosen["section"]))


def _region(book: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _even(book.assign(sentence1=book["masked"], label=book["continent"]))


def _order(book: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Swap two neighbours, both plain lower-case words: capitals and stops stay in place."""
    texts, labels = [], []
    for sentence in book["sentence1"]:
        words = sentence.split()
        spots = [
            i
            for i, (a, b) in enumerate(zip(words[:-1], words[1:], strict=True))
            if a != b and re.fullmatch("[a-z]+", a) and re.fullmatch("[a-z]+", b)
        ]
        swap = rng.random() < 0.5
        if not spots:
            continue
        if swap:
            i = spots[rng.integers(len(spots))]
            words[i], words[i + 1] = words[i + 1], words[i]
        texts.append(" ".join(words))
        labels.append(int(not swap))
    return _even(pd.DataFrame({"sentence1": texts, "label": labels}))


def _field(book: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Pair each sentence once: half with its own field, half with another, never its country."""
    spread = book.groupby(["section", "field"])["country"].transform("nunique")
    book = book[spread >= 20].groupby(["section", "field"]).head(100)
    half = len(book) // 2
    first, rest = book.iloc[:half], book.iloc[half:]
    pools = {f: list(t.index) for f, t in rest.groupby("field", sort=False)}
    rows = []
    for n, (field, country, text) in enumerate(
        first[["field", "country", "sentence1"]].itertuples(index=False)
    ):
        others = [f for f in pools if f != field and pools[f]]
        wanted = [field] if n % 2 else [others[rng.integers(len(others))]] if others else []
        for f in wanted:
            pick = next((i for i in pools.get(f, []) if book.at[i, "country"] != country), None)
            if pick is not None:
                pools[f].remove(pick)
                rows.append((text, book.at[pick, "sentence1"], int(f == field)))
    return _even(pd.DataFrame(rows, columns=list(PAIR)))
