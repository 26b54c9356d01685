"""Results on a reader's own models as files: a folder of the caller's, what every file tells."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers import data, provenance, storage

SCHEMA = 1
# Folders of the book, into which no reader's run writes.
_KEPT_OUT = ("book", "build", "data", "experiments", "helpers", "notebooks", "tests", "benchmarks")


def folder(out: str, names: Sequence[str], settings: Mapping[str, Any], *, page: str) -> Path:
    """Return the folder of a run, `results/PAGE-DIGEST` where `out` is empty.

    The digest is that of the models' names and the settings: a run again writes to the same place.
    A relative folder is below the one where the runner was called. Raises `ValueError` for a folder
    of the book itself.
    """
    here = Path(os.environ.get("BOOK_CALLER") or Path.cwd())
    asked = json.dumps([list(names), settings], default=str)
    name = f"{page}-{hashlib.sha256(asked.encode()).hexdigest()[:10]}"
    place = (here / Path(out).expanduser() if out else here / "results" / name).resolve()
    if out and any(place.is_relative_to(data.ROOT / part) for part in _KEPT_OUT):
        raise ValueError(f"out is {str(place)!r}, a folder of the book; choose one outside it")
    return place


def head(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every file of results begins with: when, by what and on what it was made.

    `schema` rises when a field changes its meaning.
    """
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    about = {"schema": SCHEMA, "made": made, "book": provenance.commit()}
    about |= {"versions": provenance.versions(provenance.MODELS)}
    return about | {"hardware": provenance.hardware(), "settings": dict(settings)}


def write(place: Path, whole: Mapping[str, Any], tables: Mapping[str, str]) -> list[Path]:
    """Write `results.json` and CSV files by name; return their paths.

    Each is written whole or not at all; raises `storage.CannotWrite`.
    """
    files = {"results.json": storage.json_text(whole) + "\n", **tables}
    for name, content in files.items():
        storage.write_text(place / name, content)
    return [place / name for name in files]
