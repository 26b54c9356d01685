import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.power import TTestPower

from helpers.synthesis import paired_tests


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 3, 400)
    return shared + rng.normal(0, 1, 400), shared + rng.normal(0.2, 1, 400)


def test_the_paired_test_is_scipys(pair):
    found = paired_tests.paired_test(*pair)
    oracle = stats.ttest_rel(pair[1], pair[0])
    interval = oracle.confidence_interval(0.95)
    assert found.p_value == pytest.approx(oracle.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(np.mean(pair[1] - pair[0])) and found.n == 400


def test_pairing_saves_as_many_items_as_variances_say(pair):
    found = paired_tests.paired_test(*pair)
    r = np.corrcoef(pair)[0, 1]
    a, b = (np.var(x, ddof=1) for x in pair)
    assert found.pairing == pytest.approx((a + b) / (a + b - 2 * r * np.sqrt(a * b)))
    assert found.pairing == pytest.approx(10, rel=0.2)


def test_a_model_does_not_differ_from_itself_and_always_from_one_moved(pair):
    same = paired_tests.paired_test(pair[0], pair[0])
    assert same.difference == 0 and same.p_value == 1 and same.low == same.high == 0
    moved = paired_tests.paired_test(np.arange(10.0), np.arange(10.0) + 1)
    assert moved.difference == 1 and moved.p_value == 0


def test_turning_the_pair_turns_the_sign_and_order_does_not_matter(pair):
    found, turned = paired_tests.paired_test(*pair), paired_tests.paired_test(*pair[::-1])
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.p_value == pytest.approx(found.p_value)
    order = np.random.default_rng(1).permutation(400)
    again = paired_tests.paired_test(pair[0][order], pair[1][order])
    assert again.p_value == pytest.approx(found.p_value)


def test_power_is_that_of_statsmodels_on_a_large_pool():
    rng = np.random.default_rng(2)
    gap = rng.normal(size=8000)
    gap = (gap - gap.mean()) / gap.std() + 0.4
    found = paired_tests.power(np.zeros(8000), gap, [10, 30, 60], n_draws=400)
    for row in found.itertuples():
        oracle = TTestPower().power(effect_size=0.4, nobs=row.n, alpha=0.05)
        assert row.up == pytest.approx(oracle, abs=4 * np.sqrt(0.25 / 400))
    assert (found.down < 0.02).all() and found.up.is_monotonic_increasing
    lone = paired_tests.power(gap, np.zeros(8000), [30], n_draws=400)
    assert lone.up[0] < 0.02 and lone.down[0] == pytest.approx(found.up[1], abs=0.1)


def test_power_is_the_level_without_a_difference():
    gap = np.random.default_rng(3).normal(size=4000)
    found = paired_tests.power(np.zeros(4000), gap - gap.mean(), [40], n_draws=2000, level=0.1)
    assert found.up[0] + found.down[0] == pytest.approx(0.1, abs=0.03)
    still = paired_tests.power(np.ones(9), np.ones(9), [5])
    assert still.up[0] == still.down[0] == 0


def test_items_needed_are_those_of_statsmodels(pair):
    gap = pair[1] - pair[0]
    effect = gap.mean() / gap.std(ddof=1)
    oracle = TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8)
    assert paired_tests.items_needed(*pair) == pytest.approx(oracle, rel=0.03)
    assert paired_tests.items_needed(pair[0], pair[0]) == np.inf
    assert paired_tests.items_needed(np.arange(9.0), np.arange(9.0) + 100) == 3


def test_halves_of_independent_items_give_the_level_and_of_groups_more():
    rng = np.random.default_rng(4)
    alone = rng.normal(size=300)
    assert paired_tests.false_alarms(alone) == pytest.approx(0.05, abs=0.025)
    group = np.repeat(np.arange(30), 10)
    shared = rng.normal(size=30)[group] + 0.3 * rng.normal(size=300)
    assert paired_tests.false_alarms(shared, groups=group) > 0.3
    assert paired_tests.false_alarms(alone, groups=group) < 0.15


