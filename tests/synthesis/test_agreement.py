import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, spearmanr

from helpers import stats
from helpers.synthesis import agreement


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    size = np.repeat([1.0, 2.0, 3.0, 4.0], 12)
    truth = size + rng.normal(0, 0.5, 48)
    return pd.DataFrame(
        {
            "size": size,
            "mix": np.tile(["a", "b", "c"], 16),
            "seed": np.tile(np.repeat([0, 1], 3), 8),
            "cell": [f"{s}{m}" for s, m in zip(size, np.tile(["a", "b", "c"], 16), strict=True)],
            "truth": truth,
            "exact": np.exp(truth),
            "through_size": size + rng.normal(0, 0.5, 48),
            "noise": rng.normal(size=48),
            "still": 1.0,
        }
    )


def test_ranks_are_correlated_as_scipy_does(table):
    found = agreement.rank_correlations(
        table, ["exact", "through_size", "noise"], ["truth"], groups="cell"
    ).set_index("signal")
    for name in found.index:
        assert found.r[name] == pytest.approx(spearmanr(table[name], table.truth).statistic)
        assert found.low[name] <= found.r[name] + 1e-9 and found.r[name] <= found.high[name] + 1e-9
    assert found.r["exact"] == pytest.approx(1) and found.low["noise"] < 0 < found.high["noise"]
    assert (found.n == 48).all()


def test_what_goes_through_size_only_has_nothing_left_given_size(table):
    found = agreement.rank_correlations(
        table, ["exact", "through_size"], ["truth"], groups="cell", given=["size"]
    ).set_index("signal")
    ranks = table[["truth", "through_size", "size"]].rank()
    oracle = stats.partial_correlation(ranks.through_size, ranks.truth, ranks["size"])
    assert found.r["through_size"] == pytest.approx(oracle.r)
    assert found.low["through_size"] < 0 < found.high["through_size"]
    assert found.r["exact"] == pytest.approx(1)


def test_a_signal_that_is_still_or_explained_away_has_no_correlation(table):
    found = agreement.rank_correlations(
        table.assign(twice=2 * table["size"]),
        ["still", "twice"],
        ["truth"],
        groups="cell",
        given=["size"],
    )
    assert found.r.isna().all()


def test_choices_are_those_of_a_loop_over_pairs(table):
    found = agreement.choices(
        table, ["noise", "through_size"], "truth", same=["mix"], differ="size", least=0.3
    )
    for row in found.itertuples():
        hits = []
        for i in range(48):
            for j in range(i):
                a, b = table.iloc[i], table.iloc[j]
                if a.mix == b.mix and a["size"] != b["size"] and abs(a.truth - b.truth) > 0.3:
                    hits.append((a[row.signal] > b[row.signal]) == (a.truth > b.truth))
        assert row.n == len(hits) and row.share == pytest.approx(np.mean(hits))
        assert row.low <= row.share <= row.high
    noise, useful = found.itertuples()
    assert noise.low < 0.5 < noise.high and useful.low > 0.5


def test_ties_count_half_and_the_exact_signal_never_errs(table):
    found = agreement.choices(table, ["still", "exact"], "truth", same=[], differ="mix")
    assert found.share.tolist() == [0.5, 1.0]


def test_a_sample_is_ranked_and_fitted_again(table):
    options = {"groups": "cell", "given": ["size"], "n_resamples": 40, "seed": 3}
    found = agreement.rank_correlations(table, ["noise"], ["truth"], **options).iloc[0]
    member, cells = pd.factorize(table["cell"])
    rng, sample = np.random.default_rng(3), []
    for _ in range(40):
        drawn = rng.integers(len(cells), size=len(cells))
        rows = table.iloc[np.concatenate([np.flatnonzero(member == i) for i in drawn])].rank()
        sample.append(stats.partial_correlation(rows.noise, rows.truth, rows["size"]).r)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(sample, [0.025, 0.975])))
    z = np.arctanh(found.r) / np.std(np.arctanh(sample))
    assert found.p_value == pytest.approx(2 * norm.sf(abs(z)))


def test_values_are_taken_as_they_are_without_ranks(table):
    options = {"groups": "cell", "n_resamples": 5}
    found = agreement.rank_correlations(table, ["exact"], ["truth"], ranks=False, **options)
    assert (
        found.r[0] == pytest.approx(np.corrcoef(table.exact, table.truth)[0, 1]) and found.r[0] < 1
    )


def test_p_values_are_uniform_where_nothing_is_shared():
    rng, low = np.random.default_rng(5), []
    for i in range(60):
        rows = pd.DataFrame(rng.normal(size=(40, 2)), columns=["x", "y"]).assign(row=range(40))
        found = agreement.rank_correlations(
            rows, ["x"], ["y"], groups="row", n_resamples=60, seed=i
        )
        low.append(found.p_value[0] < 0.2)
    assert 0.05 < np.mean(low) < 0.4


