"""The peers of the average log posterior against their formulas written out, and bad input."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from unequal_clusters import mixture

from helpers.data import ROOT
from helpers.posterior import transferability
from helpers.posterior.transferability import (
    gbc,
    h_score,
    knn_accuracy,
    linear_probe,
    log_me,
    rank_me,
    silhouette,
    trans_rate,
)

MEASURES = {
    "log_me": log_me,
    "h_score": h_score,
    "gbc": gbc,
    "trans_rate": trans_rate,
    "silhouette": silhouette,
    "knn_accuracy": knn_accuracy,
    "linear_probe": lambda X, labels: linear_probe(X, labels).log_likelihood,
    "rank_me": lambda X, labels: rank_me(X),
}
LABELLED = sorted(set(MEASURES) - {"rank_me"})


def log_evidence(logs, X, y):
    """Return the log density of y = Xw + noise, weights and noise integrated out densely."""
    alpha, beta = np.exp(logs)
    covariance = X @ X.T / alpha + np.eye(len(X)) / beta
    log_det = np.linalg.slogdet(covariance)[1]
    return -0.5 * (y @ np.linalg.solve(covariance, y) + log_det + len(y) * np.log(2 * np.pi))


def maximum_evidence(X, y):
    """Return the precisions of largest evidence, as logarithms, and that evidence an entity."""
    best = minimize(lambda t: -log_evidence(t, X, y), [0, 2], method="Nelder-Mead")
    return best.x, -best.fun / len(X)


def test_log_me_is_the_maximum_of_the_evidence():
    X, labels = mixture(n=90, d=4)
    best = np.mean([maximum_evidence(X, labels == k)[1] for k in range(3)])
    ours = log_me(X, labels)
    assert ours == pytest.approx(best, abs=1e-4)
    assert ours < best + 1e-8


def test_log_me_leaves_terms_out_with_fewer_entities_than_dimensions():
    X, labels = mixture(n=60, d=80, radius=5.0)
    X /= 1 + np.arange(80)
    best = [maximum_evidence(X, labels == k) for k in range(3)]
    # What the package leaves out of -1/2 log det (alpha + beta X'X) is log alpha a null direction.
    off = np.mean([(80 - 60) / (2 * 60) * logs[0] for logs, _ in best])
    assert abs(off) > 0.03
    assert log_me(X, labels) == pytest.approx(np.mean([e for _, e in best]) + off, abs=3e-3)


def test_log_me_starts_each_cluster_where_the_one_before_ended():
    X, labels = mixture(d=200, radius=0.5)

    def follow(order):
        tau, sigma = 1.0, np.linalg.svd(X, compute_uv=False) ** 2
        u, total = np.linalg.svd(X, full_matrices=False)[0], 0.0
        for k in order:
            y = (labels == k).astype(float)
            z = (u.T @ y) ** 2
            for _ in range(11):
                gamma = np.sum(sigma / (sigma + tau))
                m = np.sum(sigma * z / (sigma + tau) ** 2)
                r = np.sum(z * tau**2 / (sigma + tau) ** 2) + y @ y - z.sum()
                alpha, beta = gamma / (m + 1e-5), (len(y) - gamma) / (r + 1e-5)
                last, tau = tau, alpha / beta
                if abs(tau - last) <= 1e-3 * last:
                    break
            total += 0.5 * (
                len(sigma) * np.log(alpha)
                + len(y) * np.log(beta / (2 * np.pi))
                - np.log(alpha + beta * sigma).sum()
                - beta * r
                - alpha * m
            )
        return total / (len(labels) * len(order))

    first_seen = list(dict.fromkeys(labels))
    assert log_me(X, labels) == pytest.approx(follow(first_seen), abs=1e-7)
    assert abs(follow(first_seen) - follow(first_seen[::-1])) > 1e-6


def between(X, labels):
    """Return the covariance of E[f|y], divisor N."""
    means = np.array([X[labels == c].mean(axis=0) for c in np.unique(labels)])
    return np.cov(means[np.searchsorted(np.unique(labels), labels)].T, bias=True)


@pytest.mark.parametrize(("n", "d"), [(300, 5), (70, 90)])
def test_h_score_is_the_shrunk_formula(n, d):
    X, labels = mixture(n, d)
    covariance, shrinkage = ledoit_wolf(X)
    assert 0.005 < shrinkage < 0.95
    theirs = (1 - shrinkage) * np.trace(np.linalg.solve(covariance, between(X, labels)))
    assert h_score(X, labels) == pytest.approx(theirs * n / (n - 1), rel=3e-7)


def test_h_score_of_many_entities_is_the_plain_formula():
    X, labels = mixture(n=20_000)
    plain = np.trace(np.linalg.solve(np.cov(X.T, bias=True), between(X, labels)))
    assert h_score(X, labels) == pytest.approx(plain, rel=2e-3)
    assert 0 < plain < 2


def overlap(p, q):
    """Return the integral of the root of the product of two normal densities (mean, SD)."""

    def log_density(x, mean, sd):
        return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd * math.sqrt(2 * math.pi))

    def root(x):
        return math.exp((log_density(x, *p) + log_density(x, *q)) / 2)

    return quad(root, -15, 15, limit=200)[0]


def test_gbc_is_the_integral_of_the_root_of_the_product():
    X, labels = mixture(d=1, radius=1.0)
    fits = [(X[labels == c].mean(), X[labels == c].std()) for c in range(3)]
    total = sum(overlap(p, q) for i, p in enumerate(fits) for j, q in enumerate(fits) if i != j)
    assert gbc(X, labels) == pytest.approx(-total, abs=1e-8)


def test_gbc_is_a_product_over_independent_dimensions():
    X, labels = mixture(d=3, radius=1.0)
    total = 0.0
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        means = [X[labels == c].mean(axis=0) for c in (i, j)]
        scales = [np.full(3, np.sqrt(X[labels == c].var(axis=0).mean())) for c in (i, j)]
        fits = [zip(mean, scale, strict=True) for mean, scale in zip(means, scales, strict=True)]
        total += 2 * np.prod([overlap(p, q) for p, q in zip(*fits, strict=True)])
    assert gbc(X, labels) == pytest.approx(-total, abs=1e-8)


def test_gbc_of_flat_clusters_is_finite():
    X, labels = mixture()
    flat = X.copy()
    flat[labels == 1] = 7.0
    one, scaled = (gbc(c * flat, labels) for c in (1, 1e-3))
    assert -6 < one < -1e-3 and scaled == pytest.approx(one, rel=1e-9)
    # The floor is a ten-thousandth of the overall variance.
    near = np.array([0, 0, 0.01, 0.01, 1, 1])[:, None]
    distance = 0.01**2 / (8 * 1e-4 * near.var())
    assert gbc(near, [0, 0, 1, 1, 2, 2]) == pytest.approx(-2 * np.exp(-distance), rel=1e-9)


@pytest.mark.parametrize("d", [5, 150])
def test_trans_rate_is_the_difference_of_coding_rates(d):
    X, labels = mixture(n=200, d=d)
    Z = X - X.mean(axis=0)

    def rate(rows):
        return 0.5 * np.linalg.slogdet(np.eye(d) + rows.T @ rows / (len(rows) * 1e-4))[1]

    theirs = rate(Z) - np.mean([rate(Z[labels == c]) for c in range(3)])
    assert trans_rate(X, labels) == pytest.approx(theirs, rel=1e-9)


def silhouettes(X, labels):
    """Return the silhouette of each row from its mean distances, (b - a) / max(a, b)."""
    values = []
    for i in range(len(X)):
        away = np.sqrt(((X - X[i]) ** 2).sum(axis=1))
        own = (labels == labels[i]) & (np.arange(len(X)) != i)
        a = away[own].mean()
        b = min(away[labels == c].mean() for c in np.unique(labels) if c != labels[i])
        values.append((b - a) / max(a, b))
    return np.array(values)


def test_silhouette_is_the_mean_of_naive_ones():
    X, labels = mixture(n=150)
    each = silhouettes(X, labels)
    assert silhouette(X, labels) == pytest.approx(each.mean(), abs=1e-10)


def test_knn_accuracy_is_a_vote_of_the_nearest():
    X, labels = mixture(n=160, radius=1.0)
    hits = []
    folds = StratifiedKFold(5, shuffle=True, random_state=9)
    # The folds depend on the clusters in the order they are first seen.
    seen = list(dict.fromkeys(labels))
    codes = np.array([seen.index(c) for c in labels])
    for train, test in folds.split(X, codes):
        for i in test:
            near = train[np.argsort(((X[train] - X[i]) ** 2).sum(axis=1))[:5]]
            hits.append(np.bincount(codes[near], minlength=3).argmax() == codes[i])
    ours = knn_accuracy(X, labels, seed=9)
    assert ours == pytest.approx(np.mean(hits), abs=1e-12)
    assert 0.4 < ours < 0.95


@pytest.mark.parametrize(("n", "d"), [(6, 6), (9, 4), (4, 9)])
def test_rank_me_of_orthogonal_matrices_is_their_rank(n, d):
    rng = np.random.default_rng(n)
    u, v = (np.linalg.qr(rng.standard_normal((m, m)))[0] for m in (n, d))
    least = min(n, d)
    flat = 3.0 * u[:, :least] @ v[:least]
    assert rank_me(flat, eps=0) == pytest.approx(least, abs=1e-10)
    assert rank_me(flat) == pytest.approx(least, abs=1e-4)
    shares = np.zeros(least)
    shares[:2] = 0.8, 0.2
    two = u[:, :least] @ np.diag(5 * shares) @ v[:least]
    assert rank_me(two, eps=0) == pytest.approx(0.8**-0.8 * 0.2**-0.2, abs=1e-10)
    padded = shares + 1e-7
    assert rank_me(two) == pytest.approx(np.prod(padded**-padded), abs=1e-10)


@pytest.mark.parametrize("k", [2, 3])
def test_linear_probe_is_a_cross_validated_logistic_regression(k):
    X, labels = mixture(k=k, radius=1.0)
    seen = list(dict.fromkeys(labels))
    codes = np.array([seen.index(c) for c in labels])
    own, guess = np.empty(len(X)), np.empty(len(X), dtype=int)
    for train, test in StratifiedKFold(4, shuffle=True, random_state=6).split(X, codes):
        scaler = StandardScaler().fit(X[train])
        model = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000)
        model.fit(scaler.transform(X[train]), codes[train])
        proba = model.predict_proba(scaler.transform(X[test]))
        own[test] = np.log(proba[np.arange(len(test)), codes[test]])
        guess[test] = proba.argmax(axis=1)
    result = linear_probe(X, labels, C=0.1, n_folds=4, seed=6)
    np.testing.assert_allclose(result.per_entity, own, rtol=0, atol=2e-3)
    assert result.log_likelihood == pytest.approx(own.mean(), abs=1e-4)
    assert result.accuracy == pytest.approx(np.mean(guess == codes), abs=0.01)
    recalls = [np.mean(guess[codes == c] == c) for c in range(k)]
    assert result.balanced_accuracy == pytest.approx(np.mean(recalls), abs=0.01)
    assert result.log_likelihood == result.per_entity.mean()
    assert result.accuracy != result.balanced_accuracy


def test_linear_probe_maximises_the_penalised_likelihood():
    X, labels = mixture(n=120, d=3, radius=1.0)
    probe = linear_probe(X, labels, C=1.0, n_folds=2, seed=0)
    codes = np.array([list(dict.fromkeys(labels)).index(c) for c in labels])
    train, test = next(StratifiedKFold(2, shuffle=True, random_state=0).split(X, codes))
    Z = (X - X[train].mean(axis=0)) / X[train].std(axis=0)

    def scores(flat, rows):
        weights = flat.reshape(3, 4)
        return log_softmax(Z[rows] @ weights[:, :3].T + weights[:, 3], axis=1)

    def loss(flat):
        fit = scores(flat, train)[np.arange(len(train)), codes[train]].sum()
        return 0.5 * np.sum(flat.reshape(3, 4)[:, :3] ** 2) - fit

    best = minimize(loss, np.zeros(12), tol=1e-10).x
    own = scores(best, test)[np.arange(len(test)), codes[test]]
    np.testing.assert_allclose(probe.per_entity[test], own, rtol=0, atol=5e-3)


@pytest.mark.parametrize("k", [2, 3])
def test_linear_probe_has_no_infinite_log_probability(k):
    labels = np.arange(60) % k
    X = labels[:, None] - 0.5 + 0.1 * np.random.default_rng(0).standard_normal((60, 1))
    X[0] = 1e6
    result = linear_probe(X, labels)
    assert np.isfinite(result.per_entity).all() and result.per_entity[0] < -1e4


@pytest.mark.parametrize("name", LABELLED)
def test_signal_scores_above_noise(name):
    X, labels = mixture(n=600, radius=4.0)
    noise = np.random.default_rng(1).standard_normal(X.shape)
    # The same overall scale: TransRate depends on it.
    noise = X.mean(axis=0) + X.std(axis=0) * noise
    assert MEASURES[name](X, labels) > MEASURES[name](noise, labels)
    assert MEASURES[name](X, labels) > MEASURES[name](X, np.sort(labels))


def test_noise_of_the_probes_is_at_chance():
    rng = np.random.default_rng(2)
    X, labels = rng.standard_normal((3000, 4)), np.arange(3000) % 4
    probe = linear_probe(X, labels)
    assert probe.log_likelihood == pytest.approx(-np.log(4), abs=0.01)
    assert probe.accuracy == pytest.approx(0.25, abs=0.04)
    assert knn_accuracy(X, labels) == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("name", MEASURES)
def test_names_types_and_repetition_do_not_matter(name):
    X, labels = mixture(radius=1.0)
    score = MEASURES[name](X, labels)
    assert type(score) is float and MEASURES[name](X, labels) == score
    before = X.copy()
    assert MEASURES[name](X, np.array(["pear", "apple", "fig"])[labels]) == score
    assert (X == before).all()
    assert MEASURES[name](X.astype(np.float32), labels) == pytest.approx(score, rel=1e-3)
    assert MEASURES[name]((100 * X).astype(int).tolist(), labels) != score
    readonly = np.array(X, order="F")
    readonly.flags.writeable = False
    assert MEASURES[name](readonly, labels) == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("h_score", 1e-10), ("gbc", 1e-10), ("trans_rate", 1e-10)]
    + [("silhouette", 1e-10), ("rank_me", 1e-10), ("log_me", 1e-6)]
    # Their folds follow the order of the rows.
    + [("knn_accuracy", 0.06), ("linear_probe", 0.02)],
)
def test_order_of_the_rows_does_not_matter(name, tolerance):
    X, labels = mixture(radius=1.0)
    order = np.random.default_rng(5).permutation(len(X))
    ours = MEASURES[name](X[order], labels[order])
    assert ours == pytest.approx(MEASURES[name](X, labels), abs=tolerance)


@pytest.mark.parametrize("name", MEASURES)
def test_offsets_matter_only_where_said(name):
    X, labels = mixture(radius=1.0)
    score, moved = MEASURES[name](X, labels), MEASURES[name](X + 10.0, labels)
    if name in ("log_me", "rank_me"):
        assert abs(moved - score) > 1e-2
    else:
        assert moved == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_scale_matters_only_to_trans_rate(name):
    X, labels = mixture(radius=1.0)
    score, scaled = MEASURES[name](X, labels), MEASURES[name](0.01 * X, labels)
    if name == "trans_rate":
        assert abs(scaled - score) > 1e-2
    else:
        assert scaled == pytest.approx(score, abs=2e-3)


FRESH = """
import warnings, logging
import numpy as np, torch, transformers
from helpers.posterior.transferability import h_score, log_me
def state():
    return [torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
            torch.initial_seed(), torch.get_rng_state().sum().item(), np.random.get_state()[2],
            transformers.utils.logging.get_verbosity(), list(warnings.filters), logging.root.level]
