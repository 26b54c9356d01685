"""Tiny GPTs of bytes: their tokenizer, training by steps, exact scores, and exact samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments import tiny_gpt, training
from helpers import fine_tuning, likelihood

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

START = 256
# With the start, a text of the map's length.
CONTEXT = 1025


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose token numbers are the bytes of UTF-8, and 256 the start of a text.

    The start, `<end>`, is also its end, as in `tiny_gpt`. Source: the bytes of Radford et al.
    (2019), without merges.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    vocabulary = {letters[byte]: byte for byte in range(256)} | {tiny_gpt.END: START}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tiny_gpt.with_ends(tokenizer, START)


def new_gpt(
    *, width: int = 64, layers: int = 2, context: int = CONTEXT, seed: int = 0
) -> GPT2LMHeadModel:
    """Return a GPT-2 of bytes with random weights, by `tiny_gpt.new_gpt`; raises what it does."""
    return tiny_gpt.new_gpt(
        _byte_tokenizer(), width=width, layers=layers, context=context, seed=seed
    )


def train(
    model: GPT2LMHeadModel,
    documents: Sequence[str | bytes],
    steps: int,
    *,
    batch: int = 2,
    learning_rate: float = 2e-3,
    warm_up: int = 32,
    seed: int = 0,
    keep: Collection[int] = (),
    at: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Train a model of bytes on documents, in place, for a number of steps; one row a step.

    A step of AdamW (weight decay 0.01, gradients clipped at norm 1) takes the next `batch`
    documents, each after the start and cut to the context; they come in an order drawn anew
    every time all have been seen. The rate rises over `warm_up` steps and then stays,
    multiplied by sqrt(64 / width) as in `tiny_gpt.train`. `at` is called with every number of
    steps in `keep` when so many are done, 0 before the first. The table has `step` and `loss`,
    nats a byte.
    """
    rows = _rows(model, documents, cut=True)
    rate = learning_rate * (64 / model.config.n_embd) ** 0.5
    drawn = fine_tuning.draw_rows(len(rows), steps * batch, np.random.default_rng(seed))
    optimizer, losses = training.adamw(model), []
    if at is not None and 0 in keep:
        model.eval()
        at(0)
    for step, members in enumerate(drawn.reshape(steps, batch)):
        model.train()
        ids, mask = _padded([rows[i] for i in members])
        losses_of_bytes = -_log_softmax(model, ids).gather(2, ids[:, 1:, None])[..., 0]
        loss = (losses_of_bytes * mask).sum() / mask.sum()
        now = rate * min(1.0, (step + 1) / (warm_up + 1))
        losses.append(training.step(model, optimizer, loss, now))
        model.eval()
        if at is not None and step + 1 in keep:
            at(step + 1)
    model.eval()
    return pd.DataFrame({"step": np.arange(1, steps + 1), "loss": losses})


def _byte_log_likelihoods(model: GPT2LMHeadModel, texts: Sequence[str | bytes]) -> np.ndarray:
    """Return the log-likelihood of every byte of all texts in a row, shape (bytes,), nats.

    The first byte is scored after the start, and the start itself is never an outcome: the model's
    probabilities of the 256 bytes are made to add up to one. Raises `ValueError` for no texts, an
    empty one, and one longer than the context.
    """
    pieces = [row[1:] for row in _rows(model, texts)]
    pairs = zip(_tables(model, texts), pieces, strict=True)
    parts = [table[np.arange(len(row)), row] for table, row in pairs]
    return np.concatenate(parts).astype(np.float64)


def log_likelihood(model: GPT2LMHeadModel, texts: Sequence[str | bytes]) -> np.ndarray:
    """Return the log-likelihood of each text, shape (n,), float64, nats, first byte included.

    Raises what `_byte_log_likelihoods` does.
    """
    lengths = [len(row) - 1 for row in _rows(model, texts)]
    return np.add.reduceat(_byte_log_likelihoods(model, texts), np.cumsum([0, *lengths[:-1]]))


def conditionals(model: GPT2LMHeadModel, texts: Sequence[str | bytes]) -> list[np.ndarray]:
    """Return the probabilities of each next byte along texts, one array (bytes, 256) a text.

    Raises what `_byte_log_likelihoods` does.
    """
    found = [np.exp(table.astype(np.float64)) for table in _tables(model, texts)]
    return [table / table.sum(axis=1, keepdims=True) for table in found]


def sample(model: GPT2LMHeadModel, n: int, n_bytes: int, *, seed: int = 0) -> list[bytes]:
    """Draw `n` texts of `n_bytes` bytes from the model, exactly and independently."""
    drawn = likelihood.draw_tokens(model, [START], n, n_bytes, below=START, seed=seed)
    return [row.tobytes() for row in drawn.astype(np.uint8)]


def _rows(
    model: GPT2LMHeadModel, texts: Sequence[str | bytes], *, cut: bool = False
) -> list[np.ndarray]:
    """Return for each text the start and its bytes."""
    pieces = [text.encode() if isinstance(text, str) else bytes(text) for text in texts]
    most = model.config.n_positions - 1
    if cut:
        pieces = [piece[:most] for piece in pieces]
    if max(map(len, pieces)) > most:
        raise ValueError(
            f"the longest of {len(pieces)} texts has {max(map(len, pieces))} bytes, and the model "
            f"reads {most}; cut it, or make a model with a larger context"
        )
    return [np.array([START, *piece], dtype=np.int64) for piece in pieces]


def _padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return rows filled up with zeros on the right, and where their bytes are."""
    import torch

    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros(len(rows), ids.shape[1] - 1)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row) - 1] = torch.from_numpy(row), 1
    return ids, mask


def _log_softmax(model: GPT2LMHeadModel, ids: Tensor) -> Tensor:
    logits = model(ids[:, :-1], use_cache=False).logits[..., :START]
    return logits.log_softmax(dim=-1)


def _tables(model: GPT2LMHeadModel, texts: Sequence[str | bytes]) -> Iterator[np.ndarray]:
    """Give for each text, in order, the log-probabilities of the next byte, (bytes, 256)."""
    import torch

    rows = _rows(model, texts)
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(rows), 8):
            some = rows[first : first + 8]
            ids, _ = _padded(some)
            tables = _log_softmax(model, ids).numpy()
            yield from (table[: len(row) - 1] for table, row in zip(tables, some, strict=True))
