"""Rules for choosing texts: chances, weights, errors against plain loops, and who may choose."""

import numpy as np
import pandas as pd
import pytest

from experiments.modelmap import text_choice_checks, text_choice_tables
from helpers.modelmap import model_map, text_choice


@pytest.fixture(scope="module")
def L():
    """Twelve models in four families on 40 texts, whose differences have heavy tails."""
    rng = np.random.default_rng(0)
    families = rng.normal(size=(4, 40)).repeat(3, axis=0)
    spread = np.exp(rng.normal(size=40))
    return -300 + 20 * spread * (families + 0.3 * rng.normal(size=(12, 40)))


@pytest.fixture(scope="module")
def made(L):
    return model_map.fit_map(L, [f"m{i}" for i in range(12)])


FAMILIES = np.repeat(["a", "b", "c", "d"], 3)


@pytest.mark.parametrize("n", [1, 7, 30, 40])
def test_chances_add_up_are_proportional_and_never_above_one(made, n):
    p = text_choice.text_probabilities(made.coordinates)
    chance = text_choice_tables._inclusion_chances(p, n)
    assert chance.sum() == pytest.approx(n) and chance.max() <= 1
    free = chance < 1
    if free.sum() > 1:
        ratio = chance[free] / p[free]
        assert ratio.max() == pytest.approx(ratio.min())
    # Whoever is sure has at least the score of those who are not.
    assert free.all() or p[~free].min() >= p[free].max(initial=0)


def test_draws_once_have_the_chances_asked_for(made):
    p = text_choice.text_probabilities(made.coordinates)
    runs = [text_choice_tables._draw_once(p, 9, seed=s) for s in range(4000)]
    assert all(len(draw.texts) == 9 for draw in runs)
    seen = np.bincount(np.concatenate([draw.texts for draw in runs]), minlength=40) / 4000
    chance = text_choice_tables._inclusion_chances(p, 9)
    assert np.abs(seen - chance).max() < 4.5 * np.sqrt(0.25 / 4000)
    draw = runs[0]
    assert draw.weights == pytest.approx(1 / np.sqrt(chance[draw.texts]))
    again = text_choice_tables._draw_once(p, 9, seed=0)
    assert np.array_equal(draw.texts, again.texts)


def test_sums_over_texts_are_right_on_average(made):
    p = text_choice.text_probabilities(made.coordinates)
    value = np.arange(40.0)
    draws = [text_choice_tables._draw_once(p, 12, seed=s) for s in range(4000)]
    sums = [(value[draw.texts] * draw.weights**2).sum() for draw in draws]
    assert np.mean(sums) == pytest.approx(value.sum(), abs=4 * np.std(sums) / np.sqrt(4000))


def test_all_texts_once_are_the_map_itself(made):
    for rule in ("uniform, each once", "length-squared, each once", "largest variance", "pivoted"):
        draw = text_choice_tables.choose_texts(made.coordinates, 40, rule)
        assert draw.texts.tolist() == list(range(40)) and draw.weights == pytest.approx(1)
        found = text_choice.drawn_distances(made.log_likelihoods, draw)
        assert found == pytest.approx(made.distances(), abs=1e-6)


def test_the_papers_rules_are_those_of_modelmap_texts(made):
    for rule in text_choice.RULES:
        p = text_choice.text_probabilities(made.coordinates, rule)
        expected = text_choice.draw_texts(p, 15, seed=3)
        found = text_choice_tables.choose_texts(made.coordinates, 15, rule, seed=3)
        assert np.array_equal(found.texts, expected.texts)
        assert np.array_equal(found.weights, expected.weights)


def test_pivoted_texts_are_those_of_a_greedy_loop(made):
    left, expected = made.coordinates.copy(), []
    for _ in range(6):
        best = int((left**2).sum(axis=0).argmax())
        expected.append(best)
        axis = left[:, best] / np.linalg.norm(left[:, best])
        left -= np.outer(axis, axis @ left)
    assert text_choice_tables._pivoted_texts(made.coordinates, 6).tolist() == expected
    assert sorted(text_choice_tables._pivoted_texts(made.coordinates, 40)) == list(range(40))


