from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import ngrams
from helpers import text_sets

DOCUMENTS = ["abracadabra abracadabra", "a bra, a cad", "żółw 亀", "x", "zero \0\0 bytes"]
some_texts = st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=6)


def naive(documents, order, text):
    """Witten and Bell with dictionaries, one byte at a time: probabilities of the text's bytes."""
    counts = [Counter() for _ in range(order + 1)]
    for document in documents:
        padded = bytes(7) + document
        for i in range(7, len(padded)):
            for k in range(order + 1):
                counts[k][padded[i - k : i], padded[i]] += 1
    padded, found = bytes(7) + text, []
    for i in range(7, len(padded)):
        p = 1 / 256
        for k in range(order + 1):
            after = [n for (c, _), n in counts[k].items() if c == padded[i - k : i]]
            if after:
                here = counts[k][padded[i - k : i], padded[i]]
                p = (here + len(after) * p) / (sum(after) + len(after))
        found.append(p)
    return np.array(found)


@given(some_texts, some_texts, st.integers(0, 7))
def test_it_is_witten_and_bell(documents, texts, order):
    model = ngrams.fit(documents, order)
    expected = [np.log(naive(documents, order, text)) for text in texts]
    np.testing.assert_allclose(
        ngrams._byte_log_likelihoods(model, texts), np.concatenate(expected), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        ngrams.log_likelihood(model, texts), [e.sum() for e in expected], rtol=1e-12, atol=1e-14
    )
    assert model.n_bytes == sum(map(len, documents))


@given(some_texts, some_texts, st.integers(0, 7))
def test_the_next_bytes_add_up_to_one_and_agree_with_the_score(documents, texts, order):
    model = ngrams.fit(documents, order)
    tables = ngrams.conditionals(model, texts, rows=7)
    assert [len(table) for table in tables] == [len(text) for text in texts]
    joined = np.concatenate(tables)
    np.testing.assert_allclose(joined.sum(axis=1), 1, rtol=1e-12)
    values = np.frombuffer(b"".join(texts), np.uint8)
    np.testing.assert_allclose(
        np.log(joined[np.arange(len(values)), values]),
        ngrams._byte_log_likelihoods(model, texts),
        rtol=1e-10,
        atol=1e-14,
    )


def test_orders_share_their_counts():
    model = ngrams.fit(DOCUMENTS, 7)
    together = ngrams._by_order(model, DOCUMENTS)
    for order in range(8):
        alone = ngrams.log_likelihood(ngrams.fit(DOCUMENTS, order), DOCUMENTS)
        np.testing.assert_array_equal(together[order], alone)
        same = ngrams.log_likelihood(model.restrict(order), DOCUMENTS)
        np.testing.assert_array_equal(same, alone)


def test_samples_have_the_probabilities_of_the_model():
    model = ngrams.fit(["abab", "abba", "b"], 2)
    n = 20_000
    drawn = ngrams.sample(model, n, 3, seed=1)
    # Bytes that were never counted are drawn too, with the share left to them.
    counted = Counter(text for text in drawn if set(text) <= set(b"ab"))
    expected = {text: np.exp(ngrams.log_likelihood(model, [text])[0]) for text in counted}
    assert len(counted) == 8
    for text, p in expected.items():
        assert abs(counted[text] / n - p) < 4 * np.sqrt(p * (1 - p) / n), text
    inside = sum(expected.values())
    assert abs(sum(counted.values()) / n - inside) < 4 * np.sqrt(inside * (1 - inside) / n)
    assert drawn == ngrams.sample(model, n, 3, seed=1) != ngrams.sample(model, n, 3, seed=2)


def test_a_model_prefers_what_it_was_trained_on():
    texts = text_sets.training_texts("python", 60_000)
    model = ngrams.fit(texts[:40], 5)
    seen, new = texts[0].encode(), texts[45].encode()
    strange = np.random.default_rng(0).permutation(np.frombuffer(new, np.uint8)).tobytes()
    a, b, c = ngrams.log_likelihood(model, [seen, new, strange]) / [len(seen), len(new), len(new)]
    assert a > b > c


@pytest.fixture(scope="module")
def small_zoo():
    texts = text_sets.load_texts(32, genres=["python", "c++"])
    made = ngrams.zoo(texts, corpora=["python", "c++"], sizes=[3_000, 30_000], orders=[1, 3])
    return texts, made


def test_the_zoo_carries_its_truth_in_names_and_table(small_zoo):
    texts, (found, models) = small_zoo
    assert found.shape == (8, 32) and list(found.columns) == list(texts.index)
    assert list(found.index) == list(models.model)
    assert list(models.model[:3]) == [
        "ngram-python-3k-o1",
        "ngram-python-3k-o3",
        "ngram-python-30k-o1",
    ]
    assert models.loc[7].to_dict() == {
        "model": "ngram-c++-30k-o3",
        "corpus": "c++",
        "n_bytes": 30_000,
        "order": 3,
    }


def test_the_zoo_scores_what_fit_and_log_likelihood_do_and_trains_on_no_test_text(small_zoo):
    texts, (found, _) = small_zoo
    documents = text_sets.training_texts("c++", 30_000, without=texts.text)
    assert not set(documents) & set(texts.text)
    model = ngrams.fit(ngrams.cut(documents, 30_000), 3)
    expected = ngrams.log_likelihood(model, list(texts.text))
    np.testing.assert_array_equal(found.loc["ngram-c++-30k-o3"], expected)
    own = texts.genre == "c++"
    assert (expected[own] / texts.n_bytes[own]).mean() > (
        expected[~own] / texts.n_bytes[~own]
    ).mean()


def test_there_are_312_models_by_default():
    assert sum(map(len, ngrams.SIZES.values())) * 8 == 312


def test_cut_takes_a_beginning():
    assert ngrams.cut(["abc", b"def", "ghi"], 5) == [b"abc", b"de"]
    assert ngrams.cut(["abc"], 3) == [b"abc"]
    with pytest.raises(ValueError, match="n_bytes is 4 but documents has 3 bytes"):
        ngrams.cut(["abc"], 4)


def few_texts():
    return text_sets.load_texts(8, genres=["c++"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text_sets.training_texts("slavic", 10**6), "n_bytes asks for 1000000 bytes"),
    ],
)
def test_bad_requests_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
