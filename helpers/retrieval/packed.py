"""Files that are opened, unpacked and cut into ranges of bytes, in bounded memory."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import zstandard

PACKED = (".gz", ".zst", ".zstd")
_PIECE = 1 << 15
# Four bytes of zstd may stand for 128 kB: no more of it is unpacked at once.
_SIP = 1 << 12
BUFFER = 1 << 18
_WINDOW = 1 << 27


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of every frame of an archive; a frame that is cut is an `EOFError`.

    What was unpacked before a fault is given out first, which the libraries' readers do not do.
    `boundary` is the number of unpacked bytes before the first frame that begins at or after byte
    `stop` of the file; None until that frame is reached.
    """

    def __init__(
        self, raw: BinaryIO, unpacker: Callable[[], Any], start: int, stop: int | None
    ) -> None:
        self._raw, self._rest, self._out = raw, b"", memoryview(b"")
        self._unpacker, self._frame = unpacker, None
        self._place, self._stop, self._n, self.boundary = start, stop, 0, None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._out:
            if not self._rest:
                self._rest = self._raw.read(_PIECE)
                self._place += len(self._rest)
            if not self._rest:
                if self._frame is not None:
                    raise EOFError("the file ends before the archive does")
                return 0
            if self._frame is None:
                begin = self._place - len(self._rest)
                if self.boundary is None and self._stop is not None and begin >= self._stop:
                    self.boundary = self._n
                self._frame = self._unpacker()
            sip, rest = self._rest[:_SIP], self._rest[_SIP:]
            self._out = memoryview(self._frame.decompress(sip))
            self._n += len(self._out)
            self._rest = self._frame.unused_data + rest
            if self._frame.eof:
                self._frame = None
        n = min(len(buffer), len(self._out))
        buffer[:n], self._out = self._out[:n], self._out[n:]
        return n

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Watched(io.RawIOBase):
    """A file that reports how many bytes are read from it."""

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


def open_file(
    file: str,
    start: int = 0,
    stop: int | None = None,
    *,
    window: int = _WINDOW,
    buffer: int = BUFFER,
    advance: Callable[[int], None] | None = None,
) -> io.BufferedReader:
    """Open a path or an fsspec URL at byte `start`, unpacked, in a buffer of so many bytes.

    Of an archive `start` is the first byte of a frame, `stop` that of `_Unpacked`, and `window` the
    bytes of memory, at least 128 MiB, that a frame of zstd may ask for. `advance` gets the number
    of bytes, as on disk, after every read. Raises `EOFError` for an archive without a byte.
    """
    if "://" in file:
        import fsspec

        raw = fsspec.open(file, "rb").open()
    else:
        raw = open(file, "rb", buffering=0)
    raw = _Watched(raw, advance) if advance else raw
    packed = file.lower().endswith(PACKED)
    if packed and not raw.read(1):
        raw.close()
        raise EOFError("the archive is empty")
    if packed or start:
        raw.seek(start)
    if packed:
        gzip = file.lower().endswith(".gz")
        make = partial(zlib.decompressobj, zlib.MAX_WBITS | 16)
        unpacker = make if gzip else partial(_zstandard, window)
        raw = _Unpacked(raw, unpacker, start, stop)
    return io.BufferedReader(raw, buffer)


def boundary(stream: io.BufferedReader, start: int, stop: int | None) -> int | None:
    """Return how many bytes of a stream that was opened at `start` belong to what is before `stop`.

    None while that is unknown: of an archive, until as many were read; without a `stop`, for ever.
    """
    if isinstance(stream.raw, _Unpacked):
        return stream.raw.boundary
    return None if stop is None else stop - start


def _zstandard(window: int) -> Any:
    # The memory is taken only where a frame asks for it.
    return zstandard.ZstdDecompressor(max_window_size=max(window, _WINDOW)).decompressobj()


def cuts(file: str, range_size: int) -> list[int]:
    """Return the bytes at which ranges of a file begin, from 0 on, `range_size` or less apart.

    A zstd archive is cut where frames begin, so that its ranges may be larger; a gzip archive, and
    whatever is no file on this machine, is one range.
    """
    name = file.lower()
    size = os.path.getsize(file) if os.path.isfile(file) else 0
    n = -(-size // range_size)
    if n < 2 or name.endswith(".gz"):
        return [0]
    wanted = [i * size // n for i in range(n)]
    if not name.endswith(PACKED):
        return wanted
    begins, places = iter(_frames(file)), [0]
    for place in wanted[1:]:
        if place > places[-1]:
            places += next(([begin] for begin in begins if begin >= place), [])
    return places


def _frames(file: str) -> Iterator[int]:
    """Yield where each frame of a zstd archive begins, in bytes; nothing of it is unpacked.

    Ends where the archive is cut or corrupt, which is for its reader to find. Source: RFC 8878.
    """
    with open(file, "rb", buffering=0) as archive:
        size, place = os.fstat(archive.fileno()).st_size, 0

        def at(place: int, n: int) -> bytes:
            archive.seek(place)
            return archive.read(n)

        while place < size:
            head = at(place, 18)
            try:
                (magic,) = struct.unpack_from("<I", head)
                if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to be skipped
                    yield place
                    place += 8 + struct.unpack_from("<I", head, 4)[0]
                    continue
                begin, place = place, place + zstandard.frame_header_size(head)
                has_checksum = zstandard.get_frame_parameters(head).has_checksum
            except (struct.error, zstandard.ZstdError):
                return
            yield begin
            last = False
            while not last:
                if len(block := at(place, 3)) < 3:
                    return
                block = int.from_bytes(block, "little")
                last, kind, length = block & 1, block >> 1 & 3, block >> 3
                # A block of one byte repeated holds that byte alone.
                place += 3 + (1 if kind == 1 else length)
            place += 4 * has_checksum


class Left(NamedTuple):
    """In place of the last of `n` documents that are left out before they are read: why."""

    kind: str
    detail: str
    n: int = 1


def too_large(size: int, largest: int, times: int = 1, of: str = "it") -> Left:
    """Return what is said of what has `size` bytes, more than `times` times `largest`."""
    limit = "max_document" if times == 1 else f"{times} times max_document"
    return Left("too large", f"{of} has {size:,} bytes; {limit} is {times * largest:,}")
