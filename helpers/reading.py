"""What a model reads at once: rows of tokens filled up to one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


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
