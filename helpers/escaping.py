"""Texts of other people on our pages and screens: shown as they are, never run or typeset."""

from __future__ import annotations

import re
import sys
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

_MOST = 1000


def printable(text: object, most: int = _MOST) -> str:
    """Return a text in one line of at most `most` characters, with control characters spelt out."""
    words = str(text)[: most + 1]
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def markdown(text: object, most: int = _MOST) -> str:
    """Return a text that Markdown shows letter by letter: no HTML, role, link, formula or table."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable(text, most))


def html(text: object, most: int = _MOST) -> str:
    """Return a text that HTML shows letter by letter."""
    return escape(printable(text, most))


def code(text: object) -> str:
    """Return a text as a code span of Markdown, whatever backticks are in it."""
    shown = printable(text, sys.maxsize)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    room = " " if len(fence) > 1 else ""
    return f"{fence}{room}{shown}{room}{fence}"


def label(text: object) -> str:
    """Return a name for a figure: a dollar begins no formula, and a legend leaves none out."""
    shown = printable(text, 80).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def styled(frame: pd.DataFrame) -> Styler:
    """Return the styles of a table with its cells and heads escaped, which pandas does not do.

    A later `format` is for numbers, for it escapes no more.
    """
    style = frame.style.format(escape="html")
    for axis in (0, 1):
        style.format_index(escape="html", axis=axis).format_index_names(escape="html", axis=axis)
    return style
