import numpy as np
import pandas as pd
import pytest

from experiments import tiny_gpt
from experiments.modelmap import lineage_benchmark as benchmark

TEXTS = ["the cat sat on the mat and looked at the dog that sat on the other mat"] * 2
TEXTS += ["a dog looked at a cat and the cat looked at the mat on which the dog sat"] * 40


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_gpt.word_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_gpt.new_gpt(tokenizer, width=16, context=64, seed=1).eval()


def test_reordered_units_compute_the_same_from_other_weights(model, tokenizer):
    other = benchmark._units_reordered(model, seed=3)
    readings = [benchmark._read(one, tokenizer, TEXTS) for one in (model, other)]
    apart = benchmark.distances(*readings)
    assert apart["map"] < 1e-6 and apart["mean log-likelihood"] < 1e-3
    assert apart["answers"] == 0 and apart["weights"] > 0.01
    again = benchmark.distances(readings[0], readings[0])
    assert max(abs(value) for value in again.values()) < 1e-6


@pytest.mark.parametrize(
    ("kind", "level"), [("rounded", 3), ("noise", 20), ("pruned", 60), ("layers dropped", 1)]
)
def test_every_edit_moves_the_copy_and_leaves_the_parent(model, tokenizer, kind, level):
    before = benchmark._read(model, tokenizer, TEXTS)
    child = benchmark._edited(model, tokenizer, kind, level)
    apart = benchmark.distances(benchmark._read(child, tokenizer, TEXTS), before)
    assert apart["map"] > 0 and 0 < apart["weights"] < 1
    assert np.array_equal(before.answers, benchmark._read(model, tokenizer, TEXTS).answers)


def test_models_of_other_shapes_have_no_distance_in_weights(model, tokenizer):
    wide = tiny_gpt.new_gpt(tokenizer, width=32, context=64).eval()
    readings = [benchmark._read(one, tokenizer, TEXTS) for one in (model, wide)]
    assert benchmark.distances(*readings)["weights"] == np.inf


def test_the_place_of_a_parent_counts_ties_half():
    apart = pd.Series({"a": 1.0, "b": 2.0, "c": 2.0, "d": 9.0})
    assert benchmark._place(apart, "a") == (1, 1)
    assert benchmark._place(apart, "b") == (2.5, 0.5)
    assert benchmark._place(apart, "d") == (4, 0)
    assert benchmark._place(pd.Series(np.inf, list("abc")), "a") == (2, 0.5)


def test_the_summary_counts_kinds_alike_and_draws_parents():
    rows = [("p", "x", "map", 1, 1.0), ("p", "x", "map", 2, 0.5), ("p", "y", "map", 1, 1.0)]
    rows += [("q", "x", "map", 3, 0.0), ("q", "y", "map", 1, 1.0)]
    table = pd.DataFrame(rows, columns=["parent", "kind", "way", "rank", "area"])
    found = benchmark.summary(table, n_resamples=200).set_index("kind")
    assert found.recall.to_dict() == {"x": 0.25, "y": 1, "all": 0.625}
    assert (found.low["x"], found.high["x"]) == (0, 0.5)
    assert found.area["x"] == pytest.approx(0.375) and found.area_high["y"] == 1


def test_the_gain_in_recall_counts_kinds_alike():
    rows = [("p", "x", "map", 1), ("p", "y", "map", 1), ("p", "x", "weights", 1)]
    rows += [("p", "y", "weights", 2), ("q", "x", "map", 2), ("q", "y", "map", 1)]
    rows += [("q", "x", "weights", 2), ("q", "y", "weights", 1)]
    rows += [("r", *row[1:]) for row in rows if row[0] == "q"]
    table = pd.DataFrame(rows, columns=["parent", "kind", "way", "rank"])
    gain, low, high = benchmark.recall_gain(table, "map", "weights", n_resamples=1000)
    assert (gain, low, high) == pytest.approx((1 / 6, 0, 0.5))


def test_the_stored_table_has_every_child_once_per_way():
    table = pd.read_csv(benchmark.TABLE)
    assert set(table.way) == set(benchmark.WAYS) and set(table.parent) == set(benchmark.parents())
    assert not table.duplicated(["parent", "kind", "level", "way"]).any()
    reordered = table[table.kind == "units reordered"].set_index(["parent", "way"])["rank"]
    assert (reordered.xs("map", level="way") == 1).all()
