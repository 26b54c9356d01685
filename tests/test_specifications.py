import matplotlib
import pandas as pd
import pytest

from helpers import specifications

matplotlib.use("agg")


@pytest.fixture
def table():
    rows = specifications.combinations(ridge=[0.1, 1.0], clip=["none", "1e-4"])
    estimates = [(0.3, 0.1, 0.5), (-0.2, -0.4, -0.1), (0.1, -0.1, 0.3), (0.0, -0.2, 0.2)]
    ends = [dict(zip(("estimate", "low", "high"), e, strict=True)) for e in estimates]
    return pd.DataFrame([row | end for row, end in zip(rows, ends, strict=True)])


def test_every_combination_stands_once_the_last_choice_fastest(table):
    assert list(zip(table["ridge"], table["clip"], strict=True)) == [
        (0.1, "none"), (0.1, "1e-4"), (1.0, "none"), (1.0, "1e-4")
    ]  # fmt: skip


def test_share_tells_estimates_from_whole_intervals(table):
    assert specifications.share(table, above=0) == (2, 1, 1, 4)
    text = str(specifications.share(table, above=0))
    assert text.startswith("holds in 2 of 4 specifications (50%)") and text.endswith("it in 1")
    assert specifications.share(table[["estimate"]], above=0.2) == (1, 0, 0, 4)


def test_the_curve_is_sorted_and_marks_the_choices(table):
    fig = specifications.specification_curve(table, ["ridge", "clip"], label="difference")
    top, grid = fig.axes
    drawn = sorted(tuple(p) for c in top.collections[1:] for p in c.get_offsets())
    assert [y for _, y in drawn] == [-0.2, 0.0, 0.1, 0.3]
    assert [t.get_text() for t in grid.get_yticklabels()] == [
        "ridge: 0.1", "ridge: 1.0", "clip: 1e-4", "clip: none"
    ]  # fmt: skip
    marks = {t.get_text(): c.get_offsets()[:, 0].tolist()
             for t, c in zip(grid.get_yticklabels(), grid.collections, strict=True)}  # fmt: skip
    assert marks["clip: none"] == [2, 3] and marks["ridge: 0.1"] == [0, 3]
