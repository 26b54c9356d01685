"""What all runs share: their command lines, tables written whole, and pieces kept on the way."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

from helpers import data, storage

# What a command returns: files to write and their texts, or a status, or nothing.
Written = Iterable[tuple[Path, str]] | int | None
Option = Callable[[ArgumentParser], Any]
# How far a run is; on stderr of a command, nowhere else.
log = logging.getLogger("experiments")


def option(*names: str, **how: Any) -> Option:
    """Return an option of a command, from what `ArgumentParser.add_argument` takes."""
    return lambda parser: parser.add_argument(*names, **how)


def parts(work: str) -> Option:
    """Return the option `--part`, the whole list by default; `work` says what a process does."""
    return option("--part", type=part, default="1/1", help=f"i/k: this process {work}")


def part(text: str) -> slice:
    """Return the slice that "i/k" names: every k-th item from the i-th on, i from 1 to k.

    It is a `type` for argparse; the k parts together hold every item once. Raises
    `ArgumentTypeError`, which argparse tells the user, for anything else.
    """
    words = text.split("/")
    if len(words) == 2 and all(word.isascii() and word.isdigit() for word in words):
        number, of = map(int, words)
        if 1 <= number <= of:
            return slice(number - 1, None, of)
    raise ArgumentTypeError(f"part is {text!r}; give i/k with i from 1 to k, such as 1/2 and 2/2")


# Where tables go, as an option or as the first word.
to_folder = partial(option, type=Path, default=data.PUBLISHED, help="where the tables go")


def command(
    name: str, *options: Option, one_thread: bool = False
) -> Callable[[Callable[[Namespace], Written]], Callable[[Sequence[str] | None], int]]:
    """Make a function of parsed options the command `python -m experiments NAME`.

    Its docstring is the help. Files that it gives are written whole, one after the other, so that
    a generator writes the first before it computes the second. `one_thread` keeps torch to one.
    """

    def decorate(run: Callable[[Namespace], Written]) -> Callable[[Sequence[str] | None], int]:
        @wraps(run)
        def main(words: Sequence[str] | None = None) -> int:
            parser = ArgumentParser(prog=f"python -m experiments {name}", description=run.__doc__)
            for add in options:
                add(parser)
            given = parser.parse_args(words)
            logging.basicConfig(format="%(message)s")
            log.setLevel(logging.INFO)
            if one_thread:
                import torch

                # Set again, it makes a pool that a process forked from this one cannot use.
                if torch.get_num_threads() != 1:
                    torch.set_num_threads(1)
            written = run(given)
            if isinstance(written, int):
                return written
            for path, text in written or ():
                data.write_atomically(path, text)
                print(path, flush=True)
            return 0

        return main

    return decorate


def digest(*settings: Any) -> str:
    """Return a name for what settings that JSON can write give: their SHA-256 sum."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def kept(path: Path, make: Callable[[], Any] | None, what: str) -> Any:
    """Return what JSON can hold, made once and kept with its sum, so that a stopped run goes on.

    `what` names it in the log. Without `make` it is None where nothing is kept.
    """
    value = storage.stored(path)
    if value is None and make is not None:
        start = time.process_time()
        value = make()
        storage.store(path, value)
        log.info(f"{what}: {time.process_time() - start:.0f} CPU s")
    return value
