"""Where the names of a long list end in a text: by Hyperscan, or by an automaton without it."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np

try:
    import hyperscan
except ImportError:  # no wheel for this machine
    hyperscan = None

# Of a larger text the matches are found piece by piece, for they may take much room.
_PIECE = 1 << 22
# With more names Hyperscan is no faster than the automaton, and takes seconds to compile them.
_MANY = 100_000
# The numbers of patterns, and for each the byte after it or the number of its document.
_Places = tuple[np.ndarray, np.ndarray]


def scanner(patterns: Sequence[bytes]) -> Hyperscan | Automaton:
    """Return a `Hyperscan` of the patterns, or an `Automaton` where it is absent or no help.

    `patterns` are distinct `bytes`, none of them empty. Both give the same matches, those of one
    end in another order. Hyperscan refuses a pattern of more than some 4,000 bytes, and gains
    nothing from 100,000 patterns on. The last patterns stay compiled, for whoever asks again.
    """
    if hyperscan is None or len(patterns) >= _MANY:
        return Automaton(patterns)
    try:
        return _compiled(tuple(patterns))
    except hyperscan.error:
        return Automaton(patterns)


class Hyperscan:
    """The patterns compiled by Hyperscan, which reads a text many bytes at a time.

    `patterns` are those of `scanner`. Several threads may search at once. Pickled, it keeps what
    was compiled, and compiles again on a machine that cannot take it. Raises `hyperscan.error`.
    """

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self._keep(patterns, {})
        self._database(0)

    def _keep(self, patterns: Sequence[bytes], databases: dict[int, hyperscan.Database]) -> None:
        self._patterns, self._databases, self._own = patterns, databases, threading.local()
        self._longest, self._lock = max(map(len, patterns)), threading.Lock()

    def __reduce__(self) -> tuple:
        # Both are compiled here, not in every process that gets them.
        both = 0, hyperscan.HS_FLAG_SINGLEMATCH
        stored = {flags: hyperscan.dumpb(self._database(flags)) for flags in both}
        return _loaded, (self._patterns, stored)

    def _database(self, flags: int) -> hyperscan.Database:
        """Return the patterns compiled with some flags, at the first call of each."""
        with self._lock:
            if flags not in self._databases:
                # Codes of bytes: the interface for plain text ends a pattern at its first zero.
                codes = [b"".join(b"\\x%02x" % byte for byte in one) for one in self._patterns]
                database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
                database.compile(expressions=codes, flags=flags)
                self._databases[flags] = database
            return self._databases[flags]

    def matches(self, text: bytes) -> Iterator[_Places]:
        """Yield patterns and their ends, wherever they are, also within one another, in pieces."""
        return _by_pieces(lambda view: self._scan([view])[0], text, self._longest, _PIECE)

    def firsts(self, documents: list[bytes]) -> _Places:
        """Return the patterns of each of some documents, once each, and which of them it is."""
        (pattern, _), ends = self._scan(documents, hyperscan.HS_FLAG_SINGLEMATCH)
        return pattern, np.arange(len(ends)).repeat(np.diff(ends, prepend=0))

    def _scan(self, texts: list, flags: int = 0) -> tuple[np.ndarray, list[int]]:
        """Return patterns and ends, shape (2, matches), and how many there are up to each text."""
        database, scratches = self._database(flags), vars(self._own)
        if flags not in scratches:
            scratches[flags] = hyperscan.Scratch(database)
        found, scan, scratch = array("I"), database.scan, scratches[flags]
        many = [scan(text, _note, 0, found.append, scratch) or len(found) // 2 for text in texts]
        return np.frombuffer(found, np.uint32).reshape(-1, 2).T, many


_compiled = lru_cache(maxsize=1)(Hyperscan)


def _note(pattern: int, begin: int, end: int, flags: int, append: Callable[[int], None]) -> None:
    append(pattern)
    append(end)


def _loaded(patterns: Sequence[bytes], stored: dict[int, bytes]) -> Hyperscan | Automaton:
    if hyperscan is None:
        return Automaton(patterns)
    try:
        load, mode = hyperscan.loadb, hyperscan.HS_MODE_BLOCK
        databases = {flags: load(one, mode) for flags, one in stored.items()}
    except hyperscan.error:  # compiled on another kind of processor
        return scanner(patterns)
    loaded = Hyperscan.__new__(Hyperscan)
    loaded._keep(patterns, databases)
    return loaded


class Automaton:
    """The patterns, those of `scanner`, in an Aho-Corasick automaton, which reads byte by byte."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        import ahocorasick_rs

        self._patterns, self._longest = patterns, max(map(len, patterns))
        # Nearly as fast as the DFA, with a twentieth of its memory.
        self._search = ahocorasick_rs.BytesAhoCorasick(
            patterns, implementation=ahocorasick_rs.Implementation.ContiguousNFA
        ).find_matches_as_indexes

    def __reduce__(self) -> tuple:
        return Automaton, (self._patterns,)

    def matches(self, text: bytes) -> Iterator[_Places]:
        """Yield what `Hyperscan.matches` does."""

        def search(view: memoryview) -> np.ndarray:
            found = chain.from_iterable(self._search(view, overlapping=True))
            return np.fromiter(found, np.int64).reshape(-1, 3).T[::2]

        return _by_pieces(search, text, self._longest, max(_PIECE >> 2, 1))

    def firsts(self, documents: list[bytes]) -> _Places:
        """Return what `Hyperscan.firsts` does."""
        found = [{one[0] for one in self._search(text, overlapping=True)} for text in documents]
        pattern = np.fromiter(chain.from_iterable(found), np.int64)
        return pattern, np.arange(len(found)).repeat(list(map(len, found)))


def _by_pieces(
    search: Callable[[memoryview], np.ndarray], text: bytes, longest: int, size: int
) -> Iterator[_Places]:
    """Yield the matches of a text by a search of its pieces, which overlap by the longest."""
    for at in range(0, len(text), size):
        first = max(at - longest + 1, 0)
        pattern, end = search(memoryview(text)[first : at + size])
        if at:  # those that end before are of the piece before
            new = end > at - first
            pattern, end = pattern[new], end[new] + np.int64(first)
        yield pattern, end
