"""What all small trainers share: rows of tokens, AdamW, a step down a loss, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers import checkpoints

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import AdamW, Optimizer
    from transformers import PreTrainedModel


def filled(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Return rows of tokens in one array (n, longest), filled up with -100 on the right, int64."""
    out = np.full((len(rows), max(map(len, rows))), -100, dtype=np.int64)
    for line, row in zip(out, rows, strict=True):
        line[: len(row)] = row
    return out


def adamw(model: PreTrainedModel) -> AdamW:
    """Return AdamW on what of a model needs a gradient; `step` sets its rate."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, weight_decay=0.01, betas=(0.9, 0.98))


def next_token_loss(model: PreTrainedModel, rows: np.ndarray) -> Tensor:
    """Return the mean loss over all tokens after the first of a row, nats, of `filled` rows."""
    import torch

    rows = rows[:, : int((rows >= 0).any(axis=0).sum())]
    labels = torch.from_numpy(rows).to(model.device)
    logits = model(labels.clamp_min(0), use_cache=False).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


def step(model: PreTrainedModel, optimizer: AdamW, loss: Tensor, rate: float) -> float:
    """Take one step down a loss, gradients clipped at norm 1, and return the loss before it."""
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def schedule(number: int, steps: int, warm_up: int) -> float:
    """Return the share of the full rate in a step, from 0: a linear rise, and a cosine to zero."""
    rise = min(1.0, (number + 1) / (warm_up + 1))
    return rise * 0.5 * (1 + float(np.cos(np.pi * number / steps)))


def save(
    path: str | Path | None, run: str, model: PreTrainedModel, optimizer: AdamW, course: list
) -> None:
    """Write a checkpoint of a run: the model, its optimizer and its course; none without a path."""
    if path is not None:
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= _optimizer_tensors(optimizer)
        checkpoints.write(Path(path), run, tensors, course)


def resume(
    path: str | Path | None, run: str, model: PreTrainedModel, optimizer: AdamW
) -> list[dict[str, float]]:
    """Put back what `save` wrote and return its course; without a checkpoint, an empty one.

    Raises `ValueError` for the checkpoint of another run.
    """
    found = None if path is None else checkpoints.read(Path(path), run)
    if found is None:
        return []
    tensors, course = found
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    model.load_state_dict(weights)
    _restore_optimizer(optimizer, tensors)
    return course


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return what an optimizer has gathered, named `optimizer.NUMBER.FIELD`."""
    held = optimizer.state_dict()["state"].items()
    return {f"optimizer.{i}.{name}": t for i, state in held for name, t in state.items()}


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `_optimizer_tensors` returned; tensors of other names are left alone."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, field = name.split(".")
            state.setdefault(int(number), {})[field] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
