import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from experiments import intervals


def test_a_ratio_and_its_interval_draw_first_models_together():
    ratio = pd.Series([1.0, 2.0, 4.0, 8.0], [5, 6, 7, 8])
    first = pd.Series(["a", "a", "b", "b"], ratio.index)
    middle, low, high = intervals.ratio_interval(ratio, first, "geometric mean", n_resamples=400)
    assert middle == pytest.approx(8**0.5)
    # Only three different samples exist: a twice, b twice, and both.
    assert (low, high) == pytest.approx((2**0.5, 32**0.5))
    assert intervals.ratio_interval(ratio, first)[0] == pytest.approx(8**0.5)
    with pytest.raises(ValueError, match="summary"):
        intervals.ratio_interval(ratio, first, "mean")


def test_drawn_rows_hold_whole_units():
    rows = intervals.drawn_rows(list("aabcc"), 50)
    assert all(len(row) >= 3 for row in rows)
    for row in rows:
        counts = np.bincount(row, minlength=5)
        assert counts[0] == counts[1] and counts[3] == counts[4]


def test_the_jackknife_of_a_mean_is_students_interval():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    left = [np.delete(values, i).mean() for i in range(4)]
    half = 3.182446 * values.std(ddof=1) / 2
    assert intervals.jackknife(left, values.mean()) == pytest.approx((4 - half, 4 + half))
    middle, low, high = intervals.geometric_mean(np.log(values))
    assert middle == pytest.approx(72**0.25) and low < middle < high
    with pytest.raises(ValueError, match="values has length 2"):
        intervals.jackknife([1, 2], 1)


def test_a_mean_of_few_values_has_students_interval():
    values = np.random.default_rng(0).standard_normal(7)
    oracle = ttest_1samp(values, 0).confidence_interval()
    assert intervals.student_mean(values) == pytest.approx((values.mean(), *oracle, 7))
    with pytest.raises(ValueError, match="two or more finite"):
        intervals.student_mean([1.0])


def test_a_bootstrap_draws_whole_units_and_leaves_out_what_is_not_finite():
    values = np.array([0.0, 0.0, 2.0, 2.0, 7.0])

    def mean(rows):
        return np.nan if len(set(rows)) < 3 else float(values[rows].mean())

    estimate, low, high = intervals.bootstrap(mean, list("aabbc"), n_resamples=400)
    # At the ends a twice and b once, and c twice and b once.
    assert estimate == 2.2 and (low, high) == pytest.approx((2 / 3, 4.5))
    with pytest.raises(ValueError, match="3 or more"):
        intervals.bootstrap(mean, list("aabb"))
