"""Models whose positions begin after the padding, and those that set no limit."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    IBertConfig,
    IBertModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
)

from experiments.synthesis import glass_box_world
from helpers import encoding, fine_tuning, glue, reading
from helpers.synthesis import masked_likelihood

LONG = "Bora and Lin met in the harbour of Dare, and spoke for long. " * 20


@pytest.fixture(scope="module")
def tokenizer():
    world = glass_box_world.make_world(16, n_communities=2)
    return glass_box_world.tokenizer(world, size=480, texts=[LONG])


def built(kind, config, tokenizer, **options):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    shape |= {"num_hidden_layers": 1, "vocab_size": len(tokenizer)}
    return kind(config(**shape, **options)).eval()


@pytest.fixture(scope="module")
def roberta(tokenizer):
    options = {"max_position_embeddings": 66, "pad_token_id": 1}
    return built(RobertaForMaskedLM, RobertaConfig, tokenizer, **options)


@pytest.mark.parametrize(
    ("kind", "config", "positions", "said", "most", "wanted"),
    [
        (BertModel, BertConfig, 66, None, None, 66),
        (BertModel, BertConfig, 66, 20, None, 20),
        (BertModel, BertConfig, 66, 20, 5, 5),
        (RobertaModel, RobertaConfig, 66, None, None, 64),
        (RobertaForMaskedLM, RobertaConfig, 66, 10**30, 99, 64),
        (IBertModel, IBertConfig, 66, None, None, 64),
    ],
)
def test_the_room_is_the_least_of_all_limits(
    kind, config, positions, said, most, wanted, tokenizer
):
    options = {"max_position_embeddings": positions, "pad_token_id": 1}
    model = built(kind, config, tokenizer, **options)
    tokenizer.model_max_length, before = said, tokenizer.model_max_length
    assert reading.room(model, tokenizer, most) == wanted
    tokenizer.model_max_length = before


def test_a_model_without_a_limit_reads_all(tokenizer):
    model = built(BertModel, BertConfig, tokenizer)
    model.config.__dict__["max_position_embeddings"] = None
    assert reading.room(model, tokenizer) is None
    assert encoding.layer_embeddings(model, tokenizer, ["Bora"]).shape == (2, 1, 16)
    assert encoding.token_vectors(model, tokenizer, [LONG]).shape == (3, 16)


def test_a_long_text_is_cut_to_the_positions_after_the_padding(tokenizer, roberta):
    assert len(tokenizer(LONG)["input_ids"]) > 66
    found = masked_likelihood.score_texts(roberta, tokenizer, [LONG, "Bora"])
    special = tokenizer.num_special_tokens_to_add()
    assert found.truncated.tolist() == [True, False] and found.n_tokens[0] == 64 - special
    assert np.isfinite(found.log_likelihood).all()
    body = roberta.base_model
    assert encoding.layer_embeddings(body, tokenizer, [LONG]).shape == (2, 1, 16)
    assert encoding.token_vectors(body, tokenizer, [LONG, "Bora met Lin"]).shape == (6, 16)


def test_a_long_text_is_learnt_from_as_far_as_the_positions_go(tokenizer, roberta):
    table = pd.DataFrame({"sentence1": [LONG, "Bora"] * 4, "label": [0, 1] * 4})
    task = glue.Task("toy", table, table, "binary", "accuracy")
    tuned = fine_tuning.fine_tune(
        roberta.base_model, tokenizer, task, steps=1, batch_size=4, max_tokens=256
    )
    assert np.isfinite(tuned.score)


@pytest.mark.parametrize("pad", [None, "<end>"])
def test_rows_are_filled_up_on_the_right(tokenizer, pad):
    tokenizer.pad_token, before = pad, tokenizer.pad_token
    ids, seen = reading.padded([[5, 6, 7], [8]], tokenizer)
    fill = tokenizer.pad_token_id or 0
    assert ids.tolist() == [[5, 6, 7], [8, fill, fill]]
    assert seen.tolist() == [[1, 1, 1], [1, 0, 0]]
    tokenizer.pad_token = before
