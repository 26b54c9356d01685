import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from experiments import tiny_gpt
from helpers import likelihood
from helpers.modelmap import logit_lens

TEXTS = ["a red fox sees a dog", "the dog", "a fox and a fox and the red dog"]
TOKENIZER = tiny_gpt.word_tokenizer(TEXTS)


def model(kind):
    torch.manual_seed(0)
    n = len(TOKENIZER)
    if kind == "gpt2":
        config = GPT2Config(vocab_size=n, n_positions=32, n_embd=16, n_layer=3, n_head=2)
        return GPT2LMHeadModel(config).eval()
    config = LlamaConfig(
        vocab_size=n,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_last_layer_is_the_model_and_the_others_are_cut_models(kind):
    whole = model(kind)
    found = logit_lens.layer_scores(whole, TOKENIZER, TEXTS)
    assert found.shape == (4, 3) and found.index.name == "layer"
    truth = likelihood.score_texts(whole, TOKENIZER, TEXTS).log_likelihood
    np.testing.assert_allclose(found.loc[3], truth, atol=1e-4)
    # A model that ends after two layers, by taking the third away.
    body = whole.base_model
    name = "h" if kind == "gpt2" else "layers"
    setattr(body, name, getattr(body, name)[:2])
    body.config.num_hidden_layers = 2
    cut = likelihood.score_texts(whole, TOKENIZER, TEXTS).log_likelihood
    np.testing.assert_allclose(found.loc[2], cut, atol=1e-4)
    assert abs(found.loc[2] - found.loc[3]).min() > 1e-3
