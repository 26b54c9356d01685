"""Specification curves: one sentence, under every reasonable way to measure it.

A table of specifications has a row per combination of choices: one column per choice, then
`estimate` and, where there is one, its interval in `low` and `high`. The form follows Simonsohn,
Simmons and Nelson, *Specification curve analysis*, Nature Human Behaviour 4 (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers import figures


class _Share(NamedTuple):
    """How many specifications agree with a sentence, with all of their interval, and of how many.

    `holds` counts estimates on the side that the sentence names, `decided` those of them whose
    interval lies there as a whole, `against` the intervals that lie on the other side.
    """

    holds: int
    decided: int
    against: int
    n: int

    def __str__(self) -> str:
        return (
            f"holds in {self.holds} of {self.n} specifications ({self.holds / self.n:.0%}); "
            f"the whole interval agrees in {self.decided} and contradicts it in {self.against}"
        )


def combinations(**choices: Sequence[Any]) -> list[dict[str, Any]]:
    """Return every combination of the choices, the last one varying fastest."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def share(table: pd.DataFrame, *, above: float) -> _Share:
    """Return in how many specifications an estimate lies above a threshold."""
    holds = int((table["estimate"] > above).sum())
    if not {"low", "high"} <= set(table):
        return _Share(holds, 0, 0, len(table))
    decided, against = table["low"] > above, table["high"] <= above
    return _Share(holds, int(decided.sum()), int(against.sum()), len(table))


def specification_curve(
    table: pd.DataFrame, choices: Sequence[str], *, threshold: float = 0.0, label: str = "estimate"
) -> Figure:
    """Draw the estimates of all specifications in order, and below each the choices it made.

    `table` is as in the module's text, `choices` its columns of choices, `threshold` the line that
    the sentence puts, in the units of `estimate`, and `label` the text of the upper axis. Estimates
    whose interval (or, without one, whose value) lies off the threshold are filled.
    """
    table = table.sort_values("estimate", kind="stable").reset_index(drop=True)
    lines = [(name, value) for name in choices for value in dict.fromkeys(table[name])]
    fig, (top, grid) = figures.axes(
        2,
        1,
        height=0.5 * (2.6 + 0.17 * len(lines)),
        sharex=True,
        gridspec_kw={"height_ratios": [2.6, 0.17 * len(lines)]},
    )
    x = np.arange(len(table))
    if {"low", "high"} <= set(table):
        top.vlines(x, table["low"], table["high"], color=figures.PALETTE[4], lw=1.2)
        off = (table["low"] > threshold) | (table["high"] < threshold)
    else:
        off = table["estimate"] != threshold
    for mask, face in ((off, figures.PALETTE[1]), (~off, "white")):
        top.scatter(
            x[mask], table["estimate"][mask], s=16, fc=face, ec=figures.PALETTE[1], zorder=3
        )
    figures.reference(top, y=threshold)
    top.set_ylabel(label)
    for i, (name, value) in enumerate(lines):
        grid.scatter(*(x[table[name] == value], [i] * int((table[name] == value).sum())), s=9,
                     color=figures.PALETTE[0])  # fmt: skip
    grid.set_yticks(range(len(lines)), [f"{name}: {value}" for name, value in lines])
    grid.set(ylim=(len(lines) - 0.5, -0.5), xlabel="specifications, in order of the estimate")
    grid.tick_params(axis="y", labelsize="x-small")
    return fig
