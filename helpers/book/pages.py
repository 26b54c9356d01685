"""What the pipeline adds to the book: each page's box, the scoreboard, the status page."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode

from helpers import escaping
from helpers.book import claims, other_choices, scoreboard

# The pictures of the start page: pages, and the name of one figure of each, drawn for a card.
_CARD = "application/x-card+png"
# Letters of a figure in a notebook from which on 256 colours must do; a site has room for few.
_LARGE = 150_000
COVER = {
    "posterior/synthetic_gmm": "fig-gmm-regimes",
    "geometry/noise_injection": "fig-noise-released",
    "retrieval/small_world": "fig-world-frequency",
    "modelmap/real_models": "fig-map-families",
    "modelmap/weights_and_maps": "fig-merge-grids",
    "synthesis/which_signal": "fig-syn-truths",
}

# The page of the cover whose figure stands for the book in links from elsewhere.
FACE = "modelmap/real_models"


class Picture(NamedTuple):
    """A figure of an executed page: its page's name and title, its own name, PNG and alt text."""

    notebook: str
    title: str
    name: str
    png: bytes
    alt: str


def label(notebook: str) -> str:
    """Return the cross-reference label of a notebook's page."""
    return notebook.replace("/", "-").replace("_", "-")


def picture(notebook: str, nb: NotebookNode, name: str, kind: str = "image/png") -> Picture | None:
    """Return a figure of an executed notebook by its name, None where it is not there.

    With the kind `_CARD` it is the figure's copy for the start page, under a name of its own.
    """
    title = re.search(r"^# (.+)$", nb.cells[0].source, re.M)
    for cell in nb.cells:
        told = cell.metadata.get("mystnb", {})
        if told.get("figure", {}).get("name") != name or cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if kind in output.get("data", {}):
                png = base64.b64decode(output["data"][kind])
                own = name if kind == "image/png" else f"card-{name}"
                png = png if kind == "image/png" else _fewer_colours(png)
                return Picture(notebook, title[1] if title else "", own, png, told["image"]["alt"])
    return None


@lru_cache
def _fewer_colours(png: bytes) -> bytes:
    """Return a PNG with 256 colours at most, a third of its size."""
    from PIL import Image

    out = io.BytesIO()
    few = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    few.save(out, "PNG")
    return out.getvalue()


def small_picture(notebook: str, nb: NotebookNode, name: str) -> Picture | None:
    """Return a figure's copy for a card or an opening box, or the figure where it has none."""
    return picture(notebook, nb, name, _CARD) or picture(notebook, nb, name)


def cover(pictures: Sequence[Picture]) -> str:
    """Return the start page's pictures in MyST, each a link to its page."""
    out = ["::::{grid} 1 2 2 2", ":gutter: 3", ""]
    for one in pictures:
        out += [f":::{{grid-item-card}} {one.title}", f":img-bottom: _generated/{one.name}.png"]
        out += [f":img-alt: {one.alt}", f":link: {label(one.notebook)}", ":link-type: ref"]
        out += [":class-card: cover", ":::", ""]
    return "\n".join([*out, "::::"]) + "\n" if pictures else ""


