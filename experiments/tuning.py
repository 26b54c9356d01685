"""Causal language models trained on, and models made by adding the weights of several."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd

from experiments import training
from helpers import checkpoints, decoders, fine_tuning, likelihood, validation

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Model = TypeVar("Model", bound=nn.Module)

# Part of every checkpoint's key: raise it when the same arguments would give other weights.
VERSION = 1


def tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    steps: int = 100,
    batch: int = 8,
    learning_rate: float = 1e-4,
    max_tokens: int = 128,
    pack: bool = False,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 50,
) -> pd.DataFrame:
    """Train a causal model further on texts, in place, and return its course, a row a step.

    A text is a row, after the start token that the tokenizer puts before a text, if any, and cut
    at `max_tokens`; with `pack` all texts stand in one line, an end token (if any) after each,
    and every `max_tokens` of it are a row. Texts of one token are left out. `batch` rows make a
    step of AdamW (weight decay 0.01, gradients clipped at norm 1); what fills up shorter rows is
    outside the loss. The rate rises over a tenth of all steps and falls to
    zero by a cosine. `seed` gives the order of rows, each once before any comes again, and the
    dropout, if the model has any. Columns `step` (from 1), `loss` before the step (nats a token)
    and `learning_rate`.

    With `checkpoint`, the path of a file, the run is saved every `checkpoint_every` steps and at
    the end, and one that was stopped goes on from there; on the same machine the result is the
    same bit by bit. torch's random state stays as it is, and the model is left ready to read.
    Parameters that need no gradient stay too. Raises `ValueError` for no texts, bad sizes,
    `max_tokens` above what the model reads, a loss that is not finite, and a checkpoint of
    another run.
    """
    import torch

    warm_up = steps // 10
    decoders.with_output(model)
    rows = _token_rows(model, tokenizer, texts, max_tokens=max_tokens, pack=pack)
    order = fine_tuning.draw_rows(len(rows), steps * batch, validation.generator(seed))
    order = order.reshape(steps, batch)
    options = [VERSION, steps, batch, learning_rate, warm_up, seed, torch.__version__]
    options += [model.device.type, [p.requires_grad for p in model.parameters()]]
    run = checkpoints.digest(model.state_dict(), options, hashlib.sha256(rows).hexdigest())
    kept = checkpoint, run, model, training.adamw(model)
    course = training.resume(*kept)
    model.train()
    gpus = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        for step in range(len(course), steps):
            # A seed a step: a run that goes on has the dropout of one that was not stopped.
            drawn = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
            torch.default_generator.manual_seed(drawn)
            for gpu in gpus:
                torch.cuda.default_generators[gpu.index or 0].manual_seed(drawn)
            rate = learning_rate * training.schedule(step, steps, warm_up)
            loss = training.next_token_loss(model, rows[order[step]])
            value = training.step(model, kept[-1], loss, rate)
            if not np.isfinite(value):
                raise ValueError(f"the loss is {value} in step {step + 1}; lower learning_rate")
            course.append({"step": step + 1, "loss": value, "learning_rate": rate})
            if (step + 1) % checkpoint_every == 0 or step + 1 == steps:
                training.save(*kept, course)
    model.eval()
    return pd.DataFrame(course)


def _token_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_tokens: int = 128,
    pack: bool = False,
) -> np.ndarray:
    """Return the rows of tokens that `tune` learns from, filled up with -100, int64 (rows, T)."""
    texts = validation.strings(texts, "texts")
    start = likelihood.start_tokens(tokenizer, "tokenizer")
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    found = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    if pack:
        line = [token for ids in found for token in [*start, *ids, *end]]
        cut = [line[i : i + max_tokens] for i in range(0, len(line), max_tokens)]
    else:
        cut = [[*start, *ids][:max_tokens] for ids in found]
    cut = [ids for ids in cut if len(ids) > 1]
    return training.filled(cut)


# Weights as vectors


def interpolate(models: Sequence[Model], weights: Sequence[float]) -> Model:
    """Return a new model whose parameters are the weighted sum of those of several models.

    `weights` has a number a model, below 0 and above 1 too, which add up to 1. Sums are taken
    in float64. The result has the configuration, dtype, device and mode of the first model, and
    its whole-number buffers; a head that shares the word embeddings goes on sharing them. A
    corner, with weight 1 for one model and 0 for the others, is that model bit by bit. Source:
    arXiv 2502.16173, released code.
    """
    import torch

    shares = np.asarray(weights, float)
    new = copy.deepcopy(models[0])
    others = [_floats(model) for model in models]
    with torch.no_grad():
        for name, tensor in _floats(new).items():
            total = torch.zeros_like(tensor, dtype=torch.float64)
            for share, held in zip(shares, others, strict=True):
                if share:
                    total += float(share) * held[name].detach().to(tensor.device, torch.float64)
            tensor.copy_(total)
    return new


def weight_inner_products(models: Sequence[nn.Module]) -> pd.DataFrame:
    """Return how the weight differences of models from the first of them stand to one another.

    Two models or more; one row for each pair of the others, and each with itself: their numbers
    in `models`, `first` and `second`, the `inner_product` of their differences from model 0,
    divided by the number of parameters, and the angle between them in `degrees`. Shared
    parameters count once. Raises `ValueError` for models that are not alike, and one that is equal
    to the first. Source: arXiv 2502.16173, released code.
    """
    n = len(models) - 1
    products, n_parameters = np.zeros((n, n)), 0
    base, *others = [dict(model.named_parameters()) for model in models]
    for name, tensor in base.items():
        apart = [(held[name].detach() - tensor.detach()).double().flatten() for held in others]
        products += [[float(one @ two) for two in apart] for one in apart]
        n_parameters += tensor.numel()
    lengths = np.sqrt(products.diagonal())
    degrees = np.degrees(np.arccos(np.clip(products / np.outer(lengths, lengths), -1, 1)))
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    rows = [(i + 1, j + 1, products[i, j] / n_parameters, degrees[i, j]) for i, j in pairs]
    return pd.DataFrame(rows, columns=["first", "second", "inner_product", "degrees"])


def _floats(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and the buffers that are not whole numbers, shared ones once."""
    held = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor for name, tensor in held if tensor.is_floating_point()}
