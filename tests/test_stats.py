"""Correlations against SciPy, statsmodels and a naive bootstrap."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from helpers import stats


def table(n=60, seed=0):
    """Return x and y that share a driver z, in six groups."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.5, 3, n)
    frame = pd.DataFrame({"z": z, "x": z + 0.3 * rng.standard_normal(n), "g": np.arange(n) % 6})
    return frame.assign(y=z**2 + 0.5 * rng.standard_normal(n))


def test_correlation_is_scipys():
    frame = table()
    found = stats.correlation(frame["x"], frame["y"])
    oracle = pearsonr(frame["x"], frame["y"])
    interval = oracle.confidence_interval()
    assert found.n == 60
    np.testing.assert_allclose(found[:3], [oracle.statistic, interval.low, interval.high])


def test_the_difference_of_two_correlations_has_the_interval_of_a_bootstrap():
    rng = np.random.default_rng(4)
    z = rng.standard_normal(800)
    x, rival, y = (z + scale * rng.standard_normal(800) for scale in (0.6, 1.2, 0.7))
    found = stats.correlation_difference(x, rival, y)
    assert found.difference == pytest.approx(
        pearsonr(x, y).statistic - pearsonr(rival, y).statistic
    )
    drawn = rng.integers(800, size=(2000, 800))
    gaps = [np.corrcoef([x[i], rival[i], y[i]])[2, :2] @ [1, -1] for i in drawn]
    ends = np.percentile(gaps, [2.5, 97.5])
    assert [found.low, found.high] == pytest.approx(ends, abs=0.01)
    # Far narrower than if the two came from different rows.
    one, two = stats.correlation(x, y), stats.correlation(rival, y)
    assert found.high - found.low < 0.9 * np.hypot(one.high - one.low, two.high - two.low)


def test_the_difference_turns_round_with_its_columns():
    frame = table().assign(w=lambda t: t["x"] ** 2)
    found = stats.correlation_difference(frame["x"], frame["w"], frame["y"])
    back = stats.correlation_difference(frame["w"], frame["x"], frame["y"])
    turned = [-found.difference, -found.high, -found.low]
    assert list(back[:3]) == pytest.approx(turned)
    assert found.low < found.difference < found.high and found.n == 60
    same = stats.correlation_difference(frame["x"], frame["x"], frame["y"])
    one = stats.correlation(frame["x"], frame["y"])
    assert same.difference == 0
    # What is left is the skew of Fisher's interval.
    skew = (one.r - one.low) - (one.high - one.r)
    assert [same.low, same.high] == pytest.approx([-skew, skew], rel=1e-4)
    with pytest.raises(ValueError, match="rival"):
        stats.correlation_difference(frame["x"], frame["w"][:5], frame["y"])


def test_the_interval_holds_its_own_estimate_at_a_correlation_of_one():
    for n in range(4, 40):
        for seed in range(5):
            x = np.random.default_rng(seed).permutation(n).astype(float)
            found = stats.correlation(x, 3 * x + 1)
            assert found.low <= found.r <= found.high
            opposite = stats.correlation(x, -x)
            assert opposite.low <= opposite.r <= opposite.high


def test_missing_rows_are_left_out():
    frame = table()
    holes = frame.copy()
    holes.loc[3, "x"], holes.loc[7, "y"] = np.nan, np.inf
    whole = frame.drop(index=[3, 7])
    assert stats.correlation(holes["x"], holes["y"]) == stats.correlation(whole["x"], whole["y"])
    ours = stats.partial_correlation(holes["x"], holes["y"], holes["z"])
    assert ours == stats.partial_correlation(whole["x"], whole["y"], whole["z"])
    drawn = stats.bootstrap_correlation(holes, "x", "y", groups="g")
    assert drawn == stats.bootstrap_correlation(whole, "x", "y", groups="g")


def test_partial_correlation_is_that_of_the_regression_residuals():
    frame = table()
    rest = {v: smf.ols(f"{v} ~ z + I(z**2) + I(z**3)", frame).fit().resid for v in "xy"}
    powers = np.stack([frame["z"] ** k for k in (1, 2, 3)], axis=1)
    found = stats.partial_correlation(frame["x"], frame["y"], powers)
    assert found.r == pytest.approx(np.corrcoef(rest["x"], rest["y"])[0, 1], abs=1e-9)
    half = np.arctanh(found.high) - np.arctanh(found.r)
    assert half == pytest.approx(1.959964 / np.sqrt(60 - 3 - 3), rel=1e-5)


def test_partial_correlation_has_the_sign_and_t_of_the_added_regressor():
    frame = table(seed=4)
    fit = smf.ols("y ~ z + x", frame).fit()
    t, freedom = fit.tvalues["x"], fit.df_resid
    found = stats.partial_correlation(frame["x"], frame["y"], frame["z"])
    assert found.r == pytest.approx(t / np.sqrt(t**2 + freedom), abs=1e-10)


