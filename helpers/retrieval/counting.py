"""In how many documents of a corpus a fact's subject, its object, or both are named."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from helpers.retrieval.corpora import Report, read_documents
from helpers.retrieval.name_matching import scanner

# A worker process imports this module: pandas stays out of it, so that workers stay small.
if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Counts", "NameIndex", "Rule", "Tally", "count_documents", "read_documents"]


class Rule(NamedTuple):
    """When a document holds a name: what stands before it, what may follow, and letter case."""

    prefix: str = " "
    right_boundary: bool = False
    case_sensitive: bool = True


_PUBLISHED = Rule()
_BATCH = 3 << 20
# A larger document is searched piece by piece.
_LARGE = 1 << 20
_ASCII = bytes(range(128))


class Counts(NamedTuple):
    """Number of documents, the table of counts, and what could not be read of a corpus."""

    n_documents: int
    table: pd.DataFrame
    report: Report


class Tally(NamedTuple):
    """Number of documents, and of those with each distinct name and each distinct pair."""

    n_documents: int
    names: list[int]
    both: list[int]


def count_documents(
    documents: Iterable[str | bytes],
    pairs: Sequence[tuple[str, str]],
    *,
    prefix: str = " ",
    right_boundary: bool = False,
    case_sensitive: bool = True,
) -> Counts:
    """Count the documents that hold a subject, its object, and both, for many pairs in one pass.

    `documents` is any iterable of `str` or of `bytes` in UTF-8, read once and never kept; `pairs`
    is a sequence of (subject, object), repeats allowed. The result's `table` has one row per pair
    in the order given: `subject`, `object`, and int64 `n_subject`, `n_object` and `n_both`.

    A document holds a name when `prefix` + name is a substring of it, wherever and however often,
    also inside another name. `right_boundary` asks that no word character follows: a letter or
    number of any script (`str.isalnum`) or an underscore. With `case_sensitive=False` prefix, names
    and documents are put in lower case. Nothing else is normalised. Bytes are searched as they are;
    a lone surrogate in a `str`, which UTF-8 does not have, equals only itself.

    Raises `ValueError` for an empty name, no pairs, one string in place of many, and when case is
    ignored for bytes that are no UTF-8; `TypeError` for a document of another type. Source:
    arXiv:2502.04066, released code, of which the defaults are the rule.

    >>> from helpers.retrieval import count_documents
    >>> documents = ["They met in Rome, Italy.", "All of Rome slept.", "North of Italy."]
    >>> count_documents(documents, [("Rome", "Italy")]).table
      subject object  n_subject  n_object  n_both
    0    Rome  Italy          2         2       1
    """
    if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
        raise ValueError(
            "documents is one string or no iterable; pass an iterable of them, [text] for one"
        )
    index = NameIndex(pairs, Rule(prefix, right_boundary, case_sensitive))
    tally = index.tally(documents)
    return Counts(tally.n_documents, index.table(tally), Report())


def _fold(text: str) -> str:
    """Return a text in lower case, each character by itself: `str.lower`, and no final sigma.

    `str.lower` alone writes a sigma at the end of a word in another way than within it, so that a
    text could lose a name by being put in lower case.
    """
    return text.lower().replace("ς", "σ")


class NameIndex:
    """The distinct names of pairs, made ready for the search, and the pairs that each is in.

    `pairs` and `rule` are those of `count_documents`, which says what is raised. Names are found by
    a `name_matching.scanner`. An index can be pickled.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], rule: Rule = _PUBLISHED) -> None:
        if not isinstance(rule.prefix, str):
            raise ValueError(f"prefix is {rule.prefix!r}; give a string, '' for none")
        self.pairs, self.rule = _checked(pairs), rule
        written = (lambda name: name) if rule.case_sensitive else _fold
        names: dict[str, int] = {}
        distinct: dict[tuple[int, int], int] = {}
        self._rows = []
        for pair in self.pairs:
            subject, obj = (names.setdefault(written(name), len(names)) for name in pair)
            both = distinct.setdefault((subject, obj), len(distinct))
            self._rows.append((subject, obj, both))
        self.n_names, self.n_both = len(names), len(distinct)
        before = _encoded(written(rule.prefix))
        self._scanner = scanner([before + _encoded(name) for name in names])
        self._bits = len(names).bit_length()
        self._linked = _Links(distinct, len(names))

    def for_tally(self) -> NameIndex:
        """Return an index that can count and makes no table: a copy without the names as text."""
        bare = copy(self)
        bare.pairs, bare._rows = [], []
        return bare

    def tally(self, documents: Iterable[str | bytes]) -> Tally:
        """Count documents, many of them in one search, and work in proportion to their names."""
        names, both = (np.zeros(n, dtype=np.int64) for n in (self.n_names, self.n_both))
        n_documents, alone = 0, False
        for batch, ends in self._batches(documents):
            n_documents += len(batch)
            if alone and max(map(len, batch)) < _LARGE:
                name, document = self._scanner.firsts(batch)
                present = np.sort(document << self._bits | name)
            else:
                present, n = self._present(batch, ends)
                # To search each document by itself, for first places only, costs as much as to
                # copy 8 kB of it or to find four names once more.
                more = n - len(present) + ends[-1] / 2048
                alone = more > 4 * len(batch) and not self.rule.right_boundary
            name = present & (1 << self._bits) - 1
            np.add.at(names, name, 1)
            np.add.at(both, self._linked.of(present, name), 1)
        return Tally(n_documents, names.tolist(), both.tolist())

    def _batches(self, documents: Iterable[str | bytes]) -> Iterator[tuple[list[bytes], list[int]]]:
        """Yield the documents as they are searched, some at a time, and where each ends."""
        # The first of them are few, by which the way of the search is chosen.
        done, batch, ends, end, most = 0, [], [], 0, _BATCH >> 4
        ready = bytes if self.rule.case_sensitive else ()
        for document in documents:
            if not isinstance(document, ready):
                document = (_encoded if ready else _folded)(document, done + len(batch) + 1)
            batch.append(document)
            end += len(document) + 1  # a byte stands between them
            ends.append(end)
            if end > most:
                yield batch, ends
                done, batch, ends, end, most = done + len(batch), [], [], 0, _BATCH
        if batch:
            yield batch, ends

    def _present(self, batch: list[bytes], ends: list[int]) -> tuple[np.ndarray, int]:
        """Return, in order and once each, document << bits | name, and how often these stand."""
        # No name holds this byte, so that none reaches from one document into the next.
        text = b"\xff".join(batch)
        found, n = [np.empty(0, np.int64)], 0
        for name, end in self._scanner.matches(text):
            if self.rule.right_boundary:
                free = ~_words_at(text, end)
                name, end = name[free], end[free]
            if len(name):
                found.append(_distinct(np.searchsorted(ends, end) << self._bits | name))
                n += len(name)
        return _distinct(np.concatenate(found)) if found[2:] else found[-1], n

    def table(self, tally: Tally) -> pd.DataFrame:
        """Return the counts of a tally, one row per pair, as `count_documents` describes."""
        import pandas as pd

        try:
            names = pd.DataFrame(self.pairs, columns=["subject", "object"], dtype="str")
        except UnicodeEncodeError:  # this type of pandas has no lone surrogates
            names = pd.DataFrame(self.pairs, columns=["subject", "object"], dtype="object")
        subjects, objects, pairs = zip(*self._rows, strict=True)
        counts = {
            "n_subject": [tally.names[i] for i in subjects],
            "n_object": [tally.names[i] for i in objects],
            "n_both": [tally.both[i] for i in pairs],
        }
        return names.assign(**pd.DataFrame(counts, dtype="int64"))


