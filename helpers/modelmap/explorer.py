"""A scatter plot that readers explore by mouse and keys: html with one small script of our own."""

from __future__ import annotations

import html
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from helpers import validation

if TYPE_CHECKING:
    from IPython.display import HTML

SCRIPT = Path(__file__).with_name("explorer.js")
STYLE = Path(__file__).with_name("explorer.css")


def show(
    table: pd.DataFrame,
    positions: Mapping[str, ArrayLike],
    neighbours: pd.DataFrame,
    *,
    title: str,
    distance: str,
    shape: str,
    colour: str | None = None,
    labels: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    logarithmic: Sequence[str] = (),
    hollow: str | None = None,
    trails: Sequence[Sequence[str]] = (),
) -> HTML:
    """Return a picture of points to explore: names on hover, search, colours, nearest relatives.

    `table` has one row a point, whose index are their names; all its columns are shown on hover and
    can colour the points: numbers by a scale, logarithmic for columns in `logarithmic`, and
    anything else by groups, of which the eight largest have a colour. `positions` gives one or
    more pictures, each (n, 2). `neighbours` has columns `point`, `nearest` and `distance`, the
    closest first; `distance` says in words what they measure. `shape` is the column whose groups
    have symbols of their own, `colour` the one that colours at first, else `shape`. `labels` and
    `units` are for columns; `hollow` names a column of bools, whose true rows have empty symbols;
    `trails` joins points by lines.

    The page needs no network. Where the environment has BOOK_SCRIPTS=shared, as when the book is
    built, the script is left to the page, which has one copy; elsewhere it is in the html. Raises
    `ValueError` for names that repeat, unknown columns or names, and wrong shapes.
    """
    from IPython.display import HTML

    found = _data(table, positions, neighbours, shape, colour or shape, labels, units, logarithmic)
    found |= {"title": title, "distance": distance}
    places = {name: i for i, name in enumerate(found["names"])}
    if hollow is not None and (hollow not in table or not is_bool_dtype(table[hollow])):
        raise ValueError(f"hollow is {hollow!r}; name a column of table that holds only bools")
    found["hollow"] = None if hollow is None else list(table).index(hollow)
    found["trails"] = [[_place(places, name, "trails") for name in trail] for trail in trails]
    return HTML(fragment(found))


def fragment(found: Mapping[str, Any]) -> str:
    """Return the html of a picture from the data that the script reads; names cannot break out."""
    # Inside a script element only these could end it or open a comment.
    kept = json.dumps(found, ensure_ascii=False, allow_nan=False)
    kept = re.sub(r"[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", kept)
    text = html.escape(f"{found['title']}: to be explored in a browser that runs scripts.")
    parts = [
        '<div class="point-explorer">',
        f'<p class="explorer-body">{text}</p>',
        f'<script type="application/json">{kept}</script>',
        "</div>",
    ]
    if os.environ.get("BOOK_SCRIPTS") != "shared":
        parts += [f"<style>{STYLE.read_text()}</style>", f"<script>{SCRIPT.read_text()}</script>"]
    return "\n".join(parts)


def _data(
    table: pd.DataFrame,
    positions: Mapping[str, ArrayLike],
    neighbours: pd.DataFrame,
    shape: str,
    colour: str,
    labels: Mapping[str, str] | None,
    units: Mapping[str, str] | None,
    logarithmic: Sequence[str],
) -> dict[str, Any]:
    names = [str(name) for name in table.index]
    if not names or len(set(names)) < len(names):
        raise ValueError("table is empty or names a point twice; pass one row a point")
    named = {"shape": [shape], "colour": [colour], "logarithmic": logarithmic}
    for what, given in {**named, "labels": labels or (), "units": units or ()}.items():
        if unknown := [name for name in given if name not in table]:
            raise ValueError(
                f"{what} has {validation.name_some(unknown)}; "
                f"table has {validation.name_some(list(table))}"
            )
    if not positions:
        raise ValueError("positions is empty; pass at least one picture, {label: (n, 2)}")
    if missing := {"point", "nearest", "distance"} - set(neighbours):
        raise ValueError(f"neighbours has no column {validation.name_some(sorted(missing))}")
    places = {name: i for i, name in enumerate(names)}
    near: list[list[tuple[int, float]]] = [[] for _ in names]
    for point, nearest, apart in zip(
        neighbours["point"], neighbours["nearest"], neighbours["distance"], strict=True
    ):
        row = near[_place(places, point, "neighbours")]
        row.append((_place(places, nearest, "neighbours"), _short(apart)))
    columns = [
        _column(table[name], (labels or {}).get(name), (units or {}).get(name), name in logarithmic)
        for name in table
    ]
    order = list(table)
    return {
        "names": names,
        "columns": columns,
        "shape": order.index(shape),
        "start": order.index(colour),
        "layouts": [_layout(label, at, len(names)) for label, at in positions.items()],
        "neighbours": near,
        "small": len(names) > 300,
    }


def _column(values: pd.Series, label: str | None, unit: str | None, log: bool) -> dict[str, Any]:
    if is_bool_dtype(values):
        number, kept = False, ["yes" if v else "no" for v in values]
    elif number := is_numeric_dtype(values):
        kept = [None if pd.isna(v) or math.isinf(v) else _short(v) for v in values]
        if log and any(v is not None and v <= 0 for v in kept):
            raise ValueError(f"logarithmic has {values.name!r}, which has values not above 0")
    else:
        kept = [None if pd.isna(v) else str(v) for v in values]
    return {
        "label": label or str(values.name).replace("_", " "),
        "unit": unit or "",
        "kind": "number" if number else "group",
        "log": bool(log),
        "values": kept,
    }


def _layout(label: str, at: ArrayLike, n: int) -> dict[str, Any]:
    """Return positions with the larger side from 0 to 1, so that both axes have one scale."""
    points = np.asarray(at, float)
    if points.shape != (n, 2) or not np.isfinite(points).all():
        raise ValueError(f"positions[{label!r}] must be {n} rows of two finite numbers")
    low, reach = points.min(axis=0), np.ptp(points, axis=0)
    # The picture is wider than it is high.
    scale = max(reach[0], reach[1] * 1.5) or 1.0
    shown = (points - low - reach / 2) / scale * [1, 1.5] + 0.5
    return {"label": label, "at": np.round(shown, 4).tolist()}


def _place(places: Mapping[str, int], name: object, what: str) -> int:
    if str(name) not in places:
        raise ValueError(f"{what} has {name!r}, which is not in the index of table")
    return places[str(name)]


def _short(value: float) -> float:
    """Round to five digits, which is more than is ever shown."""
    return float(f"{float(value):.5g}")
