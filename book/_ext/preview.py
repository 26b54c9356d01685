"""What a link to a page shows elsewhere: title, description and a picture of a computed figure."""

from __future__ import annotations

import os
import textwrap
from html import escape
from pathlib import Path

from docutils import nodes

# Written by `helpers.book.site.publish`, and copied into the root of the site.
FOLDER = "preview"


def description(doctree: nodes.document) -> str:
    """Return the first paragraph of a page in plain text; of its opening box where it has one."""
    boxes = doctree.findall(lambda n: "in-short" in getattr(n, "attributes", {}).get("classes", ()))
    place = next(boxes, doctree)
    paragraph = next(place.findall(nodes.paragraph), None)
    text = " ".join(paragraph.astext().split()) if paragraph else ""
    return textwrap.shorten(text, 200, placeholder=" ...")


def picture(source: Path, page: str) -> str | None:
    """Return the address, in the site, of a page's picture, or of the start page's without one."""
    names = [page.removeprefix("notebooks/").replace("/", "-").replace("_", "-"), "index"]
    there = source / "_generated" / "root" / FOLDER
    return next((f"{FOLDER}/{n}.png" for n in names if (there / f"{n}.png").is_file()), None)


def _tags(app, page, template, context, doctree) -> None:
    if doctree is None:
        return
    # Other sites want whole addresses: BOOK_URL is where the site will stand.
    base = os.environ.get("BOOK_URL") or app.config.html_baseurl or ""
    base = base.rstrip("/") + "/" if base else ""
    text = description(doctree)
    tags = {"og:type": "article", "og:site_name": app.config.html_title or app.config.project}
    tags |= {"og:title": app.env.titles[page].astext(), "og:description": text}
    if base:
        tags["og:url"] = f"{base}{page}.html"
    if found := picture(Path(app.srcdir), page):
        tags["og:image"] = base + found if base else f"{'../' * page.count('/')}{found}"
        tags |= {"og:image:width": "1200", "og:image:height": "630"}
    lines = [f'<meta name="description" content="{escape(text)}">']
    lines += [f'<meta property="{name}" content="{escape(v)}">' for name, v in tags.items() if v]
    lines += ['<meta name="twitter:card" content="summary_large_image">']
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.connect("html-page-context", _tags)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
