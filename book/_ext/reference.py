"""Link the first use of a function in the code of a page to its place in the reference."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from docutils import nodes

IMPORT = re.compile(r"^from (helpers[\w.]*) import (\([^)]*\)|.*)$", re.M)
NAME = re.compile(r"(\w+)(?: as (\w+))?")


def imported(code: str) -> dict[str, str]:
    """Return what code imports from the helpers: name on the page -> full name."""
    found = {}
    for package, names in IMPORT.findall(code):
        for name, alias in NAME.findall(names):
            found[alias or name] = f"{package}.{name}"
    return found


def places(objects: Mapping[str, Any]) -> dict[str, str]:
    """Return where the reference has a function: by the name in its wing, and in its module."""
    found = {}
    for name, known in objects.items():
        if known.objtype in ("function", "class"):
            package, _, own = name.rpartition(".")
            module = getattr(import_module(package), own).__module__
            found[name] = found[f"{module}.{own}"] = name
    return found


def uses(code: str, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give a pattern of the html of each function that code may use, and its reference name."""
    span, dot = '<span class="n">{}</span>', '<span class="o">[.]</span>'
    bare = '(?<!<span class="o">.</span>)' + span + '(?=<span class="p">[(])'
    for name, full in imported(code).items():
        if full in known:
            yield bare.format(name), known[full]
        for attribute in dict.fromkeys(re.findall(rf"\b{name}\.(\w+)", code)):
            if f"{full}.{attribute}" in known:
                pattern = span.format(name) + dot + span.format(attribute)
                yield pattern, known[f"{full}.{attribute}"]


def _link(app, page, template, context, doctree) -> None:
    if doctree is None or "body" not in context:
        return
    objects = app.env.get_domain("py").objects
    code = "\n".join(block.astext() for block in doctree.findall(nodes.literal_block))
    for pattern, name in uses(code, places(objects)):
        href = f"{context['pathto'](objects[name].docname)}#{objects[name].node_id}"
        start = f'<a class="reference internal" href="{href}" title="{name}">'
        context["body"] = re.sub(
            pattern, lambda m, start=start: f"{start}{m[0]}</a>", context["body"], count=1
        )


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.connect("html-page-context", _link)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