def test_fitted_weights_are_not_beaten_by_others(made):
    q, texts = made.coordinates, np.arange(0, 40, 4)
    draw = text_choice_tables._fit_weights(q, texts)
    pairs = np.triu_indices(12, 1)
    apart = (q[pairs[0]] - q[pairs[1]]) ** 2

    def error(square):
        return ((apart[:, texts] @ square - apart.sum(axis=1)) ** 2).sum()

    square = np.zeros(len(texts))
    square[np.searchsorted(texts, draw.texts)] = draw.weights**2
    rng = np.random.default_rng(0)
    others = [np.maximum(square + rng.normal(0, s, len(texts)), 0) for s in (1e-3, 0.1, 1) * 20]
    assert all(error(square) <= error(other) * (1 + 1e-9) for other in others)
    assert set(draw.texts) <= set(texts) and (draw.weights > 0).all()
    # With every text the fit is exact.
    whole = text_choice_tables._fit_weights(q, np.arange(40))
    fitted = (apart[:, whole.texts] @ whole.weights**2) / apart.sum(axis=1)
    assert fitted == pytest.approx(1, abs=1e-6)


def test_coordinates_of_a_draw_have_its_distances(made):
    draw = text_choice_tables.choose_texts(made.coordinates, 15, "length-squared", seed=1)
    X = text_choice_tables.drawn_coordinates(made.log_likelihoods, draw)
    apart = ((X[:, None] - X) ** 2).sum(axis=2) / 40
    expected = text_choice.drawn_distances(made.log_likelihoods, draw)
    assert apart == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_curve_is_that_of_a_plain_loop(L, made):
    curve = text_choice_tables.rule_curve(L, [5, 20], rules=["uniform"], n_runs=4, seed=2)
    exact, pairs = made.distances(), np.triu_indices(12, 1)
    for row in curve.itertuples():
        found = []
        for run in range(4):
            draw = text_choice.draw_texts(np.full(40, 1 / 40), row.n, seed=2 + run)
            estimate = text_choice.drawn_distances(made.log_likelihoods, draw)
            near = [np.where(np.eye(12) > 0, np.inf, d).argmin(axis=1) for d in (estimate, exact)]
            found.append(
                (
                    len(draw.texts),
                    text_choice.relative_error(estimate, exact),
                    np.sqrt((((estimate[pairs] / exact[pairs]) - 1) ** 2).mean()),
                    (near[0] != near[1]).mean(),
                )
            )
        found = np.array(found)
        assert row.unique == found[:, 0].mean() and row.wrong_nearest == found[:, 3].mean()
        assert row.relative_error == pytest.approx(np.sqrt((found[:, 1] ** 2).mean()), rel=1e-6)
        assert row.pairwise_error == pytest.approx(np.sqrt((found[:, 2] ** 2).mean()), rel=1e-6)


