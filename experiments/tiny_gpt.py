"""Tiny GPTs trained from nothing: a word tokenizer, the model, its training, exact answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import checkpoints, validation

if TYPE_CHECKING:
    import torch
    from transformers import GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

END = "<end>"
# Part of every checkpoint's key: raise it when the same arguments would give other weights.
VERSION = 1


def word_tokenizer(documents: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a word or punctuation mark that the documents have.

    Token 0 is `<end>`, put before every text, which also ends a document in training and stands
    for words never seen; the others are in alphabetical order. Raises `ValueError` for documents
    without a word.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    words = {word for text in documents for word, _ in split.pre_tokenize_str(text)}
    if not words:
        raise ValueError("documents has no word; pass texts")
    vocabulary = {word: i for i, word in enumerate([END, *sorted(words - {END})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=END, pad_token=END
    )


def new_gpt(
    tokenizer: PreTrainedTokenizerFast,
    *,
    width: int = 64,
    layers: int = 2,
    context: int = 32,
    seed: int = 0,
) -> GPT2LMHeadModel:
    """Return a GPT-2 with random weights: `width` wide, heads 16 wide, tied embeddings, no dropout.

    `context` is the number of tokens that it can read. The random state of torch outside is left
    as it is. Raises `ValueError` unless `width` is a multiple of 16 and all sizes are positive.
    Source: Radford et al. (2019), as in `transformers`.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    validation.counts(width=(width, 16), layers=(layers, 1), context=(context, 2))
    if width % 16:
        raise ValueError(f"width is {width}; give a multiple of 16, the width of a head")
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=width // 16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def train(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[str],
    *,
    epochs: int = 4,
    batch: int = 64,
    learning_rate: float = 2e-3,
    warm_up: int = 200,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    measure: Callable[[], Mapping[str, float]] | None = None,
) -> pd.DataFrame:
    """Train a model on all tokens of documents, in place, and return its course, a row an epoch.

    Every document is a sequence of its own, between two `<end>`; `batch` of them make a step of
    AdamW (weight decay 0.01, gradients clipped at norm 1). The rate is that of a model 64 wide; for
    others it is multiplied by sqrt(64 / width). It rises over `warm_up` steps and falls to zero by
    a cosine. `seed` orders the documents anew in every epoch.

    With `checkpoint`, the path of a file, every epoch ends with a save, and a run that was stopped
    goes on from the last; the result is the same bit by bit on the same machine. The course has
    `epoch`, from 1, `loss` (mean of its steps, nats a token) and what `measure`, called after each
    epoch with the model ready to read, returns. So the model is left at the end. Raises
    `ValueError` for a document longer than the context of the model, for documents fewer than
    `batch`, for bad sizes and for a checkpoint of another run.
    """
    import torch

    validation.counts(epochs=(epochs, 1), batch=(batch, 1), warm_up=(warm_up, 0))
    rows = _encode(model, tokenizer, documents)
    if len(rows) < batch:
        raise ValueError(f"documents has length {len(rows)}, less than batch {batch}; give more")
    device, per_epoch = model.device, len(rows) // batch
    rate = learning_rate * (64 / model.config.n_embd) ** 0.5
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    options = [VERSION, epochs, batch, learning_rate, warm_up, seed, torch.__version__, device.type]
    run = checkpoints.digest(model.state_dict(), options, hashlib.sha256(rows).hexdigest())
    path = None if checkpoint is None else Path(checkpoint)
    course = [] if path is None else resume(path, run, model, optimizer)
    for epoch in range(len(course), epochs):
        model.train()
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        total = 0.0
        for i, members in enumerate(np.array_split(order, per_epoch)):
            step = epoch * per_epoch + i
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(step, epochs * per_epoch, warm_up)
            total += take_step(model, rows[members], optimizer)
        model.eval()
        row = {"epoch": epoch + 1, "loss": total / per_epoch}
        course.append(row | dict(measure() if measure else {}))
        if path is not None:
            save(path, run, model, optimizer, course)
    model.eval()
    return pd.DataFrame(course)


def _encode(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]
) -> np.ndarray:
    """Return the tokens of documents between two ends, one a row, filled up with -100."""
    if not len(documents):
        raise ValueError("documents is empty; give at least as many as batch")
    found = tokenizer(list(documents))["input_ids"]
    lengths = np.array([len(ids) + 1 for ids in found])
    if lengths.max() > model.config.n_positions:
        raise ValueError(
            f"the longest of {len(found)} documents has {lengths.max()} tokens with its "
            f"ends, and the model reads {model.config.n_positions}; make it with a larger context"
        )
    rows = np.full((len(found), lengths.max()), -100, dtype=np.int64)
    for row, ids in zip(rows, found, strict=True):
        row[: len(ids) + 1] = [*ids, tokenizer.eos_token_id]
    return rows


def take_step(model: PreTrainedModel, rows: np.ndarray, optimizer: torch.optim.Optimizer) -> float:
    """Take one step of an optimizer on rows of tokens, and return the loss before it.

    `rows` (B, T) holds a text a row, filled up with -100 on the right, outside the loss; the loss
    is the mean over all tokens after the first of a row, nats. Gradients are clipped at norm 1.
    """
    import torch

    rows = rows[:, : int((rows >= 0).any(axis=0).sum())]
    labels = torch.from_numpy(rows).to(model.device)
    logits = model(labels.clamp_min(0), use_cache=False).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Return the share of the full rate in a step, from 0: a linear rise, and a cosine to zero."""
    rise = min(1.0, (step + 1) / (warm_up + 1))
    return rise * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


def save(
    path: Path, run: str, model: PreTrainedModel, optimizer: torch.optim.Optimizer, course: list
) -> None:
    """Write a checkpoint of a run: the model, its optimizer and its course, a row a piece."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    checkpoints.write(path, run, tensors | checkpoints.optimizer_tensors(optimizer), course)


def resume(
    path: Path, run: str, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Put back what `save` wrote and return its course; without a checkpoint, an empty one.

    Raises `ValueError` for the checkpoint of another run.
    """
    found = checkpoints.read(path, run)
    if found is None:
        return []
    tensors, course = found
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    model.load_state_dict(weights)
    checkpoints.restore_optimizer(optimizer, tensors)
    return course
