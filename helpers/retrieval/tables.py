"""The rows of Parquet and Arrow files, in bounded memory whatever the file unfolds to."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from helpers.retrieval.packed import BUFFER, Left, too_large

_ROWS = 64
_AS_BYTES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}
# A byte that no file has; to go there is an error of the system's.
_FAR = 1 << 40
# Kinds of messages in an Arrow stream, as its format numbers them.
_DICTIONARY, _RECORDS = 2, 3


_Rows = Iterator[tuple[int, bytes | Left]]


def parquet_rows(
    file: BinaryIO, headers: BinaryIO, column: str, largest: int, part: tuple[float, float]
) -> _Rows:
    """Yield the number and the value, as bytes, of each row of some row groups of a Parquet file.

    `headers` is the file once more, to look at the sizes of pages before one is unpacked. A row
    group is read when its number, as a share of all, is in the interval `part`, without its end. A
    value of more than `largest` bytes is a `Left`, as are the rows of a group with a dictionary of
    more than that (half of that in a column of categories) or a page of more than twice that; its
    number is that of its last row. Raises what Arrow raises.
    """
    # Page by page, for a row group may be larger than memory.
    table = ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
    schema = table.schema_arrow
    why = _no_text(schema, column)
    paths = [table.schema.column(i).path for i in range(len(table.schema))]
    leaves = [i for i, path in enumerate(paths) if f"{path}.".startswith(f"{column}.")]
    last, most = 0, largest
    if not why and pa.types.is_dictionary(schema.field(schema.names.index(column)).type):
        most //= 2
    groups = _row_groups(headers, table.metadata.serialized_size)
    for i, (n_rows, chunks) in enumerate(groups):
        number, last = last, last + n_rows
        if not part[0] <= i / len(groups) < part[1] or not n_rows:
            continue
        pages = [] if why else [_largest_pages(headers, *chunks[leaf]) for leaf in leaves]
        words, page = map(max, zip((0, 0), *pages, strict=True))
        left = why
        if words > most:
            left = too_large(words, most, of="the dictionary of these rows")
        elif page > 2 * largest:
            left = too_large(page, largest, 2, "a page of these rows")
        if left:
            yield last, left._replace(n=n_rows)
            continue
        # No value is larger than the page that it, or the dictionary that it is from, is in.
        rows = max(1, min(_ROWS, largest // max(words, page, 1)))
        for batch in table.iter_batches(rows, [i], [column], use_threads=False):
            for value in _values(batch.column(0), largest):
                number += 1
                yield number, value


def arrow_rows(file: BinaryIO, column: str, largest: int) -> _Rows:
    """Yield the number and the value, as bytes, of each row of a stream of Arrow batches.

    A value of more than `largest` bytes is a `Left`, as are the rows of a batch that takes more
    than twice that, with its dictionaries; its number is that of its last row. Raises what Arrow
    raises.
    """
    head, why, number, words = b"", None, 0, 1
    for message in _messages(file, largest):
        large = words + message.memory > 2 * largest
        if message.kind != _RECORDS:
            if large:
                why = too_large(message.memory, largest, 2, "the dictionary of these rows")
                continue
            words += message.memory
            head += message.head + _read(file, message.n_body)
            if message.kind != _DICTIONARY:
                why = _no_text(pa.ipc.open_stream(head).schema, column)
        elif why or large:
            number += message.rows
            left = why or too_large(message.memory, largest, 2, "the batch of these rows")
            yield number, left._replace(n=message.rows)
        else:
            data = b"".join([head, message.head, _read(file, message.n_body)])
            batch = pa.ipc.open_stream(data).read_next_batch()
            values = batch.column(batch.schema.names.index(column))
            rows = max(1, min(_ROWS, largest // words))
            for i in range(0, len(values), rows):
                for value in _values(values.slice(i, rows), largest):
                    number += 1
                    yield number, value


def _no_text(schema: pa.Schema, column: str) -> Left | None:
    """Return why no row of a column can hold a text, or None when each may."""
    if column not in schema.names:
        return Left(
            "no text", f"no column {column!r}, only {', '.join(map(repr, schema.names[:10]))}"
        )
    of = kind = schema.field(schema.names.index(column)).type
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_null(kind):
        return Left("no text", f"no value in column {column!r}")
    fits = kind in _AS_BYTES or kind in _AS_BYTES.values()
    return None if fits else Left("not a string", f"{column!r} is of type {of}")


def _values(array: pa.Array, largest: int) -> Iterator[bytes | Left]:
    array = array.storage if isinstance(array, pa.ExtensionArray) else array
    if pa.types.is_dictionary(array.type):
        array.indices.validate(full=True)
        array = array.dictionary_decode()
    # Bytes, for bytes that are no UTF-8 would stop the whole batch.
    array = array.view(_AS_BYTES.get(array.type, array.type))
    array.validate(full=True)
    # Views of many rows may be of the same bytes.
    small = array.nbytes <= largest and not pa.types.is_binary_view(array.type)
    for value in array.to_pylist() if small else array:
        if not small:
            size = value.as_buffer().size if value.is_valid else 0
            value = too_large(size, largest) if size > largest else value.as_py()
        yield Left("no text", "the row has no value") if value is None else value


def _row_groups(file: BinaryIO, n_footer: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """Return the number of rows of each row group, and where its column chunks begin and end.

    Arrow's own metadata end the whole process where some numbers in a damaged file do not fit.
    """
    file.seek(-8 - n_footer, 2)
    try:
        fields, _ = _struct(file.read(n_footer), 0)
        groups = []
        for group in fields[4]:
            chunks = []
            for chunk in group[1]:
                begin, words, size = (chunk[3].get(i, 0) for i in (9, 11, 7))
                begin = words if 0 < words < begin else begin
                chunks.append((begin, begin + size))
            groups.append((group[3], chunks))
    except (LookupError, TypeError, AttributeError) as error:
        raise pa.ArrowInvalid(f"the footer is broken ({error!r})") from None
    return groups


def _largest_pages(file: BinaryIO, place: int, end: int) -> tuple[int, int]:
    """Return the bytes, unpacked, of the largest dictionary and other page of a column chunk."""
    largest = [0, 0]
    while place < end:
        fields, n_header = _page(file, place)
        other = fields.get(1) != 2
        largest[other] = max(largest[other], fields[2])
        place += n_header + fields[3]
    return largest[0], largest[1]


def _page(file: BinaryIO, place: int) -> tuple[dict[int, int], int]:
    """Return the header of a page (1: its kind, 2: its bytes unpacked, 3: packed) and its size."""
    n = 1 << 10
    if not 0 <= place < _FAR:
        raise pa.ArrowInvalid(f"a page at byte {place}")
    while True:
        file.seek(place)
        head = file.read(n)
        try:
            fields, n_header = _struct(head, 0)
            break
        except IndexError:
            if len(head) < n or n > 1 << 20:
                raise pa.ArrowInvalid(f"no header of a page at byte {place}") from None
            n *= 8
    sizes = [fields.get(i) for i in (2, 3)]
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise pa.ArrowInvalid(f"the header of the page at byte {place} gives no size")
    return fields, n_header


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Read a struct in Thrift's compact protocol: its fields by number, and where it ends.

    Raises `IndexError` when the bytes end first.
    """

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise pa.ArrowInvalid("a number in a header is too long")

    def value(kind: int) -> Any:
        nonlocal at
        if kind in (4, 5, 6):
            number = varint()
            return number >> 1 ^ -(number & 1)
        if kind == 12:
            fields, at = _struct(data, at, depth + 1)
            return fields
        if kind in (9, 10):
            head = data[at]
            at += 1
            n = varint() if head >> 4 == 15 else head >> 4
            if head & 15 in (9, 10):
                raise pa.ArrowInvalid("a header has a list of lists")
            return [value(3 if head & 15 in (1, 2) else head & 15) for _ in range(n)]
        if kind not in (3, 7, 8):
            raise pa.ArrowInvalid(f"a header has a field of type {kind}")
        n = {3: 1, 7: 8}.get(kind) or varint()
        at += n
        if at > len(data):
            raise IndexError
        return data[at - n : at]

    fields, number = {}, 0
    if depth > 8:
        raise pa.ArrowInvalid("a header is nested too deeply")
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number = varint()
        if head & 15 not in (1, 2):
            fields[number] = value(head & 15)
    return fields, at + 1


