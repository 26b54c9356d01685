"""Divergences of models with known probabilities: bytes drawn independently have closed forms."""

from functools import partial

import numpy as np
import pytest

from experiments import ngrams
from helpers.modelmap import divergence

N_BYTES = 40
ONE, OTHER = (ngrams.fit([text], 0) for text in ("aaabbbbccd", "aabbbcccdd"))


def marginal(model):
    (table,) = ngrams.conditionals(model, ["a"])
    return table[0]


def closed_form():
    """Divergence and half the variance of the log-ratio of N_BYTES independent bytes, nats."""
    p, q = marginal(ONE), marginal(OTHER)
    ratio = np.log(p / q)
    mean = (p * ratio).sum()
    return N_BYTES * mean, N_BYTES * (p * (ratio - mean) ** 2).sum() / 2


def ratios(texts):
    return ngrams.log_likelihood(ONE, texts) - ngrams.log_likelihood(OTHER, texts)


@pytest.fixture(scope="module")
def drawn():
    return ngrams.sample(ONE, 2000, N_BYTES, seed=3)


def test_sampling_and_stand_in_meet_the_closed_forms_within_their_errors(drawn):
    divergence_, half_variance = closed_form()
    direct = divergence.by_sampling(ratios(drawn))
    assert abs(direct.value - divergence_) < 4 * direct.error < divergence_ / 2
    stand_in = divergence.half_variance_kl(ratios(drawn))
    assert abs(stand_in.value - half_variance) < 4 * stand_in.error < half_variance


def test_the_errors_are_those_of_repeated_draws():
    many = [ratios(ngrams.sample(ONE, 100, N_BYTES, seed=seed)) for seed in range(200)]
    for estimate in (divergence.by_sampling, divergence.half_variance_kl):
        found = [estimate(r) for r in many]
        spread = np.std([e.value for e in found])
        assert 0.8 < np.mean([e.error for e in found]) / spread < 1.2


def test_the_conditionals_leave_no_error_where_nothing_depends_on_the_context(drawn):
    tables = [ngrams.conditionals(model, drawn[:5]) for model in (ONE, OTHER)]
    found = divergence._by_conditionals(*tables)
    np.testing.assert_allclose(found.value, closed_form()[0], rtol=1e-12)
    assert found.error < 1e-12
    assert all((row > 0).all() for row in divergence._along(*tables))


def test_conditionals_and_samples_agree_where_it_does():
    one, other = (ngrams.fit([text * 3], 2) for text in ("abracadabra", "cadabrabra"))
    texts = ngrams.sample(one, 3000, N_BYTES, seed=1)
    r = ngrams.log_likelihood(one, texts) - ngrams.log_likelihood(other, texts)
    sampled = divergence.by_sampling(r)
    exact = divergence._by_conditionals(
        *(ngrams.conditionals(m, texts[:1000]) for m in (one, other))
    )
    assert abs(sampled.value - exact.value) < 4 * np.hypot(sampled.error, exact.error)


def test_a_byte_that_p_rules_out_counts_nothing_and_one_that_q_does_is_infinite():
    p, q = np.array([[0.5, 0.5, 0.0]]), np.array([[0.25, 0.5, 0.25]])
    np.testing.assert_allclose(divergence._along([p], [q])[0], 0.5 * np.log(2))
    assert divergence._along([q], [p])[0][0] == np.inf


def test_chunks_add_up_their_bytes_and_drop_what_is_left():
    found = divergence.chunk_ratios([[1, 2, 3, 4, 5], [10, 20]], 2)
    assert found.tolist() == [3, 7, 30]


def test_bits_per_byte():
    assert divergence.bits_per_byte(8 * np.log(2), 4) == pytest.approx(2)


def test_a_step_towards_a_model_ends_there_and_stays_a_distribution():
    p, q = (np.random.default_rng(s).dirichlet(np.ones(6), size=4) for s in (0, 1))
    half = divergence._towards(p, q, 0.5)
    np.testing.assert_allclose(half.sum(axis=1), 1)
    expected = np.sqrt(p * q) / np.sqrt(p * q).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(half, expected)
    assert divergence._towards(p, q, 1) is q


def test_compare_is_the_pieces_put_together_and_small_steps_obey_the_formula(drawn):
    p, q = (partial(ngrams.conditionals, model) for model in (ONE, OTHER))
    own, texts = drawn[:1500], ngrams.sample(OTHER, 300, N_BYTES, seed=5)
    found = divergence.compare(p, q, own, texts, lengths=(8,), shares=(1.0, 0.05))
    full, small = found.iloc[0], found.iloc[1]
    scale = N_BYTES * np.log(2)
    assert full["true"] * scale == pytest.approx(closed_form()[0])
    assert full["own_40"] * scale == pytest.approx(divergence.half_variance_kl(ratios(own)).value)
    assert full["texts_40"] * scale == pytest.approx(
        divergence.half_variance_kl(ratios(texts)).value
    )
    assert full["sd_own"] == pytest.approx(ratios(own).std())
    tables = [ngrams.conditionals(m, texts) for m in (ONE, OTHER)]
    there, back = divergence._by_conditionals(*tables), divergence._by_conditionals(*tables[::-1])
    assert full["texts_true"] * scale == pytest.approx((there.value + back.value) / 2)
    # With all bytes independent the only error left is that of drawing texts.
    assert small["own_8"] / small["true"] == pytest.approx(1, abs=0.1)
    assert small["true"] == pytest.approx(full["true"] * 0.05**2, rel=0.2)
