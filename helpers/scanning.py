"""Where the names of a long list stand in a text: by an automaton, or by a sieve of beginnings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import ahocorasick_rs
import numpy as np

BLOCK, PIECE = 1 << 20, 1 << 18
# No pattern holds this byte, so that none is found beyond the end of a text.
PAD = b"\xff" * 16
ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)
LAST_BYTES = np.array([(1 << 8 * n) - 1 for n in (8, 1, 2, 3, 4, 5, 6, 7)], dtype=np.uint64)
# The C library of Linux gives the memory of a block back and asks for it anew, until it has freed
# one large array; no page of this one is touched. It makes a new process a quarter faster.
np.empty(31 << 20, np.uint8)


class Matches(NamedTuple):
    """Places of patterns in a text: number of the pattern, first byte, and the byte after it."""

    pattern: np.ndarray
    begin: np.ndarray
    end: np.ndarray


class Automaton:
    """The patterns in an Aho-Corasick automaton, which reads a text byte by byte.

    `patterns` are distinct `bytes`, none of them empty.
    """

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self._patterns = patterns
        # Nearly as fast as the DFA, with a twentieth of its memory.
        self._automaton = ahocorasick_rs.BytesAhoCorasick(
            patterns, implementation=ahocorasick_rs.Implementation.ContiguousNFA
        )

    def __reduce__(self) -> tuple:
        return Automaton, (self._patterns,)

    def matches(self, text: bytes) -> Matches:
        """Return every place of every pattern, also those within one another."""
        found = self._automaton.find_matches_as_indexes(text, overlapping=True)
        return Matches(*np.array(found, dtype=np.int64).reshape(-1, 3).T)


class Sieve:
    """The patterns by how they begin, where all of them begin with the same byte.

    Tables of the next two, four, eight and sixteen bytes of the patterns throw out nearly every
    place of that byte in a text, many places at a time. A table may let too much through and never
    too little, and what is left is compared with the patterns whole: the matches are those of
    `Automaton`, in another order, in half the time or less. `patterns` are distinct `bytes`, each
    of at least two bytes and without the byte 0xFF, as text in UTF-8 is.
    """

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self._first = patterns[0][0]
        rests = [pattern[1:] for pattern in patterns]
        self._lengths = lengths = np.array([len(rest) for rest in rests])
        self._n_words = -(-lengths // 8)
        self._word_at = np.cumsum(self._n_words) - self._n_words
        padded = (rest.ljust(-(-len(rest) // 8) * 8, b"\0") for rest in rests)
        self._words = np.frombuffer(b"".join(padded), "<u8")
        self._masks = np.full(len(self._words), LAST_BYTES[0])
        self._masks[self._word_at + self._n_words - 1] = LAST_BYTES[lengths % 8]
        starts = b"".join(rest[:16].ljust(16, b"\0") for rest in rests)
        low, high = np.frombuffer(starts, "<u8").reshape(-1, 2).T
        # Sixteen slots a pattern, so that about one place in sixteen passes a table by chance.
        bits = min(max((16 * len(rests)).bit_length(), 8), 24)
        self._shift4, self._shift8 = np.uint32(32 - bits), np.uint64(64 - bits)
        every, many = np.arange(len(rests)), 1 << bits
        one, two = every[lengths == 1], every[(lengths == 2) | (lengths == 3)]
        # A pattern that goes on for one byte, under all bytes that may follow it.
        slots = (low[one, None] + np.arange(0, 1 << 16, 256, dtype=np.uint64)).ravel()
        slots = np.concatenate([slots, low[two] & np.uint64(0xFFFF)])
        self._two = _Table(1 << 16, slots, np.concatenate([one.repeat(256), two]))
        slots4, slots8 = self._slots4(low.astype(np.uint32)), self._slots8(low)
        ends4, ends8 = ((lengths >= n) & (lengths < 2 * n) for n in (4, 8))
        more = lengths >= 16
        self._four = _Table(many, slots4[ends4], every[ends4], slots4[lengths >= 4])
        self._eight = _Table(many, slots8[ends8], every[ends8], slots8[lengths >= 8])
        self._sixteen = _Table(many, self._slots16(low[more], high[more]), every[more])

    def matches(self, text: bytes) -> Matches:
        """Return every place of every pattern, also those within one another.

        A text that ends with `PAD` is not copied.
        """
        if not text.endswith(PAD):
            text += PAD
        end = len(text) - len(PAD)
        blocks = (self._block(text, at, min(at + BLOCK, end)) for at in range(0, end or 1, BLOCK))
        pattern, at = _joined(blocks)
        return Matches(pattern, at - 1, at + self._lengths[pattern])

    def _block(self, text: bytes, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the patterns of a part of a text, and the places after their first byte."""
        pieces = [
            self._begun(text, at, min(PIECE, end - at)) for at in range(begin, end or 1, PIECE)
        ]
        short, at2, slots, at = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        found = [self._two.candidates(short, at2), self._four.candidates(slots, at)]
        # At every byte the number that the next eight are.
        eight = np.ndarray((len(text) - 7,), "<u8", text, 0, (1,))
        low = eight[at]
        slots = self._slots8(low)
        left = self._eight.passed(slots)
        at, slots, low = at[left], slots[left], low[left]
        found.append(self._eight.candidates(slots, at))
        slots = self._slots16(low, eight[at + 8])
        left = self._sixteen.passed(slots)
        found.append(self._sixteen.candidates(slots[left], at[left]))
        pattern, at = _joined(found)
        # What is left is compared whole, eight bytes at a time.
        found, word = [(pattern[:0], at[:0])], 0
        while len(pattern):
            which = self._word_at[pattern] + word
            same = (eight[at] & self._masks[which]) == self._words[which]
            pattern, at = pattern[same], at[same]
            word += 1
            last = self._n_words[pattern] == word
            found.append((pattern[last], at[last] - 8 * (word - 1)))
            pattern, at = pattern[~last], at[~last] + 8
        return _joined(found)

    def _begun(self, text: bytes, begin: int, n: int) -> tuple[np.ndarray, ...]:
        """Return what the tables of two and of four bytes let pass: slots and places of each."""
        at = np.flatnonzero(np.frombuffer(text, np.uint8, n, begin) == self._first)
        # The numbers that the next bytes are, from every byte on; `take` copies, and is faster.
        four = np.ndarray((n,), "<u4", text, begin + 1, (1,)).take(at)
        at += begin + 1
        short, at2 = four[:0], at[:0]
        if self._two:
            short = four & np.uint32(0xFFFF)
            left = self._two.passed(short)
            short, at2 = short[left], at[left]
        slots = self._slots4(four)
        left = self._four.passed(slots)
        return short, at2, slots[left], at[left]

    def _slots4(self, four: np.ndarray) -> np.ndarray:
        return (four * np.uint32(0x9E3779B1)) >> self._shift4

    def _slots8(self, low: np.ndarray) -> np.ndarray:
        return ((low * ODD[0]) >> self._shift8).astype(np.intp)

    def _slots16(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return self._slots8(low ^ (high * ODD[1]))


def _joined(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    first, second = zip(*parts, strict=True)
    return np.concatenate(first), np.concatenate(second)


class _Table:
    """Which of the slots let a place pass, and the patterns that may stand at it."""

    def __init__(
        self, size: int, slots: np.ndarray, patterns: np.ndarray, passing: np.ndarray | None = None
    ) -> None:
        slots = slots.astype(np.intp)
        counts = np.bincount(slots, minlength=size)
        self._some = counts > 0
        self._passes = self._some.copy()
        if passing is not None:
            self._passes[passing.astype(np.intp)] = True
        self._offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
        self._patterns = patterns[np.argsort(slots, kind="stable")]

    def __bool__(self) -> bool:
        return len(self._patterns) > 0

    def passed(self, slots: np.ndarray) -> np.ndarray:
        return np.flatnonzero(self._passes.take(slots))

    def candidates(self, slots: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the patterns of every slot, with the place that goes with the slot."""
        some = np.flatnonzero(self._some.take(slots))
        slots, at = slots.take(some).astype(np.intp), at.take(some)
        first = self._offsets.take(slots)
        n = self._offsets.take(slots + 1) - first
        before = n.cumsum() - n
        return self._patterns.take(np.arange(n.sum()) + (first - before).repeat(n)), at.repeat(n)