def test_indicators_give_the_correlation_within_groups():
    frame = table()
    centred = frame[["x", "y"]] - frame.groupby("g")[["x", "y"]].transform("mean")
    found = stats.partial_correlation(frame["x"], frame["y"], pd.get_dummies(frame["g"]))
    assert found.r == pytest.approx(centred.corr().iloc[0, 1], abs=1e-10)
    # The constant lies in the indicators, so six of them are five covariates.
    fewer = stats.partial_correlation(
        frame["x"], frame["y"], pd.get_dummies(frame["g"], drop_first=True)
    )
    np.testing.assert_allclose(found, fewer)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1e4), st.floats(-1e3, 1e3))
def test_units_do_not_matter(seed, scale, shift):
    frame = table(30, seed)
    plain = stats.partial_correlation(frame["x"], frame["y"], frame["z"])
    moved = stats.partial_correlation(
        scale * frame["x"] + shift, frame["y"], shift + frame["z"] * scale
    )
    np.testing.assert_allclose(plain, moved, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-200, 1e-14, 1e14, 1e200])
def test_no_unit_is_too_small_or_too_large(scale):
    frame = table(30)
    moved = frame.assign(x=scale * frame["x"], y=frame["y"] / scale)
    found = stats.correlation(moved["x"], moved["y"])
    np.testing.assert_allclose(found, stats.correlation(frame["x"], frame["y"]), rtol=1e-9)
    part = stats.partial_correlation(moved["x"], moved["y"], scale * frame["z"])
    plain = stats.partial_correlation(frame["x"], frame["y"], frame["z"])
    np.testing.assert_allclose(part, plain, rtol=1e-9)
    drawn = stats.bootstrap_correlation(moved, "x", "y", groups="g")
    whole = stats.bootstrap_correlation(frame, "x", "y", groups="g")
    np.testing.assert_allclose(drawn, whole, rtol=1e-9)
    with pytest.raises(ValueError, match="x does not vary"):
        stats.correlation(scale * (1 + 1e-14 * frame["x"]), frame["y"])


def test_what_a_common_cause_explains_is_taken_out():
    frame = table(4000, 1)
    assert stats.correlation(frame["x"], frame["y"]).r > 0.85
    low, high = stats.partial_correlation(
        frame["x"], frame["y"], np.stack([frame["z"], frame["z"] ** 2], 1)
    )[1:3]
    assert low < 0 < high


def test_bootstrap_is_deterministic_and_near_fisher_for_independent_rows():
    frame = table(200, 2)
    first = stats.bootstrap_correlation(frame, "x", "y", seed=1)
    assert first == stats.bootstrap_correlation(frame, "x", "y", seed=1)
    assert first != stats.bootstrap_correlation(frame, "x", "y", seed=2)
    fisher = stats.correlation(frame["x"], frame["y"])
    assert first.r == fisher.r and first.n == 200
    np.testing.assert_allclose(first[1:3], fisher[1:3], atol=0.02)


def test_bootstrap_is_that_of_rows_drawn_one_by_one():
    frame = table(24, 3)
    found = stats.bootstrap_correlation(frame, "x", "y", groups="g", n_resamples=400, seed=7)
    draws = np.random.default_rng(7).multinomial(6, np.full(6, 1 / 6), size=400)
    values = []
    for times in draws:
        rows = np.concatenate(
            [np.repeat(frame.index[frame["g"] == g], t) for g, t in enumerate(times)]
        )
        values.append(np.corrcoef(frame.loc[rows, "x"], frame.loc[rows, "y"])[0, 1])
    np.testing.assert_allclose(found[1:3], np.quantile(values, [0.025, 0.975]), atol=1e-10)


def test_groups_widen_the_interval_when_rows_are_copies():
    few = table(8, 5)
    copies = pd.concat([few.assign(g=range(8))] * 20, ignore_index=True)
    rows = stats.bootstrap_correlation(copies, "x", "y")
    groups = stats.bootstrap_correlation(copies, "x", "y", groups="g")
    assert groups.high - groups.low > 2 * (rows.high - rows.low)


def test_bad_input_is_refused():
    frame = table()
    with pytest.raises(ValueError, match="y has 3 rows but x has 4"):
        stats.correlation([1, 2, 3, 4], [1, 2, 3])
    with pytest.raises(ValueError, match="2 complete rows"):
        stats.correlation([1, 2, np.nan], [1, 2, 3])
    with pytest.raises(ValueError, match="x does not vary"):
        stats.correlation([1, 1, 1, 1], [1, 2, 3, 5])
    with pytest.raises(ValueError, match="leave nothing of x"):
        stats.partial_correlation(frame["x"], frame["y"], frame["x"])
    with pytest.raises(ValueError, match="5 complete rows for 3 covariates"):
        stats.partial_correlation(frame["x"][:5], frame["y"][:5], np.eye(5)[:, :3])
    with pytest.raises(ValueError, match="at least 3"):
        stats.bootstrap_correlation(frame.assign(g=0), "x", "y", groups="g")
    assert stats.correlation([1, 2, 4], [2, 1, 3])[1:3] == (-1.0, 1.0)


