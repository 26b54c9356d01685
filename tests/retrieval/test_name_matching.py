"""Places of many names in a text: both engines against a plain loop and against each other."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import hyperscan
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.data import ROOT
from helpers.retrieval import counting, name_matching

# Few letters, so that names overlap and begin alike; among them a zero byte, half of a surrogate
# pair, and what has a meaning in regular expressions.
names = st.text("ab é\0\n.\\(\ud83d", min_size=1, max_size=6).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
noise = st.sampled_from([b"", b"\xff", b"\xc3", b"a", b" ", b"\0"])
ENGINES = [name_matching.Hyperscan, name_matching.Automaton]


def places(pieces):
    return sorted(tuple(one) for piece in pieces for one in np.transpose(piece).tolist())


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
    st.sampled_from([1, 3, 8, name_matching._PIECE]),
)
def test_places_are_those_of_a_loop(patterns, pieces, size):
    text = b"".join(patterns[p % len(patterns)] if isinstance(p, int) else p for p in pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name_matching, "_PIECE", size)
        for engine in ENGINES:
            assert places(engine(patterns).matches(text)) == loop(text, patterns)


@given(
    st.lists(names, min_size=1, max_size=12, unique=True),
    st.lists(st.lists(st.one_of(noise, st.integers(0, 11)), max_size=9), min_size=1, max_size=5),
)
def test_first_places_are_one_for_each_name_of_each_document(patterns, drawn):
    documents = [
        b"".join(patterns[p % len(patterns)] if isinstance(p, int) else p for p in pieces)
        for pieces in drawn
    ]
    held = [(i, d) for d, text in enumerate(documents) for i, p in enumerate(patterns) if p in text]
    for engine in ENGINES:
        assert places([engine(patterns).firsts(documents)]) == sorted(held)


def test_names_of_every_byte_and_of_many_lengths():
    patterns = [b"<{" + bytes([i]) for i in range(256)]
    starts = [b"*" + bytes(97 + i % 26 for i in range(n)) for n in range(300)]
    for engine in ENGINES:
        found = engine(patterns).matches(b"".join(patterns))
        assert places(found) == [(i, 3 * i + 3) for i in range(256)]
        found = engine(starts).matches(b"*" + starts[-1])
        assert places(found)[1:] == [(0, 2), *((n, n + 2) for n in range(1, 300))]


def test_many_names_in_a_large_text_that_has_them_seldom():
    rng = np.random.default_rng(0)
    patterns = [f" {i:x}".encode() for i in range(5_000)]
    text = b"".join(patterns[i] + b"-" * 400 for i in rng.integers(5_000, size=3000))
    ours, theirs = (places(engine(patterns).matches(text)) for engine in ENGINES)
    assert ours == theirs and len(ours) > 3000


def test_names_that_hyperscan_refuses_are_found_all_the_same():
    long = "n" * 6000
    with pytest.raises(hyperscan.error, match="length"):
        name_matching.Hyperscan([long.encode()])
    counts = counting.count_documents([f" {long} b", " b"], [(long, "b")])
    assert counts.table.iloc[0, 2:].tolist() == [1, 2, 1]


def test_very_many_names_go_to_the_automaton(monkeypatch):
    monkeypatch.setattr(name_matching, "_MANY", 3)
    for n, engine in ((2, name_matching.Hyperscan), (3, name_matching.Automaton)):
        made = name_matching.scanner([b"a", b"ab", b"b"][:n])
        assert type(made) is engine and len(places(made.matches(b"ab"))) == n


def test_the_last_patterns_stay_compiled_and_no_others():
    first = name_matching.scanner([b"a", b"ab"])
    assert name_matching.scanner([b"a", b"ab"]) is first
    other = name_matching.scanner([b"ab", b"a"])
    assert places(other.matches(b"ab")) == [(0, 2), (1, 1)]
    assert name_matching.scanner([b"a", b"ab"]) is not first


def test_what_was_compiled_is_pickled_and_compiled_again_where_it_is_not_taken():
    made = name_matching.Hyperscan([b"a", b"ab"])
    load, (patterns, stored) = made.__reduce__()
    short = {flags: one[:-9] for flags, one in stored.items()}
    for again in (pickle.loads(pickle.dumps(made)), load(patterns, short)):
        assert isinstance(again, name_matching.Hyperscan)
        assert places(again.matches(b"ab")) == [(0, 1), (1, 2)]
        assert [one.tolist() for one in again.firsts([b"aab", b"b"])] == [[0, 1], [0, 0]]


def test_threads_may_search_at_once():
    made = name_matching.Hyperscan([b" a", b"aa"])
    text = b" aaa" * 20_000
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: places(made.matches(text)), [text] * 8))
    assert all(len(one) == 60_000 for one in found)


PROGRAM = """
import sys, pickle
sys.modules["hyperscan"] = None
from helpers.retrieval import counting, name_matching
index = counting.NameIndex([("a", "b\\0"), ("A", "b\\0")], counting.Rule("", True, False))
assert isinstance(index._scanner, name_matching.Automaton)
there = pickle.loads(bytes.fromhex(sys.argv[1]))
assert isinstance(there._scanner, name_matching.Automaton)
documents = ["a b\\0", "ab\\0!", "b\\0", "xA", "\\ud83d a"]
print([list(one.tally(documents)) for one in (index, there)])
"""


def test_without_hyperscan_the_counts_are_the_same():
    index = counting.NameIndex([("a", "b\0"), ("A", "b\0")], counting.Rule("", True, False))
    words = [sys.executable, "-c", PROGRAM, pickle.dumps(index).hex()]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    expected = list(index.tally(["a b\0", "ab\0!", "b\0", "xA", "\ud83d a"]))
    assert isinstance(index._scanner, name_matching.Hyperscan)
    assert done.stdout.strip() == str([expected, expected]), done.stderr
    assert expected == [5, [3, 3], [1]]


INTERRUPTED = """
import signal, threading, time
from helpers.retrieval import name_matching
made = name_matching.Hyperscan([b"a", b"aa"])
# Whoever started the tests may have told them to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT)).start()
try:
    for _ in range(600):
        list(made.matches(b"a" * 100_000))
except KeyboardInterrupt:
    print("interrupted", len(*next(made.matches(b"aa"))[:1]))
"""


def test_a_search_can_be_interrupted():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True)
    assert done.stdout == b"interrupted 3\n", done.stderr.decode()