def test_the_clustered_test_is_that_of_statsmodels_and_of_cluster_means(pair):
    rng = np.random.default_rng(5)
    uneven = rng.integers(0, 9, 400)
    found = paired_tests.clustered_test(*pair, uneven)
    fit = sm.OLS(pair[1] - pair[0], np.ones(400)).fit(
        cov_type="cluster", cov_kwds={"groups": uneven, "use_correction": False}
    )
    error = fit.bse[0] * np.sqrt(9 / 8)
    assert found.difference == pytest.approx(fit.params[0]) and found.clusters == 9
    assert found.high - found.difference == pytest.approx(stats.t.ppf(0.975, 8) * error)
    even = np.repeat(np.arange(20), 20)
    means = (pair[1] - pair[0]).reshape(20, 20).mean(axis=1)
    found = paired_tests.clustered_test(*pair, even)
    assert found.p_value == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    alone = paired_tests.clustered_test(*pair, np.arange(400))
    assert alone.p_value == pytest.approx(paired_tests.paired_test(*pair).p_value)
    assert alone.icc == 0 and alone.effective == pytest.approx(400)
    still = paired_tests.clustered_test(pair[0], pair[0], even)
    assert still.p_value == 1 and still.low == still.high == 0


def test_the_clustered_test_keeps_its_level_where_the_plain_one_does_not():
    rng, plain, whole = np.random.default_rng(6), [], []
    cluster = np.repeat(np.arange(16), 8)
    for _ in range(300):
        gap = rng.normal(size=16)[cluster] + rng.normal(size=128)
        plain.append(paired_tests.paired_test(np.zeros(128), gap).p_value < 0.05)
        whole.append(paired_tests.clustered_test(np.zeros(128), gap, cluster).p_value < 0.05)
    assert np.mean(plain) > 0.2 and np.mean(whole) == pytest.approx(0.05, abs=0.04)


def test_the_intraclass_correlation_is_that_of_the_model():
    rng, cluster = np.random.default_rng(7), np.repeat(np.arange(400), 10)
    values = rng.normal(size=400)[cluster] + 2 * rng.normal(size=4000)
    found = paired_tests._intraclass(values, cluster)
    assert found.icc == pytest.approx(0.2, abs=0.04)
    assert found.design_effect == pytest.approx(1 + 9 * found.icc)
    assert found.effective == pytest.approx(4000 / found.design_effect)
    moved = paired_tests._intraclass(3 * values + 7, cluster)
    assert moved.icc == pytest.approx(found.icc)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_tests.paired_test([1, 2], [1, 2]), "before has shape"),
        (lambda: paired_tests.paired_test([1, 2, 3], [1, 2]), "after"),
        (lambda: paired_tests.paired_test([1, np.nan, 3], [1, 2, 3]), r"before\[1\] is nan"),
        (lambda: paired_tests.paired_test(["a", "b", "c"], [1, 2, 3]), "before is not all numbers"),
        (lambda: paired_tests.paired_test([1, 2, 3], [1, 2, 4], confidence=95), "confidence is 95"),
        (lambda: paired_tests.power([1, 2, 3], [1, 2, 4], [4]), "sizes has 4"),
        (lambda: paired_tests.power([1, 2, 3], [1, 2, 4], [2]), "sizes has 2"),
        (lambda: paired_tests.power([1, 2, 3], [1, 2, 4], [3], level=5), "level is 5"),
        (lambda: paired_tests.items_needed([1, 2, 3], [1, 2, 4], wanted=80), "wanted is 80"),
        (lambda: paired_tests.clustered_test([1, 2, 3], [1, 2, 4], ["a"]), "clusters has length 1"),
        (lambda: paired_tests.clustered_test([1, 2, 3], [1, 2, 4], [0, 1, 1]), "has 2 distinct"),
        (lambda: paired_tests._intraclass([1, 2, 3], [0, 1, 2]), "clusters has 3 values for 3"),
        (lambda: paired_tests._intraclass([1, 2, 3], [0, 1]), "clusters has length 2"),
        (lambda: paired_tests.false_alarms([1, 2, 3]), "values has 3 items"),
        (lambda: paired_tests.false_alarms(np.arange(9.0), groups=[1, 2]), "groups has length 2"),
        (lambda: paired_tests.false_alarms([1, 2, np.inf]), "values must be"),
    ],
)
def test_bad_items_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
