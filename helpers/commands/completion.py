"""The command `before-ft completion`: a script that completes words after TAB."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from helpers.commands import shell

_EXAMPLES = """
bash > ~/.local/share/bash-completion/completions/before-ft
zsh > ~/.zfunc/_before-ft                 # with fpath+=~/.zfunc before compinit
"""


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "completion",
        "Print a script that completes commands, options, their values and file names after TAB. "
        "It is made once and asks no Python afterwards.",
        _EXAMPLES,
        bare=True,
    )
    made.add_argument("shell", choices=("bash", "zsh"))
    return made


def _parser_of(module: str) -> argparse.ArgumentParser:
    """Return the parser of the command that a module of `COMMANDS` has."""
    found = import_module(f"helpers.{module}")
    return found.main.parser() if hasattr(found.main, "parser") else found.parser()


def _whole() -> argparse.ArgumentParser:
    """Return the program's parser with those of all commands below it, for `shtab`."""
    import shtab

    from helpers.commands.table import COMMANDS

    made = argparse.ArgumentParser(prog=shell.PROGRAM)
    below = made.add_subparsers()
    for name, (module, about) in COMMANDS.items():
        one = _parser_of(module)
        for argument in one._actions:  # noqa: SLF001  (argparse offers no public list)
            words = argument.nargs != 0 and argument.type in (None, Path) and not argument.choices
            if words and argument.dest not in _NO_FILES:
                argument.complete = shtab.FILE
        below.add_parser(name, parents=[one], add_help=False, help=about)
    return made


def _work(given: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(_whole(), given.shell))
    return shell.OK


# Arguments that are no files.
_NO_FILES = set("signals revision device scheduler columns column prefix notebook".split())


main = shell.Command(_parser, _work)
