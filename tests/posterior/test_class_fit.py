"""SFDA, N-LEEP and PACTran against their formulas written out, known answers, and bad input."""

import warnings

import numpy as np
import pytest
from scipy import linalg
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from unequal_clusters import mixture

from helpers.posterior.class_fit import nleep, pactran, sfda

MEASURES = {"sfda": sfda, "nleep": nleep, "pactran": pactran}


def fisher(X, y, shrinkage):
    """Return probabilities by the Fisher problem, as released, the shrinkage and the means."""
    k, d = y.max() + 1, X.shape[1]
    prior = np.bincount(y) / len(y)
    means = np.array([X[y == c].mean(axis=0) for c in range(k)])
    within = sum(p * np.cov(X[y == c].T, bias=True) for c, p in enumerate(prior))
    if shrinkage is None:
        shrinkage = max(np.exp(-5 * np.linalg.eigvalsh(within)[-1]), 1e-10)

    def shrink(C):
        return (1 - shrinkage) * C + shrinkage * np.trace(C) / d * np.eye(d)

    vectors = linalg.eigh(shrink(np.cov(X.T, bias=True)) - shrink(within), shrink(within))[1]
    coefficients = means @ vectors @ vectors.T
    offset = np.log(prior) - 0.5 * np.diag(means @ coefficients.T)
    return softmax(X @ coefficients.T + offset, axis=1), shrinkage, means


@pytest.mark.parametrize(("scale", "k"), [(1.0, 3), (0.3, 3), (0.1, 2)])
def test_sfda_is_the_released_procedure_with_its_eigenvectors(scale, k):
    X, y = mixture(k=k, radius=1.5)
    X = scale * X
    first, shrinkage, means = fisher(X, y, None)
    sure = softmax(first, axis=1)[np.arange(len(y)), y][:, None]
    others = np.array([np.delete(means, c, axis=0).mean(axis=0) for c in range(k)])
    second, _, _ = fisher(sure * X + (1 - sure) * others[y], y, shrinkage)
    assert 1e-10 <= shrinkage < 0.99
    assert sfda(X, y) == pytest.approx(second[np.arange(len(y)), y].mean(), abs=1e-7)


def test_nleep_is_leep_of_a_mixture():
    X, y = mixture()
    Z = PCA(0.8, svd_solver="full").fit_transform(X / X.std(axis=0).max())
    joint = GaussianMixture(15, max_iter=1000, random_state=0).fit(Z).predict_proba(Z)
    empirical = np.array([[joint[y == c, z].sum() for z in range(15)] for c in range(3)])
    p_of = empirical / empirical.sum(axis=0)
    naive = [np.log(sum(p_of[y[i], z] * joint[i, z] for z in range(15))) for i in range(len(y))]
    assert nleep(X, y) == pytest.approx(np.mean(naive), abs=1e-9)


def test_nleep_of_shuffled_labels_is_about_minus_their_entropy():
    X, y = mixture(n=3000, k=2)
    p = np.bincount(y) / len(y)
    shuffled = np.random.default_rng(0).permutation(y)
    assert nleep(X, shuffled) == pytest.approx((p * np.log(p)).sum(), abs=0.01)