class _Message(NamedTuple):
    """A message of an Arrow stream: its bytes before the body, and what it takes in memory."""

    kind: int
    head: bytes
    n_body: int
    rows: int
    memory: int


def _messages(file: BinaryIO, largest: int) -> Iterator[_Message]:
    """Yield the messages of a stream, each with the file at its body, which may be read or not."""
    while file.peek(1):
        head = _read(file, 4)
        if head == b"\xff\xff\xff\xff":
            head += _read(file, 4)
        (n,) = struct.unpack("<i", head[-4:])
        if n == 0:
            return
        if not 0 < n <= max(largest, 1 << 24):
            raise pa.ArrowInvalid(f"a message has a head of {n} bytes")
        table = _read(file, n)
        begin = file.tell()
        try:
            root = _Table(table, *struct.unpack_from("<I", table))
            kind, n_body = root.number(1, "<B"), root.number(3, "<q")
            rows, memory = 0, n_body
            if kind in (_DICTIONARY, _RECORDS):
                records = root.table(2).table(1) if kind == _DICTIONARY else root.table(2)
                rows = records.number(0, "<q")
                if records.place(3):  # compressed: each buffer begins with its size
                    for offset, length in records.pairs(2):
                        if 0 <= offset <= n_body and length >= 8:
                            file.seek(begin + offset)
                            memory += max(0, *struct.unpack("<q", _read(file, 8)))
        except (struct.error, OverflowError) as error:
            raise pa.ArrowInvalid(f"the head of a message is broken ({error})") from None
        if rows < 0 or not 0 <= n_body < _FAR:
            raise pa.ArrowInvalid("the head of a message gives no size")
        file.seek(begin)
        yield _Message(kind, head + table, n_body, rows, memory)
        file.seek(begin + n_body)


class _Table(NamedTuple):
    """A table of a FlatBuffer; its fields are numbered from 0."""

    data: bytes
    at: int

    def place(self, field: int) -> int:
        """Return where the value of a field stands, 0 when it is absent."""
        vtable = self.at - self._get("<i", self.at)
        if 4 + 2 * field >= self._get("<H", vtable):
            return 0
        offset = self._get("<H", vtable + 4 + 2 * field)
        return self.at + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        place = self.place(field)
        return self._get(form, place) if place else 0

    def table(self, field: int) -> _Table:
        place = self.place(field)
        return _Table(self.data, place + self._get("<I", place))

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        place = self.place(field)
        place += self._get("<I", place)
        for i in range(self._get("<I", place)):
            yield struct.unpack_from("<qq", self.data, place + 4 + 16 * i)

    def _get(self, form: str, place: int) -> int:
        if place < 0:
            raise struct.error("a place before its beginning")
        return struct.unpack_from(form, self.data, place)[0]


def _read(file: BinaryIO, n: int) -> bytes:
    data = file.read(n)
    if len(data) < n:
        raise pa.ArrowInvalid("the file ends within a message")
    return data
