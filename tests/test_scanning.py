"""Places of many names in a text: both engines against a plain loop and against each other."""

import pickle
import signal
import subprocess
import sys
import threading

import ahocorasick_rs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import counting, scanning
from helpers.data import ROOT

# Few bytes, so that names overlap and begin alike: among them zero, the byte between documents,
# a halved letter, half of a surrogate pair, and what means something in a regular expression.
names = st.text("ab é\0\n.\\(\ud83d", min_size=1, max_size=6).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
noise = st.sampled_from([b"", b"\xff", b"\xc3", b"a", b" ", b"\0"])
ENGINES = [scanning.Hyperscan, scanning.Automaton]


def places(matches):
    return sorted(zip(*(part.tolist() for part in matches), strict=True))


def loop(text, patterns):
    return sorted(
        (i, at + len(pattern))
        for i, pattern in enumerate(patterns)
        for at in range(len(text))
        if text.startswith(pattern, at)
    )


@given(
    st.lists(names, min_size=1, max_size=12, unique=True),
    st.lists(st.one_of(noise, st.integers(0, 11)), max_size=12),
    st.sampled_from([1, 3, 8, 1 << 24]),
)
def test_places_are_those_of_a_loop(patterns, pieces, size):
    text = b"".join(patterns[p % len(patterns)] if isinstance(p, int) else p for p in pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "PIECE", size)
        for engine in ENGINES:
            assert places(engine(patterns).matches(text)) == loop(text, patterns)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_name_of_every_byte_and_every_length(engine):
    patterns = [bytes([i]) for i in range(256)]
    assert places(engine(patterns).matches(bytes(range(256)))) == [(i, i + 1) for i in range(256)]
    patterns = [b"*" + bytes(97 + i % 26 for i in range(n)) for n in range(300)]
    assert places(engine(patterns).matches(b"*" + patterns[-1])) == [
        (0, 1), *((n, n + 2) for n in range(300))
    ]  # fmt: skip
