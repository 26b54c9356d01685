"""Reliability of a measure, correlations corrected for it, and clouds without structure."""

import numpy as np
import pytest

from helpers.geometry import reliability
from helpers.geometry.reliability import Variance


def test_the_pooled_variance_is_that_of_the_analysis_of_variance():
    values, groups = [1.0, 3.0, 10.0, 14.0, 12.0, 7.0], ["a", "a", "b", "b", "b", "c"]
    left = 2 + (4 + 4 + 0)
    assert reliability.pooled_variance(values, groups) == (pytest.approx(left / 3), 3)
    shifted = reliability.pooled_variance(np.array(values) + [5, 5, 0, 0, 0, 9], groups)
    assert shifted.value == pytest.approx(left / 3)


def test_reliability_is_that_of_simulated_measurements():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(4000)
    once = truth + 0.5 * rng.standard_normal(4000)
    repeats = np.repeat(truth[:500], 3) + 0.5 * rng.standard_normal(1500)
    observed = reliability.pooled_variance(once, np.zeros(4000))
    error = reliability.pooled_variance(repeats, np.repeat(np.arange(500), 3))
    found = reliability.reliability(observed, error)
    assert found.low < 0.8 < found.high and found.share == pytest.approx(0.8, abs=0.03)


def test_its_interval_covers_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        observed = Variance(float(np.var(rng.standard_normal(13) * 2, ddof=1)), 12)
        error = Variance(float(np.var(rng.standard_normal(9), ddof=1)), 8)
        found = reliability.reliability(observed, error)
        hits += found.low <= 0.75 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_correction_undoes_what_noise_did_to_a_correlation():
    rng = np.random.default_rng(2)
    x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 50_000).T
    noisy = x + rng.standard_normal(len(x))
    r = np.corrcoef(noisy, y)[0, 1]
    assert reliability.disattenuated(r, 0.5) == pytest.approx(0.6, abs=0.02)
    assert reliability.disattenuated(0.4, 1.0) == 0.4
    assert np.isnan(reliability.disattenuated(0.4, -0.2))


def test_permuted_columns_keep_marginals_and_lose_correlations():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2000, 1)) + 0.1 * rng.standard_normal((2000, 4))
    null = reliability.permuted_columns(x, seed=1)
    assert (np.sort(null, axis=0) == np.sort(x, axis=0)).all()
    assert np.abs(np.corrcoef(null.T) - np.eye(4)).max() < 0.1
    assert (null == reliability.permuted_columns(x, seed=1)).all()
    assert (null != reliability.permuted_columns(x, seed=2)).any()


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([1.0, 2.0], ["a", "b"], "measure something twice"),
        ([1.0, np.nan], ["a", "a"], "finite"),
        ([1.0, 2.0], ["a"], "groups"),
    ],
)
def test_bad_input_is_named(values, groups, message):
    with pytest.raises(ValueError, match=message):
        reliability.pooled_variance(values, groups)


def test_repeats_that_scatter_more_than_the_models_leave_nothing():
    found = reliability.reliability(Variance(1.0, 20), Variance(2.0, 2))
    assert found.share == found.low == 0 and 0 < found.high < 1


def test_models_that_do_not_differ_have_no_reliability():
    with pytest.raises(ValueError, match="variance of 0"):
        reliability.reliability(Variance(0.0, 5), Variance(1.0, 5))
    with pytest.raises(ValueError, match="points"):
        reliability.permuted_columns([1.0, 2.0])
