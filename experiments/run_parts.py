"""Shares of a list of runs, so that several processes do one list between them."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError


def add_argument(parser: ArgumentParser, work: str) -> None:
    """Add `--part` to a command, the whole list by default; `work` says what a process does."""
    parser.add_argument("--part", type=part, default="1/1", help=f"i/k: this process {work}")


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
