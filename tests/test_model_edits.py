"""Non-standard models: what moves, what stays, what survives; a tiny BERT and a tiny RoBERTa."""

import random

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from helpers import encoding, model_edits

SIZES = {
    "vocab_size": 400,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
WORDS = "embeddings.word_embeddings.weight"
SEEDED = [
    model_edits.layers_shuffled,
    model_edits.embeddings_permuted,
    model_edits.embeddings_permuted_as_released,
    model_edits.random_body,
    model_edits.random_embeddings,
    model_edits.untrained,
]
PLAIN = [
    model_edits.words_only,
    lambda model: model_edits.truncated(model, 2),
    lambda model: model_edits.rounded(model, 4),
    lambda model: model_edits.pruned(model, 0.5),
]


@pytest.fixture(params=["bert", "roberta"])
def model(request):
    """Return an encoder whose parameters have all moved, as in training; RoBERTa's has a head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if request.param == "bert":
            model = BertModel(BertConfig(**SIZES))
        else:
            model = RobertaForMaskedLM(RobertaConfig(**SIZES))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def states(model):
    ids = torch.arange(5, 29).reshape(2, 12)
    with torch.inference_mode():
        return model.base_model(input_ids=ids).last_hidden_state


def layer_weights(model):
    """Return all weights of each layer as one row."""
    return [
        torch.cat([p.detach().flatten() for p in layer.parameters()])
        for layer in model.base_model.encoder.layer
    ]


def words(model):
    return model.base_model.get_parameter(WORDS).detach().numpy()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("make", SEEDED + PLAIN)
def test_a_new_model_that_runs_and_touches_nothing_else(model, make):
    before, usual = weights(model), states(model)
    random.seed(1)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    python_state, depth = random.getstate(), model.config.num_hidden_layers
    new = make(model)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert random.getstate() == python_state
    assert model.config.num_hidden_layers == depth == len(model.base_model.encoder.layer)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    held = {p.data_ptr() for p in model.parameters()}
    assert not held & {p.data_ptr() for p in new.parameters()}
    assert type(new) is type(model) and not new.training
    found = states(new)
    assert found.shape == usual.shape and torch.isfinite(found).all()
    assert not torch.allclose(found, usual, atol=1e-3)
    assert torch.equal(states(model), usual)
    if hasattr(new, "lm_head"):
        assert new.lm_head.decoder.weight is new.get_input_embeddings().weight


@pytest.mark.parametrize("make", SEEDED)
def test_the_seed_fixes_it(model, make):
    torch.manual_seed(11)
    first = weights(make(model, 5))
    torch.manual_seed(12)
    again, other = weights(make(model, 5)), weights(make(model, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("make", SEEDED + PLAIN)
def test_mode_and_precision_are_kept_and_it_can_be_saved(model, make, tmp_path):
    new = make(model.bfloat16().train())
    assert new.training and {p.dtype for p in new.parameters()} == {torch.bfloat16}
    new.eval().save_pretrained(tmp_path)
    again = type(new).from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert torch.equal(states(again), states(new))


def test_layers_take_another_order_and_nothing_else_moves(model):
    rows, orders = layer_weights(model), set()
    for seed in range(25):
        new = model_edits.layers_shuffled(model, seed)
        order = tuple(
            next(i for i, old in enumerate(rows) if torch.equal(old, row))
            for row in layer_weights(new)
        )
        assert sorted(order) == [0, 1, 2, 3] and order != (0, 1, 2, 3)
        orders.add(order)
    # 23 orders are left, of which 25 draws leave out 8 on average.
    assert len(orders) > 8
    after = weights(new)
    outside = {n: p for n, p in weights(model).items() if "encoder.layer" not in n}
    assert all(torch.equal(after[name], value) for name, value in outside.items())


@pytest.mark.parametrize("n", [0, 1, 3, 4])
def test_truncated_gives_the_states_of_that_layer(model, n):
    new = model_edits.truncated(model, n)
    assert new.config.num_hidden_layers == n == len(new.base_model.encoder.layer)
    ids = torch.arange(5, 29).reshape(2, 12)
    with torch.inference_mode():
        every = model.base_model(input_ids=ids, output_hidden_states=True).hidden_states
        ours = new.base_model(input_ids=ids, output_hidden_states=True).hidden_states
    assert torch.equal(states(new), every[n])
    # Without layers transformers gives no list at all.
    assert len(ours) == (n + 1 if n else 0)
    assert all(torch.equal(a, b) for a, b in zip(ours, every, strict=False))


def test_words_only_have_no_context(model):
    new = model_edits.words_only(model)
    one, other = torch.tensor([[7, 8, 9]]), torch.tensor([[100, 8, 200]])
    with torch.inference_mode():
        a, b = (new.base_model(input_ids=ids).last_hidden_state[0, 1] for ids in (one, other))
        c, d = (model.base_model(input_ids=ids).last_hidden_state[0, 1] for ids in (one, other))
    assert torch.equal(a, b) and not torch.allclose(c, d, atol=1e-3)


def test_every_row_of_the_embeddings_survives_once(model):
    old, new = words(model), model_edits.embeddings_permuted(model, 4)
    assert {row.tobytes() for row in old} == {row.tobytes() for row in words(new)}
    assert len({row.tobytes() for row in words(new)}) == 400
    # One fixed row is expected by chance.
    assert (words(new) == old).all(axis=1).sum() < 8
    after = weights(new)
    for name, value in weights(model).items():
        assert torch.equal(after[name], value) == (WORDS not in name), name


def test_the_released_shuffle_loses_half_of_the_rows(model):
    old = words(model)
    # By the letter: random.shuffle on the matrix itself.
    theirs = old.copy()
    random.Random(9).shuffle(theirs)
    new = words(model_edits.embeddings_permuted_as_released(model, 9))
    np.testing.assert_array_equal(new, theirs)
    place = {row.tobytes(): i for i, row in enumerate(old)}
    assert all(place[row.tobytes()] <= i for i, row in enumerate(new))
    survivors = np.zeros(400)
    shares = []
    for seed in range(20):
        found = words(model_edits.embeddings_permuted_as_released(model, seed))
        alive = np.unique([place[row.tobytes()] for row in found])
        survivors[alive] += 1 / 20
        shares.append(len(alive) / 400)
    # Row k survives with the chance 1 - k / 400, so (400 + 1) / 800 of all do.
    assert np.mean(shares) == pytest.approx(401 / 800, abs=0.02)
    assert np.ptp(shares) < 0.15 and survivors[0] == pytest.approx(1)
    thirds = survivors[:399].reshape(3, 133).mean(axis=1)
    np.testing.assert_allclose(thirds, [5 / 6, 3 / 6, 1 / 6], atol=0.04)


@pytest.mark.parametrize("half", ["random_body", "random_embeddings", "untrained"])
def test_new_weights_are_those_of_a_fresh_model_and_the_rest_stays(model, half):
    new = weights(getattr(model_edits, half)(model, 8))
    fresh, old = weights(encoding.randomised(model, 8)), weights(model)
    for name in old:
        inner = name.removeprefix("roberta.").startswith("embeddings.")
        stays = half == ("random_body" if inner else "random_embeddings")
        assert torch.equal(new[name], old[name] if stays else fresh[name]), name
        assert not torch.equal(old[name], fresh[name])


@pytest.mark.parametrize("half", ["random_body", "random_embeddings", "untrained"])
def test_a_model_without_a_pooler_gets_the_new_weights_of_its_own_names(half):
    whole = BertModel(BertConfig(**SIZES))
    bare = BertModel(whole.config, add_pooling_layer=False)
    bare.load_state_dict({k: v for k, v in whole.state_dict().items() if "pooler" not in k})
    new, expected = (weights(getattr(model_edits, half)(m, 8)) for m in (bare, whole))
    assert new and all(torch.equal(value, expected[name]) for name, value in new.items())


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
def test_rounded_weights_lie_on_an_even_grid(model, bits):
    old, new = weights(model), weights(model_edits.rounded(model, bits))
    for name, value in new.items():
        if value.ndim < 2:
            assert torch.equal(value, old[name])
            continue
        most = 2 ** (bits - 1) - 1
        step = float(old[name].abs().max()) / most
        assert len(value.unique()) <= 2 * most + 1
        torch.testing.assert_close(value.abs().max(), old[name].abs().max())
        np.testing.assert_allclose(
            value.double().numpy() / step, (value.double() / step).round().numpy(), atol=2e-3
        )
        rounding = 2e-7 * float(old[name].abs().max())
        assert (value - old[name]).abs().max() <= step / 2 + rounding


def test_rounding_gets_finer_and_zeros_stay(model):
    usual = states(model)
    gaps = [
        float((states(model_edits.rounded(model, b)) - usual).abs().max()) for b in (3, 6, 9, 14)
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 0.01
    with torch.no_grad():
        model.base_model.encoder.layer[0].output.dense.weight.zero_()
    assert all(torch.isfinite(p).all() for p in model_edits.rounded(model, 2).parameters())


@pytest.mark.parametrize("share", [0, 0.29, 0.5, 0.9, 1])
def test_the_smallest_entries_go(model, share):
    old, new = weights(model), weights(model_edits.pruned(model, share))
    for name, value in new.items():
        if value.ndim < 2:
            assert torch.equal(value, old[name])
            continue
        gone = value == 0
        assert int(gone.sum()) == int(np.floor(share * 100 + 0.5) * value.numel() // 100)
        assert torch.equal(value[~gone], old[name][~gone])
        if 0 < share < 1:
            assert old[name][gone].abs().max() <= old[name][~gone].abs().min()


def test_equal_entries_go_first_ones_first():
    model = BertModel(BertConfig(**SIZES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    weight = model_edits.pruned(model, 0.25).pooler.dense.weight.detach().flatten()
    assert torch.equal(weight, (torch.arange(256) >= 64).float())


def test_refuses_models_without_layers_of_their_own():
    shape = {"embedding_size": 8, "intermediate_size": 16, "vocab_size": 20}
    albert = AlbertModel(AlbertConfig(hidden_size=8, num_attention_heads=2, **shape))
    for make in (
        model_edits.layers_shuffled,
        model_edits.random_body,
    ):
        with pytest.raises(ValueError, match="model is a AlbertModel, without encoder.layer"):
            make(albert)
