"""Where the names of a long list end in a text: by Hyperscan, or by an automaton without it."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

try:
    import hyperscan
except ImportError:  # no wheel for this machine
    hyperscan = None

# Of a larger text the matches are found piece by piece, for as Python objects they take much room.
PIECE = 1 << 24
# With more names Hyperscan is no faster than the automaton, and takes seconds to compile them.
MANY = 100_000


class Matches(NamedTuple):
    """Places of patterns in a text, in the order of their ends.

    `pattern` is the number of a pattern and `end` the byte after its last one.
    """

    pattern: np.ndarray
    end: np.ndarray


def scanner(patterns: Sequence[bytes]) -> Hyperscan | Automaton:
    """Return a `Hyperscan` of the patterns, or an `Automaton` where it is absent or no help.

    `patterns` are distinct `bytes`, none of them empty. Both give the same matches, those of one
    end in another order. Hyperscan refuses a pattern of more than some 4,000 bytes, and gains
    nothing from `MANY` patterns on.
    """
    if hyperscan is None or len(patterns) >= MANY:
        return Automaton(patterns)
    try:
        return Hyperscan(patterns)
    except hyperscan.error:
        return Automaton(patterns)


class Hyperscan:
    """The patterns compiled by Hyperscan, which reads a text many bytes at a time.

    `patterns` are those of `scanner`. Several threads may search at once. Pickled, it keeps what
    was compiled, and compiles again on a machine that cannot take it. Raises `hyperscan.error`.
    """

    def __init__(self, patterns: Sequence[bytes]) -> None:
        # As codes of bytes: the interface for plain text ends a pattern at its first zero byte.
        codes = [b"".join(b"\\x%02x" % byte for byte in pattern) for pattern in patterns]
        database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        database.compile(expressions=codes, flags=0)
        self._keep(patterns, database)

    def _keep(self, patterns: Sequence[bytes], database: hyperscan.Database) -> None:
        self._patterns, self._database, self._own = patterns, database, threading.local()
        self._longest = max(map(len, patterns))

    def __reduce__(self) -> tuple:
        return _loaded, (self._patterns, hyperscan.dumpb(self._database))

    def matches(self, text: bytes) -> Matches:
        """Return every place of every pattern, also those within one another."""
        scan, own = self._database.scan, self._own
        if not hasattr(own, "scratch"):
            own.scratch = hyperscan.Scratch(self._database)

        def piece(view: memoryview) -> tuple[np.ndarray, np.ndarray]:
            found = array("I")
            scan(view, _note, 0, found.append, own.scratch)
            return np.frombuffer(found, np.uint32).reshape(-1, 2).T

        return _by_pieces(piece, text, self._longest, PIECE)


def _note(pattern: int, begin: int, end: int, flags: int, append: Callable[[int], None]) -> None:
    append(pattern)
    append(end)


def _loaded(patterns: Sequence[bytes], stored: bytes) -> Hyperscan | Automaton:
    if hyperscan is None:
        return Automaton(patterns)
    try:
        database = hyperscan.loadb(stored, hyperscan.HS_MODE_BLOCK)
    except hyperscan.error:  # compiled on another kind of processor
        return scanner(patterns)
    loaded = Hyperscan.__new__(Hyperscan)
    loaded._keep(patterns, database)
    return loaded


class Automaton:
    """The patterns, those of `scanner`, in an Aho-Corasick automaton, which reads byte by byte."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        import ahocorasick_rs

        self._patterns, self._longest = patterns, max(map(len, patterns))
        # Nearly as fast as the DFA, with a twentieth of its memory.
        self._automaton = ahocorasick_rs.BytesAhoCorasick(
            patterns, implementation=ahocorasick_rs.Implementation.ContiguousNFA
        )

    def __reduce__(self) -> tuple:
        return Automaton, (self._patterns,)

    def matches(self, text: bytes) -> Matches:
        """Return every place of every pattern, also those within one another."""
        search = self._automaton.find_matches_as_indexes

        def piece(view: memoryview) -> tuple[np.ndarray, np.ndarray]:
            found = chain.from_iterable(search(view, overlapping=True))
            table = np.fromiter(found, np.int64).reshape(-1, 3)
            return table[:, 0], table[:, 2]

        return _by_pieces(piece, text, self._longest, max(PIECE >> 4, 1))


def _by_pieces(
    search: Callable[[memoryview], tuple[np.ndarray, np.ndarray]],
    text: bytes,
    longest: int,
    size: int,
) -> Matches:
    """Return the matches of a text by a search of its pieces, which overlap by the longest."""
    view, parts = memoryview(text), []
    for at in range(0, len(text) or 1, size):
        first = max(at - longest + 1, 0)
        pattern, end = search(view[first : at + size])
        if at:
            end = end.astype(np.int64) + first
            pattern, end = pattern[end > at], end[end > at]
        # Both find them in this order; Hyperscan does not promise it.
        if (end[1:] < end[:-1]).any():
            order = np.argsort(end, kind="stable")
            pattern, end = pattern[order], end[order]
        parts.append((pattern, end))
    return Matches(*(map(np.concatenate, zip(*parts, strict=True)) if at else parts[0]))
