"""Sentences of WikiText-2."""

from experiments.geometry import wikitext
from helpers import data


def test_sentences_are_prose_of_the_length_asked_for(monkeypatch, tmp_path):
    file = tmp_path / "test.txt"
    rows = [" ", " = A heading with many words in it = ", " " + "a b c d e f g h . " * 2 + "no ."]
    file.write_text("\n".join([*rows, " i j k l m n o p q ."]))
    monkeypatch.setattr(data, "fetch", lambda key: file)
    assert sorted(wikitext.sentences(2)) == ["a b c d e f g h .", "i j k l m n o p q ."]
    assert wikitext.sentences(1, seed=1) == wikitext.sentences(1, seed=1)
