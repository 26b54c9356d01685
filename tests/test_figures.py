import matplotlib
import matplotlib.colors as colors
import pandas as pd
import pytest

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
    with pytest.raises(ValueError, match="upper"):
        figures.forest(ax, frame, estimate="r", low="low", high="upper", label="name")


@pytest.mark.parametrize("position", [{}, {"x": 1, "y": 1}])
def test_a_reference_line_has_one_position(position):
    _, ax = figures.axes()
    with pytest.raises(ValueError, match="either x or y"):
        figures.reference(ax, **position)


def test_neighbouring_colours_differ_in_grey():
    grey = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(colors.to_rgb, figures.PALETTE)]
    assert min(abs(a - b) for a, b in zip(grey, grey[1:], strict=False)) > 0.05


def test_the_style_keeps_figures_opaque():
    figures.use_style()
    assert matplotlib.rcParams["figure.facecolor"] == "white"
    assert matplotlib.rcParams["figure.dpi"] >= 120
