"""Pairs of known divergence: what is asked of them, on tables with the answer built in."""

import numpy as np
import pandas as pd
import pytest

from experiments.modelmap import distance_tables, smollm2_divergence
from helpers import text_sets


def test_pairs_differ_in_one_thing():
    pairs = distance_tables._ngram_pairs(["a", "b", "c"], [10, 20, 30], [1, 2, 3])
    for kind, p, q in pairs:
        differ = [i for i in range(3) if p[i] != q[i]]
        assert differ == [["corpus", "size", "order"].index(kind)]
    assert len(pairs) == 4 + 4 + 3 and len(set(pairs)) == len(pairs)


def test_steps_of_n_grams_have_a_row_a_share_and_small_steps_obey_the_formula():
    words = {"a": ["abab baba "] * 40, "b": ["abba abba "] * 40, "c": ["aabb bbaa "] * 40}
    texts = [b"abab baba abba"] * 3 + [b"bbbb aaaa abba"]
    found = distance_tables.ngram_steps(
        words, texts, [100, 300], [0, 1], n_samples=400, shares=(1.0, 0.1), seed=2
    )
    pairs = distance_tables._ngram_pairs(list(words), [100, 300], [0, 1])
    assert len(found) == 2 * len(pairs) and set(found.models) == {"n-gram"}
    assert (found.true > 0).all() and {"own", "texts", "spread", "own_8"} <= set(found)
    small = found[found.share == 0.1]
    assert abs((small.own_8 / small.true).median() - 1) < 0.2
    full = found[found.share == 1].set_index(["p", "q"]).spread
    assert (small.set_index(["p", "q"]).spread < full).all()


def test_the_stored_pairs_fit_together():
    found = distance_tables.stored_pairs()
    assert set(found.models) == {"tiny GPT", "SmolLM2"}
    assert (found[["true", "own", "texts", "own_8", "texts_8", "texts_true"]] > 0).all(axis=None)
    medians = distance_tables.true_medians(found)
    assert list(medians.index) == ["size", "seed", "early steps", "late steps"]
    assert medians.notna().all()


def test_the_share_between_groups_is_that_of_an_analysis_of_variance():
    assert distance_tables.share_between([1, 1, 3, 3], ["a", "a", "b", "b"]) == pytest.approx(1)
    assert distance_tables.share_between([1, 3, 1, 3], ["a", "a", "b", "b"]) == pytest.approx(0)
    values, groups = np.random.default_rng(0).normal(size=30), np.arange(30) % 3
    within = sum(values[groups == g].var() * 10 for g in range(3))
    expected = 1 - within / (values.var() * 30)
    assert distance_tables.share_between(values, groups) == pytest.approx(expected)


@pytest.fixture
def runs():
    rows = []
    for size in ("small", "large"):
        for seed in (0, 1):
            for step in (64, 128, 256, 384, 512):
                rows.append((f"{size}{seed}-{step}", size, seed, step, "training", ""))
            rows.append((f"{size}{seed}-r", size, seed, 512, "rounded", f"{size}{seed}-512"))
    columns = ["model", "size", "seed", "step", "kind", "parent"]
    about = pd.DataFrame(rows, columns=columns).set_index("model").assign(level=4)
    # Half the variance over these two texts is 2 a size, 1/2 a seed, and of steps as below.
    where = {64: 0.0, 128: 0.0, 256: 6.0, 384: 7.0, 512: 8.0}
    height = [
        4.0 * (r.size == "large") + 2.0 * r.seed + where[r.step] + 3.0 * (r.kind == "rounded")
        for r in about.reset_index().itertuples(index=False)
    ]
    stored = pd.DataFrame({"x": height, "y": [-5.0] * len(height)}, about.index)
    return stored, about


def test_medians_are_those_of_the_right_pairs(runs):
    found = distance_tables.training_medians(*runs, n_bytes=1 / np.log(2))
    # Half the variance of (d, 0) is d squared over 8.
    expected = {"size": 2, "seed": 0.5, "early steps": 36 / 8, "late steps": 1 / 8}
    assert found.to_dict() == pytest.approx(expected)


