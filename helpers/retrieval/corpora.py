"""Documents of a corpus, streamed from the files in which corpora are kept."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import zstandard

from helpers.retrieval import corpus_files
from helpers.retrieval.packed import BUFFER, Left, boundary, open_file, too_large

# A worker process imports this module, so what only some corpora need is imported where it is used.
MAX_DOCUMENT = 1 << 28
RANGE_SIZE = 1 << 28
# What an object of Python takes in memory, of those that JSON is read into.
_OBJECT = 80


class CorpusError(ValueError):
    """A document cannot be read; the message names the file, the place and the reason."""


class Problem(NamedTuple):
    """What is wrong where: `place` names a line or a row of `file`, counted from 1."""

    kind: str
    file: str
    place: str
    detail: str

    def behind(self, n: int) -> Problem:
        """Return the same problem in a file where `n` more lines or rows stand before it."""
        place = re.sub(r"\d+", lambda number: str(int(number[0]) + n), self.place)
        return self._replace(place=place)


@dataclass
class Report:
    """Documents that could not be read: how many by kind, and the first few of each kind.

    `strict` makes the first of them an error, `CorpusError`. `lines` is the number of lines that
    were read of a range, from which the places in the next range follow.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: list[Problem] = field(default_factory=list)
    strict: bool = False
    most: int = 5
    lines: int = field(default=0, compare=False)

    def add(self, problem: Problem, n: int = 1) -> None:
        """Record a problem that `n` documents have."""
        self.counts[problem.kind] = self.counts.get(problem.kind, 0) + n
        if sum(known.kind == problem.kind for known in self.first) < self.most:
            self.first.append(problem)
        if self.strict:
            raise CorpusError(f"{problem.file}, {problem.place}: {problem.kind}, {problem.detail}")

    def merge(self, other: Report) -> None:
        """Add what another report holds."""
        for kind, n in other.counts.items():
            places = [problem for problem in other.first if problem.kind == kind]
            self.add(places[0], n)
            room = self.most - sum(known.kind == kind for known in self.first)
            self.first += places[1 : 1 + max(room, 0)]

    def __str__(self) -> str:
        """Say how many documents were left out and why, with the first places of each kind."""
        lines = []
        for kind, n in self.counts.items():
            lines.append(f"left out: {n:,} x {kind}")
            places = [problem for problem in self.first if problem.kind == kind]
            lines += [f"  {p.file}, {p.place}: {p.detail}" for p in places]
            if n > len(places):
                lines.append("  ...")
        return "\n".join(lines)


