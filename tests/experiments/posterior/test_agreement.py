import numpy as np
import pandas as pd
import pytest

from experiments.posterior.agreement import (
    difference,
    pairwise_agreement,
    rank_agreement,
)


def frame(seed=0, n=12):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(n)
    table = pd.DataFrame({"truth": truth, "good": truth + 0.3 * rng.standard_normal(n)})
    return table.assign(bad=rng.standard_normal(n), unit=np.arange(n) // 2)


def test_the_estimate_is_the_mean_of_spearmans_correlations():
    tables = {"a": frame(1), "b": frame(2, 9)}
    found = rank_agreement(tables, ["good", "bad"], "truth", n_resamples=50)
    for name in ("good", "bad"):
        oracle = np.mean([t[name].corr(t.truth, method="spearman") for t in tables.values()])
        assert found.table.estimate[name] == pytest.approx(oracle)
    assert (found.table.low <= found.table.high).all() and found.draws.shape == (50, 2)


def test_an_interval_covers_its_estimate_and_is_wider_over_fewer_units():
    # Two equal rows per unit say no more than one of them.
    table = frame(3, 16)
    twice = pd.concat([table, table]).assign(unit=[*range(16), *range(16)])
    kwargs = {"yardstick": "truth", "n_resamples": 400}
    rows = rank_agreement({"x": twice}, ["bad"], **kwargs).table.loc["bad"]
    units = rank_agreement({"x": twice}, ["bad"], unit="unit", **kwargs).table.loc["bad"]
    assert units.high - units.low > 1.2 * (rows.high - rows.low)
    assert units.low <= units.estimate <= units.high


def test_differences_keep_their_pairing():
    found = rank_agreement({"x": frame(4, 30)}, ["good", "bad"], "truth")
    gap, low, high = difference(found, "good", "bad")
    assert low < gap < high and low > 0
    assert difference(found, "good", "good") == (0, 0, 0)


def test_joint_draws_take_the_same_models_from_every_table():
    table = frame(5)
    one = rank_agreement({"x": table}, ["bad"], "truth", seed=3).draws
    both = rank_agreement({"x": table, "y": table}, ["bad"], "truth", joint=True, seed=3).draws
    assert np.allclose(one, both)
    apart = rank_agreement({"x": table, "y": table}, ["bad"], "truth", seed=3).draws
    assert apart.bad.std() < both.bad.std()


def test_pairs_of_columns_agree_as_their_mean_correlation_says():
    table = frame(6)
    columns = ["truth", "good", "bad"]
    oracle = table[columns].corr(method="spearman").to_numpy()[np.triu_indices(3, 1)].mean()
    estimate, (low, high) = pairwise_agreement(table, columns, unit="unit")
    assert estimate == pytest.approx(oracle) and low < estimate < high


@pytest.mark.parametrize(
    ("tables", "options", "message"),
    [
        ({"x": frame().replace(frame().bad[0], np.nan)}, {}, "missing"),
        ({"x": frame(), "y": frame(n=8)}, {"joint": True}, "8 models"),
    ],
)
def test_bad_input_is_named(tables, options, message):
    with pytest.raises(ValueError, match=message):
        rank_agreement(tables, ["bad"], "truth", **options)