def test_a_difference_is_that_of_two_correlations_and_turns_with_its_rivals(table):
    options = {"groups": "cell", "n_resamples": 50, "given": ["size"]}
    names = "exact", "through_size"
    found = agreement.rank_difference(table, *names, "truth", **options)
    r = agreement.rank_correlations(table, list(names), ["truth"], **options).r
    assert found.difference == pytest.approx(r[0] - r[1])
    assert found.low < found.difference < found.high
    turned = agreement.rank_difference(table, *names[::-1], "truth", **options)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    same = agreement.rank_difference(table, "noise", "noise", "truth", groups="cell")
    assert same.tolist() == pytest.approx([0, 0, 0])


def test_contrasts_are_choices_between_two_values(table):
    options = {"same": ["seed"], "differ": "mix", "least": 0.1}
    found = agreement.contrasts(table, ["noise", "exact"], "truth", **options)
    assert list(found.index) == [("a", "b"), ("a", "c"), ("b", "c")] and (found.exact == 1).all()
    for pair in found.index:
        part = table[table["mix"].isin(pair)]
        oracle = agreement.choices(part, ["noise"], "truth", **options)
        assert found.noise[pair] == pytest.approx(oracle.share[0]) and found.n[pair] == oracle.n[0]


def test_whole_units_are_drawn_where_they_are_named(table):
    options = {"same": ["seed"], "differ": "mix", "seed": 1, "n_resamples": 300}
    whole = agreement.choices(table, ["noise"], "truth", units="mix", **options).iloc[0]
    shares = agreement.contrasts(table, ["noise"], "truth", same=["seed"], differ="mix").noise
    # With three corpora a sample is one contrast, or all three of them.
    assert whole.low == pytest.approx(shares.min()) and whole.high == pytest.approx(shares.max())


def test_signals_are_turned_towards_the_truth(table):
    turned = agreement.towards(table.assign(bad=-table.exact), ["bad", "exact", "still"], "truth")
    assert turned.bad.equals(table.exact) and turned.exact.equals(table.exact)
    assert turned.still.equals(table.still)


def test_models_without_a_value_are_left_out_before_the_rest_are_ranked(table):
    holes = table.assign(
        other=table.noise.where(table.truth > 2.5), noise=-table.noise.where(table.truth < 3.5)
    )
    found = agreement.rank_correlations(holes, ["noise", "other"], ["truth"], groups="cell")
    for row in found.itertuples():
        oracle = spearmanr(holes[row.signal], holes.truth, nan_policy="omit").statistic
        assert row.r == pytest.approx(oracle) and row.n == holes[row.signal].notna().sum()
    options = {"same": ["mix"], "differ": "size"}
    whole = agreement.choices(holes, ["noise", "exact"], "truth", **options).set_index("signal")
    part = agreement.choices(holes[holes.noise.notna()], ["noise"], "truth", **options)
    assert whole.n["noise"] == part.n[0] < whole.n["exact"] and whole.share["exact"] == 1
    assert whole.share["noise"] == part.share[0]
    assert whole.low["noise"] <= whole.share["noise"] <= whole.high["noise"]
    none = agreement.choices(holes.assign(noise=np.nan), ["noise"], "truth", **options)
    assert none.n[0] == 0 and none[["share", "low", "high"]].isna().all(axis=None)


def test_a_signal_is_turned_by_the_models_that_have_it():
    y = [float(i) for i in range(10)]
    table = pd.DataFrame({"x": [5, 4, np.nan, 0, *[np.nan] * 4, 7, 3], "y": y})
    sign = np.sign(spearmanr(table.x, table.y, nan_policy="omit").statistic)
    assert agreement.towards(table, ["x"], "y").x.dropna().equals((sign * table.x).dropna())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: agreement.rank_correlations(t, ["x"], ["truth"], groups="cell"), "no column"),
        (
            lambda t: agreement.rank_correlations(t[:6], ["noise"], ["truth"], groups="size"),
            "groups has 1 distinct values",
        ),
        (
            lambda t: agreement.rank_difference(t, "noise", "x", "truth", groups="cell"),
            "no column",
        ),
        (lambda t: agreement.towards(t, ["x"], "truth"), r"no column \['x'\]"),
        (
            lambda t: agreement.contrasts(t, ["noise"], "truth", same=["size"], differ="size"),
            "leave no pair",
        ),
        (
            lambda t: agreement.choices(t, ["noise"], "truth", same=["size"], differ="size"),
            "leave no pair",
        ),
        (
            lambda t: agreement.choices(t, ["noise"], "truth", same=[], differ="size", least=-1),
            "least is -1",
        ),
    ],
)
def test_bad_requests_are_refused_by_name(table, call, message):
    with pytest.raises(ValueError, match=message):
        call(table)
