"""The command `before-ft book`: every page of the book, run and built."""

from __future__ import annotations

import argparse
from pathlib import Path

from helpers.commands import shell

_EXAMPLES = """
                                          # what `make book` does
--profile smoke --build /tmp/book         # small sizes, another folder
"""


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "book",
        "Run every notebook whose source or data changed, build the html, and print where it "
        "lies. For single notebooks and parameters see before-ft run.",
        _EXAMPLES,
    )
    add = made.add_argument
    add("--profile", default="laptop", help="smoke, laptop, paper, or a YAML file")
    add("--jobs", type=int, default=2, help="notebooks at a time; default %(default)s")
    add("--build", default="", help="folder of the results; default: build, in the checkout")
    return made


def _work(given: argparse.Namespace) -> int:
    from helpers import data

    build = Path(given.build).expanduser().resolve() if given.build else data.ROOT / "build"
    words = ["--profile", given.profile, "--jobs", str(given.jobs), "--build", str(build), "--book"]
    code = shell.run_pages(given, words, "run this from a checkout of the book")
    index = build / "html" / "index.html"
    if not code:
        shell.emit(given, str(index), {"index": str(index)})
    return code


main = shell.Command(
    _parser, _work, kept="what was finished is kept; the same command goes on from there"
)
