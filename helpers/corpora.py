"""Documents of a corpus, streamed from the files in which corpora are kept."""

from __future__ import annotations

import codecs
import glob
import io
import json
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
import zstandard

# A worker process imports this module, so what only some corpora need is imported where it is used.
PACKED = (".gz", ".zst", ".zstd")
LINES = (".jsonl", ".ndjson", ".json")
TABLES = (".parquet", ".arrow")
TEXTS = (".txt", ".text")
PIECE = 1 << 15
BUFFER = 1 << 18
ROWS = 64


class CorpusError(ValueError):
    """A document cannot be read; the message names the file, the place and the reason."""


class Problem(NamedTuple):
    """What is wrong where: `place` names a line or a row of `file`, counted from 1."""

    kind: str
    file: str
    place: str
    detail: str


@dataclass
class Report:
    """Documents that could not be read: how many by kind, and the first few of each kind.

    `strict` makes the first of them an error, `CorpusError`.
    """

    counts: dict[str, int] = field(default_factory=dict)
    first: list[Problem] = field(default_factory=list)
    strict: bool = False
    most: int = 5

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
    strict: bool = False,
    report: Report | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """Yield the documents of files one by one, each as bytes in UTF-8, in constant memory.

    `source` is what `list_files` takes. JSON lines (`.jsonl`, `.ndjson`, `.json`) and plain text
    (`.txt`) may be packed (`.gz`, `.zst`, of one frame or many); tables are Parquet (`.parquet`)
    and the Arrow streams of a Hugging Face dataset on disk (`.arrow`). The text is the field or
    column `column`. A document of a text file is a `unit`, "line" or "file"; only a whole file is
    held in memory. Blank lines are no documents. An escaped lone surrogate of JSON keeps its three
    bytes.

    A document that cannot be read is left out and added to `report` with its file and line or row:
    "broken JSON", "no text" (field, column or value is absent), "not a string", "bad bytes" (no
    UTF-8), and "damaged file" for the rest of a file that is cut or corrupt; an archive may notice
    late, so that the documents just before are garbled. `strict` raises `CorpusError` instead.
    Without a report the same is said by a warning at the end. `advance` gets the number of bytes,
    as on disk, after every read. Raises `ValueError` for an unknown kind of file and
    `FileNotFoundError` when there is none.
    """
    if unit not in ("line", "file"):
        raise ValueError(f"unit is {unit!r}; choose one of line, file")
    return _read_files(list_files(source), column, unit, strict, report, advance)


def _read_files(
    files: list[str],
    column: str,
    unit: str,
    strict: bool,
    report: Report | None,
    advance: Callable[[int], None] | None,
) -> Iterator[bytes]:
    found = Report(strict=strict)
    for file in files:
        try:
            yield from _read_file(file, column, unit, found, advance)
        finally:
            if report is not None:
                report.merge(found)
                found = Report(strict=strict)
    if found.counts:
        warnings.warn(str(found), stacklevel=2)


def list_files(source: str | Path | Iterable[str | Path]) -> list[str]:
    """Return the files that a path, a glob, a folder of a dataset or an fsspec URL stands for.

    `source` may also be several of them; a file named twice is listed once. A folder must be a
    Hugging Face dataset saved to disk, of which the files of all splits are listed. Paths are
    absolute, without links. Raises `FileNotFoundError` when nothing is found and `ValueError` for
    another folder and for a file of an unknown kind.
    """
    one = isinstance(source, str | Path)
    if not one and (not isinstance(source, Iterable) or not (source := list(source))):
        raise ValueError(f"source is {source!r}; pass a path, a pattern, or a list of them")
    sources = [source] if one else source
    files: dict[str, None] = {}
    for one in sources:
        found = _remote_files(str(one)) if "://" in str(one) else _local_files(str(one))
        if not found:
            raise FileNotFoundError(f"no file {one}; correct the path or the pattern")
        files |= dict.fromkeys(found)
    for file in files:
        _kind(file)
    return list(files)


def _local_files(pattern: str) -> list[str]:
    pattern = os.path.expanduser(pattern)
    if os.path.isdir(pattern):
        return _dataset_files(pattern)
    if os.path.exists(pattern):
        return [os.path.realpath(pattern)]
    found = []
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isfile(path):
            found.append(os.path.realpath(path))
        elif _is_dataset(path):
            found += _dataset_files(path)
    return found


