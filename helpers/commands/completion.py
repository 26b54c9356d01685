"""The command `before-ft completion`: a script that completes words after TAB."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from helpers.commands import shell

EXAMPLES = """
bash > ~/.local/share/bash-completion/completions/before-ft
zsh > ~/.zfunc/_before-ft                 # with fpath+=~/.zfunc before compinit
"""


def parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "completion",
        "Print a script that completes commands, options, their values and file names after TAB. "
        "It is made once and asks no Python afterwards.",
        EXAMPLES,
        bare=True,
    )
    made.add_argument("shell", choices=("bash", "zsh"))
    return made


def whole() -> argparse.ArgumentParser:
    """Return the program's parser with those of all commands below it."""
    from importlib import import_module

    from helpers.commands.table import COMMANDS

    made = argparse.ArgumentParser(prog=shell.PROGRAM)
    below = made.add_subparsers()
    for name, (module, about) in COMMANDS.items():
        one = import_module(f"helpers.{module}").parser()
        below.add_parser(name, parents=[one], add_help=False, help=about)
    return made


def _work(given: argparse.Namespace) -> int:
    import shtab

    made = whole()
    for action in made._subparsers._group_actions[0].choices.values():  # noqa: SLF001
        for argument in action._actions:  # noqa: SLF001
            plain = argument.nargs != 0 and argument.choices is None
            if plain and argument.type is None and argument.dest not in _WORDS:
                argument.complete = shtab.FILE
    print(shtab.complete(made, given.shell))
    return shell.OK


# Arguments that are no files.
_WORDS = {"signals", "revision", "device", "scheduler", "columns", "column", "prefix", "notebook"}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return 0."""
    return shell.call(parser(), _work, words)
