"""The average log posterior against scikit-learn, SciPy, refitting, and what must not matter."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.covariance import OAS
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import log_loss

from helpers import validation
from helpers.posterior import alp, gaussians, heads
from helpers.posterior.alp import average_log_posterior, held_out_log_posterior
from helpers.posterior.chance import expected_optimism, permutation_null


def mixture(n=600, d=6, k=4, radius=2.0, seed=0, even=True):
    """Draw N rows of K Gaussians with covariances of their own, and labels in random order."""
    rng = np.random.default_rng(seed)
    labels = (
        np.arange(n) % k if even else rng.choice(k, n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    )
    labels = rng.permutation(labels)
    means = radius * rng.standard_normal((k, d)) / np.sqrt(d)
    shapes = np.eye(d) + 0.3 * rng.standard_normal((k, d, d))
    return means[labels] + np.einsum(
        "nij,nj->ni", shapes[labels], rng.standard_normal((n, d))
    ), labels


def by_scipy(X, labels, X_test, labels_test, covariance, priors=None):
    """Return the log posteriors by one frozen SciPy normal a cluster."""
    names = np.unique(labels)
    joint = np.column_stack(
        [
            np.log(np.mean(labels == c) if priors is None else priors[i])
            + multivariate_normal(X[labels == c].mean(0), covariance(X[labels == c])).logpdf(X_test)
            for i, c in enumerate(names)
        ]
    )
    own = joint[np.arange(len(X_test)), np.searchsorted(names, labels_test)]
    return own - logsumexp(joint, axis=1)


def maximum_likelihood(rows):
    return np.cov(rows.T, bias=True)


@pytest.mark.parametrize("even", [True, False])
def test_published_form_is_the_log_loss_of_qda(even):
    X, labels = mixture(even=even)
    proba = QuadraticDiscriminantAnalysis().fit(X, labels).predict_proba(X)
    result = average_log_posterior(X, labels, form="published", ridge=0)
    assert result.score == pytest.approx(-log_loss(labels, proba), abs=1e-12)
    own = np.log(proba[np.arange(len(X)), labels])
    np.testing.assert_allclose(result.per_entity, own, rtol=0, atol=1e-10)


def test_published_form_equals_scipy_with_a_relative_ridge():
    X, labels = mixture(even=False)

    def covariance(rows):
        sigma = maximum_likelihood(rows)
        return sigma + 0.05 * np.trace(sigma) / len(sigma) * np.eye(len(sigma))

    result = average_log_posterior(X, labels, form="published", ridge=0.05)
    theirs = by_scipy(X, labels, X, labels, covariance)
    assert result.score == pytest.approx(theirs.mean(), abs=1e-12)
    np.testing.assert_allclose(result.per_entity, theirs, rtol=0, atol=1e-10)


def test_each_head_is_qda_on_its_dimensions():
    X, labels = mixture(d=7)
    result = average_log_posterior(X, labels, form="published", ridge=0, head_dim=3, seed=5)
    theirs = []
    for head in heads.blocks(7, 3, seed=5):
        model = QuadraticDiscriminantAnalysis().fit(X[:, head], labels)
        theirs.append(-log_loss(labels, model.predict_proba(X[:, head])))
    np.testing.assert_allclose(result.per_head, theirs, rtol=0, atol=1e-12)
    assert result.score == pytest.approx(np.mean(theirs), abs=1e-12)
    assert result.per_entity.mean() == pytest.approx(result.score, abs=1e-12)


def test_leave_one_out_equals_refitting():
    X, labels = mixture(n=90, d=3, k=3, even=False)
    result = average_log_posterior(X, labels, form="leave_one_out", ridge=0)
    for i in range(len(X)):
        rest = np.arange(len(X)) != i
        one = (X[rest], labels[rest], X[i : i + 1], labels[i : i + 1])
        assert result.per_entity[i] == pytest.approx(
            held_out_log_posterior(*one, ridge=0)[0], abs=1e-10
        )


def test_leave_one_out_holds_the_ridge_of_the_whole_cluster():
    X, labels = mixture(n=60, d=3, k=2)
    result = average_log_posterior(X, labels, form="leave_one_out", ridge=0.1)
    sums = {}
    for c in (0, 1):
        sigma = maximum_likelihood(X[labels == c])
        sums[c] = 0.1 * np.trace(sigma) / 3 * np.eye(3) * np.sum(labels == c)
    for i in (0, 17, 59):
        rest, joint = np.arange(len(X)) != i, []
        for c in (0, 1):
            rows = X[rest & (labels == c)]
            sigma = maximum_likelihood(rows) + sums[c] / len(rows)
            joint.append(np.log(len(rows)) + multivariate_normal(rows.mean(0), sigma).logpdf(X[i]))
        refit = joint[labels[i]] - logsumexp(joint)
        assert result.per_entity[i] == pytest.approx(refit, abs=1e-10)


@pytest.mark.parametrize("covariance", ["empirical", "oas"])
def test_held_out_equals_scipy(covariance):
    X, labels = mixture(n=400, d=5, even=False)
    train, test = slice(0, 200), slice(200, 400)
    ours = held_out_log_posterior(
        X[train], labels[train], X[test], labels[test], ridge=0, covariance=covariance
    )
    shape = maximum_likelihood if covariance == "empirical" else lambda r: OAS().fit(r).covariance_
    theirs = by_scipy(X[train], labels[train], X[test], labels[test], shape)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("n", "d"), [(5, 1), (12, 20), (50, 4), (3, 2)])
def test_oas_equals_scikit_learn(n, d):
    rows = np.random.default_rng(n).standard_normal((n, d)) * np.arange(1, d + 1)
    ours = gaussians._covariance(np.cov(rows.T, bias=True).reshape(d, d), n, "oas", 0.0, 1.0)
    np.testing.assert_allclose(ours, OAS().fit(rows).covariance_, rtol=1e-12, atol=1e-12)


def test_calibrated_form_is_cross_fitted_oas_to_one_power():
    X, labels = mixture(n=300, d=4, k=3)
    result = average_log_posterior(X, labels, n_folds=3, head_dim=2, seed=2)
    folds = alp.assign_folds(validation.clusters(labels, len(X), 2), 3, 2)
    counts = np.array([np.bincount(folds[labels == c]) for c in range(3)])
    assert counts.shape == (3, 3) and counts.max() - counts.min() <= 1
    scaled, prior = X / X.std(axis=0), np.bincount(labels) / len(X)

    def scores(power):
        total = np.zeros(len(X))
        for head in heads.blocks(4, 2, seed=2):
            for fold in range(3):
                train, test = folds != fold, folds == fold
                joint = np.empty((test.sum(), 3))
                for c in range(3):
                    rows = scaled[train & (labels == c)][:, head]
                    normal = multivariate_normal(rows.mean(0), OAS().fit(rows).covariance_)
                    joint[:, c] = np.log(prior[c]) + power * normal.logpdf(scaled[test][:, head])
                own = joint[np.arange(test.sum()), labels[test]]
                total[test] += (own - logsumexp(joint, axis=1)) / 2
        return total

    np.testing.assert_allclose(result.per_entity, scores(result.temperature), atol=1e-10)
    for nearby in (0.97, 1.03):
        assert scores(nearby * result.temperature).mean() < result.score


def test_many_scores_are_computed_twice_instead_of_kept(monkeypatch):
    X, labels = mixture(n=3000, d=4)
    whole = average_log_posterior(X, labels, head_dim=2)
    monkeypatch.setattr(alp, "_STORED_SCORES", 8 * 1500)
    part = average_log_posterior(X, labels, head_dim=2)
    assert "1500 of 3000" in part.warnings[0]
    assert part.temperature == pytest.approx(whole.temperature, rel=0.1)
    assert part.score == pytest.approx(whole.score, abs=1e-2)
    assert part.score <= whole.score


def test_small_buffers_change_nothing(monkeypatch):
    X, labels = mixture()
    whole = average_log_posterior(X, labels, form="published")
    monkeypatch.setattr(gaussians, "_STACKED", 50)
    parts = average_log_posterior(X, labels, form="published", chunk_rows=7)
    np.testing.assert_allclose(parts.per_entity, whole.per_entity, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", alp.FORMS)
def test_offset_scale_and_names_do_not_matter(form):
    X, labels = mixture()
    options = {"form": form, "head_dim": 3, "seed": 1}
    score = average_log_posterior(X, labels, **options).score
    names = np.array(["delta", "beta", "alpha", "gamma"])[labels]
    assert average_log_posterior(X, names, **options).score == score
    assert average_log_posterior(1e-5 * X, labels, **options).score == pytest.approx(
        score, abs=1e-9
    )
    assert average_log_posterior(X + 1e5, labels, **options).score == pytest.approx(score, abs=1e-7)
    assert average_log_posterior(X.astype(np.float32), labels, **options).score == pytest.approx(
        score, abs=1e-4
    )


def test_scale_of_one_dimension_does_not_matter_to_the_calibrated_form():
    X, labels = mixture()
    wide = average_log_posterior(X * np.array([1e4, 1, 1, 1, 1, 1]), labels).score
    assert wide == pytest.approx(average_log_posterior(X, labels).score, abs=1e-9)


def test_noise_is_at_chance_and_ranks_last():
    rng = np.random.default_rng(3)
    X, labels = mixture(n=800, d=4, radius=2.0)
    noise = [rng.standard_normal((800, d)) for d in (4, 60)]
    scores = [average_log_posterior(rows, labels) for rows in noise]
    signal = average_log_posterior(X, labels)
    for result in scores:
        assert 0 <= result.skill + 1e-12 < 0.01
        assert result.skill < signal.skill
    # What the calibrated form repairs: in sample, enough dimensions of noise beat the signal.
    in_sample = [average_log_posterior(rows, labels, form="published") for rows in [X, noise[1]]]
    assert in_sample[1].score > in_sample[0].score


def test_rule_of_thumb_foretells_the_optimism_of_noise():
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(5), 2000)
    X = rng.standard_normal((10_000, 8))
    rule = expected_optimism(2000, 8, 5)
    gain = average_log_posterior(X, labels, form="published").skill
    loss = average_log_posterior(X, labels, form="leave_one_out").skill
    assert gain == pytest.approx(rule, rel=0.25)
    assert loss == pytest.approx(-rule, rel=0.25)


def test_seed_decides_the_draws():
    X, labels = mixture()
    first, again = (average_log_posterior(X, labels, head_dim=2, seed=7) for _ in range(2))
    assert first.score == again.score and (first.per_entity == again.per_entity).all()
    assert average_log_posterior(X, labels, head_dim=2, seed=8).score != first.score


@given(st.integers(1, 60), st.data())
def test_heads_hold_every_dimension_once(d, data):
    size, rounds = data.draw(st.integers(1, d)), data.draw(st.integers(1, 3))
    blocks = heads.blocks(d, size, n_permutations=rounds, seed=1)
    assert len(blocks) == rounds * -(-d // size)
    assert max(map(len, blocks)) <= size and max(map(len, blocks)) - min(map(len, blocks)) <= 1
    assert (np.bincount(np.concatenate(blocks), minlength=d) == rounds).all()
    assert [len(heads.blocks(d, None)), len(heads.blocks(d, None)[0])] == [1, d]


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(6, 30), min_size=2, max_size=5),
    st.sampled_from(alp.FORMS),
)
def test_scores_are_log_probabilities(seed, sizes, form):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    result = average_log_posterior(rng.standard_normal((len(labels), 3)), labels, form=form)
    shares = np.array(sizes) / len(labels)
    assert result.chance == pytest.approx(shares @ np.log(shares), abs=1e-12)
    assert (result.per_entity <= 0).all() and np.isfinite(result.per_entity).all()
    assert result.skill == result.score - result.chance
    if form == "calibrated":
        assert result.skill >= -1e-9


def test_order_of_the_rows_does_not_matter_in_closed_form():
    X, labels = mixture()
    shuffle = np.random.default_rng(0).permutation(len(X))
    for form in ("published", "leave_one_out"):
        one = average_log_posterior(X, labels, form=form).per_entity
        other = average_log_posterior(X[shuffle], labels[shuffle], form=form).per_entity
        np.testing.assert_allclose(other, one[shuffle], rtol=0, atol=1e-10)


def test_clip_is_a_floor_and_is_counted():
    X, labels = mixture(radius=0.5)
    free = average_log_posterior(X, labels, form="published")
    held = average_log_posterior(X, labels, form="published", clip=0.1)
    assert free.n_clipped == 0
    assert held.n_clipped == np.sum(free.per_entity < np.log(0.1)) > 0
    np.testing.assert_allclose(held.per_entity, np.maximum(free.per_entity, np.log(0.1)))


def test_rank_deficiency_is_never_a_silent_zero():
    X, labels = np.random.default_rng(0).standard_normal((80, 30)), np.arange(80) % 4
    with pytest.warns(UserWarning, match="at most 31 entities .* says nothing"):
        result = average_log_posterior(X, labels, form="published")
    assert result.score > -1e-3
    assert "form='calibrated'" in result.warnings[0]
    for form in ("published", "leave_one_out"):
        with pytest.raises(ValueError, match="singular"):
            average_log_posterior(X, labels, form=form, ridge=0)
    assert average_log_posterior(X, labels).warnings == ()


def test_leave_one_out_wants_one_row_more():
    X, labels = np.random.default_rng(0).standard_normal((20, 4)), np.arange(20) % 4
    with pytest.warns(UserWarning):
        average_log_posterior(X, labels, form="published", ridge=0)
    with pytest.raises(ValueError, match="singular"):
        average_log_posterior(X, labels, form="leave_one_out", ridge=0)


def test_constant_and_repeated_dimensions_are_told():
    X, labels = mixture()
    padded = np.column_stack([X, np.full(len(X), 0.1), -3 * X[:, 0], X[:, 1]])
    result = average_log_posterior(padded, labels)
    assert "1 of 9 dimensions are constant" in result.warnings[0]
    assert "2 of 9 dimensions repeat" in result.warnings[1]
    with pytest.raises(ValueError, match="cluster [0-3] .* singular"):
        average_log_posterior(padded, labels, form="published", ridge=0)
    alone = average_log_posterior(np.column_stack([X, np.ones(len(X))]), labels)
    assert alone.score == average_log_posterior(X, labels).score


def test_a_cluster_of_identical_rows_is_scored_by_the_calibrated_form():
    X, labels = mixture()
    X[labels == 2] = 9.0
    with pytest.warns(UserWarning, match="hardly vary in some dimension"):
        result = average_log_posterior(X, labels)
    assert result.per_entity[labels == 2].min() > -1e-3
    with pytest.raises(ValueError, match="cluster 2 .* singular"):
        average_log_posterior(X, labels, form="published")


X, LABELS = mixture(n=40, d=3)
GAPS = np.where(np.arange(120).reshape(40, 3) == 50, np.nan, X)


@pytest.mark.parametrize(
    ("X", "labels", "options", "message"),
    [
        (X[:, 0], LABELS, {}, "X has 1 dimensions; pass one row per entity"),
        (X[None], LABELS, {}, "X has 3 dimensions"),
        (X[:0], LABELS[:0], {}, r"X has shape \(0, 3\)"),
        (X.astype(str), LABELS, {}, "X has dtype <U"),
        (X + 0j, LABELS, {}, "X has dtype complex128"),
        (GAPS, LABELS, {}, "NaN or infinite values in 1 rows, first in row 16"),
        (np.where(np.isnan(GAPS), -np.inf, X), LABELS, {}, "infinite values in 1 rows"),
        (np.ones((40, 3)), LABELS, {}, "every dimension of X is constant"),
        (X, LABELS[:-1], {}, "labels has length 39 but X has 40 rows; pass one label a row"),
        (X, LABELS[:, None], {}, "labels has 2 dimensions"),
        (X, [None, *LABELS[1:]], {}, "labels has 1 missing values"),
        (X, [float("nan"), *LABELS[1:]], {}, "labels has 1 missing values"),
        (X, [0] * 40, {}, "one cluster only"),
        (X, ["rare", *LABELS[1:]], {}, "clusters below 2 entities: 'rare'; drop or merge"),
        (X, LABELS, {"min_cluster_size": 11}, "below 11 entities: .*"),
        (X, [8, 8, *LABELS[2:]], {}, "5 folds leave fewer than 2 entities to fit: 8;"),
        (X, LABELS, {"form": "bayes"}, "form is 'bayes'; choose one of calibrated"),
        (X, LABELS, {"head_dim": 4}, "head_dim is 4 but X has 3 columns"),
        (X, LABELS, {"head_dim": 0}, "head_dim is 0"),
        (X, LABELS, {"n_permutations": 0}, "n_permutations is 0"),
        (X, LABELS, {"n_folds": 1}, "n_folds is 1; give a whole number, at least 2"),
        (X, LABELS, {"chunk_rows": 2.5}, "chunk_rows is 2.5"),
        (X, LABELS, {"min_cluster_size": 1}, "min_cluster_size is 1"),
        (X, LABELS, {"ridge": -1.0}, "ridge is -1.0"),
        (X, LABELS, {"clip": 0.0}, "clip is 0.0; give a probability"),
    ],
)
def test_bad_input_names_the_argument(X, labels, options, message):
    with pytest.raises(ValueError, match=message):
        average_log_posterior(X, labels, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X_test": X[:, :2]}, "X_train has 3 columns but X_test has 2"),
        ({"labels_test": [9] * 40}, "labels_test has 9, absent from labels_train"),
        ({"labels_train": LABELS[:5]}, "labels_train has length 5 but X_train has 40 rows"),
        ({"labels_test": LABELS[:5]}, "labels_test has length 5 but X_test has 40 rows"),
        ({"covariance": "diagonal"}, "covariance is 'diagonal'; choose one of empirical, oas"),
        ({"X_test": GAPS}, "X_test has NaN"),
    ],
)
def test_bad_input_of_the_held_out_scorer(change, message):
    arguments = {"X_train": X, "labels_train": LABELS, "X_test": X, "labels_test": LABELS}
    with pytest.raises(ValueError, match=message):
        held_out_log_posterior(**arguments | change)


@pytest.mark.parametrize("form", alp.FORMS)
@pytest.mark.parametrize("kind", heads.HEAD_KINDS)
def test_rows_read_in_pieces_give_the_same(monkeypatch, form, kind):
    X, labels = mixture(n=700, d=9, k=3)
    options = {"form": form, "head_dim": 4, "head_kind": kind, "seed": 3}
    whole = average_log_posterior(X, labels, **options)
    monkeypatch.setattr(gaussians, "KEPT", 0)
    monkeypatch.setattr(gaussians, "_STACKED", 60)
    parts = average_log_posterior(X, labels, chunk_rows=11, **options)
    np.testing.assert_allclose(parts.per_entity, whole.per_entity, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["published", "calibrated"])
def test_memory_does_not_grow_with_the_width_of_the_input(monkeypatch, tmp_path, form):
    n, d, k = 20_000, 256, 40
    rng = np.random.default_rng(0)
    path = tmp_path / "X.npy"
    np.save(path, rng.standard_normal((n, d), dtype=np.float32))
    X, labels = np.load(path, mmap_mode="r"), np.arange(n) % k
    monkeypatch.setattr(gaussians, "KEPT", 2**16)
    monkeypatch.setattr(gaussians, "_STACKED", 2**18)
    monkeypatch.setattr(alp, "_STORED_SCORES", 2**16)
    tracemalloc.start()
    average_log_posterior(X, labels, form=form, head_dim=64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Neither the input in float64 (41 MB) nor one number an entity and cluster and head (26 MB).
    assert peak < 20e6


def test_subsets_draw_each_head_on_its_own():
    drawn = heads.blocks(50, 10, kind="subsets", n_permutations=4, seed=1)
    assert len(drawn) == 20 and all(len(set(head)) == 10 for head in drawn)
    times = np.bincount(np.concatenate(drawn), minlength=50)
    assert times.sum() == 200 and times.min() < 4 < times.max()


def test_rotations_mix_all_dimensions_and_change_no_full_space_score():
    X, labels = mixture(n=900, d=12, k=3)
    sparse = np.column_stack([X[:, :2], np.random.default_rng(1).standard_normal((900, 40))])
    raw, turned = (
        average_log_posterior(
            sparse, labels, form="published", head_dim=6, head_kind=kind, n_permutations=3
        )
        for kind in ("blocks", "rotations")
    )
    assert turned.per_head.std() < raw.per_head.std()
    turn = heads._random_rotation(12, np.random.default_rng(0))
    np.testing.assert_allclose(turn @ turn.T, np.eye(12), atol=1e-12)
    options = {"form": "published", "ridge": 0.0}
    whole = average_log_posterior(X, labels, **options).per_entity
    np.testing.assert_allclose(
        average_log_posterior(X @ turn, labels, **options).per_entity, whole, atol=1e-10
    )


def test_permutation_null_sits_at_chance_once_calibrated_and_above_it_in_sample():
    X, labels = mixture(n=400, d=8, radius=4.0)
    honest = permutation_null(X, labels, n_shuffles=9, seed=1)
    chance = average_log_posterior(X, labels).chance
    assert honest.p_value == 0.1 and honest.observed > honest.scores.max()
    np.testing.assert_allclose(honest.scores, chance, atol=0.02)
    inflated = permutation_null(X, labels, n_shuffles=9, form="published")
    assert inflated.scores.min() > chance + 0.05
    noise = np.random.default_rng(2).standard_normal((12, 400, 8))
    ps = [permutation_null(x, labels, n_shuffles=19, form="published").p_value for x in noise]
    assert 0.25 < np.mean(ps) < 0.75
    again = permutation_null(X, labels, n_shuffles=9, seed=1)
    assert (again.scores == honest.scores).all()


def test_unknown_kinds_of_heads_are_refused_by_name():
    X, labels = mixture(n=60, d=4, k=2)
    with pytest.raises(ValueError, match="head_kind is 'random'; choose one of blocks"):
        average_log_posterior(X, labels, head_dim=2, head_kind="random")
    with pytest.raises(ValueError, match="kind is 'rotations'"):
        heads.blocks(4, 2, kind="rotations")
    with pytest.raises(ValueError, match="n_shuffles is 0"):
        permutation_null(X, labels, n_shuffles=0)


def test_ties_at_chance_count_in_the_permutation_null():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [150, 40, 20])
    for _ in range(20):
        noise = rng.standard_normal((len(labels), 6))
        if average_log_posterior(noise, labels).temperature == 0:
            break
    null = permutation_null(noise, labels, n_shuffles=19)
    at_chance = np.abs(null.scores - null.observed) < 1e-12
    assert at_chance.any() and null.p_value == (1 + 19) / 20


def test_held_out_fits_that_mean_nothing_are_warned_about():
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((30, 30)), np.arange(30) % 2
    with pytest.warns(UserWarning, match="at most 31 entities"):
        held_out_log_posterior(X, labels, X, labels)
    X = rng.standard_normal((300, 4))
    X[::2, 1] = 0.5
    labels = np.arange(300) % 2
    with pytest.warns(UserWarning, match="the ridge alone"):
        held_out_log_posterior(X, labels, X, labels)


@pytest.mark.parametrize("form", ["published", "leave_one_out"])
@pytest.mark.parametrize("fault", ["constant", "copied", "none"])
def test_a_cluster_flat_in_some_direction_is_named(form, fault):
    X, labels = np.random.default_rng(0).standard_normal((300, 4)), np.repeat(["a", "b", "c"], 100)
    if fault == "constant":
        X[labels == "b", 2] = 0.3
    if fault == "copied":
        X[labels == "b", 2] = -2 * X[labels == "b", 0]
    if fault == "none":
        assert average_log_posterior(X, labels, form=form).warnings == ()
        return
    with pytest.warns(UserWarning, match="the ridge alone .* 'b'; drop"):
        result = average_log_posterior(X, labels, form=form)
    assert len(result.warnings) == 1


def test_the_calibrated_form_warns_of_flat_dimensions_and_of_nothing_else():
    X, labels = np.random.default_rng(0).standard_normal((300, 4)), np.repeat(["a", "b", "c"], 100)
    assert average_log_posterior(X, labels).warnings == ()
    assert average_log_posterior(X * [1, 1e-6, 1e6, 1], labels).warnings == ()
    X[labels == "b", 2] *= 0.01
    with pytest.warns(UserWarning, match="hardly vary in some dimension: 'b'; one temperature"):
        result = average_log_posterior(X, labels)
    assert len(result.warnings) == 1
    assert average_log_posterior(X, labels, head_dim=4, head_kind="rotations").warnings == ()


@pytest.mark.parametrize("scale", [1e-250, 1e-170, 1e170, 1e300])
@pytest.mark.parametrize("form", alp.FORMS)
def test_no_unit_is_too_small_or_too_large(scale, form):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((150, 4)), np.repeat(list("abc"), 50)
    X[y == "a"] += 1.5
    plain = alp.average_log_posterior(X, y, form=form)
    found = alp.average_log_posterior(scale * X, y, form=form)
    assert found.score == pytest.approx(plain.score, rel=1e-9)
    if form == "calibrated":
        one = X * np.array([1, 1, 1, scale])
        assert alp.average_log_posterior(one, y).score == pytest.approx(plain.score, rel=1e-9)
    for covariance in alp._COVARIANCES:
        new = {"covariance": covariance}
        expected = alp.held_out_log_posterior(X[::2], y[::2], X[1::2], y[1::2], **new)
        Z = scale * X
        again = alp.held_out_log_posterior(Z[::2], y[::2], Z[1::2], y[1::2], **new)
        assert again == pytest.approx(expected, rel=1e-9)


def test_values_without_a_finite_mean_are_refused_as_what_they_are():
    X, y = np.full((60, 2), 1e308), np.repeat(list("abc"), 20)
    X[::2] *= -1
    with pytest.raises(ValueError, match="X has values too large"):
        alp.average_log_posterior(X[y != "d"] + 0, y)
    holes = np.where(np.arange(60)[:, None] == 7, np.nan, X)
    with pytest.raises(ValueError, match="in 1 rows, first in row 7"):
        alp.average_log_posterior(holes, y)
