"""Give the interactive pages the numbers that they carry, and their scripts, to no other page."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from helpers.modelmap import carried, stored_families
from helpers.posterior import by_hand

# The id of a page's part that a script fills: what makes its numbers, and the scripts.
PAGES = {
    "place": (lambda: carried.as_json(*stored_families.load()), ("placement.js", "place.js")),
    "alp": (by_hand.as_json, ("alp.js",)),
}


@cache
def element(name: str) -> str:
    """Return the numbers of a page as an element of HTML; none of its text can end it early."""
    text = PAGES[name][0]().replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}-data">{text}</script>\n'


def _write(app) -> None:
    for name in PAGES:
        path, text = Path(app.srcdir) / "_generated" / f"{name}.html", element(name)
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def _with_scripts(app, page, template, context, doctree) -> None:
    for name, (_, scripts) in PAGES.items():
        if f'id="{name}-data"' in (context.get("body") or ""):
            for script in ("interactive.js", *scripts):
                app.add_js_file(script)


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", _write)
    app.connect("html-page-context", _with_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