def test_the_table_holds_each_pair_and_spearman_for_ranks():
    groups = {"first": table(), "second": table(40, 1)}
    plain = stats.correlation_table(groups, ["x", "z"], "y").set_index(["measure", "group"])
    assert plain.index.tolist() == [(m, g) for m in ("x", "z") for g in groups]
    expected = stats.correlation(groups["second"]["z"], groups["second"]["y"])
    assert tuple(plain.loc[("z", "second")]) == expected
    ranked = stats.correlation_table(groups, ["x"], "y", ranks=True)
    frame = groups["first"]
    assert ranked["r"][0] == pytest.approx(spearmanr(frame["x"], frame["y"]).statistic)


def test_bootstrap_mean_agrees_with_scipy_and_the_normal_interval():
    values = np.random.default_rng(0).exponential(size=400)
    found = stats.bootstrap_mean(values, n_resamples=4000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", random_state=1
    ).confidence_interval
    assert found.mean == values.mean() and found.n == 400
    assert [found.low, found.high] == pytest.approx([theirs.low, theirs.high], abs=0.01)
    assert stats.bootstrap_mean(values) == stats.bootstrap_mean(values)
    assert stats.bootstrap_mean(np.full(9, 2.0)) == (2.0, 2.0, 2.0, 9)


def test_paired_difference_agrees_with_scipy_and_is_calm_without_one():
    rng = np.random.default_rng(1)
    a = rng.standard_normal(60)
    b = a - 0.1 + 0.3 * rng.standard_normal(60)
    found = stats.paired_difference(a, b, n_resamples=4000)
    theirs = scipy.stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=4000, rng=1
    )
    assert found.difference == pytest.approx(theirs.statistic)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.02)
    assert found.low < found.difference < found.high
    assert stats.paired_difference(a, a).p_value == 1.0
    mirrored = stats.paired_difference(b, a, n_resamples=4000)
    assert mirrored.p_value == found.p_value and mirrored.difference == -found.difference


def test_means_refuse_bad_columns_by_name():
    with pytest.raises(ValueError, match="values has shape"):
        stats.bootstrap_mean([1.0, 2.0])
    with pytest.raises(ValueError, match="b has a missing or infinite value in row 1"):
        stats.paired_difference([1, 2, 3], [1, np.nan, 3])
    with pytest.raises(ValueError, match="a has 4 rows but b has 3"):
        stats.paired_difference([1, 2, 3, 4], [1, 2, 3])


def levels(n_levels=6, n=3, seed=0):
    rng = np.random.default_rng(seed)
    level = np.repeat(np.arange(n_levels, dtype=float), n)
    x = level + 0.1 * rng.standard_normal(len(level))
    return pd.DataFrame({"level": level, "x": x, "z": rng.standard_normal(len(level)),
                         "y": 1 + 2 * x - 0.3 * x**2})  # fmt: skip


def test_held_out_error_is_that_of_a_loop_over_groups():
    frame = levels().assign(y=lambda t: t.y + t.z)
    for columns, terms in (["x"], "x + I(x**2)"), (["x", "z"], "x * z + I(x**2) + I(z**2)"):
        misses = []
        for level, held in frame.groupby("level"):
            fit = smf.ols(f"y ~ {terms}", frame[frame.level != level]).fit()
            misses += list((fit.predict(held) - held.y) ** 2)
        found = stats.held_out_error(frame, columns, "y", "level")
        assert found == pytest.approx(np.sqrt(np.mean(misses)), rel=1e-8)
    others = [frame.y[frame.level != level].mean() for level in frame.level]
    expected = np.sqrt(np.mean((frame.y - others) ** 2))
    assert stats.held_out_error(frame, [], "y", "level") == pytest.approx(expected)


def test_held_out_error_vanishes_for_the_law_itself_and_not_for_noise():
    frame = levels(8)
    assert stats.held_out_error(frame, ["x"], "y", "level") < 1e-9
    assert stats.held_out_error(frame, ["x"], "y", "level", degree=1) > 0.1
    assert stats.held_out_error(frame, ["z"], "y", "level") > 0.8 * frame.y.std()
    wider = frame.assign(x=1e6 + 1e3 * frame.x)
    assert stats.held_out_error(wider, ["x"], "y", "level") < 1e-5


def test_held_out_error_refuses():
    with pytest.raises(ValueError, match="groups has 2"):
        stats.held_out_error(levels(2), ["x"], "y", "level")


def test_resampled_rows_hold_whole_units_and_none_below_zero():
    member = np.array([0, 0, 1, -1, 2, 2, 2])
    resamples = list(stats.resampled_rows(member, 40, np.random.default_rng(0)))
    for rows in resamples:
        counts = np.bincount(rows, minlength=len(member))
        assert counts[3] == 0 and counts[0] == counts[1] and counts[4] == counts[5] == counts[6]
        assert counts[[0, 2, 4]].sum() == 3
    assert len({tuple(sorted(rows)) for rows in resamples}) > 5
