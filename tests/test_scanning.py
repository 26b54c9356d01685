"""Places of many names in a text: the sieve and the automaton against a plain loop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import scanning

# Few bytes, so that names begin alike, overlap and run into the end of the text.
bodies = st.text("ab é", max_size=30).map(str.encode).map(lambda text: text[:29])
whole = st.text("ab é", min_size=1, max_size=20).map(str.encode)


def places(matches):
    return sorted(zip(*(part.tolist() for part in matches), strict=True))


def loop(text, patterns):
    return [
        (i, at, at + len(pattern))
        for i, pattern in enumerate(patterns)
        for at in range(len(text))
        if text.startswith(pattern, at)
    ]


@given(
    st.lists(whole, min_size=1, max_size=12, unique=True),
    st.lists(st.one_of(bodies, whole, whole.map(lambda text: b" " + text)), max_size=12),
    st.sampled_from([8, 16, 1 << 20]),
)
def test_places_are_those_of_a_loop(names, pieces, block):
    patterns = [b" " + name for name in names]
    text = b"".join(pieces) + b"\xff" + patterns[0]
    expected = sorted(loop(text, patterns))
    assert places(scanning.Automaton(patterns).matches(text)) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "BLOCK", block)
        assert places(scanning.Sieve(patterns).matches(text)) == expected


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100])
def test_names_of_each_length_next_to_the_end_and_cut(length):
    name = bytes(97 + i % 26 for i in range(length))
    patterns = [b"*" + name, b"*" + name + b"z", b"*" + name[:-1] + b"Z"]
    for scanner in (scanning.Automaton(patterns), scanning.Sieve(patterns)):
        whole = scanner.matches(b"**" + name)
        assert places(whole) == [(0, 1, length + 2)]
        assert places(scanner.matches(b"*" + name[:-1])) == []
        assert places(scanner.matches(b"*" + name + b"z*" + name[:-1] + b"Z")) == [
            (0, 0, length + 1),
            (1, 0, length + 2),
            (2, length + 2, 2 * length + 3),
        ]


def test_more_names_than_the_smallest_table_has_slots():
    patterns = [f" {i:x}".encode() for i in range(5000)]
    text = b"".join(patterns[::7]) + b" "
    expected = places(scanning.Automaton(patterns).matches(text))
    assert places(scanning.Sieve(patterns).matches(text)) == expected
    assert len(expected) > 5000 / 7


def test_a_text_without_names_and_an_empty_one():
    for scanner in (scanning.Automaton([b" a"]), scanning.Sieve([b" a"])):
        assert places(scanner.matches(b"")) == places(scanner.matches(b" b")) == []
