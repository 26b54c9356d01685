"""The examples in the docstrings of what the book's reference shows."""

import doctest
import re
from importlib import import_module
from inspect import getmodule

import pytest

from helpers.book import claims
from helpers.data import ROOT

SHARED = re.findall(r"autofunction:: (\S+)", (ROOT / "book" / "api_shared.md").read_text())
NAMES = [
    f"helpers.{w}.{name}" for w in claims.PAPERS for name in import_module(f"helpers.{w}").__all__
]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def find(name):
    module, _, own = name.rpartition(".")
    found = getattr(import_module(module), own)
    # Nothing but what an example imports itself, as a reader would.
    (test,) = doctest.DocTestFinder(recurse=False).find(found, own, getmodule(found), {})
    return test


@pytest.mark.parametrize("name", NAMES + SHARED)
def test_the_example_gives_what_it_shows(name):
    test = find(name)
    assert test.examples, f"{name} has no example"
    assert all(not example.options for example in test.examples)
    told = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=told.append)
    assert not told, "".join(told)


def test_an_example_that_shows_something_else_fails():
    test = find("helpers.geometry.isoscore")
    test.examples[-1].want = "(0.0, 0.5, 0.9)\n"
    told = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=told.append)
    assert "(0.0, 0.5, 0.9)" in "".join(told)
