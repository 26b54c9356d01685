"""What a model reads at once: how many tokens, and rows of them filled up to one length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@contextmanager
def inference(model: PreTrainedModel) -> Iterator[None]:
    """Read with a model without dropout and gradients; its mode comes back whatever happens."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def room(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    most: int | None = None,
) -> int | None:
    """Return how many tokens of a text, the special ones included, a model takes.

    It is the least of its configuration, of its table of positions, which in RoBERTa and its kin
    begins after the number of the padding, of what its tokenizer says, and of `most`; None where
    nobody sets a limit.
    """
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), most]
    limits.append(getattr(tokenizer, "model_max_length", None))
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            limits.append(len(part.weight) - part.padding_idx - 1)
    # A tokenizer that knows of no limit says 10**30, and XLNet's configuration -1.
    known = [int(limit) for limit in limits if limit and 0 < limit < 10**9]
    return min(known) if known else None


# Encoders that mix the places of a text without looking at the mask (a Fourier transform, a
# convolution, landmarks or hashes of all places): the vectors would hang on the padding behind.
_READ_PADDING = ("convbert", "fnet", "mobilebert", "nystromformer", "yoso")


def batches(
    lengths: Sequence[int],
    *,
    rows: int | None = None,
    tokens: int | None = None,
    apart: bool = False,
    model: PreTrainedModel | None = None,
) -> Iterator[np.ndarray]:
    """Give the numbers of texts by length, in batches of at most so many rows and tokens.

    Tokens are counted with the padding. With `apart` a batch has texts of one length, which need
    none, and so it has for a `model` that reads padding.
    """
    lengths = np.asarray(lengths)
    order = np.argsort(lengths, kind="stable")
    apart = apart or model is not None and model.config.model_type in _READ_PADDING
    first = 0
    for end in range(1, len(order) + 1):
        longest = lengths[order[end]] if end < len(order) else 0
        many = end - first == rows or (tokens is not None and longest * (end - first + 1) > tokens)
        if end == len(order) or many or (apart and longest != lengths[order[first]]):
            yield order[first:end]
            first = end


def padded(
    rows: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[Tensor, Tensor]:
    """Return rows of tokens filled up on the right, int64 (N, T), and 1 where their tokens are.

    Neither the tokenizer's side of padding nor a lack of a token for it matters; 0 does otherwise.
    """
    import torch

    pad = getattr(tokenizer, "pad_token_id", None) or 0
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    seen = torch.zeros((len(rows), width), dtype=torch.long)
    for line, mask, row in zip(ids, seen, rows, strict=True):
        line[: len(row)], mask[: len(row)] = torch.as_tensor(np.asarray(row)), 1
    return ids, seen
