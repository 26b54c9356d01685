"""Scores and answers of every causal architecture against the model's own logits."""

import itertools
from functools import lru_cache

import numpy as np
import pytest
import small_decoders
import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from helpers import decoders, likelihood
from helpers.retrieval import closed_book

# Logits are float32: a path that adds in another order is off by 1e-6 of them, and a score is a sum
# of a dozen. What is left out of an output is off by a hundredth and more.
CLOSE = {"rel": 1e-4, "abs": 1e-4}
# Those that keep no cache, or one from which a text cannot go on by several tokens: answers are
# read anew with their prompts. Every other is read from its prompts' cache.
WITHOUT_CACHE = (
    "bailing_hybrid bamba blt deepseek_v4 falcon_h1 falcon_mamba granitemoehybrid inkling2_text "
    "inkling_text jamba kimi_linear lfm2 lfm2_moe lfm3 mamba mamba2 moshi nemotron_h olmo_hybrid "
    "openai-gpt qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_next qwen4_exp "
    "qwen4_exp_text recurrent_gemma reformer rwkv xlstm zamba zamba2 zaya"
).split()
# These do not run with the cache that they make for themselves.
NO_DEFAULT_CACHE = ("blt", "prophetnet")
TOKENIZER = small_decoders.tokenizer()
TEXTS = ["w40 w7 w99 w23 w23 w61 w84 w12 w55 w70 w31 w90", "w18 w65 w44 w80 w101 w33 w9"]
PROMPTS = ["w40 w7 w99 w23 w61 w84", "w18 w65 w44 w80 w101 w33"]
ANSWERS = [[" w50 w77 w28", " w50", " w20 w93"], [" w77 w20 w62 w11"]]