def read_documents(
    source: str | Path | Iterable[str | Path],
    *,
    column: str = "text",
    unit: str = "line",
    max_document: int = MAX_DOCUMENT,
    strict: bool = False,
    report: Report | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """Yield the documents of files one by one, each as bytes in UTF-8, in bounded memory.

    `source` is what `corpus_files.list_files` takes. JSON lines (`.jsonl`, `.ndjson`, `.json`) and
    plain text (`.txt`) may be packed (`.gz`, `.zst`, of one frame or many); tables are Parquet
    (`.parquet`) and the Arrow streams of a Hugging Face dataset on disk (`.arrow`). The text is the
    field or column `column`. A document of a text file is a `unit`, "line" or "file". Blank lines
    are no documents. An escaped lone surrogate of JSON keeps its three bytes.

    A document that cannot be read is left out and added to `report` with its file and line or row:
    "broken JSON", "no text" (field, column or value is absent), "not a string", "bad bytes" (no
    UTF-8), "too large", and "damaged file" for the rest of a file that is cut or corrupt; an
    archive may notice late, so that the documents just before are garbled. Too large is a line, a
    file or a value in a table of more than `max_document` bytes; JSON that would take more than
    twice that as objects, or half of it where only Python's parser reads it; the rows of a Parquet
    row group with a dictionary of more than that or a page, unpacked, of more than twice, and of an
    Arrow batch of more than twice that; and the rest of a `.zst` file whose window is more than
    four times that and 128 MiB. Memory stays below eight times `max_document` and 300 MB.
    `strict` raises `CorpusError` instead. Without a report the same is said by a warning at the
    end. `advance` gets the number of bytes, as on disk, after every read. Raises `ValueError` for
    an unknown kind of file and `FileNotFoundError` when there is none.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from helpers.retrieval import read_documents
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "corpus.jsonl").write_text('{"text": "Rome", "year": 2026}')
    ...     print(list(read_documents(f"{folder}/*.jsonl")))
    [b'Rome']
    """
    check_reading(unit, max_document)
    files, reading = corpus_files.list_files(source), (column, unit, max_document)

    def documents() -> Iterator[bytes]:
        found = Report(strict=strict)
        for file in files:
            try:
                yield from read_range(corpus_files.Range(file), *reading, found, advance)
            finally:
                if report is not None:
                    report.merge(found)
                    found = Report(strict=strict)
        if found.counts:
            warnings.warn(str(found), stacklevel=2)

    return documents()


def check_reading(unit: str, max_document: int) -> None:
    """Raise `ValueError` for a `unit` or `max_document` that `read_documents` does not take."""
    if unit not in ("line", "file"):
        raise ValueError(f"unit is {unit!r}; choose one of line, file")
    if not isinstance(max_document, int) or max_document < 1:
        raise ValueError(f"max_document is {max_document!r}; give a number of bytes, at least 1")


def read_range(
    one: corpus_files.Range,
    column: str,
    unit: str,
    max_document: int,
    report: Report,
    advance: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """Yield the documents of one range, as `read_documents` does of whole files.

    The ranges of a file hold each of its documents once. The report counts lines from the first
    that begins in the range, and gives their number; rows, and what `strict` raises, are
    counted from the beginning of the file.
    """
    kind = corpus_files.kind(one.file)
    word, parse = {
        **dict.fromkeys(corpus_files.LINES, ("line", _of_json)),
        **dict.fromkeys(corpus_files.TEXTS, (unit, _of_text)),
        **dict.fromkeys(corpus_files.TABLES, ("row", _of_row)),
    }[kind]
    number = 0

    def add(kind: str, detail: str, n: int = 1, after: str = "") -> None:
        numbers = f" {number}" if n == 1 else f"s {number - n + 1} to {number}"
        problem = Problem(kind, one.file, f"{after}{word}{numbers}", detail[:1000])
        report.add(problem.behind(lines_before(one)) if report.strict else problem, n)

    try:
        for number, item in _items(one, column, unit, max_document, report, advance):  # noqa: B007
            if type(item) is Left:
                add(*item)
                continue
            try:
                document = parse(item, column, max_document)
            except _Unreadable as left:
                add(*left.args)
            else:
                yield document
    except Exception as error:
        if not _is_damage(error, kind):
            raise
        detail = " ".join(str(error).split()) or type(error).__name__
        if "too much memory" in detail:
            detail = f"its window is more than 4 times max_document, {max_document:,} bytes"
            add("too large", detail, after="after ")
        else:
            add("damaged file", detail, after="after ")


def lines_before(one: corpus_files.Range) -> int:
    """Return the number of lines of a file that belong to the ranges before this one."""
    if not one.start or corpus_files.kind(one.file) in corpus_files.TABLES:
        return 0
    n, place = 1, 0
    opened = open_file(one.file, 0, one.start, window=1 << 31)
    with opened as stream, suppress(EOFError, zstandard.ZstdError):
        while piece := stream.read(BUFFER):
            end = boundary(stream, 0, one.start)
            n += piece.count(b"\n", 0, None if end is None else max(end - place, 0))
            place += len(piece)
            if end is not None and place >= end:
                break
    return n


def _is_damage(error: Exception, kind: str) -> bool:
    """Tell an archive or a table that is cut or corrupt from a fault of the disk or the network."""
    if kind in corpus_files.TABLES:
        import pyarrow as pa

        # Arrow reports corrupt pages as an OSError without a number of the system's.
        broken = isinstance(error, pa.ArrowException | UnicodeDecodeError) or (
            isinstance(error, OSError) and error.errno is None
        )
        return broken and not isinstance(error, MemoryError)
    return isinstance(error, EOFError | zlib.error | zstandard.ZstdError)


class _Unreadable(Exception):
    """A document is left out; the arguments are those of `Left`."""


_Items = Iterator[tuple[int, bytes | Left]]


def _items(
    one: corpus_files.Range,
    column: str,
    unit: str,
    largest: int,
    report: Report,
    advance: Callable[[int], None] | None,
) -> _Items:
    """Yield the lines, rows or the whole of a range, each with its number."""
    file, start, stop = one
    kind = corpus_files.kind(file)
    if kind not in corpus_files.TABLES:
        with open_file(file, start, stop, window=4 * largest, advance=advance) as stream:
            if kind in corpus_files.TEXTS and unit == "file":
                yield 1, _whole(stream, largest)
            else:
                yield from _lines(stream, one, largest, report)
        return
    from helpers.retrieval import tables

    with open_file(file, advance=advance) as stream:
        if kind == ".arrow":
            yield from tables.arrow_rows(stream, column, largest)
            return
        size = os.path.getsize(file) if start or stop else 1
        part = start / size, float("inf") if stop is None else stop / size
        with open_file(file, buffer=1 << 12) as headers:
            yield from tables.parquet_rows(stream, headers, column, largest, part)


def _lines(
    stream: io.BufferedReader, one: corpus_files.Range, largest: int, report: Report
) -> _Items:
    """Yield the lines that begin after the start of a range and not after its end."""
    number, place, line = 0, 0, b""
    _, start, stop = one
    end = boundary(stream, start, stop)
    try:
        if start:  # in the middle of a line, which may go on for more than this range
            while not line.endswith(b"\n") and (line := stream.readline(BUFFER)):
                place += len(line)
                end = boundary(stream, start, stop)
                if end is not None and place > end:
                    return
        while (end is None or place <= end) and (line := stream.readline(largest + 1)):
            number += 1
            if len(line) > largest and not line.endswith(b"\n"):
                size = len(line)
                while not line.endswith(b"\n") and (line := stream.readline(BUFFER)):
                    size += len(line)
                place += size
                yield number, too_large(size, largest, of="the line")
            else:
                place += len(line)
                if number == 1 and not start:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line and not line.isspace():
                    yield number, line
            if stop is not None:
                end = boundary(stream, start, stop)
    finally:
        report.lines += number


def _whole(stream: io.BufferedReader, largest: int) -> bytes | Left:
    text = stream.read(largest + 1)
    if len(text) <= largest:
        return text.removeprefix(codecs.BOM_UTF8)
    size = len(text)
    del text
    size += sum(map(len, iter(partial(stream.read, BUFFER), b"")))
    return too_large(size, largest, of="the file")


_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.S)


def _object_size(line: bytes) -> int:
    """Return about how many bytes Python's objects of a line of JSON take, at most."""
    return _OBJECT * sum(map(line.count, (b",", b":", b"[", b"{")))


def _of_json(line: bytes, column: str, largest: int) -> bytes:
    if len(line) * _OBJECT > 2 * largest:
        size = _object_size(line)
        if size > 2 * largest:  # what stands within strings makes no objects
            size -= sum(_object_size(found[0]) for found in _STRING.finditer(line))
        if size > 2 * largest:
            raise _Unreadable(*too_large(size, largest, 2, "the line, as objects,"))
    try:
        record = orjson.loads(line)
    except ValueError:
        if len(line) > max(largest // 2, 1 << 20):
            left = too_large(len(line), largest // 2, of="a line that Python has to parse")
            raise _Unreadable(left.kind, left.detail.replace("max", "half of max")) from None
        record = _lenient(line)
    if not isinstance(record, dict):
        raise _Unreadable("no text", f"the line is no object with a field {column!r}")
    text = record.get(column)
    if type(text) is str:
        return text.encode("utf-8", "surrogatepass")
    if text is None:
        some = ", ".join(repr(name[:80]) for name in islice(record, 10)) or "an empty object"
        raise _Unreadable("no text", f"no field {column!r}, only {some}")
    raise _Unreadable("not a string", f"{column!r} is of type {type(text).__name__}")


def _lenient(line: bytes) -> Any:
    """Read what orjson refuses and Python takes: lone surrogates, NaN."""
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Unreadable("bad bytes", f"{error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise _Unreadable("broken JSON", str(error)) from None


def _of_text(text: bytes, column: str, largest: int) -> bytes:
    return _of_row(text.removesuffix(b"\n").removesuffix(b"\r"), column, largest)


def _of_row(text: bytes, column: str, largest: int) -> bytes:
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start}"
            raise _Unreadable("bad bytes", reason) from None
    return text


def read_texts(path: str | Path) -> list[str]:
    """Read texts from a file of `read_documents`: JSON lines, plain text or a table.

    Raises what it raises, `CorpusError` at the first text that cannot be read.
    """
    return [text.decode() for text in read_documents(path, strict=True)]