def test_shifts_of_rounding(runs):
    found = distance_tables.rounding_shifts(*runs)
    assert found.loc[4, ["cosine", "least", "most"]].tolist() == pytest.approx([1, 1, 1])
    # A shift of (3, 0) is (1.5, -1.5) once centred.
    assert found.squared[4] == pytest.approx(2.25)


def test_a_late_step_is_shorter_and_four_bits_move_farther_than_eight(runs):
    stored, about = runs
    # Steps of 6 and 1 in every run: 36 times as far, without any spread.
    assert distance_tables.steps_shrink(stored, about) == pytest.approx((36, 36, 36))
    finer = about[about.kind == "rounded"].rename(lambda name: f"{name}8").assign(level=8)
    moved = stored.loc[finer.parent].to_numpy() + [[1.0, 0.0]]
    more = pd.concat([stored, pd.DataFrame(moved, finer.index, stored.columns)])
    found = distance_tables.rounding_ratio(more, pd.concat([about, finer]))
    assert found == pytest.approx((1 / 9, 1 / 9, 1 / 9))


def test_the_formula_by_genre_is_half_the_variance_of_its_texts():
    gaps = np.random.default_rng(0).normal(size=(3, 10))
    keys = pd.Index([f"a b-{i}" for i in range(6)] + [f"c-{i}" for i in range(3)] + ["d-0"])
    lengths = pd.Series(np.arange(100, 110), keys)
    found = distance_tables._by_genre(gaps, keys, lengths)
    assert list(found) == ["mixed", "a b"]
    assert found["a b"].to_numpy() == pytest.approx(
        gaps[:, :6].var(axis=1) / 2 / lengths[:6].mean() / np.log(2)
    )


def test_the_range_ends_where_the_median_leaves_it():
    spread = np.arange(1, 11) / 10
    ratio = np.array([1, 1.05, 5, 0.95, 1.02, 1.5, 1.5, 1.5, 1.5, 1.5])
    assert distance_tables.valid_up_to(spread, ratio, window=3) == pytest.approx(0.5)
    assert distance_tables.valid_up_to(spread[::-1], ratio[::-1], window=3) == pytest.approx(0.5)
    assert distance_tables.valid_up_to(spread, ratio * 2, window=3) == 0
    assert distance_tables.valid_up_to(spread, np.ones(10)) == 1.0


def test_estimators_are_judged_by_factors():
    pairs = pd.DataFrame({"models": ["m"] * 3, "true": [1.0, 2.0, 4.0]}, [5, 6, 7])
    table = distance_tables.judge({"half": pairs.true / 2, "worse": pairs.true[::-1] * 4}, pairs)
    assert table.loc[("m", "half")].tolist() == pytest.approx([2, 2, 1])
    assert table.loc[("m", "worse")].tolist() == pytest.approx([4, 4, 1])


def test_one_scale_has_every_change_once(runs):
    training = pd.DataFrame({"formula": [2.0, 1], "true": [1.0, 1]}, ["size", "seed"])
    grams = pd.DataFrame({"models": "n-gram", "kind": ["order"] * 3, "texts": [1, 5, 9]})
    pairs = pd.concat([grams.assign(true=[3, 4, 5]), distance_tables.stored_pairs()])
    found = distance_tables.one_scale(training, pairs, text_sets.load_texts(128).n_bytes, 0.3)
    assert found.change.is_unique and found.formula.is_monotonic_increasing
    rows = found.set_index("change")
    assert rows.loc["n-grams, order", ["formula", "true"]].tolist() == [5, 4]
    layers = pd.read_csv(smollm2_divergence.LAYERS, index_col="layer").to_numpy()
    apart = [np.var(layers[i + 1] - layers[i]) / 2 for i in range(len(layers) - 1)]
    size = text_sets.load_texts(16).n_bytes.mean() * np.log(2)
    assert rows.formula["SmolLM2, neighbouring layers"] == pytest.approx(np.median(apart) / size)
    assert rows.formula["SmolLM2, BOS or not"] == 0.3 and rows.published["tiny GPTs, size"] == 0.48
    assert rows.loc["SmolLM2, 4 bits", ["formula", "true", "published"]].notna().all()
