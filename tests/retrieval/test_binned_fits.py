import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.preprocessing import PolynomialFeatures

from helpers.retrieval import binned_fits


@pytest.fixture
def axes():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.integers(0, 30, (300, 2)) / 29, columns=["SMI", "CO-OCCUR"])
    return frame, np.clip(0.5 * frame.SMI + 0.2 * rng.random(300), 0, 1)


def test_weights_count_draws_of_rows_and_of_whole_groups():
    plain = binned_fits.draw_weights(50, 30, seed=1)
    assert plain.shape == (30, 50) and (plain.sum(axis=1) == 50).all()
    assert np.array_equal(plain, binned_fits.draw_weights(50, 30, seed=1))
    groups = np.array(["a", "b", "c", "a", "b"])
    grouped = binned_fits.draw_weights(5, 200, groups=groups, seed=0)
    assert (grouped[:, 0] == grouped[:, 3]).all() and (grouped[:, 1] == grouped[:, 4]).all()
    assert (grouped[:, :3].sum(axis=1) == 3).all()
    assert binned_fits.draw_weights(8, 4000).var() == pytest.approx(7 / 8, rel=0.05)


@pytest.mark.parametrize("arguments", [{"n": 1}, {"n": 3, "groups": ["a", "b"]}])
def test_weights_refuse_what_cannot_be_drawn(arguments):
    with pytest.raises(ValueError):
        binned_fits.draw_weights(**arguments, n_resamples=2)
    with pytest.raises(ValueError, match="two are needed"):
        binned_fits.draw_weights(2, 2, groups=["a", "a"])


@given(st.integers(0, 10_000))
def test_binned_r2_under_weights_is_that_of_repeated_rows(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 9, 60) / 8, rng.random(60)
    weights = binned_fits.draw_weights(60, 4, seed=seed)
    bins = binned_fits.bin_means(x, y, weights)
    for exponent in (1.0, 2.5):
        ours = binned_fits.r2_of_means(bins, exponent)
        for value, times in zip(ours, weights.astype(int), strict=True):
            drawn = pd.DataFrame({"x": np.repeat(x, times), "y": np.repeat(y, times)})
            means = drawn.groupby("x").y.mean()
            fit = scipy_stats.linregress(means.index**exponent, means)
            assert value == pytest.approx(fit.rvalue**2, abs=1e-10)


def test_too_few_bins_or_no_spread_give_nan():
    weights = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    bins = binned_fits.bin_means([0, 0.5, 1, 1], [0.1, 0.2, 0.3, 0.5], weights)
    assert np.isnan(binned_fits.r2_of_means(bins)).tolist() == [True, False]
    flat = binned_fits.bin_means([0, 0.5, 1], [0.2, 0.2, 0.2])
    assert np.isnan(binned_fits.r2_of_means(flat)).all()
    with pytest.raises(ValueError):
        binned_fits.bin_means([0, 1], [0.5])


def test_the_best_exponent_is_found_and_the_search_agrees_with_a_loop():
    x = np.linspace(0, 1, 40)
    exact = binned_fits.bin_means(x, 0.8 * x**2.5)
    assert binned_fits.best_exponent(exact)[0] == pytest.approx(2.5, rel=0.03)
    noisy = binned_fits.bin_means(x, x**3 + 0.1 * np.random.default_rng(0).standard_normal(40))
    grid = binned_fits.EXPONENTS
    loop = [np.corrcoef(x**e, noisy.mean[:, 0])[0, 1] ** 2 for e in grid]
    assert binned_fits.best_exponent(noisy) == [grid[np.argmax(loop)]]


def test_a_gain_has_a_percentile_and_a_reflected_interval():
    sample = np.r_[np.linspace(0.1, 0.3, 201), np.nan]
    found = binned_fits.gain(0.15, sample)
    assert [found.low, found.high] == pytest.approx([0.105, 0.295])
    assert [found.reflected_low, found.reflected_high] == pytest.approx([0.005, 0.195])
    with pytest.raises(ValueError, match="no finite"):
        binned_fits.gain(0.1, [np.nan])


