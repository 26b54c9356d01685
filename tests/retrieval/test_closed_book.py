"""Answers of a causal model against one forward pass a text, and against closed forms."""

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from experiments.retrieval import factbook_answers
from helpers import decoders, model_sources, models
from helpers.retrieval import closed_book

PROMPTS = ["the capital of france is", "rain falls on", "the river", "a language that is spoken in"]
ANSWERS = [
    [" paris", " the sea", " the old city of rome"],
    [" the sea"],
    [" is long", " is"],
    [" a"],
]


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = models.load_model()[0]
    tokenizer.eos_token = "[SEP]"
    return tokenizer


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def logits_after(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].double()


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def one_by_one(model, tokenizer, prompt, answer, temperature=1.0):
    """Return log P(answer | prompt), reading the whole text anew for each token."""
    before, whole = ids_of(tokenizer, prompt), ids_of(tokenizer, prompt + answer)
    total = 0.0
    for at in range(len(before), len(whole)):
        scores = (logits_after(model, whole[:at]) / temperature).log_softmax(dim=0)
        total += scores[whole[at]].item()
    return total, len(whole) - len(before)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_one_forward_pass_a_token(model, tokenizer, temperature):
    ours = closed_book.answer_log_probability(
        model, tokenizer, PROMPTS, ANSWERS, temperature=temperature
    )
    assert ours.prompt.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert ours.answer.tolist() == [0, 1, 2, 0, 0, 1, 0]
    for row in ours.itertuples():
        answer = ANSWERS[row.prompt][row.answer]
        expected, n = one_by_one(model, tokenizer, PROMPTS[row.prompt], answer, temperature)
        assert row.log_probability == pytest.approx(expected, abs=1e-4) and row.n_tokens == n


@pytest.mark.parametrize("batch_tokens", [1, 7, 4096])
def test_batches_change_nothing(model, tokenizer, batch_tokens):
    one = closed_book.answer_log_probability(model, tokenizer, PROMPTS, ANSWERS)
    other = closed_book.answer_log_probability(
        model, tokenizer, PROMPTS, ANSWERS, batch_tokens=batch_tokens
    )
    pd.testing.assert_frame_equal(one, other, atol=1e-4)


def test_one_token_answers_of_the_whole_vocabulary_sum_to_one(model, tokenizer):
    words = [w for w in tokenizer.get_vocab() if w.isalpha() and w.isascii()][:400]
    words = [w for w in words if len(ids_of(tokenizer, f"the river {w}")) == 3]
    found = closed_book.answer_log_probability(
        model, tokenizer, ["the river"], [[f" {w}" for w in words]]
    )
    scores = logits_after(model, ids_of(tokenizer, "the river")).log_softmax(dim=0)
    numbers = [tokenizer.convert_tokens_to_ids(w) for w in words]
    total = scores[numbers].exp().sum().item()
    assert len(words) > 100
    assert np.exp(found.log_probability).sum() == pytest.approx(total, rel=1e-4)


def test_a_model_without_its_output_layer_is_read_by_its_embeddings(tokenizer):
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    whole = transformers.AutoModelForCausalLM.from_config(config).eval()
    found = [
        closed_book.answer_log_probability(m, tokenizer, PROMPTS, ANSWERS)
        for m in (whole, whole.model)
    ]
    pd.testing.assert_frame_equal(*found)


def test_samples_are_repeated_by_the_seed_and_do_not_hang_on_their_neighbours(model, tokenizer):
    how = {"n": 3, "max_new_tokens": 5, "temperature": 1.0}
    ours = closed_book.sample_continuations(model, tokenizer, PROMPTS, **how)
    assert [len(texts) for texts in ours] == [3] * len(PROMPTS)
    assert ours == closed_book.sample_continuations(model, tokenizer, PROMPTS, **how)
    alone = closed_book.sample_continuations(model, tokenizer, PROMPTS[2:3], **how)
    assert alone == ours[2:3]
    assert ours != closed_book.sample_continuations(model, tokenizer, PROMPTS, seed=1, **how)


def test_first_tokens_are_drawn_as_often_as_the_model_says(model, tokenizer):
    n, temperature = 4000, 0.5
    (texts,) = closed_book.sample_continuations(
        model,
        tokenizer,
        ["the river"],
        n=n,
        temperature=temperature,
        max_new_tokens=1,
    )
    scores = logits_after(model, ids_of(tokenizer, "the river")) / temperature
    p, number = scores.softmax(dim=0).max(dim=0)
    word = tokenizer.decode([number.item()])
    share = np.mean([text == word for text in texts])
    assert 0.02 < p.item() < 0.98
    assert share == pytest.approx(p.item(), abs=4 * np.sqrt(p.item() * (1 - p.item()) / n))


