"""Executed notebooks -> pages of the book -> html."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

from helpers import data, storage
from helpers.book import pages
from helpers.book.planning import Task, book_source
from helpers.data import ROOT, write_atomically

# Sphinx keeps millions of objects; looking for garbage among them takes a fifth of its time.
_JUPYTER_BOOK = """
import gc, sys
gc.set_threshold(100_000, 50, 1000)
sys.modules["rfc3987_syntax"] = None
from jupyter_book.cli.main import main
main()
"""


def read_record(task: Task) -> dict[str, Any] | None:
    """Return the record of the last run of a notebook, or None if there is none to read."""
    try:
        return json.loads(task.record.read_text())
    except (OSError, json.JSONDecodeError):
        return None


def publish(tasks: list[Task], build: Path) -> list[dict[str, Any]]:
    """Put the executed notebooks, each with its box, and the generated pages into the book.

    Returns the records of all notebooks that have an executed copy under `build`.
    """
    source = book_source(build)
    if source != ROOT / "book":
        hide = shutil.ignore_patterns("notebooks", "_generated", "__pycache__")
        shutil.copytree(ROOT / "book", source, ignore=hide, dirs_exist_ok=True)
    records, pictures, leads = [], {}, {}
    for task in tasks:
        record = read_record(task)
        if record is None or record["status"] != "ok" or not task.executed.is_file():
            continue
        nb = nbformat.read(task.executed, as_version=4)
        if task.name in pages.COVER and not record.get("own"):
            pictures[task.name] = pages.small_picture(task.name, nb, pages.COVER[task.name])
        lead = nb.cells[1]
        if "in_short" in lead.metadata.get("tags", []):
            leads[task.name] = pages.small_picture(task.name, nb, lead.metadata["figure"])
            nb.cells[1] = pages.in_short(lead, leads[task.name])
        nb.cells.insert(2, pages.box(record))
        pages.fold(nb)
        nb.metadata["before_fine_tuning"] = {"digest": record["digest"]}
        nb.metadata.get("papermill", {}).pop("output_path", None)
        _write_if_changed(task.page, nbformat.writes(nb))
        records.append(record)
    outside = {n: (ROOT / n).read_text() for n in ("CONTRIBUTING.md", "CHANGELOG.md")}
    shown = [pictures[name] for name in pages.COVER if pictures.get(name)]
    outside["cover.md"] = pages.cover(shown)
    for name, text in {**pages.generated(records), **outside}.items():
        _write_if_changed(source / "_generated" / name, text)
    for found in filter(None, [*shown, *leads.values()]):
        _write_if_changed(source / "_generated" / f"{found.name}.png", found.png)
    _write_previews(source / "_generated" / "root" / "preview", leads)
    return records


def _write_previews(folder: Path, leads: dict[str, pages.Picture | None]) -> None:
    """Write what links to the pages show elsewhere: each page's lead, and one for all the rest."""
    shown = {pages.label(name): (found.title, found.png) for name, found in leads.items() if found}
    if first := leads.get(pages.FACE):
        shown["index"] = ("Which model will be good, before you fine-tune it?", first.png)
    for name, (title, png) in shown.items():
        _write_if_changed(folder / f"{name}.png", pages.preview(title, png))


def _write_if_changed(path: Path, content: str | bytes) -> None:
    new = content.encode() if isinstance(content, str) else content
    if not path.is_file() or path.read_bytes() != new:
        with storage.whole(path) as part:
            part.write_bytes(new)


def run_jupyter_book(source: Path, out: Path, *options: str) -> None:
    """Run `jupyter-book build` on a folder; raises `SystemExit` after what it complained about."""
    words = [sys.executable, "-c", _JUPYTER_BOOK, "build", str(source)]
    words += ["--config", "_config.yml", "--path-output", str(out), "--keep-going", *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        told = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).split("\n")
        named = [line for line in told if re.search("WARNING|ERROR|Error", line)]
        print("\n".join(dict.fromkeys(named or told[-40:])))
        raise SystemExit("The book did not build; the warnings above name file and line.")


def build_html(build: Path, *, whole: bool = True) -> Path:
    """Build the html with Jupyter Book unless nothing changed, and return its folder.

    Warnings are errors in the `whole` book. Where pages have not been run, links to them are dead.
    """
    source, html = book_source(build), build / "html"
    skip = {"__pycache__", ".ipynb_checkpoints"}
    files = [p for p in source.rglob("*") if p.is_file() and not skip & set(p.parts)]
    files += [ROOT / "_config.yml", ROOT / "requirements.txt"]
    files += (ROOT / "helpers").rglob("*.py")  # their docstrings are the reference
    text = "".join(f"{p}{data.sha256(p)}" for p in sorted(files))
    mark, stamp = hashlib.sha256(text.encode()).hexdigest(), build / "html.digest"
    if html.is_dir() and stamp.is_file() and stamp.read_text() == mark:
        print(f"  html: unchanged, {html / 'index.html'}")
        return html
    stamp.unlink(missing_ok=True)
    run_jupyter_book(source, build / "site", *(["-W", "-n"] if whole else []))
    shutil.rmtree(html, ignore_errors=True)
    shutil.copytree(build / "site" / "_build" / "html", html)
    write_atomically(stamp, mark)
    print(f"  html: {html / 'index.html'}{'' if whole else ', without pages that were not run'}")
    return html
