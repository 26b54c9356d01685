"""Give the interactive pages the numbers that they carry."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from helpers.modelmap import carried, stored_families
from helpers.posterior import by_hand

# What makes the numbers of each page, by the id of the part of it that a script fills.
PAGES = {"place": lambda: carried.as_json(*stored_families.load()), "alp": by_hand.as_json}


@cache
def element(name: str) -> str:
    """Return the numbers of a page as an element of HTML; none of its text can end it early."""
    text = PAGES[name]().replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}-data">{text}</script>\n'


def _write(app) -> None:
    for name in PAGES:
        path, text = Path(app.srcdir) / "_generated" / f"{name}.html", element(name)
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", _write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
