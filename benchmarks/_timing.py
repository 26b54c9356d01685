"""What the benchmarks share: their options, the CPU time of a function, and ratios to keep."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers import storage

Value = TypeVar("Value")
RATIOS = Path(__file__).with_name("ratios.jsonl")
_kept: list[dict[str, Any]] = []


def timed(function: Callable[[], Value], repeats: int) -> tuple[Value, float]:
    """Return the value of a function and the least CPU seconds it took."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        value = function()
        seconds.append(time.process_time() - start)
    return value, min(seconds)


def parser(about: str | None, *, quick: str, repeats: int = 3) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has: `--quick`, `--repeats`, `--keep`.

    `quick` says what is smaller then, `repeats` is the default number of runs.
    """
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument(
        "--repeats", type=int, default=repeats, help="runs of each; the fastest counts"
    )
    made.add_argument(
        "--keep", action="store_true", help="keep the ratios in ratios.jsonl, for table.py"
    )
    return made


def note(
    what: str,
    peer: str,
    ours: float | None,
    theirs: float | None,
    ratio: float,
    *,
    unit: str = "x",
    aim: float | None = None,
    most: bool = False,
    remark: str = "",
) -> None:
    """Note one line of the table: our measurement, the peer's, their ratio, and what was aimed at.

    `ours` and `theirs` are CPU seconds, as a rule, and None where only the ratio tells something.
    `unit` is that of the ratio; `most` says that the aim is an upper bound; `remark` is put below
    the table.
    """
    row = {"what": what, "peer": peer, "ours": ours, "theirs": theirs, "ratio": ratio}
    row = {key: float(f"{v:.6g}") if isinstance(v, float) else v for key, v in row.items()}
    said = {"note": remark} if remark else {}
    _kept.append(row | {"unit": unit, "aim": aim, "most": most} | said)


def keep(given: argparse.Namespace) -> None:
    """With `--keep`, put what was noted into `ratios.jsonl`, in place of this command's old lines.

    A full run takes the place of a quick one too, and a quick one never that of a full run's line.
    """
    if not given.keep:
        return
    script = Path(sys.argv[0]).name
    words = [word for word in sys.argv[1:] if word != "--keep"]
    command = shlex.join(["python", f"benchmarks/{script}", *words])
    where = {"script": script, "command": command, "machine": machine()}
    where["date"] = time.strftime("%Y-%m", time.gmtime())
    # Another benchmark may keep its lines at the same time.
    with FileLock(f"{RATIOS}.lock"):
        old = [json.loads(line) for line in RATIOS.read_text().splitlines()]
        full = {r["what"] for r in old if r["script"] == script and "--quick" not in r["command"]}
        new = [where | row for row in _kept if not (given.quick and row["what"] in full)]
        names = {row["what"] for row in new}
        rows = [r for r in old if r["script"] != script or r["what"] not in names] + new
        rows.sort(key=lambda row: row["script"])
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        storage.write_text(RATIOS, "".join(lines))


def machine() -> str:
    """Return the processor and the number of cores."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.processor() or platform.machine()])[0]}, {os.cpu_count()} cores"
