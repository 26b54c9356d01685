"""Two models on strings that one of them wrote: against sums over bytes, and the stored table."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from experiments import byte_gpt
from experiments.modelmap import two_decoders

PROMPT = "the first words"


@pytest.fixture(scope="module")
def byte_models():
    """Two trained GPTs of bytes, with a tokenizer whose tokens are their bytes."""
    import tokenizers

    words = {chr(i): i for i in range(256)} | {"<s>": byte_gpt.START}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(words, []))
    model.decoder = tokenizers.decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="<s>")
    found = {}
    for seed, name in enumerate(two_decoders.NAMES):
        gpt = byte_gpt.new_gpt(width=16, layers=1, seed=seed)
        byte_gpt.train(gpt, [f"{PROMPT} and the rest of them " * 3] * 2, 12, learning_rate=1e-2)
        found[name] = tokenizer, gpt.eval()
    return found


def test_a_continuation_has_the_likelihood_of_its_bytes_after_the_prompt(byte_models, monkeypatch):
    monkeypatch.setattr(two_decoders, "_loaded", byte_models.get)
    texts = [" and then", " x"]
    found = two_decoders.log_likelihoods(PROMPT, texts)
    for name, (_, model) in byte_models.items():
        for text, value in zip(texts, found[name], strict=True):
            ids = torch.tensor([[byte_gpt.START, *(PROMPT + text).encode()]])
            with torch.no_grad():
                table = model(ids).logits[0, :-1].double().log_softmax(dim=1)
            picked = table[torch.arange(len(table)), ids[0, 1:]]
            np.testing.assert_allclose(value, picked[-len(text) :].sum(), atol=1e-4)


def test_only_whole_words_count():
    assert two_decoders._whole_words(" one two thr") == " one two"
    assert two_decoders._whole_words("one two three", 2) == "one two"
    assert two_decoders._whole_words(" one") == ""


def test_what_models_write_is_whole_words_that_all_are_scored_on(byte_models, monkeypatch):
    monkeypatch.setattr(two_decoders, "_loaded", byte_models.get)
    rows = pd.DataFrame(two_decoders.compare_prompt(f"{PROMPT} " * 40, 4, 48))
    assert set(rows.writer) == {*two_decoders.NAMES, "text"}
    assert (rows[["smollm2", "gemma"]] < 0).all(axis=None) and (rows.n_bytes <= 2 * 48).all()


def test_the_paragraphs_are_prose_in_a_fixed_order():
    few, more = two_decoders.prose(4), two_decoders.prose(8)
    assert more[:4] == few and len(set(more)) == 8
    assert all(len(text.split()) >= two_decoders.LEAST for text in more)


def test_the_summary_is_the_mean_ratio_of_what_each_wrote_per_byte():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"writer": np.repeat(["smollm2", "gemma", "text"], 50), "n_bytes": 100})
    rows = rows.assign(smollm2=rng.normal(-70, 9, 150), gemma=rng.normal(-90, 9, 150))
    gap = (rows.smollm2 - rows.gemma).groupby(rows.writer).agg(["mean", "var"]) / 100 / np.log(2)
    found = two_decoders.summary(rows)
    assert found["smollm2"] == pytest.approx(gap["mean"]["smollm2"])
    assert found["gemma"] == pytest.approx(-gap["mean"]["gemma"])
    assert found["texts"] == pytest.approx(gap["var"]["text"] / 2 * 49 / 50)
    assert found["ratio"] == pytest.approx(found["texts"] / found["both"])
    own = (gap["var"]["smollm2"] + gap["var"]["gemma"]) / 4 * 49 / 50
    assert found["own"] == pytest.approx(own)


def test_of_normal_ratios_the_two_estimates_agree():
    """A normal log-ratio of mean k under p has the variance 2k, and the formula holds."""
    rng, k = np.random.default_rng(1), 3.0
    ratio = np.concatenate([rng.normal(m, np.sqrt(2 * k), 20_000) for m in (k, -k, 0)])
    writers = np.repeat(["smollm2", "gemma", "text"], 20_000)
    rows = pd.DataFrame({"writer": writers, "n_bytes": 10, "smollm2": ratio, "gemma": 0.0})
    found = two_decoders.summary(rows)
    assert found["own"] == pytest.approx(found["both"], rel=0.05)
    assert found["ratio"] == pytest.approx(1, abs=0.05)
