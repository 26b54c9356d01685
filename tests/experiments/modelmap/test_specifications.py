import numpy as np
import pandas as pd
import pytest

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
