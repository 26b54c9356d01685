"""Facts of the Factbook's fields, the questions about them, and what a corpus says of them."""

import re

import numpy as np
import pandas as pd
import pytest

from helpers.retrieval import factbook_facts, smi


@pytest.fixture(scope="module")
def facts():
    return factbook_facts.facts()


def test_there_are_many_facts_of_several_relations_each_asked_once(facts):
    assert set(facts.relation) == set(factbook_facts.TEMPLATES)
    assert len(facts) > 1000 and facts.relation.value_counts().min() > 100
    assert not facts.duplicated(["relation", "subject"]).any()
    assert facts.index.tolist() == list(range(len(facts)))


@pytest.mark.parametrize(
    ("relation", "subject", "name"),
    [
        ("capital", "France", "Paris"),
        ("capital", "United States", "Washington"),
        ("capital", "Bolivia", "La Paz"),
        ("language", "Brazil", "Portuguese"),
        ("language", "Iran", "Persian"),
        ("neighbour", "Canada", "United States"),
        ("neighbour", "Portugal", "Spain"),
        ("region", "Kenya", "Africa"),
        ("religion", "Poland", "Catholic"),
        ("ruler", "Algeria", "France"),
        ("ruler", "Estonia", "Soviet Union"),
        ("currency", "Denmark", "krone"),
        ("currency", "Algeria", "dinar"),
        ("peak", "Nepal", "Mount Everest"),
    ],
)
def test_facts_are_those_that_anybody_would_read_from_the_book(facts, relation, subject, name):
    row = facts[(facts.relation == relation) & (facts.subject == subject)]
    assert row.object.tolist() == [name]


def test_names_are_clean(facts):
    for name in [*facts.subject, *facts.object]:
        assert re.fullmatch(r"\w[\w.'’ -]*", name) and not re.search(r"\d|^(the|none) ", name), name
        assert name == name.strip() and len(name.split()) <= 8
    assert not {"none", "other", "unspecified", "World", "Antarctica"} & set(facts.subject)


def test_marks_are_those_of_the_strings(facts):
    for row in facts.itertuples():
        assert row.leak == (row.object in row.subject or row.subject in row.object)
    marked = facts.set_index(["relation", "subject"])
    assert marked.leak["language", "Vietnam"] and marked.hint["language", "Vietnam"]
    assert marked.hint["language", "Turkey"] and not marked.leak["language", "Brazil"]
    assert not marked.hint["capital", "France"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("the UK", "United Kingdom"),
        ("Congo (Brazzaville)", "Congo"),
        ("Bangui; note - a city", "Bangui"),
        ("The Bahamas", "Bahamas"),
        ("none", ""),
        ("no official capital", ""),
        ("", ""),
        ("Area 51", ""),
        ("Côte d'Ivoire", "Côte d'Ivoire"),
    ],
)
def test_clean_name(text, name):
    assert factbook_facts._clean_name(text) == name


def test_every_relation_has_five_questions_that_end_where_the_answer_begins():
    for forms in factbook_facts.TEMPLATES.values():
        assert len(set(forms)) == 5
        for text in forms:
            assert text.count("{s}") == 1 and text == text.strip()


def test_questions_and_answers_take_their_articles():
    ask = factbook_facts.prompts
    assert ask(["capital"], ["Netherlands"], 0) == ["The capital of the Netherlands is"]
    assert ask(["region"], ["Gambia"], 0) == ["The Gambia is located in"]
    assert factbook_facts.answers(["France", "Soviet Union"]) == [" France", " the Soviet Union"]


def test_draws_are_nested_and_repeat(facts):
    few, many = (factbook_facts.draw_facts(facts, n, seed=3) for n in (10, 50))
    pd.testing.assert_frame_equal(few, many[:10])
    assert len(factbook_facts.draw_facts(facts, 10**6)) == len(facts)


def test_choices_begin_with_the_truth_and_do_not_hang_on_other_rows(facts):
    rows = factbook_facts.draw_facts(facts, 40)
    ours = factbook_facts.choices(facts, rows, most=8)
    for row, names in zip(rows.itertuples(), ours, strict=True):
        known = set(facts[facts.relation == row.relation].object)
        assert names[0] == row.object and len(names) == len(set(names)) == min(8, len(known))
        assert set(names) <= known
    assert factbook_facts.choices(facts, rows[5:9], most=8) == ours[5:9]
    assert factbook_facts.choices(facts, rows, most=8, seed=1) != ours


def test_counts_are_those_of_a_loop(facts):
    texts = list(factbook_facts.paragraphs())[:3000]
    few = factbook_facts.draw_facts(facts, 60)
    ours = factbook_facts.count_facts(few, texts)
    assert (ours.n_documents == 3000).all() and ours.n_both.sum() > 0
    for row in ours.itertuples():
        s, o = ([f" {name}" in t for t in texts] for name in (row.subject, row.object))
        assert (row.n_subject, row.n_object) == (sum(s), sum(o))
        assert row.n_both == sum(a and b for a, b in zip(s, o, strict=True))


def test_paragraphs_are_plain_and_named_ones_name_their_country():
    plain, named = (list(factbook_facts.paragraphs(named=n)) for n in (False, True))
    assert len(plain) == len(named) > 20_000
    assert not any(re.search(r"<br|&nbsp;|\n", text) for text in plain)
    assert min(len(text.split()) for text in plain) >= 5
    assert all(long.endswith(short) for short, long in zip(plain, named, strict=True))
    assert sum(text.startswith(" France: ") for text in named) > 50


def test_signals_follow_from_the_counts():
    table = pd.DataFrame(
        {"n_documents": 100, "n_subject": [10, 4], "n_object": [20, 7], "n_both": [5, 0]}
    )
    ours = factbook_facts.add_signals(table)
    np.testing.assert_allclose(ours["log2 N(s,o)"], [np.log2(6), 0])
    np.testing.assert_allclose(ours["MI"], smi.facts_information(table))
    np.testing.assert_allclose(ours["P(o|s)"], [5.5 / 11, 0.5 / 5])
    np.testing.assert_allclose(ours["PMI"], np.log2([5.5 * 100 / (11 * 21), 0.5 * 100 / (5 * 8)]))
    assert not table.columns.isin(ours.columns[4:]).any()
