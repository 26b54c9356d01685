"""EmbeddingTree against Gaussians fitted side by side, on planted splits and on noise."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from helpers.posterior.trees import embedding_tree


def planted(n=1200, d=6, seed=0):
    """Return rows that two nested features move, and six features that do nothing."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.random((n, 6)) < 0.5, columns=[f"dull {i}" for i in range(6)])
    frame.insert(3, "old", rng.random(n) < 0.4)
    frame.insert(5, "rare", rng.random(n) < 0.3)
    X = rng.standard_normal((n, d))
    X[:, 0] += 3 * frame["old"]
    X[:, 1] += 2.5 * (frame["old"] & frame["rare"])
    return X, frame


def log_likelihood(rows):
    return multivariate_normal(rows.mean(0), np.cov(rows.T, bias=True)).logpdf(rows).sum()


def test_gain_is_that_of_two_gaussians_over_one():
    X, frame = planted()
    tree = embedding_tree(X, frame, max_leaves=2, prior_rows=1e-9)
    side = frame["old"].to_numpy()
    gain = log_likelihood(X[side]) + log_likelihood(X[~side]) - log_likelihood(X)
    assert tree.splits.loc[0, "feature"] == "old"
    assert tree.splits.loc[0, "gain"] == pytest.approx(gain, abs=1e-6)
    assert tree.splits.loc[0, "penalty"] == pytest.approx(6 * 9 / 4 * np.log(1200))
    assert (tree.leaf == ~side).all() and tree.names == ["old", "not old"]


def test_the_penalty_counts_the_entities_of_the_leaf():
    X, frame = planted()
    splits = embedding_tree(X, frame).splits
    assert splits.loc[1, "node"] != "all"
    n = splits.loc[1, "n_with"] + splits.loc[1, "n_without"]
    assert n < 1200 and splits.loc[1, "penalty"] == pytest.approx(6 * 9 / 4 * np.log(n))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7])
def test_constants_that_no_binary_number_holds_are_refused(value):
    frame = pd.DataFrame({"a": np.arange(100) % 2 == 0})
    with pytest.raises(ValueError, match="every dimension of X is constant"):
        embedding_tree(np.full((100, 2), value), frame, stop="none")


def test_planted_splits_are_found_and_nothing_else():
    X, frame = planted()
    tree = embedding_tree(X, frame)
    assert list(tree.splits["feature"]) == ["old", "rare"]
    assert tree.names == ["old and rare", "old and not rare", "not old"]
    expected = np.where(~frame["old"], 2, np.where(frame["rare"], 0, 1))
    assert (tree.leaf == expected).all()


@pytest.mark.parametrize("seed", range(5))
def test_noise_gives_one_leaf_and_without_a_stop_as_many_as_allowed(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((800, 8))
    frame = pd.DataFrame(rng.random((800, 10)) < 0.5).rename(columns=str)
    calm = embedding_tree(X, frame)
    assert calm.names == ["all"] and not calm.leaf.any() and calm.splits.empty
    eager = embedding_tree(X, frame, stop="none", max_leaves=7)
    assert len(eager.names) == 7 and np.bincount(eager.leaf).min() >= 40


def test_scale_offset_and_rotation_do_not_matter():
    X, frame = planted()
    plain = embedding_tree(X, frame, stop="none", max_leaves=5)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    for changed in (1e-4 * X + 7, X @ turn):
        other = embedding_tree(changed, frame, stop="none", max_leaves=5)
        assert other.names == plain.names and (other.leaf == plain.leaf).all()
        np.testing.assert_allclose(other.splits["gain"], plain.splits["gain"], rtol=1e-8)


def test_small_sides_are_never_made():
    X, frame = planted(n=200)
    X[frame["rare"], 0] += 50
    rare = int(frame["rare"].sum())
    assert "rare" in set(embedding_tree(X, frame, min_cluster_size=rare).splits["feature"])
    tree = embedding_tree(X, frame, min_cluster_size=rare + 1)
    assert "rare" not in set(tree.splits["feature"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((30, 2), dtype=bool)}, "features is not a data frame"),
        ({"features": pd.DataFrame({"a": [True]})}, "features has 1 rows but X has 30"),
        ({"features": pd.DataFrame({"a": range(30)})}, r"not boolean: \['a'\]"),
        ({"X": np.zeros((30, 2))}, "every dimension of X is constant"),
        ({"X": np.full((30, 2), np.nan)}, "NaN or infinite"),
        ({"stop": "aic"}, "stop is 'aic'; choose one of bic, none"),
        ({"prior_rows": 0.0}, "prior_rows is 0.0"),
        ({"max_leaves": 0}, "max_leaves is 0"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    good = {
        "X": np.random.default_rng(0).standard_normal((30, 2)),
        "features": pd.DataFrame({"a": np.arange(30) % 2 == 0}),
    }
    with pytest.raises(ValueError, match=message):
        embedding_tree(**(good | change))
