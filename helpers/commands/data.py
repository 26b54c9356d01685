"""The command `before-ft data`: which registered files are available, and the rest downloaded."""

from __future__ import annotations

import argparse

from helpers.commands import shell

_EXAMPLES = """
                       # download everything, and report what is available
manifolds/ --json      # the keys that begin with this prefix
"""


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "data",
        "Download the files of the registry that are missing, all or those under a prefix, and say "
        "where each one is. BOOK_OFFLINE=1 forbids downloads.",
        _EXAMPLES,
    )
    made.add_argument("prefix", nargs="*", default=[""], help="key prefixes; none means all")
    return made


def _work(given: argparse.Namespace) -> int:
    from helpers import data

    rows, chosen = [], data.keys(*given.prefix)
    # A bar for each download in a terminal only.
    bar = False if given.quiet else None
    for key in chosen:
        try:
            rows.append({"key": key, "path": str(data.fetch(key, progress=bar))})
            line = f"ok       {key}  {rows[-1]['path']}"
        except data.DataError as error:
            rows.append({"key": key, "path": None, "why": str(error)})
            line = f"missing  {error}"
        if not given.json:
            print(line)
    missing = sum(row["path"] is None for row in rows)
    told = f"{len(rows) - missing} of {len(rows)} files available"
    shell.emit(given, told, {"files": rows, "missing": missing})
    return shell.FAILED if missing else shell.OK


main = shell.Command(_parser, _work, kept="what was downloaded is kept")
