"""The ledger: what the papers claim, what was measured, and a status that is computed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from IPython.display import HTML
from pandas.io.formats.style import Styler

from helpers import escaping, storage
from helpers.data import ROOT

_CLAIMS = ROOT / "data" / "claims.yml"
_RESULTS = ROOT / "data" / "results" / "ledger.json"
# The same rules in C, seven times faster, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

REPRODUCED = "reproduced"
AS_RELEASED = "reproduced with the released code, not as described"
NOT_REPRODUCED = "not reproduced"
UNDECIDED = "undecided"
NOT_TESTED = "not tested here"
MARKS = {
    REPRODUCED: "✓",
    AS_RELEASED: "≈",
    NOT_REPRODUCED: "✗",
    UNDECIDED: "?",
    NOT_TESTED: "–",
}
# Only a statement of the paper can be reproduced, or not; the others hold or do not.
KINDS = ("paper", "reading", "extension", "check")
_WORDS = {REPRODUCED: "holds", NOT_REPRODUCED: "does not hold"}

_FIELDS = {"id", "kind", "paper", "where", "statement", "published", "source", "notebook", "needs"}
_OPTIONAL = {"tolerance", "unit", "threshold", "exploratory", "no_interval"}
PAPERS = {
    "posterior": "Average log posterior",
    "geometry": "Latent-space geometry",
    "retrieval": "Size-dependent mutual information",
    "modelmap": "Log-likelihood vectors",
    # No paper: what this book finds when the four signals meet.
    "synthesis": "All four signals together",
}
# What tables call the parts that have a name of two words.
PART_NAMES = {"modelmap": "model map", "synthesis": "all four together"}
_NEEDS = {
    "nothing": "not run",
    "registry": "needs the registry's files",
    "gpu": "needs a GPU",
    "hub": "needs models or data from a hub",
}

_rows: dict[str, dict[str, Any]] = {}


@lru_cache
def load() -> dict[str, dict[str, Any]]:
    """Return the claims by id; their form is tested where the book's code is."""
    given = {"tolerance": 0.0, "unit": "", "exploratory": False, "no_interval": "", "threshold": ""}
    entries = yaml.load(_CLAIMS.read_text(), Loader=_LOADER)["claims"]
    claims = {entry["id"]: {**given, **entry} for entry in entries}
    for claim in claims.values():
        claim["tolerance"] = float(claim["tolerance"])
    return claims


def _matches(published: Any, tolerance: float, value: Any) -> bool:
    """Tell whether a measured value agrees with a published number, interval, bound or order.

    A number agrees within `tolerance` (absolute); an interval and a bound leave it aside.
    Raises `ValueError` for a value that is not a finite number, or not a list for an order.
    """
    if isinstance(published, dict) and "order" in published:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError(f"ours is {value!r}; an order wants the names as a list, best first")
        return list(value) == list(published["order"])
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"ours is {value}; record a finite number, or call not_tested")
    if isinstance(published, dict):
        (kind, limit), *_ = published.items()
        return value > limit if kind == "above" else value < limit
    if isinstance(published, list):
        return published[0] <= value <= published[1]
    return abs(value - published) <= tolerance


def _overlaps(claim: Mapping[str, Any], interval: Sequence[float]) -> bool:
    """Return whether some value of the interval agrees with what is published."""
    published, (low, high) = claim["published"], interval
    if isinstance(published, dict):
        return any(_matches(published, 0, end) for end in interval)
    margin = 0.0 if isinstance(published, list) else claim["tolerance"]
    first, last = published if isinstance(published, list) else (published, published)
    return low <= last + margin and high >= first - margin


def _status(
    claim: Mapping[str, Any],
    ours: Any,
    interval: Sequence[float] | None = None,
    *,
    released: Any = None,
) -> str:
    """Compute the status of a claim from what the description, and the released code, give.

    With an interval, all of it must agree with what is published; where a part of it does, the
    data do not decide.
    """
    if claim["published"] is None:
        raise ValueError(f"{claim['id']} has no published value to compare with; use not_tested")
    values = [ours] if interval is None else interval
    if all(_matches(claim["published"], claim["tolerance"], value) for value in values):
        return REPRODUCED
    if released is not None and _matches(claim["published"], claim["tolerance"], released):
        return AS_RELEASED
    if interval is not None and _overlaps(claim, interval):
        return UNDECIDED
    return NOT_REPRODUCED


