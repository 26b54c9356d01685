import base64
import io

import matplotlib
import matplotlib.colors as colors
import pandas as pd
import pytest
from PIL import Image

from helpers import figures

matplotlib.use("agg")


@pytest.fixture
def frame():
    return pd.DataFrame(
        {"name": ["a", "b", "a", "b"], "kind": ["x", "x", "y", "y"],
         "r": [0.1, 0.2, 0.3, 0.4], "low": [0, 0.1, 0.2, 0.3], "high": [0.2, 0.3, 0.4, 0.6]}
    )  # fmt: skip


def test_forest_draws_every_interval_where_it_belongs(frame):
    _, ax = figures.axes()
    figures.forest(ax, frame, estimate="r", low="low", high="high", label="name", group="kind")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["x", "y"]
    ends = [end for c in ax.collections for s in c.get_segments() for end in s[:, 0]]
    assert ends == pytest.approx([0, 0.2, 0.1, 0.3, 0.2, 0.4, 0.3, 0.6])
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_a_style_repeats_after_eight_and_takes_what_is_added():
    styles = [figures.style(i, label=str(i)) for i in range(9)]
    assert len({(s["color"], s["marker"]) for s in styles}) == 8
    assert styles[8] == {**styles[0], "label": "8"}
    _, ax = figures.axes()
    (line,) = ax.plot([0, 1], **figures.style(1, ls="none"))
    assert line.get_color() == figures.PALETTE[1] and line.get_marker() == figures.MARKERS[1]


def test_styles_of_groups_differ_and_the_background_is_grey():
    names = [f"g{i}" for i in range(64)]
    styles = figures.group_styles(names)
    assert list(styles) == names
    assert len({(s["color"], s["marker"]) for s in styles.values()}) == 64
    some = figures.group_styles(["n-grams, a", "model", "n-grams, b"], grey="n-grams")
    assert some["model"]["color"] == figures.PALETTE[0]
    assert {some[f"n-grams, {x}"]["color"] for x in "ab"} == {"0.6"}
    assert some["n-grams, a"]["marker"] != some["n-grams, b"]["marker"]


def test_forest_names_the_missing_column(frame):
    _, ax = figures.axes()
    with pytest.raises(KeyError, match="upper"):
        figures.forest(ax, frame, estimate="r", low="low", high="upper", label="name")


def test_neighbouring_colours_differ_in_grey():
    grey = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(colors.to_rgb, figures.PALETTE)]
    assert min(abs(a - b) for a, b in zip(grey, grey[1:], strict=False)) > 0.05


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01, "0.01"), (3e-6, "0.000003"), (-20000, "\N{MINUS SIGN}20,000"),
     (7e7, "70 M"), (1.5e9, "1.5 B"), (999999, "999,999")],
)  # fmt: skip
def test_numbers_on_axes_are_plain(value, text):
    assert figures._plain(value) == text


@pytest.mark.parametrize(
    ("scale", "ends", "shown"),
    [("log", (1e7, 2e11), {"10 M", "1 B", "100 B"}), ("log", (2e4, 1.3e5), {"20,000", "50,000"}),
     ("linear", (-2e4, 3e4), {"\N{MINUS SIGN}20,000", "0", "20,000"}),
     ("linear", (0, 4e6), {"0", "1,000,000", "4,000,000"}),
     ("symlog", (-100, 1e4), {"0", "100", "10,000"})],
)  # fmt: skip
def test_axes_of_every_scale_have_no_powers_and_no_factor(scale, ends, shown):
    figures.use_style()
    fig, ax = figures.axes()
    ax.plot(ends, ends)
    ax.set_xscale(scale)
    fig.canvas.draw()
    ticks = [t.get_text() for t in ax.get_xticklabels() + ax.get_xticklabels(minor=True)]
    assert shown <= set(ticks)
    assert not [
        text
        for text in ticks
        if any(sign in text for sign in ("e", "^", "\N{MULTIPLICATION SIGN}"))
    ]
    assert ax.xaxis.get_offset_text().get_text() == ""


def test_a_family_of_models_has_one_colour_and_an_unknown_one_is_named():
    assert figures.family("Pythia") == figures.family("pythia")
    together = ["bloom", "gpt-neo", "pythia", "smi authors", "tinyllama"]
    assert len({figures.family(name)["color"] for name in together}) == len(together)
    with pytest.raises(ValueError, match="'falcon'.*FAMILIES"):
        figures.family("falcon")


def test_a_card_shows_the_figure_and_one_panel_of_it(monkeypatch):
    figures.use_style()
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    fig, axs = figures.axes(1, 3, height=2.5)
    axs[1].set(xlabel="x")
    figures.card(fig, axs[1])
    figures.card(figures.axes(height=4)[0])
    fig, axs = figures.axes(2, 1, height=2.5)
    figures.card(fig, axs[0], size=(4, 4))
    sizes = [Image.open(io.BytesIO(base64.b64decode(d[k]))).size for d in shown for k in d]
    (whole, panel, _, small, _, half) = sizes
    assert panel[0] / 250 < 0.5 * whole[0] / 144
    assert small == (792, 522)
    assert 900 < half[0] < 1050 and half[1] < 600  # 4 by about 2 inches


def test_the_style_keeps_figures_opaque():
    figures.use_style()
    assert matplotlib.rcParams["figure.facecolor"] == "white"
    assert matplotlib.rcParams["figure.dpi"] >= 120
