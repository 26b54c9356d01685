import numpy as np
import pytest
from scipy.stats import multivariate_t

from experiments.posterior import invented


def test_the_true_skill_is_that_of_scipys_t():
    X, labels, skill = invented.heavy_tailed(3, n=600, d=3, n_clusters=4, radius=1.0, seed=5)
    rng = np.random.default_rng(5)
    rng.chisquare(3, (600, 1))
    means = rng.standard_normal((4, 3))
    logs = np.stack([multivariate_t(mean, np.eye(3), df=3).logpdf(X) for mean in means], axis=1)
    own = logs[np.arange(600), labels] - np.log(np.exp(logs).sum(axis=1))
    assert skill == pytest.approx(own.mean() + np.log(4))


def test_mild_tails_cost_little_and_extreme_ones_much():
    table = invented.tail_table([2.1, 100.0], 1, n=2000).set_index("freedom")
    assert table.calibrated[100.0] > 0.85 and table.calibrated[2.1] < 0.3
    assert table.normal[2.1] > table.calibrated[2.1]
    assert table.temperature[100.0] > 0.7 > table.temperature[2.1]


def test_true_cells_rank_models_better_than_a_feature_that_matters_in_half_of_them():
    table = invented.tree_case(0, n=1000)
    ranks = table[table.form == "calibrated"].set_index("clusters")
    assert set(ranks.index) == set(invented.CLUSTERINGS)
    assert ranks["rank correlation"]["true cells"] > ranks["rank correlation"]["second feature"]
    assert ranks.n_clusters["true cells"] == 4 and ranks.n_clusters["first feature"] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: invented.tree_case(-1), "seed"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
