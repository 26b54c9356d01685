"""Fine-tuning of an encoder on a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from helpers import glue, reading
from helpers.probing import test_order, text_columns

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HEAD_RATE = 20  # the new head learns so many times faster than the encoder
_HISTORY = ("step", "loss", "penalty", "learning_rate")
_WARM_UP = 0.1
_WINDOW = 16  # batches in which rows are grouped by length


class _FineTuned(NamedTuple):
    """The tuned copy of the encoder, its linear head, the test score, and one line per step."""

    model: PreTrainedModel
    head: torch.nn.Linear
    score: float
    history: pd.DataFrame


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: glue.Task,
    *,
    steps: int = 200,
    batch_size: int = 16,
    learning_rate: float = 5e-5,
    max_tokens: int = 64,
    n_test: int | None = None,
    layer_penalty: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    penalty_weight: float = 0.0,
    seed: int = 0,
) -> _FineTuned:
    """Train a copy of an encoder and a new linear head on a task, and score it on its test rows.

    Pairs go in as the tokenizer joins them, cut at `max_tokens`. The head reads the last layer,
    averaged over the tokens, with dropout 0.1. AdamW with weight decay 0.01 on matrices, linear
    warm-up over a tenth of the steps and linear decay to 0, gradients clipped at norm 1, cross
    entropy, or squared error of the standardised label; the head's rate is 20 times the encoder's.
    Rows are drawn by `seed`, each once before any comes again, and grouped by length within some
    batches.

    `layer_penalty` takes the last layer (B, T, width) and the attention mask (B, T) and gives a
    tensor of one number, which is added to the loss `penalty_weight` times (below 0: a reward);
    with weight 0 it is only written down. `history` has the columns step, loss (of the task
    alone), penalty and learning_rate. `n_test` takes test rows as `probe_features` does. The
    model passed in and torch's random state stay as they were; parameters that need no gradient
    stay too.
    """
    import copy

    import torch

    model = copy.deepcopy(model).train()
    device = next(model.parameters()).device
    gpus = [device] if device.type == "cuda" else []
    rng = np.random.default_rng(seed)
    used, rows = np.unique(draw_rows(len(task.train), steps * batch_size, rng), return_inverse=True)
    encoded = _encode(model, tokenizer, task.train.iloc[used], max_tokens)
    batches = _grouped(rows, encoded, batch_size, rng)
    targets, names = _targets(task, used)
    targets = targets.to(device)
    history: list[dict[str, float]] = []
    # Not transformers.Trainer, which wants accelerate.
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed, which would also seed a GPU that has no part in this.
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu.index].manual_seed(seed)
        head = torch.nn.Linear(model.config.hidden_size, max(len(names), 1))
        torch.nn.init.normal_(head.weight, std=0.02)
        torch.nn.init.zeros_(head.bias)
        head.to(device)
        optimizer = _optimizer(model, head, learning_rate)
        groups = optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for step, batch in enumerate(batches, start=1):
            share = _schedule(step, steps)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * share
            states, mask = _states(model, encoded, batch, device)
            pooled = torch.nn.functional.dropout(_pool(states, mask), 0.1)
            loss = _loss(head(pooled), targets[torch.from_numpy(batch).to(device)])
            penalty = _penalty(layer_penalty, states, mask, penalty_weight != 0)
            total = loss + penalty_weight * penalty if penalty_weight else loss
            if not torch.isfinite(total):
                raise ValueError(
                    f"the loss is {total.item()} in step {step}; lower learning_rate or "
                    "penalty_weight, or repair model"
                )
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 1.0)
            optimizer.step()
            values = (step, loss.item(), penalty.item(), learning_rate * share)
            history.append(dict(zip(_HISTORY, values, strict=True)))
    model.eval()
    test = task.test.iloc[test_order(task)[:n_test]]
    outputs = _outputs(model, head, _encode(model, tokenizer, test, max_tokens))
    found = names[outputs.argmax(axis=1)] if len(names) else outputs[:, 0]
    score = glue.score(task, test["label"].to_numpy(), found)
    return _FineTuned(model, head, score, pd.DataFrame(history, columns=list(_HISTORY)))


def draw_rows(n_rows: int, n_drawn: int, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers of rows drawn, shape (n_drawn,), each once before any comes again."""
    rounds = -(-n_drawn // n_rows)
    return np.concatenate([rng.permutation(n_rows) for _ in range(rounds)])[:n_drawn]


def _encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    table: pd.DataFrame,
    max_tokens: int,
) -> dict[str, list[list[int]]]:
    limit = reading.room(model, tokenizer, max_tokens)
    sides = [table[c].tolist() for c in text_columns(table)]
    encoded = dict(tokenizer(*sides, truncation=True, max_length=limit))
    if min(map(len, encoded["input_ids"])) == 0:
        raise ValueError("task has a text without tokens; leave it out")
    return encoded


