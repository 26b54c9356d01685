import numpy as np
import pandas as pd
import pytest

from experiments.modelmap import lineage_benchmark
from experiments.modelmap import specifications as spec
from helpers import specifications
from helpers.modelmap import release


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    names = [f"f{i // 3}/m-{i}" for i in range(36)]
    names[1] = names[0] + "-deduped"
    level = rng.normal(size=36)
    values = rng.normal(size=(36, 50)) + 3 * level[:, None] - 100
    models = pd.DataFrame(
        {"family": [n.split("/")[0] for n in names], "step": np.nan, "pile": np.arange(36) < 9},
        pd.Index(names, name="model"),
    )
    scores = pd.DataFrame({"mean": 50 + 5 * level, "MMLU": rng.uniform(0, 100, 36)}, models.index)
    L = pd.DataFrame(values, models.index, [f"t{i}" for i in range(50)])
    return release.Release(L, models, pd.DataFrame(index=models.index), scores)


def test_copies_share_a_stem_and_the_newest_stays(found):
    names = found.models.index
    copies = spec.copies_of(names)
    assert copies[0, 1] and copies[1, 0] and copies.sum() == 2
    models = pd.DataFrame({"step": [1000.0, np.nan, 2000.0]})
    assert np.argmax(spec.newest(models)) == 1


def test_where_the_mean_says_all_the_vector_gains_nothing(found):
    row = {"rival": "linear", "penalties": "as released", "splits": "each family"}
    for models in ("all", "not of the Pile"):
        gain, low, high = spec.score_gain(
            found, **row, models=models, target="mean", seeds=1, n_resamples=50
        )
        assert low <= gain <= high and gain < 0


def test_neighbours_under_every_choice(found):
    copies, families = spec.copies_of(found.models.index), found.models.family
    values = found.log_likelihoods + np.repeat(np.random.default_rng(1).normal(size=(12, 50)), 3, 0)
    measure = lambda **row: spec.neighbour_gain(  # noqa: E731
        values, families, copies, np.zeros(36), n_shuffles=5, **row
    )
    table = spec.table(spec.NEIGHBOUR_CHOICES, measure, rows=[0, 30, 71])
    assert list(table) == [*spec.NEIGHBOUR_CHOICES, "estimate", "low", "high"]
    assert (table.low <= table.estimate).all() and table.estimate[0] > 0.2


def test_factors_are_ratios_of_the_formula_to_the_divergence():
    grams = pd.DataFrame({"true": [1.0, 1.0], "p": ["a", "b"], "mixed": [4.0, 9.0]})
    table = spec.factor_rows(grams, n_resamples=20)
    one = table[(table.models == "n-grams") & (table.summary == "geometric mean")]
    assert one.estimate.tolist() == pytest.approx([6.0])
    assert {"SmolLM2", "tiny GPTs", "all three"} <= set(table.models)


@pytest.mark.parametrize("file", [spec.SCORES, spec.NEIGHBOURS, spec.FACTOR])
def test_the_stored_tables_hold_estimates_and_intervals(file):
    table = pd.read_csv(file)
    assert len(table) >= 12 and table.estimate.between(table.low, table.high).mean() > 0.95
    assert specifications.share(table, above=0).n == len(table)


def test_a_way_that_finds_every_parent_gains_what_the_other_misses():
    rows = [
        (f"gpt-{width}x2-facts-{seed}", kind, level, way, rank, 1.0 if rank == 1 else 0.5)
        for width in (32, 64)
        for seed in range(3)
        for kind, level in [("rounded", "8"), ("rounded", "3"), ("units reordered", "1")]
        for way, rank in [("map", 1.0), ("weights", 2.0 if kind == "units reordered" else 1.0)]
    ]
    bench = pd.DataFrame(rows, columns="parent kind level way rank area".split())
    row = {"rival": "weights", "measure": "parent found", "edits": "all", "parents": "width 32"}
    assert spec.lineage_gain(bench, **row, unit="kinds of edit") == pytest.approx([0.5] * 3)
    assert spec.lineage_gain(bench, **row, unit="children")[0] == pytest.approx(1 / 3)
    row["edits"] = "units in order"
    assert spec.lineage_gain(bench, **row, unit="children") == (0, 0, 0)


def test_the_stored_gains_are_those_of_the_stored_benchmark():
    stored, bench = pd.read_csv(spec.LINEAGE), pd.read_csv(lineage_benchmark.TABLE)
    rows = range(0, len(stored), 9)
    again = spec.table(spec.LINEAGE_CHOICES, lambda **row: spec.lineage_gain(bench, **row), rows)
    expected = stored.iloc[rows].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, expected, atol=1e-4)