def kind_text(claim: Mapping[str, Any]) -> str:
    """Return the kind of a claim, and whether its threshold was set after its result was seen."""
    return claim["kind"] + (", exploratory" if claim["exploratory"] else "")


def word(claim: Mapping[str, Any], status: str) -> str:
    """Return a status in words: only a statement of the paper is reproduced, the rest holds."""
    return status if claim["kind"] == "paper" else _WORDS.get(status, status)


def _claim(name: str) -> dict[str, Any]:
    if name not in load():
        raise ValueError(f"{name!r} is no claim of data/claims.yml; add it there first")
    return load()[name]


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [str(v) for v in value]
    return None if value is None else float(value)


def _keep(row: dict[str, Any]) -> dict[str, Any]:
    """Keep a row for the verdict table; inside a run of the pipeline, write it down too."""
    _rows[row["id"]] = row
    if target := os.environ.get("BOOK_LEDGER"):
        path = Path(target)
        storage.write_text(path, json.dumps(list(_rows.values()), indent=1, ensure_ascii=False))
    return row


def record(
    id: str,
    ours: Any,
    interval: Sequence[float] | None = None,
    *,
    released: Any = None,
    note: str = "",
) -> str:
    """Record the estimate for a claim and return its status in words, computed from the claim.

    `ours` is what the paper's description gives, a number or, for an order, a list of names from
    best to worst; `interval` its 95 % interval (low, high), which decides the status; `released`
    what the authors' released procedure gives, where it differs.
    Raises `ValueError` for an unknown id, a claim without a published value, NaN, or an interval
    whose ends are not in order.
    """
    claim = _claim(id)
    if interval is not None:
        interval = [float(end) for end in interval]
        if len(interval) != 2 or not interval[0] <= interval[1]:
            raise ValueError(f"{id}: interval is {interval}; give (low, high)")
    result = _status(claim, ours, interval, released=released)
    _keep(
        {
            "id": id,
            "ours": _plain(ours),
            "released": _plain(released),
            "interval": interval,
            "status": result,
            "note": note,
        }
    )
    return word(claim, result)


def not_tested(id: str, why: str) -> str:
    """Enter that a claim was not tested in this run, with the reason the scoreboard will show."""
    _claim(id)
    _keep(dict(id=id, ours=None, released=None, interval=None, status=NOT_TESTED, note=why))
    return f"{NOT_TESTED} ({why})"


def _stored() -> dict[str, dict[str, Any]]:
    """Return the rows of the last full run, by claim id, from `data/results/ledger.json`."""
    if not _RESULTS.is_file():
        return {}
    return {row["id"]: row for row in json.loads(_RESULTS.read_text())["claims"]}


