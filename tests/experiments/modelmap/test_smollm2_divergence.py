"""Tokens under two causal models, against plain arithmetic, and a family made of tiny ones."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from experiments import byte_gpt
from experiments.modelmap import smollm2_divergence, smollm2_family
from helpers import decoders, likelihood


@pytest.fixture(scope="module")
def models():
    found = []
    for seed in (0, 1):
        found.append(byte_gpt.new_gpt(width=16, layers=1, seed=seed))
        byte_gpt.train(found[-1], ["abracadabra " * 3] * 2, 12, warm_up=2, learning_rate=1e-2)
    return found


def test_tokens_are_compared_by_their_distributions(models):
    ids = np.array([[*b"abra cad"], [*b"bracadab"]])
    found = smollm2_divergence._token_table(*models, [byte_gpt.START], ids)
    for i, row in enumerate(ids):
        with torch.no_grad():
            logits = [m(torch.tensor([[byte_gpt.START, *row]])).logits[0, :-1] for m in models]
        p, q = (table.double().softmax(dim=1).numpy() for table in logits)
        np.testing.assert_allclose(found["there"][i], entropy(p, q, axis=1), atol=1e-5)
        np.testing.assert_allclose(found["back"][i], entropy(q, p, axis=1), atol=1e-5)
        picked = [table[np.arange(len(row)), row] for table in (p, q)]
        np.testing.assert_allclose(found["ratio"][i], np.log(picked[0] / picked[1]), atol=1e-4)


def test_samples_have_the_probabilities_of_the_model(models):
    start = [byte_gpt.START]
    drawn = likelihood.draw_tokens(models[0], start, 2000, 2, seed=1)
    assert drawn.shape == (2000, 2)
    counted = Counter(map(tuple, drawn))
    same = smollm2_divergence._token_table(models[0], models[1], start, drawn[:1])
    assert set(same) == {"there", "back", "ratio"}
    (row, k), *_ = counted.most_common(1)
    p = np.exp(byte_gpt.log_likelihood(models[0], [bytes(map(int, row))])[0])
    assert abs(k / 2000 - p) < 5 * np.sqrt(p * (1 - p) / 2000) + 0.01


def test_the_summary_is_in_bits_per_byte():
    rng = np.random.default_rng(0)
    own = {name: rng.random((20, 8)) for name in ("there", "back", "ratio")}
    found = smollm2_divergence.summary(own, own, 16.0, 32.0, lengths=(2,))
    nats = own["there"].sum(axis=1).mean()
    assert found["true"] == pytest.approx(nats / 16 / np.log(2))
    assert found["own_8"] == pytest.approx(own["ratio"].sum(axis=1).var() / 2 / 16 / np.log(2))
    assert found["texts_2"] == pytest.approx(found["own_2"] / 2)
    assert found["sd_own"] == pytest.approx(own["ratio"].sum(axis=1).std())


def test_a_family_is_compared_in_pieces_that_are_kept(models, monkeypatch, tmp_path):
    loaded = []

    def load(name):
        loaded.append(name)
        return byte_gpt._byte_tokenizer(), models[0]

    monkeypatch.setattr(decoders, "load_causal", load)
    names = ["smollm2-8-bits", "smollm2-3-bits"]
    options = {"names": names, "n": 3, "n_tokens": 24}
    found = smollm2_divergence.family(tmp_path, **options)
    assert list(found.model) == names and list(found.level) == [8, 3]
    assert 0 < found.true[0] < found.true[1] and (found.error > 0).all()
    again = smollm2_divergence.family(tmp_path, **options)
    assert again.equals(found) and loaded == [smollm2_family.PARENT]
    (piece, *_) = tmp_path.glob("*.json")
    whole = piece.read_text()
    for number, damaged in enumerate((whole.replace("0.", "1.", 1), whole[:40])):
        piece.write_text(damaged)
        again = smollm2_divergence.family(tmp_path, **options)
        assert again.equals(found) and len(loaded) == 2 + number and piece.read_text() == whole
    bos = smollm2_divergence.both_ways(8)
    assert list(bos.columns) == ["with_bos", "without", "first", "n_bytes"]
    assert (bos.with_bos != bos.without).all() and (bos["first"] < 0).all()
    layers = smollm2_divergence._by_layer(8)
    assert list(layers.columns) == list(bos.index)
    # The last layer is the model itself, read as its tokenizer does by itself.
    last = layers.iloc[-1].to_numpy()
    assert sum(np.allclose(last, bos[way], atol=1e-3) for way in ("with_bos", "without")) == 1
