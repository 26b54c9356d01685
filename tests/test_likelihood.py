"""Log-likelihoods of texts against the model's own loss, one text at a time."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from helpers import decoders, likelihood, models

TEXTS = [
    "The capital lies on a river.",
    "Rain.",
    "Coffee and cotton are exported in most years, but the harvest of the last one was lost.",
    "Zürich is not the capital of Switzerland, whatever many people think.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return models.load_model()[0]


def tiny(kind: str, tokenizer, **changes):
    """Return a small causal model with random weights."""
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), **changes}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **size)
    else:
        width = {"hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 64}
        config = transformers.LlamaConfig(
            num_hidden_layers=2, num_attention_heads=2, **width, **size
        )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def one_by_one(model, rows):
    """Return the sum of the log-likelihoods of the tokens after the first of each row."""
    found = []
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            logits = model(input_ids=ids).logits.double()
        scores = torch.log_softmax(logits[0, :-1], dim=1)
        found.append([scores[i, row[i + 1]].item() for i in range(len(row) - 1)])
    return found


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_scores_are_the_sums_of_the_models_own_log_probabilities(kind, tokenizer):
    model = tiny(kind, tokenizer)
    table = likelihood.score_texts(model, tokenizer, TEXTS)
    rows = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    expected = one_by_one(model, rows)
    assert table["log_likelihood"].to_numpy() == pytest.approx([sum(e) for e in expected], abs=1e-3)
    assert table["first_token_log_likelihood"].isna().all()
    assert table["n_tokens"].tolist() == [len(row) for row in rows]
    assert table["n_bytes"].tolist() == [len(text.encode()) for text in TEXTS]
    assert not table["truncated"].any() and table.attrs["bos"] is None
    tokens = sum(len(row) - 1 for row in rows)
    mean = sum(map(sum, expected)) / tokens
    assert likelihood.perplexity(table) == pytest.approx(np.exp(-mean), rel=1e-5)


def test_the_models_loss_is_the_mean_of_one_text(tokenizer):
    model = tiny("gpt2", tokenizer)
    ids = torch.tensor([tokenizer(TEXTS[2], add_special_tokens=False)["input_ids"]])
    loss = model(input_ids=ids, labels=ids).loss.item()
    table = likelihood.score_texts(model, tokenizer, TEXTS[2:3])
    assert np.log(likelihood.perplexity(table)) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("setting", [{"batch_tokens": 1}, {"batch_tokens": 40}, {"head_rows": 3}])
def test_batches_and_pieces_of_the_head_change_nothing(setting, tokenizer):
    model = tiny("llama", tokenizer)
    whole = likelihood.score_texts(model, tokenizer, TEXTS)
    pieces = likelihood.score_texts(model, tokenizer, TEXTS, **setting)
    pd.testing.assert_frame_equal(whole, pieces, atol=1e-3, rtol=0)


def test_a_bos_scores_the_first_token_apart(tokenizer):
    model, tokenizer = tiny("gpt2", tokenizer), copy.deepcopy(tokenizer)
    tokenizer.bos_token = "[CLS]"
    table = likelihood.score_texts(model, tokenizer, TEXTS, bos="add")
    rows = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    expected = one_by_one(model, [[tokenizer.cls_token_id, *row] for row in rows])
    first = [scores[0] for scores in expected]
    rest = [sum(scores[1:]) for scores in expected]
    assert table["first_token_log_likelihood"].to_numpy() == pytest.approx(first, abs=1e-4)
    assert table["log_likelihood"].to_numpy() == pytest.approx(rest, abs=1e-3)
    assert table["n_tokens"].tolist() == [len(row) for row in rows]
    assert table.attrs["bos"] == "[CLS]"
    # This tokenizer begins every text with [CLS] by itself.
    usual = likelihood.score_texts(model, tokenizer, TEXTS)
    pd.testing.assert_frame_equal(usual, table)
    assert likelihood.score_texts(model, tokenizer, TEXTS, bos="none").attrs["bos"] is None


def test_a_body_with_tied_embeddings_needs_no_head(tokenizer):
    model = tiny("gpt2", tokenizer)
    whole = likelihood.score_texts(model, tokenizer, TEXTS)
    body = likelihood.score_texts(model.base_model, tokenizer, TEXTS)
    pd.testing.assert_frame_equal(whole, body)
    loose = tiny("llama", tokenizer, tie_word_embeddings=False)
    assert likelihood.score_texts(loose, tokenizer, TEXTS[:1]).notna()["log_likelihood"].all()
    with pytest.raises(ValueError, match="AutoModelForCausalLM"):
        likelihood.score_texts(loose.base_model, tokenizer, TEXTS)


def test_long_texts_are_cut_and_say_so(tokenizer):
    model = tiny("gpt2", tokenizer)
    table = likelihood.score_texts(model, tokenizer, TEXTS, max_tokens=7)
    assert table["truncated"].tolist() == [False, False, True, True]
    assert table["n_tokens"].max() == 7
    cut = [row[:7] for row in tokenizer(TEXTS, add_special_tokens=False)["input_ids"]]
    expected = [sum(scores) for scores in one_by_one(model, cut)]
    assert table["log_likelihood"].to_numpy() == pytest.approx(expected, abs=1e-3)
    long = likelihood.score_texts(model, tokenizer, ["rain and sun " * 60])
    assert long["truncated"].item() and long["n_tokens"].item() == 64


def test_the_mode_of_the_model_is_kept(tokenizer):
    model = tiny("gpt2", tokenizer).train()
    first = likelihood.score_texts(model, tokenizer, TEXTS)
    pd.testing.assert_frame_equal(first, likelihood.score_texts(model, tokenizer, TEXTS))
    assert model.training


RESCALED = {
    "Gemma2": {"final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    "Cohere": {"logit_scale": 0.25},
    "Cohere2": {"logit_scale": 0.25},
    "Granite": {"logits_scaling": 6.0},
    "GraniteMoe": {"logits_scaling": 6.0, "num_local_experts": 2},
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", RESCALED)
def test_rescaled_logits_are_those_of_the_model(name, tied, tokenizer):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": len(tokenizer)}
    options = {"initializer_range": 0.5, "tie_word_embeddings": tied, "pad_token_id": 0}
    if name == "Gemma2":
        sizes["head_dim"] = 8
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes, **options, **RESCALED[name])
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    found = likelihood.score_texts(model, tokenizer, TEXTS)
    for text, value in zip(TEXTS, found.log_likelihood, strict=True):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1].double()
        wanted = torch.log_softmax(logits, 1).gather(1, ids[0, 1:, None]).sum()
        assert value == pytest.approx(float(wanted), rel=1e-4)
    # The setting matters, or the test would not see that it is left out.
    states, decoder = torch.randn(4, 32), decoders.prove(model)
    with torch.inference_mode():
        own, plain = decoder.logits(states), model.get_output_embeddings()(states)
    assert not torch.allclose(plain, own, atol=0.1)


def test_a_type_that_is_causal_by_name_only_is_refused():
    with pytest.raises(ValueError, match="sees the tokens to come"):
        decoders.check_causal(transformers.XLNetConfig())


def test_bad_input_is_named(tokenizer):
    model = tiny("gpt2", tokenizer)
    for texts in ([], "one string"):
        with pytest.raises(ValueError, match="texts is empty"):
            likelihood.score_texts(model, tokenizer, texts)
    with pytest.raises(ValueError, match=r"texts\[1\] has no tokens"):
        likelihood.score_texts(model, tokenizer, ["rain", ""])
    with pytest.raises(ValueError, match="no BOS token"):
        likelihood.score_texts(model, tokenizer, TEXTS, bos="add")
    for setting in ({"bos": "never"}, {"batch_tokens": 0}, {"head_rows": 0}, {"max_tokens": 1}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            likelihood.score_texts(model, tokenizer, TEXTS, **setting)
    with pytest.raises(ValueError, match="sees the tokens to come"):
        likelihood.score_texts(models.load_model()[1], tokenizer, TEXTS)


def test_encoders_are_told_from_decoders(tokenizer):
    assert decoders.is_causal(tiny("gpt2", tokenizer))
    assert decoders.is_causal(tiny("llama", tokenizer).base_model)
    encoder = models.load_model()[1]
    assert not decoders.is_causal(encoder)


def test_drawing_reads_the_model_without_dropout_and_leaves_it_as_it_was(tokenizer):
    model = tiny("gpt2", tokenizer)
    calm = likelihood.draw_tokens(model.eval(), [0], 20, 8, seed=3)
    model.train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert np.array_equal(likelihood.draw_tokens(model, [0], 20, 8, seed=3), calm)
    assert model.training and torch.equal(torch.get_rng_state(), before)
