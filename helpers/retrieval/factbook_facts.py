"""Facts from the structured fields of the World Factbook, their templates, and their counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from helpers import data, factbook
from helpers.retrieval import smi
from helpers.retrieval.counting import count_documents, read_documents

# Counts in the Factbook, WordNet and GCIDE together.
COUNTED = data.PUBLISHED / "real_counts.csv"
# {s} stands for the subject; the object follows after a space. Written for this book.
_STORED = pd.read_csv(data.PUBLISHED / "factbook_templates.csv")
TEMPLATES = _STORED.groupby("relation", sort=False).template.agg(tuple).to_dict()
# What takes the place of a subject when the template is asked about nobody.
NEUTRAL = "this country"
_SHORT_NAMES = {
    "UK": "United Kingdom",
    "US": "United States",
    "USA": "United States",
    "NZ": "New Zealand",
    "UAE": "United Arab Emirates",
    "DRC": "Democratic Republic of the Congo",
    "The Dominican": "Dominican Republic",
}
# Entries whose short form is "none" or several places, and that are countries all the same.
_ENTRY_NAMES = {
    "us": "United States",
    "ae": "United Arab Emirates",
    "ct": "Central African Republic",
    "cg": "Democratic Republic of the Congo",
    "fm": "Micronesia",
    "gz": "Gaza Strip",
    "uk": "United Kingdom",
}
_ARTICLE = re.compile(
    r"^(United|Netherlands|Philippines|Bahamas|Gambia|Maldives|Seychelles|Comoros|Soviet|Ottoman"
    r"|Central African|Democratic Republic|Republic|Dominican Republic|Middle East|West Bank"
    r"|Holy See|Isle|Gaza Strip)|(Islands|Republic|Union|Empire)$"
)
_CURRENCIES = {
    "bolivares": "bolivar", "colones": "colon", "quetzales": "quetzal", "leones": "leone",
    "reals": "real", "kroner": "krone", "kronor": "krona", "kronur": "krona", "koruny": "koruna",
    "leke": "lek", "leva": "lev", "lei": "leu", "maloti": "loti", "emalangeni": "lilangeni",
    "meticais": "metical", "zlotych": "zloty", "markas": "marka",
}  # fmt: skip


def _field(entry: Mapping[str, Any], *path: str) -> str:
    """Return the text of a field as plain text, or an empty string."""
    value: Any = entry
    for key in (*path, "text"):
        value = value.get(key, "") if isinstance(value, Mapping) else ""
    return factbook.plain(value) if isinstance(value, str) else ""


def _clean_name(text: str) -> str:
    """Return a name without brackets, lists, notes and a leading *the*; '' if nothing is left.

    Abbreviated names of states are written out. A name begins with a capital letter and holds no
    figure.
    """
    name = re.split(r"[(;,/\[\n]|\bnote\b| or | aka ", text)[0].strip()
    name = re.sub(r"^[Tt]he (?!Dominican)", "", name).strip(" .")
    name = _SHORT_NAMES.get(name, name)
    good = re.fullmatch(r"[^\W\d_a-z][\w.'’ -]*[\w.]", name) and not re.search(r"\d", name)
    return name if good else ""


def _capital(entry: Mapping[str, Any]) -> str:
    return _clean_name(_field(entry, "Government", "Capital", "name").split(" in ")[0])


def _language(entry: Mapping[str, Any]) -> str:
    part = entry.get("People and Society", {})
    text = _field(part, "Languages", "Languages") or _field(part, "Languages")
    official = re.search(r"([A-Z][A-Za-z ]*?)\s*(?:[\d.]+%\s*)?\(official", text)
    name = _clean_name(re.split(r"[(%\d]", official[1] if official else text)[0])
    word = name.split(" ")[-1] if len(name.split(" ")) < 3 else ""
    return "Persian" if word == "Farsi" else word if word[:1].isupper() else ""


def _neighbour(entry: Mapping[str, Any]) -> str:
    text = _field(entry, "Geography", "Land boundaries", "border countries")
    found = re.findall(r"([A-Z][^\d;,:(]+?)\s*(?:\([^)]*\)\s*)?([\d,.]+) km", text)
    lengths = {_clean_name(n): float(km.replace(",", "").strip(".") or 0) for n, km in found}
    return max(lengths, key=lambda n: lengths[n]) if lengths else ""


def _region(entry: Mapping[str, Any]) -> str:
    name = _clean_name(_field(entry, "Geography", "Map references"))
    return "" if re.search(r"World|Region| and |AsiaEurope", name) else name


def _religion(entry: Mapping[str, Any]) -> str:
    text = re.split(r"[%\d<]", _field(entry, "People and Society", "Religions"))[0]
    name = _clean_name(text).removeprefix("Roman ").removeprefix("Sunni ")
    known = ("Muslim", "Catholic", "Protestant", "Christian", "Buddhist", "Orthodox", "Hindu")
    return name if name in known else ""


def _ruler(entry: Mapping[str, Any]) -> str:
    found = re.findall(r"\(from ([^;)]*)\)", _field(entry, "Government", "Independence"))
    name = _clean_name(found[-1]) if found else ""
    odd = re.search(r"admin|mandate|trusteeship|status|control| and |State Union", name)
    return "" if odd else name.replace("Soviet Russia", "Soviet Union")


def _currency(entry: Mapping[str, Any]) -> str:
    text = _field(entry, "Economy", "Exchange rates", "Currency").split("per US")[0]
    words = re.split(r"[(/]| or ", text)[0].split()
    word = words[-1] if words else ""
    return _CURRENCIES.get(word, word[:-1] if word.endswith("s") else word)


def _peak(entry: Mapping[str, Any]) -> str:
    text = re.split(r" on |-? ?\d", _field(entry, "Geography", "Elevation", "highest point"))[0]
    return "" if " was" in text else _clean_name(text)


_FIELDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "capital": _capital,
    "language": _language,
    "neighbour": _neighbour,
    "region": _region,
    "religion": _religion,
    "ruler": _ruler,
    "currency": _currency,
    "peak": _peak,
}


@lru_cache
def _entries() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return name and contents of every entry by its code, '' if nobody lives there."""
    found = {}
    for _, code, entry in factbook.entries():
        short = _field(entry, "Government", "Country name", "conventional short form")
        name = _ENTRY_NAMES.get(code) or _clean_name(short)
        several = "," in short and code not in _ENTRY_NAMES
        lived_in = _field(entry, "People and Society", "Population", "total")
        found[code] = (name if lived_in[:1].isdigit() and not several else "", entry)
    return found