build = lru_cache(None)(small_decoders.build)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Read on one thread: several take ten times as long for models as small as these."""
    before = torch.get_num_threads()
    # Set again, it makes a pool that forked pages cannot use.
    if before != 1:
        torch.set_num_threads(1)
    yield
    if before != 1:
        torch.set_num_threads(before)


def logits(model, ids):
    """Return what the model itself returns for one row of tokens, in float64."""
    options = {"use_cache": False} if model.config.model_type in NO_DEFAULT_CACHE else {}
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), **options).logits[0].double()


def own_score(model, ids, first=1):
    """Return the log-likelihood of the tokens from number `first` on."""
    scores = logits(model, ids).log_softmax(dim=1)
    return sum(scores[at - 1, ids[at]].item() for at in range(first, len(ids)))


def ids_of(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", small_decoders.BUILT)
def test_scores_are_those_of_the_models_own_logits(name):
    model = build(name)
    found = likelihood.score_texts(model, TOKENIZER, TEXTS, head_rows=5)
    expected = [own_score(model, ids_of(text)) for text in TEXTS]
    assert found.log_likelihood.tolist() == pytest.approx(expected, **CLOSE)
    # Far from chance, or nothing would be seen of an output that is made too even.
    assert abs(expected[0] + 11 * np.log(small_decoders.WORDS)) > 0.01
    # None of them has to be read whole: their memory is bounded.
    assert decoders.prove(model).body is not None


@pytest.mark.parametrize("name", small_decoders.BUILT)
def test_answers_are_those_of_whole_passes(name):
    model = build(name)
    found = closed_book.answer_log_probability(model, TOKENIZER, PROMPTS, ANSWERS)
    expected = [
        own_score(model, ids_of(prompt + answer), len(ids_of(prompt)))
        for prompt, answers in zip(PROMPTS, ANSWERS, strict=True)
        for answer in answers
    ]
    assert found.log_probability.tolist() == pytest.approx(expected, **CLOSE)
    assert decoders.prove(model).cached == (name not in WITHOUT_CACHE)


LONGROPE = small_decoders.longrope
PHIMOE = {"short_mscale": 1.0, "long_mscale": 1.2}
# Architecture, what is changed, its window in tokens, and whether rows may be padded, and go on
# from a cache. Longer windows than 128 are not tried: rows that pass them are read alone.
WINDOWS = [
    ("mistral", {"sliding_window": 9}, 9, True, True),
    ("gemma3_text", {"sliding_window": 9}, 9, True, True),
    ("gpt_oss", {"sliding_window": 130}, 130, True, True),
    ("moshi", {"sliding_window": 9}, 9, True, False),
    ("llama4_text", {"attention_chunk_size": 9}, 9, True, True),
    ("axk2", {"index_topk": 9}, 9, True, True),
    ("deepseek_v32", {"index_topk": 9}, 9, True, True),
    ("hy_v4", {"index_topk": 9}, 9, True, True),
    ("llama", LONGROPE(9), 9, False, False),
    ("phi3", {**LONGROPE(9), "original_max_position_embeddings": 9}, 9, False, False),
    ("phimoe", LONGROPE(9, **PHIMOE), 9, False, False),
    ("llama", LONGROPE(130), 130, True, True),
]


@pytest.mark.parametrize(("name", "changes", "window", "padded", "cached"), WINDOWS)
def test_no_window_of_a_configuration_changes_a_score(name, changes, window, padded, cached):
    model = small_decoders.build(name, max_position_embeddings=256, **changes)
    words = np.random.default_rng(5).integers(5, 119, window + 30)
    drawn = [f"w{i}" for i in words]
    texts = [" ".join(drawn[:n]) for n in (window + 30, window + 14, 6)]
    found = likelihood.score_texts(model, TOKENIZER, texts, batch_tokens=1024)
    expected = [own_score(model, ids_of(text)) for text in texts]
    assert found.log_likelihood.tolist() == pytest.approx(expected, **CLOSE)
    # One answer passes the end of the window, and others begin behind it.
    prompts = [" ".join(drawn[:n]) for n in (window - 2, window + 9)]
    answers = [[" w7 w99 w23 w61"], [" w8 w9"]]
    found = closed_book.answer_log_probability(model, TOKENIZER, prompts, answers)
    expected = []
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        ids, n = ids_of(prompt + answer), len(ids_of(prompt))
        # The first token is read from the prompt alone, and with longrope its length counts.
        scores = [logits(model, part).log_softmax(dim=1) for part in (ids[:n], ids[:-1])]
        rest = [scores[1][at - 1, ids[at]] for at in range(n + 1, len(ids))]
        expected.append(float(scores[0][-1, ids[n]] + sum(rest)))
    assert found.log_probability.tolist() == pytest.approx(expected, **CLOSE)
    ways = decoders.prove(model)
    assert (ways.padded, ways.cached) == (padded, cached)


@pytest.mark.parametrize("name", ["llama", "mamba", "recurrent_gemma"])
def test_cold_samples_and_draws_follow_the_models_own_logits(name):
    model, ids = build(name), ids_of(PROMPTS[0])
    for _ in range(3):
        ids.append(int(logits(model, ids)[-1].argmax()))
    (texts,) = closed_book.sample_continuations(
        model, TOKENIZER, PROMPTS[:1], n=2, temperature=1e-4, max_new_tokens=3
    )
    assert texts == 2 * [TOKENIZER.decode(ids[-3:])]
    n = 3000
    drawn = likelihood.draw_tokens(model, ids[:4], n, 2, seed=1)
    first = logits(model, ids[:4])[-1].softmax(dim=0)
    second = logits(model, [*ids[:4], int(first.argmax())])[-1].softmax(dim=0)
    rows = drawn[drawn[:, 0] == int(first.argmax())]
    for tokens, chances in ((drawn[:, 0], first.numpy()), (rows[:, 1], second.numpy())):
        shares = np.bincount(tokens, minlength=len(chances)) / len(tokens)
        assert len(tokens) > 50
        assert np.abs(shares - chances).max() < 4 * np.sqrt(0.25 / len(tokens))


@pytest.mark.parametrize("name", small_decoders.NOT_BUILT)
def test_what_is_not_built_says_why(name):
    # Without memory for weights, which some would be given at their full size before they fail.
    with torch.device("meta"), pytest.raises(Exception, match=small_decoders.NOT_BUILT[name]):
        build(name)


@pytest.mark.parametrize("name", small_decoders.NOT_CAUSAL)
def test_what_sees_later_words_is_refused_whatever_it_is_called(name):
    model = build(name)
    ids = ids_of(TEXTS[0])
    one, other = logits(model, ids), logits(model, ids[:-1])
    assert not torch.allclose(one[:-1], other, rtol=0.05)
    with pytest.raises(ValueError, match="changes with later words"):
        likelihood.score_texts(model, TOKENIZER, TEXTS)


class Reminded(transformers.LlamaForCausalLM):
    """A Llama that makes its next token likelier the nearer it is to the last one."""

    def forward(self, input_ids, **options):
        found = super().forward(input_ids=input_ids, **options)
        near = torch.arange(small_decoders.WORDS) - input_ids[..., None]
        found.logits = found.logits - near.abs() / 10
        return found


class _Crowd(transformers.LlamaModel):
    def forward(self, input_ids, **options):
        found = super().forward(input_ids=input_ids, **options)
        found.last_hidden_state = found.last_hidden_state / len(input_ids)
        return found


class Crowded(transformers.LlamaForCausalLM):
    """A Llama whose states hang on how many texts it reads at once, as experts with a quota do."""

    def __init__(self, config):
        super().__init__(config)
        self.model = _Crowd(config)


@pytest.mark.parametrize("kind", [Reminded, Crowded])
def test_an_output_that_no_state_tells_is_taken_whole(kind):
    torch.manual_seed(0)
    model = kind(small_decoders.configuration("llama")).eval()
    expected = [own_score(model, ids_of(text)) for text in TEXTS]
    found = likelihood.score_texts(model, TOKENIZER, TEXTS, head_rows=5)
    assert found.log_likelihood.tolist() == pytest.approx(expected, **CLOSE)
    ways = decoders.prove(model)
    assert ways.body is None and ways.padded == (kind is Reminded)
    answers = closed_book.answer_log_probability(model, TOKENIZER, PROMPTS[:1], [[" w50 w77 w28"]])
    ids = ids_of(PROMPTS[0] + " w50 w77 w28")
    assert answers.log_probability[0] == pytest.approx(own_score(model, ids, 6), **CLOSE)


def test_a_change_of_settings_is_proven_anew():
    torch.manual_seed(0)
    model = transformers.CohereForCausalLM(small_decoders.configuration("cohere")).eval()
    before = likelihood.score_texts(model, TOKENIZER, TEXTS).log_likelihood
    model.logit_scale = model.config.logit_scale = 0.5
    found = likelihood.score_texts(model, TOKENIZER, TEXTS).log_likelihood
    assert found.tolist() == pytest.approx([own_score(model, ids_of(t)) for t in TEXTS], **CLOSE)
    assert not np.allclose(found, before, atol=0.1)


@pytest.mark.parametrize("name", ["gemma2", "granite", "falcon_h1", "opt"])
def test_a_body_whose_embeddings_are_its_output_gives_the_same(name):
    torch.manual_seed(0)
    config = small_decoders.configuration(name)
    config.tie_word_embeddings = True
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    whole, body = (
        likelihood.score_texts(m, TOKENIZER, TEXTS).log_likelihood
        for m in (model, model.base_model)
    )
    assert whole.tolist() == pytest.approx(body.tolist(), **CLOSE)


@pytest.mark.parametrize("name", small_decoders.PAIRS)
def test_the_decoder_of_a_pair_is_read_from_its_folder(name, tmp_path):
    for part in (build(name), TOKENIZER):
        part.save_pretrained(tmp_path)
    if name in small_decoders.NOT_CAUSAL:
        with pytest.raises(ValueError, match="changes with later words"):
            decoders.load_causal(tmp_path)
    else:
        tokenizer, model = decoders.load_causal(tmp_path)
        found = likelihood.score_texts(model, tokenizer, TEXTS).log_likelihood
        assert found.tolist() == pytest.approx(
            [own_score(build(name), ids_of(t)) for t in TEXTS], **CLOSE
        )


def test_a_type_that_is_not_listed_is_not_said_to_see_later_words():
    with pytest.raises(ValueError, match="vit, which is no causal model of transformers; pass a"):
        decoders.check_causal(transformers.ViTConfig())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_output_that_is_not_finite_is_refused(value):
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(small_decoders.configuration("llama")).eval()
    likelihood.score_texts(model, TOKENIZER, TEXTS)
    with torch.no_grad():
        model.lm_head.weight[100] = value
    ask = closed_book.answer_log_probability
    # Proven before, and found out by what it gives; and a new one by its first logits.
    for one in (model, transformers.LlamaForCausalLM(model.config)):
        one.load_state_dict(model.state_dict())
        with pytest.raises(ValueError, match="damaged or overflow"):
            likelihood.score_texts(one, TOKENIZER, TEXTS)
        with pytest.raises(ValueError, match="damaged or overflow"):
            ask(one, TOKENIZER, PROMPTS, ANSWERS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon_h1"])
def test_other_dtypes_are_read_the_fast_way_too(name, dtype):
    model = small_decoders.build(name).to(dtype)
    assert decoders.prove(model).body is model.base_model


def test_every_architecture_of_the_list_is_tested():
    assert len(small_decoders.BUILT) > 170
    lists = (small_decoders.BUILT, small_decoders.NOT_BUILT, small_decoders.NOT_CAUSAL)
    every = list(itertools.chain(*lists))
    assert sorted(every) == sorted(small_decoders.ARCHITECTURES)
    kinds = {name: CONFIG_MAPPING[name] for name in small_decoders.ARCHITECTURES}
    pairs = [name for name, kind in kinds.items() if getattr(kind, "is_encoder_decoder", False)]
    assert tuple(pairs) == small_decoders.PAIRS