def _grouped(
    rows: np.ndarray, encoded: dict[str, list], batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Cut rows into batches of like lengths: sorted within a window, batches in random order."""
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    batches = []
    for first in range(0, len(rows), _WINDOW * batch_size):
        window = rows[first : first + _WINDOW * batch_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        cut = window.reshape(-1, batch_size)
        batches += [cut[i] for i in rng.permutation(len(cut))]
    return batches


def _targets(task: glue.Task, used: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """Return what the head learns for the rows used, and the labels its outputs stand for."""
    import torch

    labels = task.train["label"].to_numpy()
    if task.kind == "regression":
        spread = labels.std() or 1.0
        standard = (labels[used] - labels.mean()) / spread
        return torch.tensor(standard, dtype=torch.float32), np.array([])
    names, codes = np.unique(labels, return_inverse=True)
    return torch.from_numpy(codes[used]), names


def _optimizer(
    model: PreTrainedModel, head: torch.nn.Linear, learning_rate: float
) -> torch.optim.AdamW:
    import torch

    groups = []
    for module, rate in [(model, learning_rate), (head, _HEAD_RATE * learning_rate)]:
        free = [p for p in module.parameters() if p.requires_grad]
        for decay, params in [
            (0.01, [p for p in free if p.ndim > 1]),
            (0.0, [p for p in free if p.ndim < 2]),
        ]:
            groups.append({"params": params, "lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups)


def _schedule(step: int, steps: int) -> float:
    """Return the share of the full rate in a step: up over the first tenth, then down."""
    warm = max(1, round(_WARM_UP * steps))
    return min(step / warm, (steps + 1 - step) / (steps + 1 - warm))


def _states(
    model: PreTrainedModel, encoded: dict[str, list], rows: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    batch = {
        key: pad_sequence([torch.tensor(lines[i]) for i in rows], batch_first=True).to(device)
        for key, lines in encoded.items()
    }
    body = model.get_encoder() if model.config.is_encoder_decoder else model
    return body(**batch).last_hidden_state, batch["attention_mask"]


def _pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    import torch

    if targets.is_floating_point():
        return torch.nn.functional.mse_loss(outputs[:, 0], targets)
    return torch.nn.functional.cross_entropy(outputs, targets)


def _penalty(
    layer_penalty: Callable | None, states: torch.Tensor, mask: torch.Tensor, wanted: bool
) -> torch.Tensor:
    """Return the penalty; what it draws leaves the dropout of later steps as it is without it."""
    import torch

    if layer_penalty is None:
        return torch.tensor(torch.nan)
    gpus = [states.device] if states.is_cuda else []
    with torch.random.fork_rng(devices=gpus), torch.set_grad_enabled(wanted):
        value = layer_penalty(states, mask)
    if not isinstance(value, torch.Tensor) or value.ndim:
        shape = tuple(getattr(value, "shape", ()))
        raise ValueError(
            f"layer_penalty gave {type(value).__name__} of shape {shape}; return a tensor without "
            "dimensions"
        )
    return value


def _outputs(model: PreTrainedModel, head: torch.nn.Linear, encoded: dict[str, list]) -> np.ndarray:
    """Return the head's outputs for each row, (N, classes), the model being in eval mode."""
    import torch

    lengths = [len(ids) for ids in encoded["input_ids"]]
    out = np.empty((len(lengths), head.out_features), dtype=np.float32)
    with torch.inference_mode():
        for rows in reading.batches(lengths, rows=64):
            states, mask = _states(model, encoded, rows, head.weight.device)
            out[rows] = head(_pool(states, mask)).cpu().numpy()
    return out