def _distinct(numbers: np.ndarray) -> np.ndarray:
    numbers, new = np.sort(numbers), np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=new[1:])
    return numbers[new]


class _Links:
    """The objects of each subject, and the number of the pair that both are."""

    def __init__(self, distinct: dict[tuple[int, int], int], n_names: int) -> None:
        pairs = np.array(list(distinct), dtype=np.int64)
        self._pairs = np.argsort(pairs[:, 0], kind="stable")
        self._objects = pairs[self._pairs, 1]
        self._many = np.bincount(pairs[:, 0], minlength=n_names)
        self._first = self._many.cumsum() - self._many

    def of(self, present: np.ndarray, name: np.ndarray) -> np.ndarray:
        """Return the pairs of which both names are present, one for each document they are in."""
        n = self._many[name]
        at = np.arange(n.sum()) + (self._first[name] - (n.cumsum() - n)).repeat(n)
        wanted = (present - name).repeat(n) + self._objects[at]
        here = present.take(np.searchsorted(present, wanted), mode="clip") == wanted
        return self._pairs[at[here]]


def _checked(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    if not isinstance(pairs, Iterable) or hasattr(pairs, "columns"):
        kind = type(pairs).__name__
        raise ValueError(
            f"pairs is of type {kind}; pass a list of (subject, object), as zip(subjects, objects)"
        )
    checked = []
    for row, pair in enumerate(pairs):
        if isinstance(pair, str | bytes) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(f"row {row} of pairs is {pair!r}; pass (subject, object) a row")
        for name in pair:
            if not isinstance(name, str) or not name:
                raise ValueError(
                    f"row {row} of pairs has the name {name!r}; give a string that is not empty, "
                    "or drop the row"
                )
        checked.append((pair[0], pair[1]))
    if not checked:
        raise ValueError("pairs is empty; pass at least one (subject, object)")
    return checked


def _encoded(text: str, number: int = 0) -> bytes:
    try:
        return text.encode("utf-8", "surrogatepass")
    except AttributeError:
        kind = type(text).__name__
        raise TypeError(f"document {number} is of type {kind}; pass str or bytes") from None


def _folded(document: str | bytes, number: int) -> bytes:
    text = document if isinstance(document, bytes) else _encoded(document, number)
    if text.isascii():
        return text.lower()
    try:
        _decoded(text)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"document {number} is not UTF-8 ({error.reason} at byte {error.start}), so its "
            "letters cannot be put in lower case; decode it first"
        ) from None
    # The letters of ASCII all at once; of the others a document has few.
    folded = text.lower()
    for character in set(_decoded(text.translate(None, _ASCII))):
        if (lower := _fold(character)) != character:
            folded = folded.replace(_encoded(character), _encoded(lower))
    return folded


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