before = state()
X, labels = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 2
log_me(X, labels), h_score(X, labels)
print(before == state())
"""


def test_the_package_leaves_no_trace():
    words = [sys.executable, "-c", FRESH]
    done = subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n" and done.stderr == ""


def test_nothing_warns():
    X, labels = mixture(n=120, d=200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for measure in MEASURES.values():
            assert np.isfinite(measure(X, labels))


X, LABELS = mixture(n=80, d=3)
GAPS = np.where(np.arange(240).reshape(80, 3) == 50, np.nan, X)


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize(
    ("X", "labels", "message"),
    [
        (X[:, 0], LABELS, "X has 1 dimensions"),
        (X.astype(str), LABELS, "X has dtype <U"),
        (GAPS, LABELS, "NaN or infinite values in 1 rows, first in row 16"),
        (np.full((80, 3), 0.1), LABELS, "every dimension of X is constant"),
        (X, LABELS[:9], "labels has length 9 but X has 80 rows"),
        (X, [0] * 80, "labels names one cluster only"),
        (X, [None, *LABELS[1:]], "labels has 1 missing values"),
        (X, ["rare", *LABELS[1:]], "clusters below [235] entities: 'rare'; drop or merge"),
    ],
)
def test_bad_input_names_the_argument(name, X, labels, message):
    with pytest.raises(ValueError, match=message):
        MEASURES[name](X, labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: h_score(X[:, :1], LABELS), "X has 1 column; .* two at least"),
        (lambda: knn_accuracy(X, [8] * 4 + [9] * 76), "clusters below 5 entities: 8; drop"),
        (lambda: linear_probe(X, [8] * 3 + [9] * 77, n_folds=4), "clusters below 4 entities: 8"),
        (lambda: linear_probe(X, LABELS, C=0), "C is 0; give a finite number above 0"),
        (lambda: linear_probe(X, LABELS, n_folds=2.5), "n_folds is 2.5"),
        (lambda: rank_me(X[:0]), r"X has shape \(0, 3\)"),
        (lambda: rank_me(GAPS), "X has NaN"),
        (lambda: rank_me(0 * X), "X is zero everywhere"),
        (lambda: rank_me(X, eps=-1), "eps is -1"),
    ],
)
def test_bad_options_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_probe_that_does_not_converge_says_so(monkeypatch):
    real = LogisticRegression.__init__

    def short(self, **options):
        real(self, **options | {"max_iter": 1})

    monkeypatch.setattr(LogisticRegression, "__init__", short)
    with pytest.raises(ValueError, match="C is 10.0; the probe does not converge: choose less"):
        linear_probe(X, LABELS, C=10.0)


def test_a_tuned_probe_of_one_penalty_is_the_probe():
    X, labels = mixture(n=120, d=3, radius=1.0)
    tuned, chosen = transferability.tuned_probe(X, labels, penalties=[0.1], seed=4)
    fixed = linear_probe(X, labels, C=0.1, seed=4)
    assert (tuned.per_entity == fixed.per_entity).all() and chosen == (0.1, 0.1, 0.1)


def test_a_tuned_probe_shrinks_noise_to_chance_and_leaves_signal_its_weights():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 60)
    noise = rng.standard_normal((180, 60))
    tuned, chosen = transferability.tuned_probe(noise, labels)
    loose = linear_probe(noise, labels, C=0.1).log_likelihood
    assert loose < tuned.log_likelihood and tuned.log_likelihood > -np.log(3) - 0.05
    assert max(chosen) < 0.1
    signal = noise.copy()
    signal[:, :3] += 4 * (labels[:, None] == np.array(["a", "b", "c"]))
    better, chosen = transferability.tuned_probe(signal, labels)
    assert min(chosen) >= 0.01 and better.accuracy > 0.9


def test_a_tuned_probe_refuses_clusters_too_small_for_a_choice_inside():
    with pytest.raises(ValueError, match="clusters below 6 entities: 'a'"):
        transferability.tuned_probe(X, np.repeat(["a", "b"], [5, 75]))


def test_gbc_keeps_overlaps_far_below_one():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 200)
    scores = [
        transferability.gbc(rng.standard_normal((600, 1)) + gap * labels[:, None], labels)
        for gap in (20, 22)
    ]
    assert scores[0] < scores[1] < 0 and scores[0] > -1e-16
