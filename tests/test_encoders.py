"""Every encoder and masked model that transformers can build small: padding changes nothing."""

import numpy as np
import pytest
import small_decoders
import torch
import transformers
from transformers.models.auto import modeling_auto

from helpers import encoding, models, reading
from helpers.synthesis import example_models, masked_likelihood, model_kinds

NAMES = sorted(
    {
        *modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        *modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    }
)
# What is no encoder of text by itself, or cannot be built from the shared small sizes.
LEFT_OUT = set(
    """bart emu3 esmc funnel llama4 luke mbart mllama modernvbert mvp neomme perceiver t5gemma
    ultravbert""".split()
)
TEXTS = ["w40 w7 w99 w23 w61", "w18 w65 w44 w80 w101 w33 w9 w50 w77 w28 w12 w55"]
TOKENIZER = small_decoders.tokenizer()
TOKENIZER.add_special_tokens({"mask_token": "w126", "pad_token": "w127"})


def small(name, kind):
    torch.manual_seed(0)
    config = small_decoders.configuration(name)
    config.is_decoder = False
    return getattr(transformers, kind).from_config(config).eval()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LEFT_OUT])
def test_vectors_of_a_text_do_not_hang_on_the_longer_one_beside_it(name):
    model = small(name, "AutoModel")
    model = model.encoder if models.encoder_stands_alone(name) else model
    options = {"tokens_per_sentence": None, "batch_size": 8}
    both = encoding.token_vectors(model, TOKENIZER, TEXTS, **options)
    alone = [encoding.token_vectors(model, TOKENIZER, [text], **options) for text in TEXTS]
    # Float32 sums in another order; what reads the padding is off by a tenth and more.
    np.testing.assert_allclose(both, np.concatenate(alone), rtol=0, atol=1e-3 * np.abs(both).max())
    if name in reading._READ_PADDING:
        mean = encoding.layer_embeddings(model, TOKENIZER, TEXTS)[-1]
        expected = [part.mean(axis=0) for part in alone]
        np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-3 * np.abs(mean).max())


@pytest.mark.parametrize("name", ["bert", *reading._READ_PADDING])
def test_a_masked_model_scores_a_text_as_it_does_alone(name):
    if name not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        pytest.fail("a model that reads padding is listed and has no output over words")
    model = small(name, "AutoModelForMaskedLM")
    both = masked_likelihood.score_texts(model, TOKENIZER, TEXTS).log_likelihood
    alone = [masked_likelihood.score_texts(model, TOKENIZER, [t]).log_likelihood[0] for t in TEXTS]
    assert list(both) == pytest.approx(alone, rel=1e-4)
    prompts = [f"{text} w126" for text in TEXTS]
    filled = masked_likelihood.fill_log_probability(model, TOKENIZER, prompts, ["w5", "w6"])
    for prompt, answer, value in zip(prompts, ["w5", "w6"], filled, strict=True):
        one = masked_likelihood.fill_log_probability(model, TOKENIZER, [prompt], [answer])
        assert one[0] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("lengths", [[3], [5, 1, 5, 2, 9, 1], list(range(1, 40))])
@pytest.mark.parametrize("options", [{"rows": 4}, {"tokens": 20}, {"rows": 3, "tokens": 30}])
def test_batches_hold_every_text_once_within_the_limits(lengths, options):
    found = list(reading.batches(lengths, **options))
    assert sorted(np.concatenate(found)) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[i] for i in batch)
        assert len(batch) <= options.get("rows", np.inf)
        assert len(batch) == 1 or longest * len(batch) <= options.get("tokens", np.inf)
    assert [lengths[i] for batch in found for i in batch] == sorted(lengths)


def test_a_tokenizer_of_another_model_is_refused_with_both_numbers(tmp_path):
    small("bert", "AutoModel").save_pretrained(tmp_path)
    example_models._bytes().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has \d+ tokens, the model vectors for 128"):
        model_kinds.load(model_kinds.look(tmp_path))
