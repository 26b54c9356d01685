import numpy as np
import pandas as pd
import pytest

from helpers.modelmap import baselines, score_prediction

GROUPS = np.arange(60) % 12


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, 60)


def test_each_form_finds_its_own_curve(x):
    y = np.column_stack([3 * x + 1, 50 + 20 * x - 30 * x**2])
    line = baselines.predict_by_curve(x, y, GROUPS, "linear")
    assert np.allclose(line[:, 0], y[:, 0]) and not np.allclose(line[:, 1], y[:, 1], atol=3)
    assert np.allclose(baselines.predict_by_curve(x, y, GROUPS, "quadratic"), y)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_spline_is_monotone_in_either_direction_and_follows_a_bend(x, sign):
    y = (sign * np.exp(2 * x))[:, None]
    spline = baselines.predict_by_curve(x, y, GROUPS, "spline")[:, 0]
    line = baselines.predict_by_curve(x, y, GROUPS, "linear")[:, 0]
    error = [np.sqrt(np.mean((guess - y[:, 0]) ** 2)) for guess in (spline, line)]
    assert error[0] < error[1] / 3
    grid = np.linspace(-3, 3, 50)
    rows = baselines._monotone(x[:, None], y, grid[:, None], 2)[:, 0]
    assert (sign * np.diff(rows) >= -1e-9).all()
    # Beyond the data it goes on as a straight line.
    assert np.allclose(np.diff(rows, 2)[-10:], 0, atol=1e-9)


def test_two_columns_add_up(x):
    z = np.random.default_rng(1).uniform(-1, 1, 60)
    y = (x + x * z)[:, None]
    both = np.column_stack([x, z])
    assert np.allclose(baselines.predict_by_curve(both, y, GROUPS, "quadratic"), y)
    sum_ = (np.exp(x) - z)[:, None]
    spline = baselines.predict_by_curve(both, sum_, GROUPS, "spline")
    assert np.corrcoef(spline[:, 0], sum_[:, 0])[0, 1] > 0.99


def test_a_group_is_predicted_from_the_others_and_splits_are_averaged(x):
    y = pd.DataFrame({"a": 50 + 10 * x, "b": np.random.default_rng(2).uniform(0, 100, 60)})
    r, mean = baselines.repeated(x, y, GROUPS, seeds=2)
    runs = [baselines.predict_by_curve(x, y, GROUPS, seed=seed) for seed in (0, 1)]
    assert np.allclose(mean, np.clip(runs, 0, 100).mean(axis=0)) and r["a"] == pytest.approx(1)
    assert (r.index == y.columns).all()
    spoilt = y.to_numpy().copy()
    spoilt[GROUPS == 3] += 1000
    again = baselines.predict_by_curve(x, spoilt, GROUPS, n_splits=12)
    plain = baselines.predict_by_curve(x, y, GROUPS, n_splits=12)
    assert np.allclose(again[GROUPS == 3], plain[GROUPS == 3])
    folds = score_prediction.predict_scores(x[:, None], y, GROUPS, [1.0]).fold
    assert len(set(folds[GROUPS == 3])) == 1
