"""What a model reads at once: how many tokens, and rows of them filled up to one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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


def padded(
    rows: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> tuple[Tensor, Tensor]:
    """Return rows of tokens filled up on the right, int64 (N, T), and 1 where their tokens are.

    Neither the tokenizer's side of padding nor a lack of a token for it matters.
    """
    import torch

    pad = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    seen = torch.zeros((len(rows), width), dtype=torch.long)
    for line, mask, row in zip(ids, seen, rows, strict=True):
        line[: len(row)], mask[: len(row)] = torch.as_tensor(np.asarray(row)), 1
    return ids, seen
