"""What a masked language model makes of texts: its pseudo-log-likelihood, and words it fills in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import likelihood, reading, validation

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    every: int = 7,
    batch_tokens: int | None = None,
) -> pd.DataFrame:
    """Return the pseudo-log-likelihood of each text under a masked language model, in nats.

    Every token is hidden once, each time together with every `every`-th other one, and scored by
    what the model puts in its place; special tokens are neither hidden nor scored. With `every` no
    smaller than the longest text each token is hidden alone. One row per text: `log_likelihood`,
    the sum in float64, `n_tokens`, `n_bytes` of the whole text, and `truncated`, whether tokens
    beyond what the model takes were dropped. It is no probability of a text:
    compare masked models with one another, never with causal ones. Texts go through the model
    `batch_tokens` tokens at a time, 2,048 by default, which changes rounding only. Source: Salazar
    et al. (2020), who hide one token at a time.
    """
    import torch

    texts = validation.strings(texts, "texts")
    batch_tokens = 2048 if batch_tokens is None else batch_tokens
    _check_masked(model, tokenizer)
    rows, special, cut = _encode(model, tokenizer, texts)
    work = [(i, r) for i, row in enumerate(rows) for r in range(min(every, len(row)))]
    found = np.zeros(len(rows))
    device = model.device
    with reading.inference(model):
        lengths = [len(rows[i]) for i, _ in work]
        for some in reading.batches(lengths, tokens=batch_tokens, model=model):
            chosen = [work[k] for k in some]
            ids, seen, asked = _hidden(chosen, rows, special, every, tokenizer)
            logits = model(input_ids=ids.to(device), attention_mask=seen.to(device)).logits
            scores = logits[asked.to(device)].double().log_softmax(dim=-1).cpu()
            target = torch.cat(
                [torch.tensor(rows[i])[_places(special[i], every, r)] for i, r in chosen]
            )
            values = scores.gather(1, target[:, None])[:, 0].numpy()
            owner = [i for i, r in chosen for _ in _places(special[i], every, r)]
            np.add.at(found, owner, values)
    likelihood.check_finite(found, "texts")
    return pd.DataFrame(
        {
            "log_likelihood": found,
            "n_tokens": [int((~s).sum()) for s in special],
            "n_bytes": [len(text.encode()) for text in texts],
            "truncated": cut,
        }
    )


def fill_log_probability(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    temperature: float = 1.0,
) -> np.ndarray:
    """Return log P of one token in place of the mask of each prompt, nats, shape (n,).

    Every prompt holds the tokenizer's mask token once, and every answer, written as it stands in a
    text with the space before it, is one token. Logits are divided by `temperature`. Raises
    `ValueError` otherwise, and for a model or tokenizer without masks.
    """
    import torch

    _check_masked(model, tokenizer)
    wanted = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
    if long := [a for a, ids in zip(answers, wanted, strict=True) if len(ids) != 1]:
        raise ValueError(f"answers has {long[0]!r}, which is not one token; ask for another word")
    rows = [np.array(ids) for ids in tokenizer(list(prompts))["input_ids"]]
    places = [np.flatnonzero(row == tokenizer.mask_token_id) for row in rows]
    if bad := [p for p, at in zip(prompts, places, strict=True) if len(at) != 1]:
        raise ValueError(f"prompts has {bad[0]!r}; put {tokenizer.mask_token} in it once")
    out = np.empty(len(rows))
    with reading.inference(model):
        for chosen in reading.batches(list(map(len, rows)), rows=256, model=model):
            ids, seen = reading.padded([rows[i] for i in chosen], tokenizer)
            at = torch.tensor([int(places[i][0]) for i in chosen])
            logits = model(
                input_ids=ids.to(model.device), attention_mask=seen.to(model.device)
            ).logits[torch.arange(len(chosen)), at]
            scores = (logits.double() / temperature).log_softmax(dim=-1).cpu().numpy()
            out[chosen] = [row[wanted[i][0]] for row, i in zip(scores, chosen, strict=True)]
    likelihood.check_finite(out, "answers")
    return out


def _check_masked(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model without an output over words, or a tokenizer without a mask."""
    if tokenizer.mask_token_id is None:
        raise ValueError("tokenizer has no mask token; pass that of a masked language model")
    if not type(model).__name__.endswith("ForMaskedLM"):
        raise ValueError(
            f"model is a {type(model).__name__}, without an output over words; load it as a "
            "masked language model"
        )


def _encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[list[list[int]], list[np.ndarray], list[bool]]:
    """Return tokens with the special ones, where these are, and which texts were cut."""
    room = reading.room(model, tokenizer)
    found = tokenizer(
        list(texts), truncation=room is not None, max_length=room, return_special_tokens_mask=True
    )
    whole = [len(ids) for ids in tokenizer(list(texts))["input_ids"]]
    rows = found["input_ids"]
    special = [np.array(marks, dtype=bool) for marks in found["special_tokens_mask"]]
    for i, marks in enumerate(special):
        if marks.all():
            raise ValueError(f"texts[{i}] has no tokens; leave it out")
    return rows, special, [len(row) < n for row, n in zip(rows, whole, strict=True)]


def _places(special: np.ndarray, every: int, remainder: int) -> np.ndarray:
    """Return the places hidden together: every `every`-th of those that are not special."""
    return np.flatnonzero(~special)[remainder::every]


def _hidden(
    chosen: Sequence[tuple[int, int]],
    rows: Sequence[Sequence[int]],
    special: Sequence[np.ndarray],
    every: int,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of a batch with some places hidden, what is no padding, and these places."""
    import torch

    ids, seen = reading.padded([rows[i] for i, _ in chosen], tokenizer)
    asked = torch.zeros(ids.shape, dtype=torch.bool)
    for k, (i, r) in enumerate(chosen):
        asked[k, torch.from_numpy(_places(special[i], every, r))] = True
    ids[asked] = tokenizer.mask_token_id
    return ids, seen, asked
