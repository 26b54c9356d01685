"""Tables of the noise pages: oracles, intervals that cover, and bad input."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from experiments.geometry import noise_tables
from helpers import stats


@pytest.fixture
def noisy():
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(1.0, 9.0), 3)
    dose = np.log(level) + 0.01 * rng.standard_normal(len(level))
    x = -dose + 0.3 * rng.standard_normal(len(level))
    score = 0.8 - 0.2 * dose + 0.02 * rng.standard_normal(len(level))
    return pd.DataFrame({"level": level, "dose": dose, "x": x, "score": score})


@pytest.mark.parametrize("columns", [["x"], ["dose"], []])
def test_residuals_are_those_of_leave_one_group_out(noisy, columns):
    residuals = noise_tables.held_out_residuals(noisy, columns, "score", "level")
    error = stats.held_out_error(noisy, columns, "score", "level")
    assert np.sqrt((residuals**2).mean()) == pytest.approx(error)
    assert residuals.index.equals(noisy.index)


def test_resampled_intervals_agree_with_the_bootstrap_of_correlations(noisy):
    one = noise_tables.resampled(noisy, lambda t: np.corrcoef(t.x, t.score)[0, 1], "level")
    two = stats.bootstrap_correlation(noisy, "x", "score", groups="level")
    assert one.r == pytest.approx(two.r)
    assert one.low == pytest.approx(two.low, abs=0.05)
    assert one.high == pytest.approx(two.high, abs=0.05)
    again = noise_tables.resampled(noisy, lambda t: np.corrcoef(t.x, t.score)[0, 1], "level")
    assert one == again


def test_ratios_and_differences_are_those_of_the_whole_table(noisy):
    squares = pd.DataFrame({"a": noisy.x**2, "b": 2 * noisy.x**2})
    assert noise_tables.mean_ratio(squares, "a", "b", n_resamples=50)[:3] == (0.5, 0.5, 0.5)
    table = noisy.assign(copy=-noisy.x)
    gap = noise_tables.size_difference(table, "x", "copy", "score", "level", n_resamples=50)
    assert gap[:3] == pytest.approx((0, 0, 0), abs=1e-12)
    gap = noise_tables.size_difference(noisy, "dose", "x", "score", "level", n_resamples=200)
    assert (
        0
        < gap.r
        == pytest.approx(
            abs(stats.correlation(noisy.dose, noisy.score).r)
            - abs(stats.correlation(noisy.x, noisy.score).r)
        )
    )


def test_with_ranks_a_difference_is_that_of_spearmans(noisy):
    table = noisy.assign(dose=np.exp(3 * noisy.dose))
    gap = noise_tables.size_difference(table, "dose", "x", "score", ranks=True, n_resamples=50)
    pair = (abs(spearmanr(table[name], table.score).statistic) for name in ("dose", "x"))
    assert gap.r == pytest.approx(next(pair) - next(pair))


def test_partial_ranks_are_spearmans_and_know_nothing_beyond_what_is_given(noisy):
    plain = noise_tables.partial_rank(noisy, "x", "score")
    assert plain == pytest.approx(spearmanr(noisy.x, noisy.score).statistic)
    rho = noisy[["x", "score", "dose"]].corr("spearman")
    top = rho.loc["x", "score"] - rho.loc["x", "dose"] * rho.loc["score", "dose"]
    below = (1 - rho.loc["x", "dose"] ** 2) * (1 - rho.loc["score", "dose"] ** 2)
    partial = noise_tables.partial_rank(noisy, "x", "score", ["dose"])
    assert partial == pytest.approx(top / np.sqrt(below))
    assert np.isnan(noise_tables.partial_rank(noisy, "x", "score", ["x"]))


def test_what_remains_beyond_the_noise(noisy):
    found = noise_tables.beyond_noise(noisy, pd.Series({"x": 0.25}), ["x"])
    row = found.loc["x"]
    inside = stats.partial_correlation(noisy.x, noisy.score, pd.get_dummies(noisy.level))
    assert tuple(row[["within levels", "low ", "high "]]) == pytest.approx(inside[:3])
    assert row["corrected"] == pytest.approx(2 * inside.r)
    nothing = noise_tables.beyond_noise(noisy, pd.Series({"x": -0.1}), ["x"])
    assert np.isnan(nothing.loc["x", "corrected"])


def test_forecasts_of_the_teachers_line(noisy):
    models = pd.DataFrame({"x": [0.0, 1.0, 50.0], "score": [0.5, 0.6, 0.7]})
    table, squares = noise_tables.forecasts(noisy, models, ["x"])
    slope, constant = np.polyfit(noisy.x, noisy.score, 1)
    assert squares["x"]["line"].tolist() == pytest.approx(
        [(constant + slope * x - y) ** 2 for x, y in models.to_numpy()]
    )
    assert squares["x"].loc[2, "capped"] == pytest.approx((noisy.score.max() - 0.7) ** 2)
    assert table.loc["x", "capped"] < table.loc["x", "error ratio"]
    assert table.loc["x", "rank r"] == pytest.approx(1)


def test_ratios_of_errors_are_those_of_held_out_errors(noisy):
    found = noise_tables.error_ratios(
        noisy, ["x", "dose"], "dose", "score", "level", degrees=(1, 2), n_resamples=50
    )
    for degree in (1, 2):
        held = {"y": "score", "groups": "level", "degree": degree}
        ours, theirs = (stats.held_out_error(noisy, [m], **held) for m in ("x", "dose"))
        row = found.loc["x", degree]
        assert row["ratio"] == pytest.approx(ours / theirs)
        assert row["low"] <= row["ratio"] <= row["high"]
        assert found.loc["dose", degree].tolist() == [1, 1, 1]


def test_bad_input_is_named(noisy):
    with pytest.raises(ValueError, match="3 or more"):
        noise_tables.resampled(noisy.assign(level=noisy.level > 3), len, "level")
