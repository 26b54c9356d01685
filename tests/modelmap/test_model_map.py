"""Maps of models against SciPy and scikit-learn, their invariances, files and bad input."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, KFold

from helpers.modelmap import model_map, score_prediction, text_choice

K, N = 14, 60
NAMES = [f"model {i}" for i in range(K)]


@pytest.fixture
def L():
    rng = np.random.default_rng(0)
    low = rng.normal(size=(K, 3)) @ rng.normal(size=(3, N))
    return -500 + 100 * rng.normal(size=N) + 20 * low + rng.normal(size=(K, N))


@pytest.fixture
def made(L):
    return model_map.fit_map(L, NAMES, n_bytes=np.full(N, 900.0))


def by_hand(L, clip=0.02):
    cut = np.maximum(L, np.quantile(L, clip))
    rows = cut - cut.mean(axis=1, keepdims=True)
    return rows - rows.mean(axis=0)


def test_coordinates_are_the_clipped_matrix_centred_twice(L, made):
    assert made.coordinates == pytest.approx(by_hand(L), abs=1e-9)
    assert made.coordinates.mean(axis=0) == pytest.approx(np.zeros(N), abs=1e-9)
    assert made.coordinates.mean(axis=1) == pytest.approx(np.zeros(K), abs=1e-9)
    assert made.threshold == np.quantile(L, 0.02)
    cut = np.maximum(L, made.threshold)
    assert made.mean_log_likelihood.to_numpy() == pytest.approx(cut.mean(axis=1))


def test_distances_are_those_of_scipy_and_the_variance_of_log_ratios(L, made):
    q = by_hand(L)
    expected = squareform(pdist(q, "sqeuclidean")) / N
    assert made.distances() == pytest.approx(expected, rel=1e-9)
    assert (np.diag(made.distances()) == 0).all()
    cut = np.maximum(L, made.threshold)
    for i, j in itertools.combinations(range(4), 2):
        assert made.distances()[i, j] == pytest.approx(np.var(cut[i] - cut[j]), rel=1e-9)


def test_a_shift_of_a_model_or_a_text_moves_no_point(L):
    rng = np.random.default_rng(1)
    moved = L + rng.normal(size=(K, 1)) * 50 + rng.normal(size=N) * 50
    plain, other = (model_map.fit_map(x, NAMES, clip=0) for x in (L, moved))
    assert other.coordinates == pytest.approx(plain.coordinates, abs=1e-9)
    assert plain.threshold == -np.inf
    order = rng.permutation(N)
    turned = model_map.fit_map(L[:, order], NAMES, clip=0)
    assert turned.distances() == pytest.approx(plain.distances(), rel=1e-9)


def test_nearest_models_are_those_of_the_distances(made):
    row = pd.Series(made.distances()[3], NAMES).drop("model 3").sort_values()
    found = made.nearest("model 3", 4)
    assert found.index.tolist() == row.index[:4].tolist()
    assert found.to_numpy() == pytest.approx(row[:4].to_numpy(), rel=1e-9)
    with pytest.raises(ValueError, match="'nobody' is not on the map"):
        made.nearest("nobody")
    with pytest.raises(ValueError, match="k is 0"):
        made.nearest("model 3", 0)


def test_neighbours_are_the_nearest_of_every_model(made):
    found = made.neighbours(3)
    assert found.point.tolist() == [name for name in NAMES for _ in range(3)]
    for name, part in found.groupby("point"):
        row = made.nearest(name, 3)
        assert part.nearest.tolist() == row.index.tolist()
        assert part.distance.to_numpy() == pytest.approx(row.to_numpy(), rel=1e-6)
    assert len(made.neighbours(1000)) == len(NAMES) * (len(NAMES) - 1)
    with pytest.raises(ValueError, match="k is 0"):
        made.neighbours(0)


def test_a_model_of_the_map_is_placed_where_it_stands_and_none_moves(L, made):
    before = made.coordinates.copy()
    placed = made.place(L[5])
    assert placed.coordinates[0] == pytest.approx(before[5], abs=1e-9)
    assert placed.distances[0] == pytest.approx(made.distances()[5], abs=1e-9)
    both = made.place(L[[2, 7]])
    assert both.distances.shape == (2, K)
    assert both.coordinates[1] == pytest.approx(before[7], abs=1e-9)
    assert np.array_equal(made.coordinates, before)


def test_a_new_model_has_the_distances_that_a_map_with_it_would_give(L):
    old = model_map.fit_map(L[:-1], NAMES[:-1], clip=0)
    whole = model_map.fit_map(L, NAMES, clip=0)
    assert old.place(L[-1]).distances[0] == pytest.approx(whole.distances()[-1, :-1], rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_weights_are_reported_even_where_most_models_have_them(seed):
    L = np.random.default_rng(seed).normal(-700, 150, size=(9, 997))
    L[1:6] = L[0]
    found = model_map.fit_map(L, range(9)).duplicates()
    same = [str(i) for i in range(6)]
    assert set(zip(found.model, found.other, strict=True)) == set(itertools.combinations(same, 2))
    assert model_map.fit_map(L[5:], range(4)).duplicates().empty
    for bad in (-1, float("nan"), "a"):
        with pytest.raises(ValueError, match="below is"):
            model_map.fit_map(L, range(9)).duplicates(bad)


def test_texts_are_matched_by_their_keys(L):
    texts = [f"t{i}" for i in range(N)]
    made = model_map.fit_map(pd.DataFrame(L, NAMES, texts))
    assert made.names == tuple(NAMES) and made.texts == tuple(texts)
    turned = pd.Series(L[4], texts)[::-1]
    assert made.place(turned).distances[0, 4] == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="lacks 't0'"):
        made.place(turned.drop("t0"))
    with pytest.raises(ValueError, match="has, unknown here, 'new'"):
        made.place(pd.concat([turned, pd.Series({"new": 0.0})]))
    with pytest.raises(ValueError, match="twice"):
        made.place(pd.concat([turned, turned[:1]]))
    with pytest.raises(ValueError, match="'t3'"):
        made.place(turned.where(turned.index != "t3"))
    with pytest.raises(ValueError, match="59"):
        made.place(L[4, :-1])


def test_a_map_is_saved_and_loaded_without_loss(made, L, tmp_path):
    path = tmp_path / "folder" / "map.npz"
    made.save(path)
    again = model_map.load_map(path)
    assert (again.names, again.texts, again.threshold) == (made.names, made.texts, made.threshold)
    assert np.array_equal(again.log_likelihoods, made.log_likelihoods)
    assert np.array_equal(again.text_means, made.text_means)
    assert np.array_equal(again.n_bytes, made.n_bytes)
    assert again.place(L[0]).distances == pytest.approx(made.place(L[0]).distances)
    bare = model_map.fit_map(L, NAMES)
    bare.save(path)
    assert model_map.load_map(path).n_bytes is None
    assert [p.name for p in path.parent.iterdir()] == ["map.npz"]


def test_other_files_are_refused_and_pickles_never_read(made, tmp_path):
    path = tmp_path / "map.npz"
    made.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="holds no map"):
        model_map.load_map(path)
    np.savez(path, head=np.array([{"a": 1}], dtype=object), log_likelihoods=np.ones((2, 2)))
    with pytest.raises(ValueError, match="holds no map"):
        model_map.load_map(path)
    with pytest.raises(FileNotFoundError):
        model_map.load_map(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": NAMES[:-1]}, "names has length 13"),
        ({"names": ["a"] * K}, "names repeats 'a'"),
        ({"names": None}, "names is missing"),
        ({"texts": ["x"] * N}, "texts repeats 'x'"),
        ({"texts": ["x"]}, "texts has length 1"),
        ({"clip": 0.5}, "clip is 0.5"),
        ({"clip": -0.1}, "clip is -0.1"),
        ({"n_bytes": [1.0]}, "n_bytes"),
        ({"n_bytes": np.zeros(N)}, "n_bytes"),
    ],
)
def test_bad_arguments_are_refused_by_name(L, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        model_map.fit_map(L, **{"names": NAMES, **changes})


def test_missing_values_are_refused_with_model_and_text(L):
    for value in (np.nan, -np.inf):
        broken = L.copy()
        broken[3, 7] = value
        with pytest.raises(ValueError, match="model 'model 3' and text '7'"):
            model_map.fit_map(broken, NAMES)
    with pytest.raises(ValueError, match="shape"):
        model_map.fit_map(L[0], NAMES)
    with pytest.raises(ValueError, match="2 or more"):
        model_map.fit_map(L[:1], NAMES[:1])


def test_models_scored_twice_are_named(L):
    L[9] = L[2] + 3.0
    found = model_map.fit_map(L, NAMES, clip=0).duplicates()
    assert found[["model", "other"]].to_numpy().tolist() == [["model 2", "model 9"]]
    assert found.distance[0] == pytest.approx(0, abs=1e-9)


# Pictures


def test_principal_coordinates_are_those_of_scikit_learn_and_keep_distances(made, L):
    found = model_map.principal_coordinates(made)
    peer = PCA(K - 1, svd_solver="full").fit(made.coordinates)
    n = found.positions.shape[1]
    assert n == K - 1
    assert found.shares == pytest.approx(peer.explained_variance_ratio_[:n], abs=1e-9)
    theirs = peer.transform(made.coordinates)
    for axis in range(4):
        sign = np.sign(found.positions[:, axis] @ theirs[:, axis])
        assert found.positions[:, axis] == pytest.approx(sign * theirs[:, axis], abs=1e-6)
    kept = squareform(pdist(found.positions, "sqeuclidean")) / N
    assert kept == pytest.approx(made.distances(), abs=1e-6)
    placed = made.place(L[6]).coordinates @ found.axes.T
    assert placed[0] == pytest.approx(found.positions[6], abs=1e-6)
    two = model_map.principal_coordinates(made, 2)
    assert two.positions == pytest.approx(found.positions[:, :2]) and two.shares.sum() < 1
    with pytest.raises(ValueError, match="k is 0"):
        model_map.principal_coordinates(made, 0)


@pytest.fixture
def scored():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(45, 90)) * 3 + 10
    y = X[:, :5] @ rng.normal(size=(5, 3)) + rng.normal(size=(45, 3)) * 4
    return X, y, rng.integers(0, 12, 45)


@pytest.mark.parametrize("grouped", [True, False])
def test_predictions_are_those_of_ridge_with_cross_validation(scored, grouped):
    X, y, groups = scored
    groups = groups if grouped else None
    alphas = 10.0 ** np.arange(-1, 6)
    found = score_prediction.predict_scores(X, y, groups, alphas, 5, 7)
    splitter = (GroupKFold if grouped else KFold)(5, shuffle=True, random_state=7)
    for number, (train, test) in enumerate(splitter.split(X, y, groups)):
        assert (found.fold[test] == number).all()
        for column in range(3):
            peer = RidgeCV(alphas, cv=5, scoring="r2").fit(X[train], y[train, column])
            assert found.alphas[number, column] == peer.alpha_
            expected = peer.predict(X[test])
            assert found.predictions[test, column] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    alone = score_prediction.predict_scores(X, y[:, 1], groups, alphas, 5, 7)
    assert alone.predictions.shape == (45,)
    assert alone.predictions == pytest.approx(found.predictions[:, 1])


def test_no_group_is_in_both_parts_of_a_fold(scored):
    X, y, groups = scored
    fold = score_prediction.predict_scores(X, y, groups).fold
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1


def test_scores_without_a_link_are_not_predicted():
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(200, 30)), rng.normal(size=200)
    found = score_prediction.predict_scores(X, y).predictions
    assert r2_score(y, found) < 0.05
    again = score_prediction.predict_scores(X, y).predictions
    assert np.array_equal(found, again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.ones(3)}, "y has 3 rows"),
        ({"y": np.full(45, np.nan)}, "y has a missing value"),
        ({"X": np.full((45, 2), np.nan)}, "X has NaN"),
        ({"alphas": [0.0]}, "alphas"),
        ({"alphas": []}, "alphas"),
        ({"n_splits": 1}, "n_splits"),
        ({"n_splits": 13}, "n_splits 13"),
    ],
)
def test_bad_scores_are_refused_by_name(scored, changes, message):
    X, y, _ = scored
    groups = np.arange(45) % 12
    with pytest.raises(ValueError, match=message):
        score_prediction.predict_scores(**{"X": X, "y": y, "groups": groups, **changes})


# Texts


def test_probabilities_are_the_sums_over_models_and_pairs(made):
    q = made.coordinates
    squares = (q**2).sum(axis=0)
    found = text_choice.text_probabilities(q, "length-squared")
    assert found == pytest.approx(squares / squares.sum())
    pairs = np.sqrt(((q[:, None] - q[None]) ** 4).sum(axis=(0, 1)))
    assert text_choice.text_probabilities(q, "KL") == pytest.approx(pairs / pairs.sum())
    assert text_choice.text_probabilities(q, "uniform") == pytest.approx(np.full(N, 1 / N))


def test_all_texts_once_give_the_distances_themselves(made):
    draw = text_choice.Draw(np.arange(N), np.ones(N))
    found = text_choice.drawn_distances(made.log_likelihoods, draw)
    assert found == pytest.approx(made.distances(), rel=1e-9)
    assert text_choice.relative_error(found, made.distances()) < 1e-9
    assert text_choice.relative_error(2 * made.distances(), made.distances()) == pytest.approx(1)


@pytest.mark.parametrize("rule", text_choice.RULES)
def test_a_draw_is_the_straight_sum_over_draws(made, rule):
    p = text_choice.text_probabilities(made.coordinates, rule)
    draw = text_choice.draw_texts(p, 40, seed=5)
    drawn = np.random.default_rng(5).choice(N, size=40, p=p)
    w = 1 / (40 * p[drawn])
    x = made.log_likelihoods[:, drawn]
    x = x - (x @ w / w.sum())[:, None]
    expected = [[(w * (a - b) ** 2).sum() / N for b in x] for a in x]
    found = text_choice.drawn_distances(made.log_likelihoods, draw)
    assert found == pytest.approx(np.array(expected), rel=1e-9, abs=1e-9)


def test_draws_are_right_on_average(made):
    exact = made.distances()
    for rule in text_choice.RULES:
        p = text_choice.text_probabilities(made.coordinates, rule)
        found = [
            text_choice.drawn_distances(
                made.log_likelihoods, text_choice.draw_texts(p, 400, seed=s)
            )
            for s in range(100)
        ]
        assert text_choice.relative_error(np.mean(found, axis=0), exact) < 0.03


@pytest.mark.parametrize("p", [[0.5, 0.4], [1.5, -0.5], [[1.0]]])
def test_bad_probabilities_are_refused(p):
    with pytest.raises(ValueError, match="probabilities"):
        text_choice.draw_texts(p, 3)
