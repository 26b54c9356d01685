"""Write `benchmarks/README.md`: every ratio that the benchmarks kept, beside its aim.

Run `python benchmarks/SCRIPT.py --keep`, which writes to `ratios.jsonl`, and then
`python benchmarks/table.py`; `--check` only tells whether the page is that of the ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from _timing import RATIOS

README = Path(__file__).with_name("README.md")
PARTS = {
    "posterior.py": "posterior",
    "geometry.py": "geometry",
    "counting.py": "retrieval",
    "retrieval.py": "retrieval",
    "modelmap.py": "modelmap",
    "likelihood.py": "modelmap",
    "conformance.py": "modelmap",
    "synthesis.py": "synthesis",
}
HEAD = """# Benchmarks

How fast our helpers are compared with a peer. Both run on the same machine in the same process,
and the table has the ratio. Each script first checks that both give the same result. Ratios of
CPU time transfer to other machines better than times do, but not exactly. This page is made by
`python benchmarks/table.py` from `ratios.jsonl`, which the scripts write with `--keep`;
`make bench` runs them all. `data/published/counting_surface.csv` has the speed of five scanners
for different numbers of names and rates of matches (`python benchmarks/counting.py --surface`).

"""


def shown(value: float | None, unit: str) -> str:
    """Return a number as the table has it."""
    if value is None:
        return "-"
    if unit == "%":
        return f"{value:.0%}"
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return digits + {"x": "x", "": ""}.get(unit, f" {unit}")


def verdict(row: dict[str, Any]) -> str:
    """Return whether a ratio reaches its aim."""
    if row["ratio"] is None:
        return "not measured"
    if row["aim"] is None:
        return "no aim"
    good = row["ratio"] <= row["aim"] if row["most"] else row["ratio"] >= row["aim"]
    return "met" if good else "**missed**"


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    aim = "-" if row["aim"] is None else shown(row["aim"], row["unit"])
    bound = "" if row["aim"] is None else ("at most " if row["most"] else "at least ")
    cells = [PARTS[row["script"]], row["what"], row["peer"]]
    cells += [shown(row[side], "s") for side in ("ours", "theirs")]
    cells += [shown(row["ratio"], row["unit"]), bound + aim, verdict(row), f"`{row['command']}`"]
    return "| " + " | ".join(cells) + " |"


def page(rows: list[dict[str, Any]]) -> str:
    """Return the whole page: what was missed and not measured first, then the others by part."""
    order = {"**missed**": 0, "not measured": 1}
    parts = list(PARTS)
    rows = sorted(rows, key=lambda r: (order.get(verdict(r), 2), parts.index(r["script"])))
    told = [verdict(row) for row in rows]
    text = HEAD + f"Of {len(rows)} lines {told.count('**missed**')} miss their aim, "
    text += f"{told.count('met')} reach it, {told.count('no aim')} have none, and "
    text += f"{told.count('not measured')} were not measured. "
    text += "Times are CPU seconds of one thread unless stated otherwise.\n\n"
    text += "| part | what | peer | ours | peer's | ratio | aim | | command |\n"
    text += "|---|---|---|--:|--:|--:|--:|---|---|\n"
    text += "\n".join(line(row) for row in rows) + "\n"
    if notes := [row for row in rows if row.get("note")]:
        text += "\n" + "".join(f"- {row['what']}: {row['note']}\n" for row in notes)
    text += "\nMeasured on " + "; ".join(sorted({f"{r['machine']} ({r['date']})" for r in rows}))
    return text + ".\n"


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it differs")
    given = parser.parse_args()
    text = page([json.loads(row) for row in RATIOS.read_text().splitlines()])
    if given.check:
        sys.exit(0 if README.read_text() == text else "README.md is old; run benchmarks/table.py")
    README.write_text(text)


if __name__ == "__main__":
    main()