def test_choosers_know_nothing_of_the_others(L, monkeypatch):
    choosers = FAMILIES != "d"
    options = {"rules": ["length-squared", "pivoted, fitted"], "n_runs": 3}
    changed = L.copy()
    changed[~choosers] += 50 * np.random.default_rng(1).normal(size=(3, 40))
    seen, choose = [], text_choice_tables.choose_texts

    def recorded(q, *given, **more):
        draw = choose(q, *given, **more)
        seen.append((q, draw.texts, draw.weights))
        return draw

    monkeypatch.setattr(text_choice_tables, "choose_texts", recorded)
    one, two = (
        text_choice_tables.rule_curve(values, [10], choosers=choosers, **options)
        for values in (L, changed)
    )
    half = len(seen) // 2
    assert half == 4
    for before, after in zip(seen[:half], seen[half:], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert one["unique"].equals(two["unique"])
    assert not one.relative_error.equals(two.relative_error)
    # Only pairs with a judged model count: the whole block of choosers may change.
    mine = text_choice_tables.rule_curve(
        L, [40], rules=["uniform, each once"], choosers=choosers, n_runs=1
    )
    assert mine.relative_error[0] < 1e-6 and mine.wrong_nearest[0] == 0


def test_splits_tell_who_chose_and_flatter_those_who_chose_themselves(L):
    rules = ["uniform, each once", "pivoted, fitted"]
    curves = text_choice_tables.split_curves(L, FAMILIES, [8], rules=rules, n_splits=6, n_runs=2)
    assert len(curves) == 24 and set(curves.split) == set(range(6))
    found = text_choice_tables.over_splits(curves)
    one = curves[(curves.rule == rules[0]) & (curves.chosen_by == "old models")]
    squares = np.sqrt((one.relative_error**2).mean())
    assert found.relative_error[0] == pytest.approx(squares)
    error = found.set_index(["chosen_by", "rule"]).relative_error
    assert error["all models", "pivoted, fitted"] < error["old models", "pivoted, fitted"]
    assert set(found.chosen_by) == {"old models", "all models"} and len(found) == 4


def test_the_total_error_is_near_the_true_one_for_plain_texts():
    rng = np.random.default_rng(0)
    L = rng.normal(size=(10, 4000)) - 100
    found = text_choice_tables.total_error_check(L, 300, 100, "uniform", n_runs=30)
    assert found["total"] == pytest.approx(np.hypot(found["sampling"], found["resampling"]))
    assert found["true"] == pytest.approx(found["total"], rel=0.1)
    assert found["resampling"] > found["sampling"]


def curve_of(errors, texts, rule):
    return pd.DataFrame({"rule": rule, "unique": texts, "relative_error": errors})


def test_texts_needed_and_their_ratio_are_read_off_power_laws():
    texts = np.array([10.0, 20, 40, 80, 160])
    slow, fast = curve_of(texts**-0.5, texts, "slow"), curve_of((3 * texts) ** -0.5, texts, "fast")
    both = pd.concat([slow, fast])
    needed = text_choice_checks.texts_needed(both, 60**-0.5)
    assert needed["slow"] == pytest.approx(60) and needed["fast"] == pytest.approx(20)
    assert np.isnan(text_choice_checks.texts_needed(both, 0.5)["fast"])
    assert text_choice_checks.texts_ratio(both, "fast", "slow") == pytest.approx(1 / 3)
    assert text_choice_checks.texts_ratio(both, "slow", "slow") == pytest.approx(1)
    far = pd.concat([slow, curve_of((100 * texts) ** -0.5, texts, "far")])
    assert text_choice_checks.texts_ratio(far, "far", "slow") == pytest.approx(1 / 100)
    assert text_choice_checks.texts_ratio(far, "slow", "far") == pytest.approx(100)
    bumpy = curve_of([0.4, 0.2, 0.3, 0.1], [10, 20, 40, 80], "bumpy")
    needed = text_choice_checks.texts_needed(bumpy, np.sqrt(0.06))["bumpy"]
    assert needed == pytest.approx(np.sqrt(20 * 40))


def test_a_ratio_has_a_range_over_smaller_maps(L):
    families = np.repeat(list("abcdef"), 2)
    options = {"n_resamples": 6, "n_runs": 2}
    low, high = text_choice_checks.ratio_interval(L, families, [5, 10, 20], **options)
    assert 0 < low < high
    assert (low, high) == text_choice_checks.ratio_interval(L, families, [5, 10, 20], **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda L: text_choice_tables._draw_once(np.ones(4), 2), "probabilities"),
        (lambda L: text_choice.text_probabilities(L, "best"), "rule is .best.; choose one of"),
    ],
)
def test_bad_arguments_are_refused_by_name(L, call, message):
    with pytest.raises(ValueError, match=message):
        call(L)
