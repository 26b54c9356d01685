"""The scoreboard: one table of all claims to search, sort and filter, and the same as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from helpers import escaping
from helpers.book import claims
from helpers.data import ROOT

_HEADS = ("status", "claim", "kind", "part", "expected", "ours", "page")
_RUN = ("profile", "commit", "seed", "hardware", "versions")


def _link(row: Mapping[str, Any]) -> str:
    name = row["notebook"]
    if not (ROOT / "notebooks" / f"{name}.ipynb").is_file():
        return escaping.html(name)
    title = escaping.html(name.split("/")[-1].replace("_", " "))
    return f'<a href="notebooks/{name}.html">{title}</a>'


def _part(paper: str) -> str:
    return claims.PART_NAMES.get(paper, paper)


def _details(row: Mapping[str, Any]) -> str:
    """Return what a click on a claim shows: its source, the run behind it, how to cite it."""
    lines = [f"{row['where']}. Source: {row['source']}."]
    if row["threshold"]:
        lines.append(f"Threshold: {row['threshold']}")
    if row["no_interval"] and row.get("interval") is None:
        lines.append(f"No interval: {row['no_interval']}.")
    if row["note"]:
        lines.append(row["note"])
    if row["status"] != claims.NOT_TESTED:
        run = ", ".join(f"{name} {row[name]}" for name in _RUN)
        lines.append(f"Run{' (stored)' if row.get('stored') else ''}: {run}.")
    shown = "<br>".join(escaping.html(line) for line in lines)
    address = f"scoreboard.html#{row['id']}"
    # No link: the theme's script would take the id, which may hold a dot, for a selector.
    cite = f"Before Fine-Tuning, claim {row['id']} ({address})"
    return f"<details><summary>source and run</summary>{shown}<br>Cite as: {cite}</details>"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of all claims in HTML, one row per claim with the claim's id as its address.

    `rows` are those of `claims.ledger`. The statuses stand in the order of `claims.MARKS`.
    """
    out = ['<div id="scoreboard-controls"></div>', '<div class="scoreboard">', "<table>"]
    out.append("<thead><tr>" + "".join(f"<th>{head}</th>" for head in _HEADS) + "</tr></thead>")
    out.append("<tbody>")
    order = [*claims.MARKS]
    for row in sorted(rows, key=lambda r: order.index(r["status"])):
        ours = claims.ours_text(row)
        if row.get("released") is not None:
            ours += f"; released code {claims.number(row['released'])}"
        word = claims.word(row, row["status"])
        cells = [
            f"{claims.MARKS[row['status']]} {escaping.html(word)}",
            f"{escaping.html(row['statement'])}{_details(row)}",
            escaping.html(claims.kind_text(row)),
            escaping.html(_part(row["paper"])),
            escaping.html(claims.published_text(row)),
            escaping.html(ours),
            _link(row),
        ]
        keys = {"status": word, "kind": row["kind"], "part": _part(row["paper"])}
        keys |= {"page": row["notebook"]}
        marks = " ".join(f'data-{key}="{escaping.html(value)}"' for key, value in keys.items())
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        out.append(f'<tr id="{row["id"]}" {marks}>{body}</tr>')
    return "\n".join([*out, "</tbody>", "</table>", "</div>"]) + "\n"


def totals(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the scoreboard's totals as a MyST table: one line per part and kind of claim."""
    short = {claims.AS_RELEASED: "released code only", claims.NOT_TESTED: "not tested"}
    heads = {
        claims.REPRODUCED: "reproduced, holds",
        claims.NOT_REPRODUCED: "not reproduced, does not hold",
    }
    names = [f"{mark} {(heads | short).get(s, s)}" for s, mark in claims.MARKS.items()]
    out = ["| part | kind | claims | " + " | ".join(names) + " |"]
    out += ["|---|---|" + "---:|" * (len(names) + 1)]
    for paper in claims.PAPERS:
        for kind in claims.KINDS:
            chosen = [r for r in rows if r["paper"] == paper and r["kind"] == kind]
            if chosen:
                count = Counter(row["status"] for row in chosen)
                cells = [f"{{ref}}`{_part(paper)} <part-{paper}>`", kind, len(chosen)]
                cells += [count[status] for status in claims.MARKS]
                out.append("| " + " | ".join(str(c) for c in cells) + " |")
    return "\n".join(out) + "\n"


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the claims as JSON, by the schema in `book/_root/claims.schema.json`."""
    fields = ("id", "kind", "paper", "where", "statement", "published", "tolerance", "unit")
    fields += ("source", "notebook", "needs", "threshold", "exploratory", "no_interval")
    fields += ("ours", "interval", "released", "status", "note", "stored", *_RUN)
    kept = [{name: row.get(name) for name in fields} for row in rows]
    return json.dumps({"claims": kept}, indent=1, ensure_ascii=False) + "\n"
