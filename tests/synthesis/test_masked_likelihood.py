import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from experiments.synthesis import glass_box_world
from helpers.synthesis import masked_likelihood

TEXTS = ["Bora speaks.", "Bora and Lin met in the harbour of Dare, and spoke for long.", "No"]


@pytest.fixture(scope="module")
def tokenizer():
    world = glass_box_world.make_world(16, n_communities=2)
    return glass_box_world.tokenizer(world, size=480, texts=[*TEXTS, "the harbour of Dare"])


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    return BertForMaskedLM(config).eval()


def one_at_a_time(model, tokenizer, text, most=None):
    ids = torch.tensor(tokenizer(text)["input_ids"][:most])
    total = 0.0
    for place in range(1, len(ids)):
        hidden = ids.clone()
        hidden[place] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(hidden[None]).logits[0, place].double()
        total += float(logits.log_softmax(-1)[ids[place]])
    return total


def test_with_a_long_stride_each_token_is_hidden_alone(model, tokenizer):
    found = masked_likelihood.score_texts(model, tokenizer, TEXTS, every=64)
    naive = [one_at_a_time(model, tokenizer, text) for text in TEXTS]
    assert found.log_likelihood.to_numpy() == pytest.approx(naive, abs=1e-4)
    plain = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    assert found.n_tokens.tolist() == [len(ids) for ids in plain]
    assert found.n_bytes.tolist() == [len(text) for text in TEXTS]
    assert not found.truncated.any()


def test_with_a_short_stride_tokens_are_hidden_together(model, tokenizer):
    ids = torch.tensor(tokenizer(TEXTS[1])["input_ids"])
    total = 0.0
    for first in range(3):
        places = torch.arange(1 + first, len(ids), 3)
        hidden = ids.clone()
        hidden[places] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(hidden[None]).logits[0, places].double()
        total += float(logits.log_softmax(-1).gather(1, ids[places][:, None]).sum())
    found = masked_likelihood.score_texts(model, tokenizer, TEXTS[1:2], every=3)
    assert found.log_likelihood[0] == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 50, 10_000])
def test_batches_change_nothing(model, tokenizer, batch_tokens):
    one = masked_likelihood.score_texts(model, tokenizer, TEXTS)
    other = masked_likelihood.score_texts(model, tokenizer, TEXTS, batch_tokens=batch_tokens)
    assert other.log_likelihood.to_numpy() == pytest.approx(one.log_likelihood, abs=1e-4)


def test_long_texts_are_cut_and_said_to_be(model, tokenizer):
    assert not masked_likelihood.score_texts(model, tokenizer, TEXTS).truncated.any()
    long = masked_likelihood.score_texts(model, tokenizer, ["Bora " * 100])
    assert long.truncated[0] and long.n_tokens[0] == 63


def test_the_mode_of_the_model_stays(model, tokenizer):
    model.train()
    masked_likelihood.score_texts(model, tokenizer, TEXTS)
    assert model.training
    model.eval()


def test_a_mask_is_filled_by_the_softmax_at_its_place(model, tokenizer):
    prompts = ["Bora speaks[MASK].", "In the harbour of[MASK] they met and spoke for long"]
    found = masked_likelihood.fill_log_probability(
        model, tokenizer, prompts, ["B", "D"], temperature=0.7
    )
    for prompt, answer, value in zip(prompts, ["B", "D"], found, strict=True):
        ids = torch.tensor(tokenizer(prompt)["input_ids"])
        place = int(torch.where(ids == tokenizer.mask_token_id)[0])
        with torch.no_grad():
            logits = model(ids[None]).logits[0, place].double() / 0.7
        token = tokenizer(answer, add_special_tokens=False)["input_ids"][0]
        assert value == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-5)
    together = masked_likelihood.fill_log_probability(
        model, tokenizer, prompts, ["B", "D"], temperature=0.7
    )
    assert np.allclose(together, found, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": []}, "texts is empty"),
        ({"texts": "one text"}, "texts is empty or one string"),
        ({"texts": ["a", ""]}, r"texts\[1\] has no tokens"),
    ],
)
def test_bad_texts_are_refused_by_name(model, tokenizer, changes, message):
    options = {"texts": TEXTS, **changes}
    with pytest.raises(ValueError, match=message):
        masked_likelihood.score_texts(model, tokenizer, options.pop("texts"), **options)


@pytest.mark.parametrize(
    ("prompts", "answers", "temperature", "message"),
    [
        (["a[MASK]"], ["Bora xyz"], 1, "not one token"),
        (["a"], ["B"], 1, r"put \[MASK\] in it once"),
        (["[MASK][MASK]"], ["B"], 1, r"put \[MASK\] in it once"),
    ],
)
def test_bad_prompts_are_refused_by_name(model, tokenizer, prompts, answers, temperature, message):
    with pytest.raises(ValueError, match=message):
        masked_likelihood.fill_log_probability(
            model, tokenizer, prompts, answers, temperature=temperature
        )


def test_models_without_masks_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="model is a BertModel"):
        masked_likelihood.score_texts(BertModel(model.config), tokenizer, TEXTS)
    from experiments import byte_gpt

    with pytest.raises(ValueError, match="tokenizer has no mask token"):
        masked_likelihood.score_texts(model, byte_gpt._byte_tokenizer(), TEXTS)
