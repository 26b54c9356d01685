import numpy as np
import pandas as pd
import pytest

from experiments.retrieval import factbook_semantics


def test_a_fact_is_said_with_its_own_object_first():
    facts = pd.DataFrame({"relation": ["capital"], "subject": ["France"]})
    (row,) = factbook_semantics._statements(facts, [["Paris", "Rome"]])
    assert row == ["The capital of France is Paris.", "The capital of France is Rome."]


def test_closeness_counts_paragraphs_and_ranks_objects():
    paragraphs = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    own, near, far = [1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]
    table = factbook_semantics._closeness(
        [np.array([own, far, near]), np.array([far])], paragraphs, (0.6, 0.7)
    )
    assert table.nearest.tolist() == [1.0, 0.0]
    assert table["close 0.6"].tolist() == [2, 0] and table["close 0.7"].tolist() == [1, 0]
    # One other object is farther, one exactly as near.
    assert table["semantic rank"].tolist() == [0.75, 0.5]


def test_texts_with_words_of_the_same_texts_lie_close():
    corpus = ["rivers carry water", "water flows in rivers", "banks lend money"] * 4
    corpus += ["money buys shares", "shares of banks"] * 4
    paragraphs, (river, bank, unknown) = factbook_semantics._latent_vectors(
        corpus, ["the rivers", "some banks", "xyz"], dimensions=2
    )
    assert np.linalg.norm(paragraphs, axis=1) == pytest.approx(np.ones(len(corpus)), abs=1e-5)
    water, shares = paragraphs[1], paragraphs[-1]
    assert river @ water > 0.9 > river @ shares and bank @ shares > 0.9 > bank @ water
    assert not unknown.any()


def test_the_stored_table_has_every_fact_with_answers_once():
    table = pd.read_csv(factbook_semantics.STORED)
    stored = pd.read_csv(factbook_semantics.factbook_answers.STORED)
    keys = ["relation", "subject"]
    assert not table.duplicated(keys).any()
    assert set(map(tuple, table[keys].to_numpy())) == set(map(tuple, stored[keys].to_numpy()))
    counts = table[["close 0.5", "close 0.6", "close 0.7"]].to_numpy()
    assert (np.diff(counts, axis=1) <= 0).all() and table["semantic rank"].between(0, 1).all()