def test_the_gain_of_r2_equals_a_loop_over_resamples(axes):
    axes, accuracy = axes
    weights = binned_fits.draw_weights(len(axes), 40, seed=5)
    found = binned_fits.r2_gain(axes, accuracy, weights)
    sample = []
    for times in np.vstack([np.ones(len(axes)), weights]).astype(int):
        drawn = axes.assign(y=accuracy).loc[np.repeat(axes.index, times)]
        r2 = {}
        for c in ("SMI", "CO-OCCUR"):
            means = drawn.groupby(c).y.mean()
            r2[c] = np.corrcoef(means.index, means)[0, 1] ** 2
        sample.append(r2["SMI"] - r2["CO-OCCUR"])
    assert found.gain == pytest.approx(sample[0])
    assert [found.low, found.high] == pytest.approx(np.quantile(sample[1:], [0.025, 0.975]))


def test_a_weighted_correlation_is_that_of_repeated_rows():
    rng = np.random.default_rng(2)
    x = rng.standard_normal(80)
    y = x + rng.standard_normal(80)
    weights = binned_fits.draw_weights(80, 6)
    for value, times in zip(
        binned_fits.weighted_correlation(x, y, weights), weights.astype(int), strict=True
    ):
        direct = scipy_stats.pearsonr(np.repeat(x, times), np.repeat(y, times)).statistic
        assert value == pytest.approx(direct, abs=1e-6)
    ranks = [scipy_stats.rankdata(v) for v in (x, y)]
    whole = binned_fits.weighted_correlation(*ranks, np.ones((1, 80)))
    assert whole == pytest.approx([scipy_stats.spearmanr(x, y).statistic])
    with pytest.raises(ValueError, match="vary"):
        binned_fits.weighted_correlation(np.ones(80), y, weights)
    with pytest.raises(ValueError):
        binned_fits.weighted_correlation(x[1:], y, weights)


def test_standardised_columns_have_mean_0_and_sd_1_in_each_group():
    rng = np.random.default_rng(0)
    values = pd.DataFrame({"a": rng.random(40) * 7, "b": rng.random(40) - 3})
    groups = np.repeat(["p", "q"], 20)
    ours = binned_fits.standardise(values, groups)
    for g in "pq":
        expected = scipy_stats.zscore(values[groups == g].to_numpy(), ddof=1)
        assert ours[groups == g].to_numpy() == pytest.approx(expected)
    with pytest.raises(ValueError, match="does not vary"):
        binned_fits.standardise(values.assign(a=1.0), groups)


def test_the_design_holds_the_powers_of_scikit_learn_and_the_levels():
    values = pd.DataFrame(np.random.default_rng(0).random((9, 3)))
    ours = binned_fits.quadratic(values)
    assert ours == pytest.approx(PolynomialFeatures(2).fit_transform(values))
    levels = binned_fits.quadratic(values, list("abcabcabc"))[:, -2:]
    assert levels.tolist() == [[0, 0], [1, 0], [0, 1]] * 3


def test_the_logistic_curve_is_that_of_statsmodels():
    rng = np.random.default_rng(4)
    X = sm.add_constant(rng.standard_normal((400, 3)))
    y = rng.binomial(400, 1 / (1 + np.exp(-X @ [-1, 0.8, -0.5, 0]))) / 400
    expected = sm.GLM(y, X, family=sm.families.Binomial()).fit().params
    assert binned_fits._fit_share(X, y, logistic=True) == pytest.approx(expected, abs=1e-7)
    assert binned_fits._fit_share(X, y, logistic=False) == pytest.approx(sm.OLS(y, X).fit().params)
    with pytest.raises(ValueError, match="shares"):
        binned_fits._fit_share(X, 100 * y, logistic=True)
    for logistic in (True, False):
        with pytest.raises(ValueError, match="none missing"):
            binned_fits._fit_share(X, np.where(X[:, 1] > 2, np.nan, y), logistic=logistic)
    with pytest.raises(ValueError, match="no convergence"):
        binned_fits._fit_share(X, (X[:, 1] > 0).astype(float), logistic=True, steps=5)


