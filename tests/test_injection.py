"""Noise injection against a plain re-computation, on a tiny random BERT; ends, seeds, refusals."""

import copy
import math

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from helpers.injection import _noisy_parameters, inject_noise

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
}


def _touched_parameters(model, rule="published"):
    """The parameters with noise: gains, the only ones of one dimension, under one rule only."""
    return [
        name
        for name in _noisy_parameters(model)
        if rule == "published" or model.get_parameter(name).ndim > 1
    ]


@pytest.fixture
def encoder():
    torch.manual_seed(7)
    model = BertModel(BertConfig(**SIZES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model


def by_hand(model, level, rule, seed):
    """Return the new weights and the ratio, tensor by tensor in NumPy, by the letter of the rule.

    The names are picked as the released script picks them.
    """
    share, generator = level / 100, torch.Generator().manual_seed(seed)
    weights, change, signal = {}, [], []
    for name, parameter in model.named_parameters():
        before = parameter.detach().numpy().astype(np.float64)
        after = before.copy()
        if name[:7] == "encoder" and name[-6:] == "weight":
            noise = torch.randn(parameter.shape, generator=generator).numpy().astype(np.float64)
            gain = "LayerNorm" in name
            if rule == "published":
                after = (1 - share) * before + share * noise
            elif not gain:
                spread = math.sqrt(((before - before.mean()) ** 2).mean())
                after = (1 - share) * before + share * spread * noise
            if rule == "published" or not gain:
                change.append(((after - before) ** 2).sum())
                signal.append((before**2).sum())
        weights[name] = after
    return weights, math.sqrt(sum(change) / sum(signal))


@pytest.mark.parametrize("rule", ["published", "relative"])
@pytest.mark.parametrize("level", [0.5, 5, 37.5, 100])
def test_every_weight_and_the_ratio_agree_with_the_rule_by_hand(encoder, rule, level):
    noisy, ratio = inject_noise(encoder, level, rule=rule, seed=3)
    weights, expected = by_hand(encoder, level, rule, 3)
    for name, parameter in noisy.named_parameters():
        np.testing.assert_allclose(
            parameter.detach().numpy(), weights[name], rtol=1e-5, atol=1e-6, err_msg=name
        )
    assert ratio == pytest.approx(expected, rel=1e-5)


def test_published_weights_are_bit_for_bit_those_of_the_released_loop(encoder):
    noisy, _ = inject_noise(encoder, 15, seed=11)
    theirs = copy.deepcopy(encoder)
    generator = torch.Generator().manual_seed(11)
    for name, parameter in theirs.named_parameters():
        if name[:7] == "encoder" and name[-6:] == "weight":
            parameter.requires_grad = False
            noise = (15 / 100) * torch.randn(parameter.shape, generator=generator)
            parameter *= 1 - (15 / 100)
            parameter += noise
            parameter.requires_grad = True
    for (name, ours), released in zip(noisy.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(ours, released), name


@pytest.mark.parametrize(("rule", "a_layer"), [("published", 8), ("relative", 6)])
def test_untouched_parameters_are_bit_equal_and_touched_ones_all_change(encoder, rule, a_layer):
    noisy, _ = inject_noise(encoder, 20, rule=rule, seed=0)
    touched = _touched_parameters(encoder, rule=rule)
    assert len(touched) == a_layer * SIZES["num_hidden_layers"]
    assert any("LayerNorm" in name for name in touched) == (rule == "published")
    assert not any("embeddings" in n or "pooler" in n or "bias" in n for n in touched)
    for (name, new), old in zip(noisy.named_parameters(), encoder.parameters(), strict=True):
        assert torch.equal(new, old) == (name not in touched), name


@pytest.mark.parametrize("rule", ["published", "relative"])
def test_level_0_is_the_identity(encoder, rule):
    same, ratio = inject_noise(encoder, 0, rule=rule, seed=5)
    assert ratio == 0
    assert all(
        torch.equal(a, b) for a, b in zip(same.parameters(), encoder.parameters(), strict=True)
    )
    assert same is not encoder


def test_level_100_leaves_nothing_of_the_weights(encoder):
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-3).add_(1)
    first, second = (
        dict(inject_noise(m, 100, seed=2)[0].named_parameters()) for m in (encoder, other)
    )
    for name in _touched_parameters(encoder):
        assert torch.equal(first[name], second[name]), name
    values = torch.cat([first[n].detach().flatten() for n in _touched_parameters(encoder)])
    assert abs(float(values.mean())) < 5 / math.sqrt(len(values))
    assert float(values.std()) == pytest.approx(1, abs=0.05)


def test_relative_noise_follows_the_scale_of_each_tensor(encoder):
    name = "encoder.layer.0.attention.self.query.weight"
    wide = copy.deepcopy(encoder)
    with torch.no_grad():
        wide.get_parameter(name).mul_(100)
    usual, scaled = (
        inject_noise(m, 30, rule="relative", seed=9)[0].get_parameter(name) for m in (encoder, wide)
    )
    torch.testing.assert_close(scaled, 100 * usual, rtol=1e-4, atol=1e-4)
    # Of a matrix about 0, the whole noise has the norm of the weights: |E s - W| is √2 |W|.
    assert inject_noise(encoder, 100, rule="relative")[1] == pytest.approx(math.sqrt(2), rel=0.05)


def test_the_seed_fixes_the_draws_whatever_the_level_and_the_rule(encoder):
    name = "encoder.layer.1.output.dense.weight"
    weight = encoder.get_parameter(name).detach()

    def draws(level, rule, seed):
        new = inject_noise(encoder, level, rule=rule, seed=seed)[0].get_parameter(name).detach()
        share = level / 100
        scale = float(weight.std(correction=0)) if rule == "relative" else 1.0
        return (new - (1 - share) * weight) / (share * scale)

    usual = draws(100, "published", 1)
    for level, rule in [(10, "published"), (10, "relative"), (60, "relative")]:
        torch.testing.assert_close(draws(level, rule, 1), usual, rtol=1e-4, atol=1e-4)
    assert torch.equal(draws(100, "published", 1), usual)
    assert not torch.allclose(draws(100, "published", 2), usual)


def test_neither_the_model_nor_the_global_random_state_changes(encoder):
    encoder.eval()
    encoder.get_parameter("encoder.layer.0.output.dense.weight").requires_grad_(False)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    noisy, _ = inject_noise(encoder, 50, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not noisy.training
    for a, b in zip(noisy.parameters(), encoder.parameters(), strict=True):
        assert a.requires_grad == b.requires_grad and a.data_ptr() != b.data_ptr()
    torch.manual_seed(99)
    again, _ = inject_noise(encoder, 50, seed=1)
    assert all(
        torch.equal(a, b) for a, b in zip(noisy.parameters(), again.parameters(), strict=True)
    )


def test_ratio_grows_with_the_level(encoder):
    for rule in ("published", "relative"):
        ratios = [inject_noise(encoder, level, rule=rule)[1] for level in (0, 1, 5, 20, 60, 100)]
        assert ratios == sorted(ratios) and len(set(ratios)) == len(ratios)


def test_other_models_of_the_family_and_half_precision(encoder):
    torch.manual_seed(1)
    roberta = RobertaForMaskedLM(RobertaConfig(**SIZES))
    touched = _touched_parameters(roberta)
    # The released script takes the names whose letters 8 to 14 are `encoder`.
    assert touched == [
        n for n, _ in roberta.named_parameters() if n[8:15] == "encoder" and n[-6:] == "weight"
    ]
    noisy, ratio = inject_noise(roberta, 10, seed=0)
    assert ratio > 0 and noisy.lm_head.decoder.weight is (
        noisy.roberta.embeddings.word_embeddings.weight
    )
    half, ratio = inject_noise(copy.deepcopy(encoder).to(torch.bfloat16), 10, seed=0)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert ratio == pytest.approx(inject_noise(encoder, 10, seed=0)[1], rel=0.01)


def test_layers_of_decoders_get_the_noise_and_nothing_else_does():
    sizes = {"vocab_size": 50, "num_attention_heads": 2}
    llama = LlamaModel(
        LlamaConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=2, **sizes)
    )
    names = [name for name, _ in llama.named_parameters()]
    expected = [name for name in names if name not in ("embed_tokens.weight", "norm.weight")]
    assert _touched_parameters(llama) == expected
    matrices = [name for name in expected if "norm" not in name]
    assert _touched_parameters(llama, rule="relative") == matrices
    gpt = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=16, vocab_size=50))
    assert {name.split(".h.")[0] for name in _touched_parameters(gpt)} == {"transformer"}
    assert len(_touched_parameters(gpt)) == 6
    bert = DistilBertModel(DistilBertConfig(vocab_size=50, dim=8, n_layers=1, n_heads=2))
    assert all(name.startswith("transformer.layer.0.") for name in _touched_parameters(bert))