def _remote_files(url: str) -> list[str]:
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    if glob.has_magic(path):
        return [system.unstrip_protocol(name) for name in sorted(system.glob(path))]
    return [url] if system.exists(path) else []


def _is_dataset(folder: str) -> bool:
    return any(os.path.exists(f"{folder}/{name}.json") for name in ("dataset_dict", "state"))


def _dataset_files(folder: str) -> list[str]:
    folder = os.path.realpath(folder)
    if not _is_dataset(folder):
        raise ValueError(
            f"{folder} is a folder but no dataset saved to disk; pass a pattern such as "
            f"{folder}/*.jsonl"
        )
    if os.path.exists(f"{folder}/dataset_dict.json"):
        splits = _inside(folder, "dataset_dict.json", lambda found: found["splits"])
        return [file for split in splits for file in _dataset_files(split)]
    return _inside(
        folder, "state.json", lambda found: [file["filename"] for file in found["_data_files"]]
    )


def _inside(folder: str, name: str, names: Callable[[Any], Any]) -> list[str]:
    """Return the paths that a file of a dataset names; refuse all but those below its folder."""
    place, cure = os.path.join(folder, name), "save the dataset to disk again"
    try:
        named = names(json.loads(Path(place).read_text()))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{place} is damaged ({type(error).__name__}: {error}); {cure}") from error
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise ValueError(f"{place} does not name files as a list of texts; {cure}")
    paths = []
    for one in named:
        path = os.path.normpath(os.path.join(folder, one))
        # The file itself may be a link, as those of the hub's cache are; its folder may not.
        real = os.path.realpath(os.path.dirname(path.replace("\0", "")))
        if path == folder or "\0" in one or os.path.commonpath([folder, real]) != folder:
            raise ValueError(
                f"{place} names {one!r}, which is not inside of its folder; put the file in there, "
                "or pass its own path"
            )
        paths.append(path)
    return paths


def _kind(file: str) -> str:
    name = file.lower()
    packed = next((end for end in PACKED if name.endswith(end)), "")
    kind = os.path.splitext(name.removesuffix(packed))[1]
    if kind not in (LINES + TEXTS if packed else LINES + TEXTS + TABLES):
        raise ValueError(
            f"{file} is of no kind that can be read; name it "
            f"{', '.join(LINES + TEXTS)} (also with {' or '.join(PACKED)}) or {', '.join(TABLES)}"
        )
    return kind


def _read_file(
    file: str, column: str, unit: str, report: Report, advance: Callable[[int], None] | None
) -> Iterator[bytes]:
    kind = _kind(file)
    items, parse, word = {
        **dict.fromkeys(LINES, (_lines, _of_json, "line")),
        **dict.fromkeys(TEXTS, (_lines if unit == "line" else _whole, _of_text, unit)),
        **dict.fromkeys(TABLES, (_rows, _of_row, "row")),
    }[kind]
    number = 0
    try:
        with _open(file, advance) as stream:
            for number, item in items(stream, kind, column):
                try:
                    document = parse(item, column)
                except _Unreadable as reason:
                    report.add(Problem(reason.kind, file, f"{word} {number}", reason.detail))
                else:
                    yield document
    except Exception as error:
        if not _is_damage(error, kind):
            raise
        detail = " ".join(str(error).split()) or type(error).__name__
        report.add(Problem("damaged file", file, f"after {word} {number}", detail))


def _is_damage(error: Exception, kind: str) -> bool:
    """Tell an archive or a table that is cut or corrupt from a fault of the disk or the network."""
    if kind in TABLES:
        import pyarrow as pa

        # Arrow reports corrupt pages as an OSError without a number of the system's.
        broken = isinstance(error, pa.ArrowException) or (
            isinstance(error, OSError) and error.errno is None
        )
        return broken and not isinstance(error, MemoryError)
    return isinstance(error, EOFError | zlib.error | zstandard.ZstdError)


def _open(file: str, advance: Callable[[int], None] | None) -> BinaryIO:
    """Open a file for reading, unpacked, in a buffer of its own."""
    if "://" in file:
        import fsspec

        raw = fsspec.open(file, "rb").open()
    else:
        raw = open(file, "rb", buffering=0)
    raw = _Watched(raw, advance) if advance else raw
    if file.lower().endswith(PACKED):
        if not raw.read(1):
            raw.close()
            raise EOFError("the archive is empty")
        raw.seek(0)
        raw = _Unpacked(raw, _gzip if file.lower().endswith(".gz") else _zstandard)
    return io.BufferedReader(raw, BUFFER)