@pytest.mark.parametrize("k", [2, 3])
def test_pactran_is_the_bound_at_scikit_learns_optimum(k):
    X, y = mixture(k=k, radius=1.0)
    n, d = X.shape
    Z = X - X.mean(axis=0)
    if k == 2:
        # One vector of weights w stands for w/2 and -w/2, whose penalty is half as large.
        model = LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000).fit(Z, y)
        weights = np.vstack([-model.coef_, model.coef_]) / 2
    else:
        model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(Z, y)
        weights = model.coef_
    p = model.predict_proba(Z)
    bound = -np.log(p[np.arange(n), y]).mean() + (weights**2).sum() / (2 * n)
    curvature = ((Z**2).T @ (p - p**2)).sum() + (p - p**2).sum() + d * k / n
    bound += 10 * k / (2 * n) * np.log(curvature * n / (d * k))
    assert pactran(X, y) == pytest.approx(-bound, abs=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_separated_above_overlapping_above_shuffled(name):
    measure, rng = MEASURES[name], np.random.default_rng(1)
    X, y = mixture(n=600, radius=0.0)
    means = np.eye(3, 5)[y]
    far, near = X + 6 * means, X + 2 * means
    # The same overall scale, for SFDA and PACTran depend on it.
    far, near = (A / A.std(axis=0).mean() for A in (far, near))
    scores = [measure(far, y), measure(near, y), measure(near, rng.permutation(y))]
    assert scores[0] > scores[1] > scores[2]
    assert scores[0] - scores[2] > 0.3


def test_sfda_of_shuffled_labels_is_about_chance():
    X, y = mixture(n=3000)
    shuffled = np.random.default_rng(2).permutation(np.arange(3000) % 4)
    assert sfda(X, shuffled) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("name", MEASURES)
def test_names_types_and_repetition_do_not_matter(name):
    X, y = mixture(radius=1.0)
    score, before = MEASURES[name](X, y), X.copy()
    assert type(score) is float and MEASURES[name](X, y) == score
    assert MEASURES[name](X, np.array(["pear", "apple", "fig"])[y]) == score
    assert (X == before).all()
    assert MEASURES[name](X.astype(np.float32), y) == pytest.approx(score, rel=1e-3)


@pytest.mark.parametrize(("name", "tolerance"), [("sfda", 1e-9), ("nleep", 0.1), ("pactran", 1e-5)])
def test_the_order_of_rows_and_rotations_hardly_matter(name, tolerance):
    X, y = mixture(radius=1.0)
    score = MEASURES[name](X, y)
    order = np.random.default_rng(5).permutation(len(X))
    assert MEASURES[name](X[order], y[order]) == pytest.approx(score, abs=tolerance)
    turn = np.linalg.qr(np.random.default_rng(6).standard_normal((5, 5)))[0]
    turned = MEASURES[name](X @ turn, y)
    assert turned == pytest.approx(score, abs=tolerance)


@pytest.mark.parametrize("name", MEASURES)
def test_offsets_do_not_matter_and_scale_matters_where_said(name):
    X, y = mixture(radius=1.0)
    score = MEASURES[name](X, y)
    assert MEASURES[name](X + 10.0, y) == pytest.approx(score, abs=1e-5)
    scaled = MEASURES[name](0.1 * X, y)
    if name == "nleep":
        assert scaled == pytest.approx(score, abs=1e-6)
    else:
        assert abs(scaled - score) > 1e-3


@pytest.mark.parametrize("name", MEASURES)
def test_hard_cases_are_finite_and_nothing_warns(name):
    wide = mixture(n=120, d=200)
    X, y = mixture(n=120)
    flat = np.column_stack([X, np.full(len(X), 0.1)])
    points = (np.eye(3)[y], y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in (wide, (flat, y), *([points] if name != "nleep" else [])):
            assert np.isfinite(MEASURES[name](*case))
    assert sfda(*points) == pytest.approx(1, abs=1e-6)


X, LABELS = mixture(n=80, d=3)
GAPS = np.where(np.arange(240).reshape(80, 3) == 50, np.nan, X)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("X", "labels", "message"),
    [
        (GAPS, LABELS, "X has NaN"),
        (X[:, 0], LABELS, "X has 1 dim"),
        (np.ones((80, 3)), LABELS, "constant"),
        (X, LABELS[:-1], "labels has length 79"),
        (X, np.zeros(80), "one cluster only"),
        (X, [*LABELS[:-1], 9], "below 2 entities"),
    ],
)
def test_bad_input_is_refused(name, X, labels, message):
    with pytest.raises(ValueError, match=message):
        MEASURES[name](X, labels)
