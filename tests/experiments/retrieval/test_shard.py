import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments.retrieval import shard
from helpers import data
from helpers.retrieval import counting

SUBJECTS, OBJECTS = ([f"{kind}{i}q" for i in range(60)] for kind in "so")
PAIRS = list(zip(SUBJECTS, OBJECTS, strict=True))


def write(n, seed, order=slice(None)):
    """Return documents with names at rates from one in two to one in a hundred."""
    rng, rates = np.random.default_rng(seed), np.geomspace(0.01, 0.5, 60)[order]
    drawn = rng.random((n, 2, 60)) < rates
    names = np.array([SUBJECTS, OBJECTS])
    return [f"in {' '.join(names[held])}" for held in drawn]


@pytest.fixture(scope="module")
def corpus():
    table = counting.count_documents(write(4000, seed=0), PAIRS).table
    return table.assign(n_documents=4000)


def test_a_random_shard_ranks_as_random_documents_do(corpus):
    some = write(250, seed=1)
    found = shard.agreement(some, corpus, 250)
    counts = counting.count_documents(some, PAIRS).table
    for what, column in (("objects", "n_object"), ("subjects", "n_subject"), ("facts", "n_both")):
        row = found.loc[what]
        assert row.names == 60 and row.found == (counts[column] > 0).sum()
        assert row.shard == pytest.approx(spearmanr(counts[column], corpus[column]).statistic)
        assert row.low < 0 < row.high and row.gain == pytest.approx(row.shard - row.random)
        assert row.high - row.low < 0.3
    needed = shard.agreement(some, corpus, 20).needed
    assert 20 < needed["objects"] < needed["facts"] < 4000


def test_other_text_ranks_worse(corpus):
    found = shard.agreement(write(250, seed=2, order=slice(None, None, -1)), corpus, 250)
    assert (found.high < 0).all() and (found["shard"] < 0).all()


def test_text_without_a_name_ranks_nothing(corpus):
    found = shard.agreement(["nothing here", "nor here", "nor there"], corpus, 250)
    assert (found["shard"] == 0).all() and (found.found == 0).all()


def test_articles_are_cut_at_their_titles(monkeypatch, tmp_path):
    path = tmp_path / "test.txt"
    path.write_text(" \n = One = \n \n First . \n = = Part = = \n More . \n = Two = \n Second . \n")
    monkeypatch.setattr(data, "fetch", lambda key: path)
    one, two = shard.articles()
    assert "First" in one and "More" in one and "Second" in two
