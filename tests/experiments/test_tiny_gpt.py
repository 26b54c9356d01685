"""Tiny GPTs: the words they have, their loss against a plain one, training that can resume."""

import numpy as np
import pytest
import torch

from experiments import tiny_gpt

TEXTS = [f"{a} {verb} {b}." for a in "ABCDEF" for verb in ("likes", "knows") for b in "UVWXYZ"]
QUICK = {"epochs": 3, "batch": 8, "warm_up": 5}


@pytest.fixture
def tokenizer():
    return tiny_gpt.word_tokenizer(TEXTS)


def made(tokenizer, **options):
    return tiny_gpt.new_gpt(tokenizer, **{"width": 16, "layers": 1, "context": 8, **options})


def test_every_word_is_one_token_and_texts_begin_with_the_end(tokenizer):
    assert len(tokenizer) == 1 + 6 + 6 + 2 + 1
    ids = tokenizer("A likes U.")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<end>", "A", "likes", "U", "."]
    assert tokenizer("A nobody")["input_ids"][-1] == tokenizer.eos_token_id == 0


def test_the_model_has_the_size_asked_for_and_leaves_the_random_state_alone(tokenizer):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = tiny_gpt.new_gpt(tokenizer, width=32, layers=2, context=8)
    assert torch.equal(torch.get_rng_state(), before)
    block = 12 * 32**2 + 13 * 32
    assert model.num_parameters() == len(tokenizer) * 32 + 8 * 32 + 2 * block + 2 * 32
    assert model.lm_head.weight is model.transformer.wte.weight
    same, other = (tiny_gpt.new_gpt(tokenizer, width=32, context=8, seed=s) for s in (0, 1))
    assert torch.equal(same.lm_head.weight, model.lm_head.weight)
    assert not torch.equal(other.lm_head.weight, model.lm_head.weight)


def test_the_first_loss_is_that_of_a_plain_loop_over_documents(tokenizer):
    model = made(tokenizer)
    total, n = 0.0, 0
    for text in TEXTS:
        ids = [*tokenizer(text)["input_ids"], 0]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
        scores = torch.log_softmax(logits, dim=-1)
        total -= sum(scores[i, ids[i + 1]].item() for i in range(len(ids) - 1))
        n += len(ids) - 1
    # One step of all documents, whose loss is taken before the weights move.
    course = tiny_gpt.train(model, tokenizer, TEXTS, epochs=1, batch=len(TEXTS))
    assert course.loss[0] == pytest.approx(total / n, abs=1e-5)


def test_documents_of_several_lengths_are_filled_up_outside_the_loss(tokenizer):
    texts = ["A", "A likes U. B knows"]
    losses = []
    for text in texts:
        course = tiny_gpt.train(made(tokenizer), tokenizer, [text], epochs=1, batch=1)
        losses.append(course.loss[0])
    both = tiny_gpt.train(made(tokenizer), tokenizer, texts, epochs=1, batch=2).loss[0]
    lengths = np.array([2, 7])
    assert both == pytest.approx(np.average(losses, weights=lengths), abs=1e-5)


def test_training_learns_which_object_goes_with_which_subject(tokenizer):
    texts = [f"{a} likes {b}." for a, b in zip("ABCDEF", "UVWXYZ", strict=True)] * 20
    model = made(tokenizer, width=32)
    course = tiny_gpt.train(model, tokenizer, texts, epochs=20, batch=8, learning_rate=5e-3)
    assert course.loss.iloc[-1] < 0.6 < 1.5 < course.loss[0] and not model.training
    for a, b in zip("ABCDEF", "UVWXYZ", strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer(f"{a} likes")["input_ids"]])).logits[0, -1]
        assert tokenizer.convert_ids_to_tokens(int(logits.argmax())) == b


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(tokenizer, tmp_path):
    whole = made(tokenizer)
    course = tiny_gpt.train(whole, tokenizer, TEXTS, **QUICK, measure=lambda: {"x": 1.0})
    path = tmp_path / "run.safetensors"
    calls = []

    def stops():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {"x": 1.0}

    with pytest.raises(KeyboardInterrupt):
        tiny_gpt.train(made(tokenizer), tokenizer, TEXTS, **QUICK, checkpoint=path, measure=stops)
    model, epochs = made(tokenizer), []
    again = tiny_gpt.train(
        model,
        tokenizer,
        TEXTS,
        **QUICK,
        checkpoint=path,
        measure=lambda: epochs.append(1) or {"x": 1.0},
    )
    assert len(epochs) == 2 and again.equals(course)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    done = tiny_gpt.train(made(tokenizer), tokenizer, TEXTS, **QUICK, checkpoint=path)
    assert done.loss.equals(course.loss)


def test_a_checkpoint_of_another_run_is_refused_and_a_damaged_one_made_anew(tokenizer, tmp_path):
    path = tmp_path / "run.safetensors"
    course = tiny_gpt.train(made(tokenizer), tokenizer, TEXTS, **QUICK, checkpoint=path)
    with pytest.raises(ValueError, match="checkpoint"):
        tiny_gpt.train(made(tokenizer), tokenizer, TEXTS[::-1], **QUICK, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    again = tiny_gpt.train(made(tokenizer), tokenizer, TEXTS, **QUICK, checkpoint=path)
    assert again.equals(course)


def test_the_order_of_documents_hangs_on_the_seed(tokenizer):
    runs = [tiny_gpt.train(made(tokenizer), tokenizer, TEXTS, **QUICK, seed=s) for s in (0, 0, 1)]
    assert runs[0].equals(runs[1]) and not runs[0].equals(runs[2])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"width": 20}, "width"),
        ({"width": 0}, "width"),
    ],
)
def test_models_of_bad_size_are_refused(tokenizer, options, name):
    with pytest.raises(ValueError, match=name):
        made(tokenizer, **options)


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        (["A likes U and B and C and D"], {"batch": 1}, "larger context"),
    ],
)
def test_training_refuses_what_it_cannot_do(tokenizer, documents, options, message):
    with pytest.raises(ValueError, match=message):
        tiny_gpt.train(made(tokenizer), tokenizer, documents, **{**QUICK, **options})