def test_a_noisy_model_still_runs(encoder):
    ids = torch.arange(10).reshape(2, 5)
    with torch.no_grad():
        usual, noisy = (
            m.eval()(ids).last_hidden_state for m in (encoder, inject_noise(encoder, 20, seed=0)[0])
        )
    assert noisy.shape == usual.shape and torch.isfinite(noisy).all()
    assert not torch.allclose(noisy, usual, atol=1e-2)


def test_zero_weights_have_no_signal(encoder):
    with torch.no_grad():
        for name in _touched_parameters(encoder):
            encoder.get_parameter(name).zero_()
    assert inject_noise(encoder, 5)[1] == math.inf
    assert inject_noise(encoder, 0)[1] == 0
    assert inject_noise(encoder, 5, rule="relative")[1] == 0


@pytest.mark.parametrize("level", [-1, 100.5, math.nan, math.inf])
def test_refuses_levels(encoder, level):
    with pytest.raises(ValueError, match="level is .* from 0 to 100"):
        inject_noise(encoder, level)


def test_refuses_other_arguments(encoder):
    with pytest.raises(ValueError, match="rule is 'gaussian'; choose one of published, relative"):
        inject_noise(encoder, 5, rule="gaussian")
    with pytest.raises(ValueError, match="seed is -1"):
        inject_noise(encoder, 5, seed=-1)
    with pytest.raises(ValueError, match="model has no layer weights"):
        inject_noise(torch.nn.Linear(2, 2), 5)
    gains = torch.nn.ModuleDict({"encoder": torch.nn.LayerNorm(4)})
    assert _touched_parameters(gains) == ["encoder.weight"]
    assert inject_noise(gains, 5, rule="relative")[1] == 0