def facts() -> pd.DataFrame:
    """Return the facts of the Factbook's structured fields, one row per fact, in a fixed order.

    Columns: `relation`, `subject`, `object`; `leak`, the object stands in the subject or the
    subject in the object; `hint`, a word of one begins with the same four letters as a word of
    the other (*Albania*, *Albanian*). Of several objects the first is taken, of neighbours the one
    with the longest border. Raises `ValueError` when the package is absent.
    """
    return _facts().copy()


@lru_cache
def _facts() -> pd.DataFrame:
    rows = [
        (relation, name, field(entry))
        for relation, field in _FIELDS.items()
        for name, entry in _entries().values()
        if name
    ]
    table = pd.DataFrame(rows, columns=["relation", "subject", "object"])
    table = table[(table.object != "") & (table.object != table.subject)]
    lands = {name for name, _ in _entries().values()}
    table = table[(table.relation != "neighbour") | table.object.isin(lands)]
    table = table.drop_duplicates(["relation", "subject"]).reset_index(drop=True)
    within = smi.object_in_subject(table.subject, table.object)
    within |= smi.object_in_subject(table.object, table.subject)
    return table.assign(leak=within, hint=_share_stems(table.subject, table.object))


def hints(subjects: Sequence[str], objects: Sequence[str]) -> np.ndarray:
    """Return whether the names of each pair give each other away, bool (n,): `leak` or `hint`."""
    within = smi.object_in_subject(subjects, objects) | smi.object_in_subject(objects, subjects)
    return within | np.array(_share_stems(subjects, objects), bool)


def _share_stems(subjects: Sequence[str], objects: Sequence[str]) -> list[bool]:
    return [bool(_stems(s) & _stems(o)) for s, o in zip(subjects, objects, strict=True)]


def _stems(name: str) -> set[str]:
    words = re.findall(r"\w{4,}", name.lower())
    return {word[:4] for word in words}


def draw_facts(table: pd.DataFrame, n: int, *, seed: int = 0) -> pd.DataFrame:
    """Return `n` rows of a table of facts in random order, or all if there are fewer.

    A larger draw begins with a smaller one of the same seed.
    """
    return table.iloc[np.random.default_rng(seed).permutation(len(table))[:n]]


def _spoken(name: str) -> str:
    """Return a name as it stands within a sentence: *the Netherlands*, *France*."""
    return f"the {name}" if _ARTICLE.search(name) else name