_WORDS = np.array([chr(i).isalnum() or chr(i) == "_" for i in range(128)] + [False] * 128)


def _words_at(text: bytes, places: np.ndarray) -> np.ndarray:
    """Tell at which places a word character begins; broken bytes are none."""
    bytes_ = np.frombuffer(text, np.uint8).take(places, mode="clip")
    words = _WORDS[bytes_] & (places < len(text))
    for i in np.flatnonzero(bytes_ >= 0xC2).tolist():
        at, length = int(places[i]), 2 + (bytes_[i] >= 0xE0) + (bytes_[i] >= 0xF0)
        try:
            words[i] = text[at : at + length].decode("utf-8").isalnum()
        except UnicodeDecodeError:
            pass
    return words


def read_pairs(
    path: str | Path, columns: Sequence[str] = ("subject", "object")
) -> list[tuple[str, str]]:
    """Return two columns of a CSV or TSV file in UTF-8, every cell as it stands.

    Fields are separated by tabs when the name ends in `.tsv`, or when only then the header has both
    columns. Raises `ValueError` for an absent column, an empty name, a row with more fields than
    the header and text that is no such table, with the line as an editor counts it.
    """

    def bad(reason: object, line: int | None = None) -> ValueError:
        place = f"pairs {path}" if line is None else f"pairs {path}, line {line}"
        return ValueError(f"{place}: {reason}")

    try:
        data = Path(path).read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise bad(f"{error.strerror or error}; pass a CSV or TSV file") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise bad(f"no UTF-8 ({error.reason}); save the file as UTF-8", line) from error
    reasons = []
    for separator in "\t," if str(path).lower().endswith(".tsv") else ",\t":
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        try:
            header = next(rows, [])
        except csv.Error as error:
            reasons.append(f"{error}; pass a CSV or TSV file")
            continue
        if not (absent := [name for name in columns if name not in header]):
            break
        reasons.append(
            f"no column {' and no column '.join(absent)}, only {', '.join(header)}; give its "
            "columns of subjects and objects (--columns)"
        )
    else:
        raise bad(reasons[0], 1)
    places = [header.index(name) for name in columns]
    pairs, line = [], rows.line_num + 1
    try:
        for row in rows:
            if len(row) > len(header):
                reason = f"{len(row)} fields, but the header has {len(header)}"
                raise bad(f"{reason}; put quotes around a field that holds the separator", line)
            if row:
                subject, obj = (row[place] if place < len(row) else "" for place in places)
                if not subject or not obj:
                    raise bad("a name is empty; fill it in or drop the row", line)
                pairs.append((subject, obj))
            line = rows.line_num + 1
    except csv.Error as error:
        raise bad(f"{error}; write a quote within quotes twice", line) from error
    return pairs
