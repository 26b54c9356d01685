"""Answers against what a model prefers whoever is asked about: dealings, ranks and intervals."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.synthesis import fact_tests, signal_inputs

rng = np.random.default_rng(0)
FEW = {"n_shuffles": 999, "n_resamples": 200}


def asked(n_objects=4, per_object=6, relations=("r", "q")):
    """Facts of relations with shared objects, their blocks, and counts without ties."""
    rows = [
        {"relation": r, "subject": f"S{i}{j}", "object": f"{r}{'abcdefgh'[j]}zzzz", "prompt": "?"}
        for r in relations
        for j in range(n_objects)
        for i in range(per_object)
    ]
    table = signal_inputs._add_choices(pd.DataFrame(rows), pd.DataFrame(rows))
    counts = {c: rng.permutation(len(table)).astype(float) for c in fact_tests.COUNTS.values()}
    return table.assign(**counts)


def answered(facts, score):
    """What `single_signals.facts` gives for a model that scores (subject, object) by a function."""
    rows = [[score(s, o) for o in c] for s, c in zip(facts.subject, facts.choices, strict=True)]
    return {"rows": list(range(len(facts))), "answers": rows}


def gains(found):
    """Return what `knowledge` takes the mean of, one value a fact."""
    values = np.zeros(len(found.facts))
    for places, own, matrix in found.blocks:
        apart = matrix - matrix.mean(axis=1, keepdims=True)
        values[places] = (apart - apart.mean(axis=0))[range(len(own)), own]
    return values


def noise(seed=0):
    drawn = {}
    own = np.random.default_rng(seed)
    return lambda s, o: drawn.setdefault((s, o), own.normal())


def test_a_block_is_asked_about_the_same_answers():
    facts = asked(n_objects=8)
    one = signal_inputs._add_choices(facts, facts.sample(30, random_state=0), most=5)
    for _, part in one.groupby("block"):
        answers = set(map(frozenset, part.choices))
        assert len(answers) == 1 and len(*answers) <= 5 and part.relation.nunique() == 1
        assert set(part.object) <= next(iter(answers))
    assert all(
        c[0] == o and len(set(c)) == len(c) for c, o in zip(one.choices, one.object, strict=True)
    )
    again = signal_inputs._add_choices(facts, facts.sample(30, random_state=0), most=5)
    assert again.choices.tolist() == one.choices.tolist()


def test_names_that_tell_of_each_other_are_left_out():
    facts = asked()
    facts.loc[3, "hint"] = True
    found = fact_tests.answers(answered(facts, noise()), facts)
    assert len(found.facts) == len(facts) - 1 and 3 not in set(found.facts.row)
    named = pd.DataFrame(
        {"relation": "l", "subject": ["Albania", "Chad"], "object": ["Albanian", "French"]}
    )
    assert signal_inputs._add_choices(named, named).hint.tolist() == [True, False]


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_preferences_alone_show_nothing(level):
    """A model with a taste for answers and for subjects, but for rounding, knows no fact."""
    facts, taste, small = asked(), noise(1), noise(2)

    def score(s, o):
        return 5 * taste("any", o) + 3 * taste(s, "any") + level * small(s, o)

    found = fact_tests.answers(answered(facts, score), facts)
    told = fact_tests.knowledge(found, **FEW)
    assert told.loc["gain", "value"] == told.loc["gain", "high"] == 0
    assert told.loc["first", "value"] == pytest.approx(told.loc["first", "expected"], abs=1e-9)
    assert told.loc["first", "value"] == pytest.approx(1 / 4) and (told.p == 1).all()
    assert fact_tests.beyond(found).mean() == pytest.approx(0, abs=1e-12)
    assert fact_tests.follow(found, **FEW).empty


def test_knowledge_is_seen_and_its_counts_are_too():
    facts, other = asked(), noise(3)
    facts["log2 N(s,o)"] = np.tile(np.arange(24.0), 2)
    known = dict(
        zip(zip(facts.subject, facts.object, strict=True), facts["log2 N(s,o)"], strict=True)
    )

    def score(s, o):
        return known.get((s, o), 0) / 4 - 1 + 0.5 * other(s, o)

    found = fact_tests.answers(answered(facts, score), facts)
    told = fact_tests.knowledge(found, **FEW)
    assert told.p.max() < 0.01 and told.loc["first", "low"] > told.loc["first", "expected"]
    counts = fact_tests.follow(found, **FEW)
    assert counts.loc["N(s,o)", "value"] > 0.7 and counts.loc["N(s,o)", "p"] < 0.01
    assert counts.loc["N(s,o)", "low"] > 0 and counts.loc["P(o|s)", "p"] > 0.01


def test_p_is_that_of_all_dealings():
    facts = asked(n_objects=2, per_object=3, relations=("r",))
    found = fact_tests.answers(answered(facts, noise(5)), facts)
    ((places, own, matrix),) = found.blocks
    apart = matrix - matrix.mean(axis=1, keepdims=True)
    apart = apart - apart.mean(axis=0)
    every = [apart[list(order), own].mean() for order in itertools.permutations(range(6))]
    exact = 2 * min(
        np.mean(np.array(every) >= every[0] - 1e-12), np.mean(np.array(every) <= every[0] + 1e-12)
    )
    values = fact_tests._shuffled(found, np.random.default_rng(0), 4000, fact_tests._centred)
    assert fact_tests._p_value(values.mean(axis=1)) == pytest.approx(min(1, exact), abs=0.04)
    told = fact_tests.knowledge(found, **FEW)
    assert told.loc["gain", "value"] == pytest.approx(apart[range(6), own].mean())


def test_p_keeps_its_level_for_models_that_know_nothing():
    facts = asked()

    def score(seed):
        taste, own = noise(seed), noise(1000 + seed)
        return lambda s, o: 3 * taste("any", o) + own(s, o)

    p = []
    for seed in range(120):
        found = fact_tests.answers(answered(facts, score(seed)), facts)
        options = {"n_shuffles": 99, "n_resamples": 2, "seed": seed}
        p.append(
            [*fact_tests.knowledge(found, **options).p, *fact_tests.follow(found, **options).p]
        )
    shares = (np.array(p) <= 0.1).mean(axis=0)
    # Five standard errors of a share of 0.1 in 120.
    assert (shares < 0.1 + 5 * np.sqrt(0.09 / 120)).all() and shares.mean() > 0.02


def test_rho_is_spearmans_within_relations():
    facts = asked()
    found = fact_tests.answers(answered(facts, noise(6)), facts)
    value = fact_tests.follow(found, **FEW).loc["SMI", "value"]
    one, two = (
        [stats.rankdata(v[facts.relation == r]) - 12.5 for r in ("r", "q")]
        for v in (gains(found), facts["MI"].to_numpy())
    )
    expected = np.corrcoef(np.concatenate(one), np.concatenate(two))[0, 1]
    assert value == pytest.approx(expected, abs=1e-9)


def test_weights_are_whole_subjects_times_whole_objects():
    facts = asked()
    weights = fact_tests.two_way(facts, 50, 0)
    for name in ("subject", "object"):
        other = facts["object" if name == "subject" else "subject"]
        for row in weights[:5]:
            table = pd.DataFrame({"w": row, "a": facts[name], "b": other}).pivot_table(
                "w", "a", "b"
            )
            assert np.linalg.matrix_rank(table.fillna(0)[[*table][:1]]) <= 1
    assert (weights.sum(axis=1) > 0).all()
    assert weights.mean() == pytest.approx(1, abs=0.3)


def test_few_facts_or_answers_carry_no_test():
    facts = asked(n_objects=2, per_object=4)
    told = fact_tests.knowledge(fact_tests.answers(answered(facts, noise()), facts), **FEW)
    assert told.p.isna().all() and "16 facts" in told.why.iloc[0]
    facts, other = asked(), noise(8)
    wrong = dict(zip(facts.subject + facts.relation, facts.object, strict=True))
    raw = answered(facts, lambda s, o: other(s, o) - 9 * (o in (wrong.get(s + o[0]),)))
    counts = fact_tests.follow(fact_tests.answers(raw, facts), **FEW)
    assert counts.p.isna().all() and counts.why.str.contains("of each are needed").all()
    # A masked model may have been asked nothing at all.
    none = fact_tests.answers({"rows": [], "answers": []}, facts)
    assert fact_tests.knowledge(none, **FEW).empty and fact_tests.follow(none, **FEW).empty


def test_answers_that_were_not_asked_are_left_out():
    facts = asked(relations=("r",))
    raw = answered(facts, noise())
    gone = facts.object.iloc[-1]
    rows = [i for i, o in enumerate(facts.object) if o != gone]
    short = [
        [None if o == gone else v for o, v in zip(facts.choices[i], raw["answers"][i], strict=True)]
        for i in rows
    ]
    found = fact_tests.answers({"rows": rows, "answers": short}, facts)
    ((_, _, matrix),) = found.blocks
    assert matrix.shape == (18, 3) and np.isfinite(matrix).all()
