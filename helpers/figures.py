"""One house style for every figure: labelled axes, intervals, readable in grey and in dark mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers import validation

# Okabe-Ito colours, ordered so that neighbours differ in lightness, in a grey print too.
PALETTE = ["#000000", "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#F0E442"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]


def use_style() -> None:
    """Set the book's matplotlib and seaborn defaults for the running kernel.

    The background stays opaque white: the theme then shows figures on a light panel in dark mode.
    """
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE, font_scale=0.85)
    mpl.rcParams.update(
        {
            "figure.dpi": 144,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            "svg.hashsalt": "before-fine-tuning",
        }
    )


def style(i: int, **more: Any) -> dict[str, Any]:
    """Return the colour and marker of the `i`-th series of a figure, and `more` as it is given.

    Both repeat after eight. The result goes to `Axes.plot`, `Axes.scatter` or `Axes.errorbar`.
    """
    return {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], **more}


def group_styles(names: Sequence[str], *, grey: str = "") -> dict[str, dict[str, Any]]:
    """Return the colour, marker and size in which `Axes.plot` draws the points of each name.

    No two are alike up to 64 names. Those that begin with `grey`, where it is given, are
    background: small and grey, told apart by markers only, up to eight.
    """
    behind = [name for name in names if grey and name.startswith(grey)]
    styles: dict[str, dict[str, Any]] = {
        name: {"color": "0.6", "marker": MARKERS[i % 8], "ms": 2.5} for i, name in enumerate(behind)
    }
    for i, name in enumerate(name for name in names if name not in styles):
        marker = MARKERS[(i + i // 8) % 8]
        styles[name] = {"color": PALETTE[i % 8], "marker": marker, "ms": 4}
    return styles


def axes(
    rows: int = 1, cols: int = 1, *, height: float = 3.2, width: float = 7.5, **kwargs: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes, sized for the text column of the book.

    `height` is the height of one row and `width` the width of the whole figure, both in inches;
    `kwargs` go to `matplotlib.pyplot.subplots`.
    """
    import matplotlib.pyplot as plt

    validation.counts(rows=(rows, 1), cols=(cols, 1))
    validation.positive(height, "height")
    validation.positive(width, "width")
    return plt.subplots(rows, cols, figsize=(width, height * rows), **kwargs)


def forest(
    ax: Axes,
    frame: pd.DataFrame,
    *,
    estimate: str,
    low: str,
    high: str,
    label: str,
    group: str | None = None,
) -> Axes:
    """Draw one horizontal interval a row, the first row on top, one colour and marker a group.

    `estimate`, `low`, `high` and `label` name columns of `frame`; `low` and `high` are the ends of
    the interval, in the units of the estimate. With `group`, the rows of one label share a line,
    set apart a little, and a legend names the groups. Raises `ValueError` for a missing column.
    """
    validation.columns(frame, [c for c in (estimate, low, high, label, group) if c], "frame")
    if frame.empty:
        raise ValueError("frame has no rows; pass one an interval")
    labels = list(dict.fromkeys(frame[label]))
    groups = list(dict.fromkeys(frame[group])) if group else [None]
    offsets = np.linspace(-0.26, 0.26, len(groups)) if len(groups) > 1 else [0.0]
    for i, (name, offset) in enumerate(zip(groups, offsets, strict=True)):
        rows = frame if group is None else frame[frame[group] == name]
        y = np.array([labels.index(v) for v in rows[label]]) + offset
        centre = rows[estimate].to_numpy(float)
        reach = np.vstack([centre - rows[low].to_numpy(float), rows[high].to_numpy(float) - centre])
        ax.errorbar(
            centre,
            y,
            xerr=np.maximum(reach, 0),
            fmt=MARKERS[i % len(MARKERS)],
            color=PALETTE[i % len(PALETTE)],
            ecolor=PALETTE[i % len(PALETTE)],
            elinewidth=1.2,
            label=name,
        )
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    if group:
        ax.legend()
    return ax


def reference(
    ax: Axes, *, x: float | None = None, y: float | None = None, label: str | None = None
) -> None:
    """Draw a dashed grey reference line at `x` (vertical) or `y` (horizontal), such as chance."""
    if (x is None) == (y is None):
        raise ValueError("give either x or y; a reference line has one position")
    style = {"color": "0.35", "linestyle": "--", "linewidth": 1.0, "zorder": 1}
    if x is not None:
        ax.axvline(x, label=label, **style)
    else:
        ax.axhline(y, label=label, **style)
