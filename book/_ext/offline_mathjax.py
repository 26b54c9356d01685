"""Copy MathJax into the html, so that formulas are typeset without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import sphinx_mathjax_offline

FILES = ("tex-chtml.js", "output/chtml/fonts/woff-v2")


def _copy(app, error) -> None:
    if error or app.builder.format != "html":
        return
    package = Path(sphinx_mathjax_offline.__file__).parent
    source = next(package.rglob("tex-chtml.js")).parent
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in FILES:
        part = target / name
        part.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, part, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / name, part)


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.config.mathjax3_config = {"options": {"enableMenu": False}}
    app.connect("build-finished", _copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