def prompts(relations: Sequence[str], subjects: Sequence[str], template: int) -> list[str]:
    """Return the questions about subjects, one a fact, in one of the five forms of a relation.

    A question ends where its answer begins, without the space.
    """
    found = []
    for relation, subject in zip(relations, subjects, strict=True):
        text = TEMPLATES[relation][template].replace("{s}", _spoken(subject))
        found.append(text[0].upper() + text[1:])
    return found


def answers(objects: Sequence[str]) -> list[str]:
    """Return objects as they follow a question: after a space, with the article they take."""
    return [f" {_spoken(name)}" for name in objects]


def choices(table: pd.DataFrame, rows: pd.DataFrame, most: int = 12, seed: int = 0) -> list[list]:
    """Return for each of `rows` its own object first, then other objects of its relation.

    The others are distinct objects of the relation in `table`, drawn at random, so that there are
    at most `most` in all. The draw depends on the fact and the seed, not on other rows.
    """
    objects = {name: sorted(set(part.object)) for name, part in table.groupby("relation")}
    found = []
    for row in rows.itertuples():
        others = [o for o in objects[row.relation] if o != row.object]
        key = [ord(c) for c in f"{row.relation}/{row.subject}"]
        order = np.random.default_rng([seed, *key]).permutation(len(others))[: most - 1]
        found.append([row.object, *(others[i] for i in order)])
    return found


def paragraphs(*, named: bool = False) -> Iterator[str]:
    """Give the paragraphs of the Factbook's text fields, of at least 5 words each.

    A paragraph rarely names its own country: the entry does. With `named`, the name of the entry,
    where it is a country, stands in front, as it would on the page.
    """
    for name, part in _paragraphs():
        yield f" {name}: {part}" if named and name else part


@lru_cache
def _paragraphs() -> tuple[tuple[str, str], ...]:
    """Return the paragraphs, each after the name of its entry."""
    found = []
    for name, entry in _entries().values():
        for text in factbook.texts(entry):
            parts = (" ".join(part.split()) for part in factbook.plain(text).split("\n"))
            found += [(name, part) for part in parts if part.count(" ") >= 4]
    return tuple(found)


def documents(corpora: Sequence[str] = (), *, named: bool = False) -> Iterator[str | bytes]:
    """Give the Factbook's paragraphs and the documents of other corpora, one after the other.

    `corpora` is what `corpora.read_documents` takes: files, globs, folders, URLs. With `named`,
    a space stands before each of their documents too, so that a name that begins one counts.
    """
    yield from paragraphs(named=named)
    if corpora:
        for document in read_documents(list(corpora)):
            yield b" " + document if named else document


def count_facts(table: pd.DataFrame, documents: Iterable[str | bytes]) -> pd.DataFrame:
    """Return the facts with the columns of `smi.COUNTS`, counted by the published rule."""
    pairs = list(zip(table.subject, table.object, strict=True))
    found = count_documents(documents, pairs)
    counts = found.table[["n_subject", "n_object", "n_both"]].set_index(table.index)
    return table.assign(n_documents=found.n_documents, **counts)


def add_signals(table: pd.DataFrame) -> pd.DataFrame:
    """Return counted facts with what the corpus says about each, larger meaning better known.

    `log2 N(s,o)` and `log2 N(s)`, `log2 N(o)` of one plus the count; `MI`, the released one-cell
    mutual information in bits (0 where the names never meet); `PMI`, log2 P(s,o) / P(s)P(o), and
    `P(o|s)`, both smoothed by half a document with both names and one with each, so that facts
    never seen keep an order by how much there was to see.
    """
    n, s, o, both = (table[c].astype(float) for c in smi.COUNTS)
    return table.assign(
        **{
            "log2 N(s,o)": np.log2(1 + both),
            "MI": smi.mutual_information(n, s, o, both),
            "P(o|s)": (both + 0.5) / (s + 1),
            "PMI": np.log2((both + 0.5) * n / ((s + 1) * (o + 1))),
            "log2 N(s)": np.log2(1 + s),
            "log2 N(o)": np.log2(1 + o),
        }
    )


def ranks(values: pd.DataFrame, relations: pd.Series | None = None) -> pd.DataFrame:
    """Return the ranks of each column from -1/2 to 1/2, within each relation where these are given.

    A column that does not vary within a relation is 0 there. The correlation of two such columns
    is Spearman's, pooled over relations, and relations add nothing to it.
    """
    groups = np.zeros(len(values)) if relations is None else relations.to_numpy()
    groups = pd.Series(groups, values.index)
    size = groups.map(groups.value_counts())
    return values.groupby(groups).rank().sub(0.5).div(size, axis=0) - 0.5
