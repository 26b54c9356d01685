"""The commands of the package: `before-ft COMMAND --help`, or `python -m helpers`."""

from __future__ import annotations

import difflib
import os
import sys
from importlib import import_module

from helpers import __version__
from helpers.commands.table import COMMANDS


def dispatch(
    package: str,
    commands: dict[str, tuple[str, str]],
    words: list[str] | None,
    program: str | None = None,
) -> int:
    """Run the command of a package that the first word names; return its exit status.

    `commands` gives each name its module, below the package, and a line on it. Only that module is
    imported. `program` is how the package is called, `python -m PACKAGE` by default.
    """
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    if name in commands:
        return import_module(f"{package}.{commands[name][0]}").main(rest) or 0
    width = max(map(len, commands)) + 2
    told = "\n".join(f"  {each:{width}}{text}" for each, (_, text) in commands.items())
    asked, program = name in ("-h", "--help"), program or f"python -m {package}"
    if not asked:
        near = difflib.get_close_matches(name, commands, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"no command {name!r}{hint or '; there are:'}", file=sys.stderr)
        if near:
            return 2
    print(f"{program} COMMAND --help\n{told}", file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def main(words: list[str] | None = None) -> int:
    """Run a command of `COMMANDS`."""
    words = sys.argv[1:] if words is None else words
    try:
        if words[:1] in (["--version"], ["-V"]):
            print(f"before-ft {__version__}")
            return 0
        return dispatch("helpers", COMMANDS, words, "before-ft")
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