class _Watched(io.RawIOBase):
    """A file that tells how many bytes are read from it."""

    def __init__(self, raw: BinaryIO, advance: Callable[[int], None]) -> None:
        self._raw, self._advance = raw, advance
        self.seekable, self.seek, self.tell = raw.seekable, raw.seek, raw.tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._raw.readinto(buffer)
        self._advance(n)
        return n

    def close(self) -> None:
        self._raw.close()
        super().close()


def _gzip() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


def _zstandard() -> Any:
    # Long windows are common in corpora; the memory is taken only where a frame asks for it.
    return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj()


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of every frame of an archive; a frame that is cut is an `EOFError`.

    What was unpacked before a fault is given out first, which the libraries' readers do not do.
    """

    def __init__(self, raw: BinaryIO, unpacker: Callable[[], Any]) -> None:
        self._raw, self._rest, self._out = raw, b"", memoryview(b"")
        self._unpacker, self._frame = unpacker, None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out:
            data = self._rest or self._raw.read(PIECE)
            if not data:
                if self._frame is not None:
                    raise EOFError("the file ends before the archive does")
                return 0
            frame = self._frame or self._unpacker()
            self._out = memoryview(frame.decompress(data))
            self._rest = frame.unused_data
            self._frame = None if frame.eof else frame
        n = min(len(buffer), len(self._out))
        buffer[:n], self._out = self._out[:n], self._out[n:]
        return n

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Unreadable(Exception):
    def __init__(self, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail


def _lines(stream: BinaryIO, kind: str, column: str) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(stream, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line and not line.isspace():
            yield number, line


def _whole(stream: BinaryIO, kind: str, column: str) -> Iterator[tuple[int, bytes]]:
    yield 1, stream.read().removeprefix(codecs.BOM_UTF8)


def _rows(stream: BinaryIO, kind: str, column: str) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa

    if kind == ".parquet":
        from pyarrow.parquet import ParquetFile

        # Page by page, for a row group may be larger than memory.
        file = ParquetFile(stream, buffer_size=BUFFER, pre_buffer=False)
        schema = file.schema_arrow
        columns = [column] if column in schema.names else []
        batches = file.iter_batches(ROWS, columns=columns, use_threads=False)
    else:
        batches = pa.ipc.open_stream(stream)
        schema = batches.schema
    as_bytes = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    here = column in schema.names
    number = 0
    for batch in batches:
        values = batch.column(column) if here else pa.nulls(batch.num_rows)
        # Bytes, for bytes that are no UTF-8 would stop the whole batch.
        for value in values.view(as_bytes.get(values.type, values.type)).to_pylist():
            number += 1
            yield number, value


def _of_json(line: bytes, column: str) -> bytes:
    try:
        record = orjson.loads(line)
    except ValueError:
        record = _lenient(line)
    if not isinstance(record, dict):
        raise _Unreadable("no text", f"the line is no object with a field {column!r}")
    text = record.get(column)
    if type(text) is str:
        return text.encode("utf-8", "surrogatepass")
    if text is None:
        raise _Unreadable("no text", f"no field {column!r}, only {', '.join(map(repr, record))}")
    raise _Unreadable("not a string", f"{column!r} is of type {type(text).__name__}")


def _lenient(line: bytes) -> Any:
    """Read what orjson refuses and Python takes: lone surrogates, NaN."""
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Unreadable("bad bytes", f"{error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise _Unreadable("broken JSON", str(error)) from None


def _of_text(text: bytes, column: str) -> bytes:
    return _utf8(text.removesuffix(b"\n").removesuffix(b"\r"))


def _of_row(value: Any, column: str) -> bytes:
    if isinstance(value, bytes):
        return _utf8(value)
    if value is None:
        raise _Unreadable("no text", f"no column {column!r}, or no value in it")
    if isinstance(value, str):
        return value.encode()
    raise _Unreadable("not a string", f"{column!r} is of type {type(value).__name__}")


def _utf8(text: bytes) -> bytes:
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"{error.reason} at byte {error.start}"
            raise _Unreadable("bad bytes", reason) from None
    return text