def number(value: Any) -> str:
    """Format a value of the ledger: four significant digits, an order with `>` between names."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return " > ".join(str(v) for v in value)
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def ours_text(row: Mapping[str, Any]) -> str:
    """Format what was measured: a number with its interval, or an order."""
    if row.get("interval") is None:
        return number(row["ours"])
    low, high = row["interval"]
    return f"{number(row['ours'])} [{number(low)}, {number(high)}]"


def published_text(claim: Mapping[str, Any]) -> str:
    """Format the published value of a claim with its unit and tolerance."""
    value, unit = claim["published"], f" {claim['unit']}" if claim["unit"] else ""
    if value is None:
        return "not read"
    if isinstance(value, dict):
        (kind, limit), *_ = value.items()
        sign = {"above": "> ", "below": "< ", "order": ""}[kind]
        return f"{sign}{number(limit)}{unit}"
    if isinstance(value, list):
        return f"{number(value[0])} to {number(value[1])}{unit}"
    spread = f" ± {claim['tolerance']:.2g}" if claim["tolerance"] else ""
    return f"{number(value)}{spread}{unit}"


def _of(notebook: str) -> list[dict[str, Any]]:
    chosen = [claim for claim in load().values() if claim["notebook"] == notebook]
    if not chosen:
        raise ValueError(f"no claim of data/claims.yml names the notebook {notebook!r}")
    return chosen


def _style(frame: pd.DataFrame) -> Styler:
    text = {"text-align": "left", "white-space": "normal", "vertical-align": "top"}
    heads = [{"selector": "th", "props": [("text-align", "left")]}]
    return escaping.styled(frame).hide(axis="index").set_properties(**text).set_table_styles(heads)


def verdict(notebook: str) -> HTML:
    """Return the closing table of a notebook: claim, kind, expected, ours, status.

    A claim that this run could not test stands in a folded table, with the value of the last full
    run where there is one. Raises `ValueError` for a claim that the notebook left out.
    """
    tested, untested, stored_rows = [], [], _stored()
    for claim in _of(notebook):
        row = _rows.get(claim["id"])
        if row is None:
            raise ValueError(
                f"{claim['id']} was neither recorded nor marked as not tested in this notebook"
            )
        line = {
            "claim": claim["statement"],
            "kind": kind_text(claim),
            "expected": published_text(claim),
        }
        status = f"{MARKS[row['status']]} {word(claim, row['status'])}"
        if row["status"] != NOT_TESTED:
            ours = ours_text(row)
            if row["released"] is not None:
                ours += f" (released code: {number(row['released'])})"
            tested.append({**line, "ours": ours, "status": status})
            continue
        old = stored_rows.get(claim["id"])
        before = f"{ours_text(old)}, {word(claim, old['status'])}" if old else ""
        status += f" ({row['note']})"
        untested.append({**line, "status": status, "last full run": before})
    parts = [_style(pd.DataFrame(rows)).to_html() for rows in (tested, untested) if rows]
    if untested:
        count = f"{len(untested)} claim" + "s" * (len(untested) > 1)
        parts[-1] = f"<details><summary>{count} not tested here</summary>{parts[-1]}</details>"
    return HTML("\n".join(parts))


def ledger(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a claim: the tested row of these runs, else the stored one, else untested.

    `runs` are run records, each with `claims` (rows of `record`), `notebook`, `profile` and
    `facts` (of `provenance.facts`). Every row tells the run it comes from. A run with parameters of
    the reader's `own` says nothing of the claims.
    """
    fresh = {
        row["id"]: {**row, "profile": run["profile"], **run["facts"], "stored": False}
        for run in runs
        for row in run["claims"]
        if not run.get("own")
    }
    rows, kept = [], _stored()
    for name, claim in load().items():
        row, old = fresh.get(name), kept.get(name)
        if (row is None or row["status"] == NOT_TESTED) and old and old["status"] != NOT_TESTED:
            row = {**old, "stored": True}
        if row is None:
            written = (ROOT / "notebooks" / f"{claim['notebook']}.ipynb").is_file()
            why = _NEEDS[claim["needs"]] if written else "its notebook is not written yet"
            if claim["published"] is None:
                why += "; no published value was read"
            row = {"ours": None, "released": None, "interval": None, "status": NOT_TESTED}
            row["note"] = why
        rows.append({**claim, **row})
    return rows


def store(runs: Sequence[Mapping[str, Any]]) -> Path:
    """Write the tested rows of full runs to `data/results/ledger.json`, and return the path.

    Pages that ran in the smoke profile keep the rows that they have. `first_expected` is what the
    claim expected when it was first recorded here.
    """
    rows, kept = [], _stored()
    for row in ledger([run for run in runs if run["profile"] != "smoke"]):
        if row["status"] == NOT_TESTED:
            continue
        rows.append({k: v for k, v in row.items() if k not in _FIELDS | _OPTIONAL or k == "id"})
        rows[-1].pop("stored", None)
        before = kept.get(row["id"], {})
        rows[-1]["first_expected"] = before.get("first_expected", row["published"])
    storage.write_text(_RESULTS, json.dumps({"claims": rows}, indent=1, ensure_ascii=False) + "\n")
    return _RESULTS