def test_a_cold_sample_is_the_greedy_text(model, tokenizer):
    ours = closed_book.sample_continuations(
        model, tokenizer, PROMPTS, n=1, temperature=1e-4, max_new_tokens=6
    )
    for prompt, (text,) in zip(PROMPTS, ours, strict=True):
        ids = ids_of(tokenizer, prompt)
        for _ in range(6):
            ids.append(int(logits_after(model, ids).argmax()))
        new = ids[len(ids_of(tokenizer, prompt)) :]
        if tokenizer.eos_token_id in new:
            new = new[: new.index(tokenizer.eos_token_id)]
        assert text == tokenizer.decode(new, skip_special_tokens=True)


def test_nothing_follows_the_end_of_a_text(model, tokenizer):
    likely = int(logits_after(model, ids_of(tokenizer, "the river")).argmax())
    ends = transformers.AutoTokenizer.from_pretrained(model_sources.local_source(models.MINILM))
    ends.eos_token = ends.convert_ids_to_tokens(likely)
    ours = closed_book.sample_continuations(model, ends, ["the river"], n=2, temperature=1e-4)
    assert ours == [["", ""]]


def test_grades_count_continuations_alone_unless_told():
    texts = [[" Paris, of course", " paris", " Rome"], [" is African", "nothing"]]
    answers, prompts = [" Paris", "Africa"], ["The capital of France is", "South Africa lies in"]
    np.testing.assert_allclose(closed_book.grade(texts, answers), [1 / 3, 1 / 2])
    leaked = closed_book.grade(texts, answers, prompts=prompts)
    np.testing.assert_allclose(leaked, [1 / 3, 1])


def test_shares_beaten_are_those_of_a_loop_and_a_half_by_chance():
    rng = np.random.default_rng(2)
    table = pd.DataFrame(
        {
            "prompt": np.repeat(np.arange(500), 6),
            "answer": np.tile(np.arange(6), 500),
            "log_probability": rng.integers(0, 9, 3000).astype(float),
        }
    )
    ours = factbook_answers._share_beaten(table)
    for prompt, part in table.groupby("prompt"):
        true, *others = part.log_probability
        expected = np.mean([(true > x) + (true == x) / 2 for x in others])
        assert ours[prompt] == pytest.approx(expected)
    assert ours.mean() == pytest.approx(0.5, abs=0.06)
    moved = table.assign(log_probability=2 * table.log_probability + 3)
    pd.testing.assert_series_equal(ours, factbook_answers._share_beaten(moved))


def test_it_refuses(model, tokenizer):
    ask = closed_book.answer_log_probability
    with pytest.raises(ValueError, match="prompts is empty"):
        ask(model, tokenizer, [], [])
    with pytest.raises(ValueError, match="prompts is empty or one string"):
        closed_book.sample_continuations(model, tokenizer, "the river")
    with pytest.raises(ValueError, match=r"prompts\[1\] has no tokens"):
        ask(model, tokenizer, ["the", ""], [[" a"], [" b"]])
    with pytest.raises(ValueError, match="answers has length 1 but prompts has 2"):
        ask(model, tokenizer, ["the", "a"], [[" a"]])
    with pytest.raises(ValueError, match=r"answers\[0\] is empty or one string"):
        ask(model, tokenizer, ["the"], [" a"])
    with pytest.raises(ValueError, match="begin it with a space"):
        ask(model, tokenizer, ["the riv"], [["er"]])
    with pytest.raises(ValueError, match="temperature is 0"):
        ask(model, tokenizer, ["the"], [[" a"]], temperature=0)
    with pytest.raises(ValueError, match=r"answers\[0\] is empty"):
        closed_book.grade([["a"]], [" "])


def test_a_folder_loads_what_was_saved_and_an_encoder_is_refused(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = decoders.load_causal(tmp_path)
    ours, theirs = (
        closed_book.answer_log_probability(m, t, PROMPTS, ANSWERS)
        for t, m in (again, (tokenizer, model))
    )
    pd.testing.assert_frame_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"sees the tokens to come\); pass a causal"):
        decoders.load_causal(models.MINILM)
    with pytest.raises(ValueError, match="could not be loaded"):
        decoders.load_causal(tmp_path / "absent")
