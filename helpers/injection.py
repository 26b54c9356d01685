"""Noise in a transformer's weights: the paper's rule, and one that follows each tensor's scale."""

from __future__ import annotations

import copy
import math
import re
from typing import TYPE_CHECKING

from helpers import validation

if TYPE_CHECKING:
    from torch import nn

RULES = ("published", "relative")
# Layers of BERT and its kin (encoder., layer.), of Llama and its kin (layers.), of GPT-2 (h.).
_ENCODER_WEIGHT = re.compile(r"(^|\.)(encoder|layers?|h)\.(.+\.)?weight$")


def _noisy_parameters(model: nn.Module) -> list[str]:
    """Return the names of the parameters that the paper's noise goes to.

    These are the parameters of the encoder whose name ends in `weight`: query, key, value, output,
    both feed-forward matrices, and both layer-norm gains of every layer. Embeddings, biases, pooler
    and heads are left alone. The layers of a decoder, named as in Llama or GPT-2, count as its
    encoder. Raises `ValueError` for a model without such a parameter. Source: Marbut et al. (2024),
    released code, for encoders.
    """
    pairs = model.named_parameters() if hasattr(model, "named_parameters") else ()
    names = [name for name, _ in pairs if _ENCODER_WEIGHT.search(name)]
    if not names:
        raise ValueError(
            "model has no layer weights under encoder., layer., layers. or h.; pass a transformer "
            "that names them like BERT, DistilBERT, Llama or GPT-2"
        )
    return names


def inject_noise(
    model: nn.Module, level: float, *, rule: str = "published", seed: int = 0
) -> tuple[nn.Module, float]:
    """Return a copy of an encoder with noise mixed into its weights, and noise over signal.

    `level` is the share of noise a in percent, 0 to 100. rule="published" is W' = (1 - a/100) W +
    (a/100) E with E standard normal in every entry, on every encoder weight and layer-norm gain.
    At 100 nothing of the weights is left. `rule="relative"` takes (a/100) s E instead, with s
    the standard deviation of the tensor's own entries (divisor: their number), and leaves the
    gains alone. Biases, embeddings, pooler and heads stay as they are.

    The ratio is |W' - W| / |W|, the norms over all touched parameters together, in float64: 0 at
    level 0. It counts what is taken away as well as what is added, so it stays finite at 100
    for any weights but zeros (infinite there).

    The seed fixes E, whatever the level, the rule and the device, so that two rules or levels can
    be compared draw by draw. Neither `model` nor torch's global random state is changed; dtype,
    device, training mode and `requires_grad` are kept. Memory holds a second model. Raises
    `ValueError` for a level outside 0 to 100, another rule, a seed below 0, or a model in which no
    parameter is found. Source: Marbut et al. (2024), released code `model_perturb.py`, which draws
    without a seed; the relative rule is this book's.
    """
    import torch

    if not isinstance(level, int | float) or not 0 <= level <= 100:
        raise ValueError(f"level is {level!r}; pass the share of noise in percent, from 0 to 100")
    validation.counts(seed=(seed, 0))
    validation.choice(rule, RULES, "rule")
    drawn = set(_noisy_parameters(model))
    noisy, share = copy.deepcopy(model), level / 100
    generator = torch.Generator().manual_seed(int(seed))
    change = signal = 0.0
    with torch.no_grad():
        for name, weight in noisy.named_parameters():
            if name not in drawn:
                continue
            # Gains use up their draws under either rule: the matrices then get the same ones.
            noise = torch.randn(weight.shape, generator=generator)
            if rule == "relative" and weight.ndim < 2:
                continue
            before = weight.double()
            scale = float(before.std(correction=0)) if rule == "relative" else 1.0
            weight.mul_(1 - share).add_((share * scale * noise).to(weight))
            change += float((weight.double() - before).square().sum())
            signal += float(before.square().sum())
    if not signal:
        return noisy, math.inf if change else 0.0
    return noisy, math.sqrt(change / signal)
