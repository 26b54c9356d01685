import numpy as np
import pytest

from experiments.modelmap import merge_checks, merges

PAIRS = np.array(merges._grid())


def test_a_linear_grid_is_placed_exactly_from_its_corners():
    rng = np.random.default_rng(0)
    values = PAIRS @ rng.normal(size=(2, 40)) * 50 + rng.normal(size=40) * 9 - 500
    found = merge_checks._measures(values, *PAIRS.T, clip=0)
    exact = {"corners": 0, "corners, two": 0, "plane": 1, "plane, all": 1, "mean": 1}
    assert found == pytest.approx(exact, abs=1e-8)
    table = merge_checks.over_texts(values, *PAIRS.T, clip=0, n_resamples=5)
    assert list(table.index) == list(exact)
    assert (table.low <= table.high + 1e-12).all()


def test_a_bend_leaves_the_plane_and_misses_by_more_from_the_corners():
    rng = np.random.default_rng(1)
    a, b = PAIRS.T
    bend = np.outer((a + b) ** 2, rng.normal(size=40)) * 30
    values = PAIRS @ rng.normal(size=(2, 40)) * 50 + bend - 500
    found = merge_checks._measures(values, a, b, clip=0)
    for space in ("", ", two"):
        assert 0.1 < found["corners" + space]
    assert 0.5 < found["plane, all"] < found["plane"] < 0.999
    table = merge_checks.over_texts(values, a, b, clip=0, n_resamples=20)
    assert (table.low <= table.estimate).all() and (table.estimate <= table.high).sum() >= 2
