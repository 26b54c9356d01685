"""A scatter plot that readers explore: Plotly's, with a search and all of it as a table too."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import escaping, figures

if TYPE_CHECKING:
    from IPython.display import HTML

# Plotly's names for the markers of `figures.MARKERS`.
_SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down",
            "P": "cross", "X": "x", "*": "star"}  # fmt: skip
# Plotly has no search: this sets apart the points whose names hold what is typed.
_SEARCH = """
const graph = document.getElementById("{plot_id}"), word = document.createElement("input");
word.type = "search";
word.placeholder = word.ariaLabel = "Find a name";
word.oninput = () => {
  const asked = word.value.trim().toLowerCase();
  const found = graph.data.map(t => asked && t.ids ? t.ids.flatMap(
    (name, i) => name.toLowerCase().includes(asked) ? [i] : []) : null);
  Plotly.restyle(graph, {selectedpoints: found});
};
graph.before(word);
"""


def show(
    table: pd.DataFrame,
    positions: Mapping[str, ArrayLike],
    neighbours: pd.DataFrame,
    *,
    title: str,
    distance: str,
    group: str,
    labels: Mapping[str, str] | None = None,
    hollow: str | None = None,
    trails: Sequence[Sequence[str]] = (),
) -> HTML:
    """Return a picture of points to explore: a legend of groups, names on hover, and a search.

    `table` has a row per point, indexed by name; hovering shows its columns, by `labels`
    where these name them, and the nearest points. `positions` gives one or more pictures, each
    (n, 2), that a menu chooses from. `neighbours` has the columns `point`, `nearest` and
    `distance`, the closest first; `distance` says in words what they measure. A click in the
    legend hides a group of the column `group`, of which the largest have a colour. `hollow` names
    a column of bools whose true rows have empty symbols; `trails` joins points by lines. Below the
    picture all of it stands as a table.

    The page needs no network. Where the environment has BOOK_SCRIPTS=shared, as when the book is
    built, Plotly is left to the page, which has one copy; elsewhere it is in the html.
    """
    import plotly.graph_objects as go
    from IPython.display import HTML

    names = [str(name) for name in table.index]
    places = {str(label): np.asarray(at, float).round(4) for label, at in positions.items()}
    index = pd.Series(range(len(names)), names)
    about = table.set_axis(names).rename(columns=labels or {})
    near = (
        neighbours.nearest.astype(str) + " " + neighbours.distance.map("{:.4g}".format)
    ).groupby(neighbours.point.astype(str))
    about[f"nearest, {distance}"] = near.agg(", ".join).reindex(names, fill_value="")
    words = about.map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))
    words = words.replace({"True": "yes", "False": "no"})
    words = words.where(about.notna(), "\N{EN DASH}")
    shown = words.map(html.escape)
    told = shown.apply(
        lambda row: "<br>".join(f"{html.escape(str(k))}: {v}" for k, v in row.items()), 1
    )
    figure, members = go.Figure(), []
    for trail in trails:
        members.append(index[list(map(str, trail))].to_numpy())
        figure.add_scatter(mode="lines", line={"color": "#888", "width": 1}, hoverinfo="skip",
                           showlegend=False)  # fmt: skip
    largest = list(table[group].value_counts().index[:7])
    groups = table[group].where(table[group].isin(largest), "others")
    # The first place, black, is for others: dark mode would swallow it.
    styles = figures.group_styles(["", *largest])
    for name in dict.fromkeys([*largest, "others"]):
        if (part := table[groups == name]).empty:
            continue
        members.append(index[part.index.astype(str)].to_numpy())
        empty = part[hollow] if hollow else [False] * len(part)
        style = styles.get(name, styles[""])
        colour, symbol = style["color"].replace("#000000", "#888"), _SYMBOLS[style["marker"]]
        symbols = [f"{symbol}-open" if each else symbol for each in empty]
        ids = list(part.index.astype(str))
        figure.add_scatter(
            mode="markers", name=html.escape(str(name)), ids=ids, text=told.iloc[members[-1]],
            customdata=[html.escape(each) for each in ids],
            hovertemplate="<b>%{customdata}</b><br>%{text}<extra></extra>",
            marker={"size": 9, "symbol": symbols, "color": colour},
            unselected={"marker": {"opacity": 0.08}},
        )  # fmt: skip
    at = {
        label: {axis: [xy[m, i] for m in members] for i, axis in enumerate("xy")}
        for label, xy in places.items()
    }
    for trace, x, y in zip(figure.data, *next(iter(at.values())).values(), strict=True):
        trace.update(x=x, y=y)
    buttons = [{"label": html.escape(k), "method": "restyle", "args": [v]} for k, v in at.items()]
    menu = {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.1}
    about_hollow = f" (empty: {(labels or {}).get(hollow, hollow)})" if hollow else ""
    figure.update_layout(
        title={"text": html.escape(title + about_hollow), "font_size": 14, "x": 0},
        height=600,
        margin={"l": 0, "r": 0, "b": 80},
        xaxis_visible=False,
        yaxis={"visible": False, "scaleanchor": "x"},
        legend_orientation="h",
        font_color="#888",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        updatemenus=[menu | {"buttons": buttons}] if len(buttons) > 1 else [],
    )
    shared = os.environ.get("BOOK_SCRIPTS") == "shared"
    drawn = figure.to_html(
        full_html=False, include_plotlyjs=not shared, include_mathjax=False, post_script=_SEARCH,
        config={"responsive": True, "displaylogo": False},
    )  # fmt: skip
    rows = escaping.styled(words).to_html()
    # Below the legend, which takes more lines where the page is narrow.
    style = "position: relative; margin-top: 4rem; overflow-x: auto"
    return HTML(
        f'<div class="point-explorer">{drawn}<details style="{style}">'
        f"<summary>{html.escape(title)} as a table</summary>{rows}</details></div>"
    )