def test_held_out_predictions_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(90), rng.random((90, 2))])
    y, groups = np.clip(0.1 + 0.3 * X[:, 1] + 0.1 * rng.random(90), 0, 1), np.repeat([*"abc"], 30)
    fit = LinearRegression(fit_intercept=False)
    expected = cross_val_predict(fit, X, y, groups=groups, cv=LeaveOneGroupOut())
    assert binned_fits.predict_held_out(X, y, groups) == pytest.approx(expected)
    curve = binned_fits.predict_held_out(X, y, groups, logistic=True)
    glm = sm.GLM(y[30:], X[30:], family=sm.families.Binomial()).fit()
    assert curve[:30] == pytest.approx(glm.predict(X[:30]), abs=1e-7)
    changed = y.copy()
    changed[:30] = 0.9
    again = binned_fits.predict_held_out(X, changed, groups)
    assert again[:30] == pytest.approx(expected[:30]) and not np.allclose(again[30:], expected[30:])
    with pytest.raises(ValueError, match="one value"):
        binned_fits.predict_held_out(X, y, np.full(90, "a"))


def test_thinning_fits_to_every_nth_row_of_the_others():
    rng = np.random.default_rng(6)
    X, y = np.column_stack([np.ones(40), rng.random(40)]), rng.random(40)
    groups = np.repeat(["a", "b"], 20)
    b = np.linalg.lstsq(X[20::4], y[20::4], rcond=None)[0]
    ours = binned_fits.predict_held_out(X, y, groups, thin=4)
    assert ours[:20] == pytest.approx(np.clip(X[:20] @ b, 0, 1))


def test_the_error_table_equals_a_loop_over_drawn_groups():
    rng = np.random.default_rng(7)
    residuals = pd.DataFrame(rng.standard_normal((60, 2)) * [1, 2], columns=["good", "bad"])
    groups = rng.integers(0, 12, 60)
    ours = binned_fits.rmse_table(residuals, groups, "bad", n_resamples=300, seed=1)
    assert ours.rmse.tolist() == pytest.approx(np.sqrt((residuals**2).mean()).tolist())
    units, sample = np.unique(groups), []
    times = binned_fits.draw_weights(len(units), 300, seed=1).astype(int)
    for draw in times:
        rows = np.concatenate([np.flatnonzero(groups == g) for g in np.repeat(units, draw)])
        sample.append(np.sqrt((residuals.to_numpy()[rows] ** 2).mean(axis=0)))
    sample = np.array(sample)
    ends = np.quantile(sample, [0.025, 0.975], axis=0)
    assert ours[["low", "high"]].to_numpy().T == pytest.approx(ends)
    gains = np.quantile(sample[:, 1] - sample[:, 0], [0.025, 0.975])
    assert ours.loc["good", ["gain low", "gain high"]].tolist() == pytest.approx(gains.tolist())
    assert ours.loc["bad", ["gain", "gain low", "gain high"]].tolist() == [0, 0, 0]
    for wrong in ({"baseline": "none"}, {"residuals": residuals.assign(good=np.nan)}):
        arguments = {"residuals": residuals, "groups": groups, "baseline": "bad", **wrong}
        with pytest.raises(ValueError, match="residuals must"):
            binned_fits.rmse_table(**arguments)


def test_the_end_of_the_line_is_slope_plus_intercept_and_nan_for_two_bins():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 6, 60) / 5, rng.random(60)
    bins = binned_fits.bin_means(x, y, rng.integers(0, 3, (4, 60)))
    for k in range(4):
        held = bins.count[:, k] > 0
        slope, intercept = np.polyfit(bins.x[held], bins.mean[held, k], 1)
        assert binned_fits.end_of_line(bins)[k] == pytest.approx(slope + intercept)
    assert np.isnan(binned_fits.end_of_line(binned_fits.bin_means([0, 1], [0.1, 0.2]))).all()