@lru_cache(maxsize=64)
def preview(title: str, png: bytes) -> bytes:
    """Return a picture for links to a page from elsewhere, PNG of 1200 x 630: a title, a figure."""
    from PIL import Image, ImageDraw, ImageFont, ImageOps

    card = Image.new("RGB", (1200, 630), "white")
    draw, font = ImageDraw.Draw(card), ImageFont.load_default(44)
    draw.rectangle((0, 0, 1200, 12), fill="#0072B2")
    draw.text((48, 584), "Before Fine-Tuning", fill="#48566b", font=ImageFont.load_default(26))
    lines = textwrap.wrap(title, 50, max_lines=2, placeholder=" ...")
    for i, line in enumerate(lines):
        draw.text((48, 36 + 54 * i), line, fill="#222832", font=font)
    top = 56 + 54 * len(lines)
    figure = Image.open(io.BytesIO(png)).convert("RGB")
    figure = ImageOps.contain(figure, (1104, 572 - top), Image.Resampling.LANCZOS)
    card.paste(figure, ((1200 - figure.width) // 2, top + (572 - top - figure.height) // 2))
    out = io.BytesIO()
    # This method keeps colours that few points have.
    card.quantize(256, Image.Quantize.MAXCOVERAGE).save(out, "PNG")
    return out.getvalue()


def in_short(cell: NotebookNode, shown: Picture | None) -> NotebookNode:
    """Return the opening box of a page: the text of its cell, beside the page's figure."""
    lines = [":::::{admonition} In short", ":class: in-short", ""]
    if shown:
        lines += [f":::{{image}} /_generated/{shown.name}.png", f":alt: {shown.alt}", ":::", ""]
    box = nbformat.v4.new_markdown_cell("\n".join([*lines, cell.source, ":::::"]))
    box["id"] = cell["id"]
    return box


def fold(nb: NotebookNode) -> None:
    """Fold the code of an executed page: a click opens one cell, the switch on top opens all.

    The copies of figures for the start page, which are in it by then, are left out, and the largest
    figures get fewer colours. In tables a dash stands where there is no value.
    """
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
            for output in cell.outputs:
                shown = output.get("data", {})
                shown.pop(_CARD, None)
                if len(png := shown.get("image/png", "")) > _LARGE:
                    few = _fewer_colours(base64.b64decode(png))
                    shown["image/png"] = base64.b64encode(few).decode()
                if table := shown.get("text/html"):
                    shown["text/html"] = table.replace("<td>NaN</td>", "<td>\N{EN DASH}</td>")


def box(record: Mapping[str, Any]) -> NotebookNode:
    """Return the *Reproduce this page* cell, written from the record of the run."""
    facts = record["facts"]
    shown = "\n".join(f"- {escaping.code(f'{k} = {v!r}')}" for k, v in record["parameters"].items())
    threads = f"{record['threads']} thread" + ("s" if record["threads"] > 1 else "")
    lines = [
        "::::{admonition} Reproduce this page",
        ":class: dropdown tip reproduce",
        "",
        "From the root of the repository, in the environment that `make book` creates:",
        "",
        "```shell",
        record["command"],
        "```",
        "",
        f"Parameters of this run (profile *{record['profile']}*):",
        "",
        shown,
        "",
        "| | |",
        "|---|---|",
        f"| run | {record['started']}, {record['seconds']:.0f} s "
        f"({record['cpu_seconds']:.0f} CPU s), {threads} |",
        f"| peak memory | {record['peak_mib']:,} MiB |",
        f"| commit | `{facts['commit']}` |",
        f"| versions | {facts['versions']} |",
        f"| seed | {facts['seed']} |",
        f"| hardware | {facts['hardware']} |",
        "",
        "The download button at the top of the page gives this notebook as it was executed.",
        "::::",
    ]
    cell = nbformat.v4.new_markdown_cell("\n".join(lines))
    cell["id"] = "reproduce-this-page"
    return cell


def _status_page(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the last run of every notebook, and the versions it ran with."""
    out = ["| page | profile | run | seconds | CPU s | peak MiB | claims tested | data |"]
    out.append("|---|---|---|---:|---:|---:|---:|---|")
    for r in records:
        tested = sum(row["status"] != claims.NOT_TESTED for row in r["claims"])
        state = [f"`{p}` " + ("available" if ok else "missing") for p, ok in r["data"].items()]
        profile = "own parameters" if r.get("own") else r["profile"]
        cells = [f"{{ref}}`{label(r['notebook'])}`", profile, r["started"], r["seconds"]]
        cells += [r["cpu_seconds"], r["peak_mib"], f"{tested} of {len(r['claims'])}"]
        cells.append(", ".join(state) or "none needed")
        out.append("| " + " | ".join(str(c) for c in cells) + " |")
    for text in sorted({r["facts"]["versions"] for r in records}):
        out += ["", f"Versions: {text}."]
    for text in sorted({r["facts"]["hardware"] for r in records}):
        out += ["", f"Hardware: {text}."]
    return "\n".join(out) + "\n"


def _measured(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what was measured for each claim as JSON, for the role `measured` of `book/_ext`."""
    choices = other_choices.told()
    found = {
        row["id"]: {
            "value": row["ours"],
            "text": claims.number(row["ours"]),
            "interval": row.get("interval"),
            "label": label(row["notebook"]),
            "choices": choices.get(row["id"], ""),
        }
        for row in rows
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def generated(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the generated fragments of the book by file name."""
    rows = claims.ledger(records)
    return {
        "measured.json": _measured(rows),
        "scoreboard.html": scoreboard.table(rows),
        "totals.md": scoreboard.totals(rows),
        "root/claims.json": scoreboard.as_json(rows),
        "status.md": _status_page(records),
    }


@contextmanager
def progress(names: Sequence[str]) -> Iterator[Callable[..., None]]:
    """Show one live line a notebook on a terminal; elsewhere, a line when one starts and ends.

    Yields `show(name, done, total, state)`; the first word of a state is running, ok, failed or
    unchanged.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        began: dict[str, float] = {}

        def line(name: str, done: int | None, total: int | None, state: str) -> None:
            if state == "running" and name in began:
                return
            seconds = time.time() - began.setdefault(name, time.time())
            tail = "" if state in ("running", "unchanged") else f" after {seconds:.0f} s"
            print(f"  {name}: {state}{tail}", file=sys.stderr, flush=True)

        yield line
        return
    columns = [TextColumn("{task.description:34}"), BarColumn(24), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TextColumn("{task.fields[state]}")]
    with Progress(*columns, console=console) as bars:
        ids = {
            name: bars.add_task(name, start=False, total=None, state="waiting") for name in names
        }

        def show(name: str, done: int | None, total: int | None, state: str) -> None:
            if state == "running" and not bars.tasks[ids[name]].started:
                bars.start_task(ids[name])
            change = {} if total is None else {"completed": done, "total": total}
            bars.update(ids[name], state=state, **change)
            if state != "running":
                bars.stop_task(ids[name])

        yield show


def closing_table(records: Sequence[Mapping[str, Any]]) -> None:
    """Print the end of a run: notebook, seconds, peak memory, claims, status, and what failed."""
    from rich.console import Console
    from rich.table import Table

    table = Table("notebook", "seconds", "peak MiB", "claims", "status", box=None)
    for r in records:
        tally = Counter(row["status"] for row in r.get("claims", []))
        text = " ".join(f"{n}{claims.MARKS[s]}" for s, n in sorted(tally.items()))
        state = "unchanged" if r.get("skipped") else r["status"]
        table.add_row(
            r["notebook"], f"{r['seconds']:.1f}", f"{r['peak_mib']:,}", text or "none", state
        )
    console = Console()
    console.print(table)
    for r in records:
        if r.get("failure"):
            f = r["failure"]
            where = f"code cell {f['cell']}" if f["cell"] else "no cell"
            console.print(f"\n{r['notebook']} failed in {where}: {f['line']}", markup=False)
            console.print(f"  {f['error']}", markup=False)
            if "notebook" in f:
                console.print(f"  see {f['notebook']}", markup=False)
