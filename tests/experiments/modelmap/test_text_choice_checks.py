import numpy as np
import pandas as pd
import pytest

from experiments.modelmap import text_choice_checks as checks
from experiments.modelmap import text_choice_tables as tables
from helpers.modelmap import model_map

FAMILIES = np.repeat(list("abcdefgh"), 4)


@pytest.fixture(scope="module")
def L():
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(8, 60)), 4, axis=0) * rng.gamma(0.5, size=60) * 9
    values = centres + rng.normal(size=(32, 60)) - 100
    return pd.DataFrame(values, [f"m{i}" for i in range(32)], [f"t-{i}" for i in range(60)])


def test_the_saving_for_new_models_has_a_range_over_splits(L):
    curves = tables.split_curves(
        L, FAMILIES, [5, 10, 20, 40], rules=["uniform", "length-squared"], n_splits=4, n_runs=3
    )
    old = curves[curves.chosen_by == "old models"]
    ratio, low, high = checks.split_ratio(old)
    assert low <= ratio <= high
    assert ratio == pytest.approx(checks.texts_ratio(tables.over_splits(old)))


def test_half_maps_hold_whole_families():
    for rows in checks._half_maps(FAMILIES, 5):
        assert len(rows) == 16 and len(set(FAMILIES[rows])) == 4


def test_the_total_ratio_is_below_one_where_few_texts_differ(L):
    sizes = [1, 2, 4, 8, 20, 40, 60]
    ratio = checks._total_ratio(L, sizes, n_runs=5)
    assert 0 < ratio < 1
    low, high = checks.total_ratio_range(L, FAMILIES, sizes, n_maps=4, n_runs=2)
    assert low <= high


def test_all_texts_rank_pairs_as_the_map_does_and_a_rule_like_itself_gains_nothing(L):
    first, second = np.triu_indices(8, 1)
    true = model_map.fit_map(L).distances()[first, second]
    pairs = pd.DataFrame({"model": L.index[first], "other": L.index[second], "true": true})
    rules = ("uniform, each once", "uniform, each once")
    table, (gain, low, high) = checks.against_divergence(L, pairs, 20, rules=rules, n_runs=3)
    assert (
        table.loc["all texts", "rank"] == pytest.approx(1) and table.loc["all texts", "texts"] == 60
    )
    assert (gain, low, high) == (0, 0, 0)
    assert table["rank"].iloc[-1] < table.loc["all texts", "rank"]
    assert table.spread.iloc[-1] > table.loc["all texts", "spread"]
