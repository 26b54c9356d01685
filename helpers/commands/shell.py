"""What every command shares: its parser, where it prints, how it fails, its exit code."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TextIO

PROGRAM = "before-ft"
OK, FAILED, _USAGE, _STOPPED = 0, 1, 2, 130
CODES = "exit codes: 0 done, 1 failed in part or in whole, 2 wrong arguments, 130 interrupted"


class Parser(argparse.ArgumentParser):
    """A parser of one command, with examples in its help, and errors of one line.

    `examples` has a command a line, without the program's name. Unless it is `bare`, a command has
    `--json` and `--quiet`.
    """

    def __init__(
        self, name: str, about: str, examples: str, more: str = CODES, *, bare: bool = False
    ) -> None:
        lines = textwrap.dedent(examples).strip("\n").splitlines()
        shown = "\n".join(f"  {PROGRAM} {name} {line}".rstrip() for line in lines)
        super().__init__(
            prog=f"{PROGRAM} {name}",
            description=textwrap.fill(about, 96),
            epilog=f"examples:\n{shown}\n\n{more}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if bare:
            self.set_defaults(json=False, quiet=False)
            return
        self.add_argument("--json", action="store_true", help="print JSON instead of text")
        self.add_argument("--quiet", action="store_true", help="no progress, no notes")

    def error(self, message: str) -> NoReturn:
        """Print one line on standard error and leave with the code of wrong arguments."""
        self.exit(_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def progress_to(given: argparse.Namespace) -> TextIO:
    """Return where progress goes: standard error, or nowhere for `--quiet`."""
    return _Nowhere() if given.quiet else sys.stderr


def models_done(n: int, texts: Sequence[str], out: str) -> str:
    """Return in words how many models have read how many texts, and where the result lies."""
    return f"{n} model{'s' * (n != 1)}, {len(texts):,} texts: {out}"


def note(given: argparse.Namespace, text: str) -> None:
    """Print a remark that is no result."""
    print(text, file=progress_to(given))


def emit(given: argparse.Namespace, text: str, value: Any) -> None:
    """Print a result on standard output: `text`, or `value` for `--json`."""
    from helpers import storage

    print(storage.json_text(value) if given.json else text)


def run_pages(given: argparse.Namespace, words: list[str], cure: str) -> int:
    """Run notebooks as `before-ft run` does, what it prints being progress; return its exit code.

    Raises `ValueError` with the cure outside a checkout of the book.
    """
    from helpers import data
    from helpers.book import pipeline

    if not (data.ROOT / "notebooks").is_dir():
        raise ValueError(f"{data.ROOT} holds no notebooks; {cure}")
    with contextlib.redirect_stdout(progress_to(given)):
        return pipeline.main(words)


class Command(NamedTuple):
    """A command: how it makes its parser, and what it does with the words parsed.

    Called with words, it does its work and returns its exit code. What the work raises becomes one
    line on standard error, after `nothing`, such as "nothing written". Bad arguments and inputs
    (`ValueError`, files that are not there) give 2, what the machine or the network refuses gives
    1. `kept` says what remains after an interruption.
    """

    parser: Callable[[], Parser]
    work: Callable[[argparse.Namespace], int]
    nothing: str = ""
    kept: str = ""

    def __call__(self, words: Sequence[str] | None = None) -> int:
        """Parse the words of the command, do its work, and return its exit code."""
        parser = self.parser()
        given = parser.parse_args(words)
        if given.quiet:
            # Read when these packages are first imported.
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
            os.environ["TRANSFORMERS_VERBOSITY"] = "error"
        try:
            return self.work(given)
        except KeyboardInterrupt:
            print(f"{parser.prog}: stopped{self.kept and f'; {self.kept}'}", file=sys.stderr)
            return _STOPPED
        except BrokenPipeError:  # met by the program
            raise
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            told = " ".join(str(error).split()) or type(error).__name__
            print(f"{parser.prog}: {self.nothing and f'{self.nothing}: '}{told}", file=sys.stderr)
            wrong = (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
            return _USAGE if isinstance(error, wrong) else FAILED
