"""Make the html work without a network: scripts copied into it, unused remote ones left out."""

from __future__ import annotations

import shutil
from importlib.metadata import files
from importlib.util import find_spec
from pathlib import Path

FILES = ("tex-chtml.js", "output/chtml/fonts/woff-v2")
PLOTLY = "plotly.min.js"


def _copy(app, error) -> None:
    if error or app.builder.format != "html":
        return
    script = next(p for p in files("sphinx-mathjax-offline") if p.name == "tex-chtml.js")
    source = Path(script.locate()).parent
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in FILES:
        part = target / name
        part.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, part, dirs_exist_ok=True)
        else:
            shutil.copyfile(source / name, part)
    plotly = Path(find_spec("plotly").origin).parent / "package_data" / PLOTLY
    shutil.copyfile(plotly, Path(app.outdir) / "_static" / PLOTLY)
    # The theme's maps of its own sources are for those who mend it.
    for file in (Path(app.outdir) / "_static").rglob("*.map"):
        file.unlink()


def _with_plotly(app, page, template, context, doctree) -> None:
    """Give pages with a picture to explore the one copy of Plotly that all of them share."""
    if 'class="point-explorer"' in (context.get("body") or ""):
        app.add_js_file(PLOTLY)


def _without_thebe(app, page, template, context, doctree) -> None:
    """Leave out thebe, which this book does not use: it names a server, and stands twice."""

    def wanted(script) -> bool:
        text = f"{script.filename} {script.attributes.get('body', '')}"
        return "thebe" not in text.lower()

    context["script_files"] = [s for s in context.get("script_files", []) if wanted(s)]


def setup(app) -> dict:
    """Register the extension with Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.config.mathjax3_config = {"options": {"enableMenu": False}}
    app.connect("html-page-context", _without_thebe, priority=900)
    app.connect("html-page-context", _with_plotly)
    app.connect("build-finished", _copy)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
