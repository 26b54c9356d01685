"""Models trained further and added up: corners, closed forms, resuming, angles, bad input."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from experiments import tiny_gpt, training, tuning

TEXTS = [f"{a} {verb} {b}." for a in "ABCDEF" for verb in ("likes", "knows") for b in "UVWXYZ"]
QUICK = {"steps": 7, "batch": 5, "learning_rate": 1e-2, "max_tokens": 8}


@pytest.fixture
def tokenizer():
    return tiny_gpt.word_tokenizer(TEXTS)


def made(tokenizer, **options):
    return tiny_gpt.new_gpt(tokenizer, **{"width": 16, "layers": 1, "context": 8, **options})


def equal(one, two):
    held = two.state_dict()
    return all(torch.equal(tensor, held[name]) for name, tensor in one.state_dict().items())


def test_the_first_loss_is_that_of_a_plain_loop(tokenizer):
    model, texts = made(tokenizer), ["A", "A likes U. B knows", "C."]
    total, n = 0.0, 0
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        with torch.no_grad():
            scores = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)
        total -= sum(scores[i, ids[i + 1]].item() for i in range(len(ids) - 1))
        n += len(ids) - 1
    course = tuning.tune(model, tokenizer, texts, steps=1, batch=3, max_tokens=8)
    assert course.loss[0] == pytest.approx(total / n, abs=1e-5)
    assert list(course) == ["step", "loss", "learning_rate"] and not model.training


def test_a_step_is_that_of_the_optimizer_on_the_loss_of_transformers(tokenizer):
    model = made(tokenizer)
    plain = copy.deepcopy(model).train()
    options = {"steps": 1, "batch": 1, "learning_rate": 0.1, "max_tokens": 8}
    tuning.tune(model, tokenizer, TEXTS[:1], **options)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=0.01, betas=(0.9, 0.98))
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    plain(ids, labels=ids).loss.backward()
    nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    optimizer.step()
    for name, tensor in plain.state_dict().items():
        assert torch.allclose(tensor, model.state_dict()[name], atol=1e-4), name


def test_training_on_lowers_the_loss_and_keeps_the_random_state(tokenizer):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model = made(tokenizer)
    course = tuning.tune(model, tokenizer, TEXTS, **QUICK | {"steps": 60})
    assert course.loss[-5:].mean() < 0.7 * course.loss[0]
    assert course.learning_rate.idxmax() == 6 and course.step.tolist() == list(range(1, 61))
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_are_texts_or_pieces_of_one_line(tokenizer):
    model = made(tokenizer)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    rows = tuning._token_rows(model, tokenizer, [*TEXTS, ""], max_tokens=3)
    assert rows.tolist() == [row[:3] for row in ids]
    short = tuning._token_rows(model, tokenizer, ["A", TEXTS[0]], max_tokens=8)
    assert short[0].tolist() == [*tokenizer("A")["input_ids"], -100, -100, -100]
    line = [token for row in ids for token in [*row, 0]]
    packed = tuning._token_rows(model, tokenizer, TEXTS, max_tokens=8, pack=True)
    n = len(line) // 8 + (len(line) % 8 > 1)
    assert packed[packed >= 0].tolist() == line[: 8 * n] and packed.shape == (n, 8)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    tokenizer, tmp_path, monkeypatch, dropout
):
    def fresh():
        model = made(tokenizer)
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = dropout
        return model

    whole = fresh()
    course = tuning.tune(whole, tokenizer, TEXTS, **QUICK)
    path, taken, step = tmp_path / "run.safetensors", [], training.step

    def stops(*given):
        taken.append(1)
        if len(taken) == 6:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(training, "step", stops)
    saving = {"checkpoint": path, "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(fresh(), tokenizer, TEXTS, **QUICK, **saving)
    model = fresh()
    again = tuning.tune(model, tokenizer, TEXTS, **QUICK, **saving)
    assert len(taken) == 6 + 3
    assert again.equals(course) and equal(whole, model)
    done = fresh()
    tuning.tune(done, tokenizer, TEXTS, **QUICK, **saving)
    assert len(taken) == 9 and equal(whole, done)
    with pytest.raises(ValueError, match="checkpoint"):
        tuning.tune(fresh(), tokenizer, TEXTS[::-1], **QUICK, **saving)


def test_the_seed_orders_the_texts(tokenizer):
    runs = [
        tuning.tune(made(tokenizer), tokenizer, TEXTS, **QUICK, seed=seed) for seed in (0, 0, 1)
    ]
    assert runs[0].equals(runs[1]) and not runs[0].equals(runs[2])


def test_frozen_parameters_stay(tokenizer):
    model = made(tokenizer)
    model.transformer.wpe.weight.requires_grad_(False)
    before = copy.deepcopy(model)
    tuning.tune(model, tokenizer, TEXTS, **QUICK)
    assert torch.equal(before.transformer.wpe.weight, model.transformer.wpe.weight)
    assert not torch.equal(before.transformer.wte.weight, model.transformer.wte.weight)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "texts"),
        ("A likes U.", {}, "texts"),
        (TEXTS, {"seed": -1}, "seed"),
        (TEXTS, {"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_training_refuses_what_it_cannot_do(tokenizer, texts, options, message):
    with pytest.raises(ValueError, match=message):
        tuning.tune(made(tokenizer), tokenizer, texts, **{**QUICK, **options})


def test_a_model_that_has_run_away_says_so(tokenizer):
    model = made(tokenizer)
    model.transformer.ln_f.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="loss is nan in step 1"):
        tuning.tune(model, tokenizer, TEXTS, **QUICK)
    model.requires_grad_(False)


def test_corners_are_the_models_themselves(tokenizer):
    models = [made(tokenizer, seed=seed) for seed in range(3)]
    for i, model in enumerate(models):
        found = tuning.interpolate(models, np.eye(3)[i])
        assert equal(found, model) and found is not model
        assert found.lm_head.weight is found.transformer.wte.weight
    assert not equal(models[0], models[1])


def test_a_linear_model_is_interpolated_in_its_output():
    torch.manual_seed(0)
    models, x = [nn.Linear(4, 3).double() for _ in range(3)], torch.randn(5, 4).double()
    weights = [0.7, 0.5, -0.2]
    found = tuning.interpolate(models, weights)
    expected = sum(w * model(x) for w, model in zip(weights, models, strict=True))
    assert torch.allclose(found(x), expected, atol=1e-12)


def test_whole_number_buffers_are_those_of_the_first():
    models = [nn.BatchNorm1d(2) for _ in range(2)]
    models[1].num_batches_tracked += 3
    models[1].running_mean += 2
    found = tuning.interpolate(models, [0.5, 0.5])
    assert found.num_batches_tracked == 0 and found.running_mean.tolist() == [1, 1]


def test_angles_are_those_of_numpy(tokenizer):
    models = [made(tokenizer, seed=seed) for seed in range(3)]
    base, *others = (
        np.concatenate([p.detach().double().numpy().ravel() for p in model.parameters()])
        for model in models
    )
    a, b = (other - base for other in others)
    found = tuning.weight_inner_products(models).set_index(["first", "second"])
    assert found.inner_product[1, 2] == pytest.approx(a @ b / len(a), rel=1e-6)
    assert found.inner_product[2, 2] == pytest.approx(b @ b / len(b), rel=1e-6)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert found.degrees[1, 2] == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-4)
    assert found.degrees[1, 1] == pytest.approx(0, abs=1e-5)
