"""Log-likelihoods of texts under a causal language model, one row per text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import decoders, reading, stats, validation

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BOS = ("tokenizer", "add", "none")


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    bos: str = "tokenizer",
    max_tokens: int | None = None,
    batch_tokens: int | None = None,
    head_rows: int = 512,
) -> pd.DataFrame:
    """Return the log-likelihood of each text under a causal language model, in nats.

    One row per text, in their order: `log_likelihood`, the sum over its tokens after the first in
    float64; `first_token_log_likelihood`, that of the first token after a BOS, NaN without one;
    `n_tokens` of the text, a BOS not counted; `n_bytes` in UTF-8, of the whole text; `truncated`,
    whether tokens beyond `max_tokens`, or beyond what the model takes, were dropped.

    `bos` says whether a BOS token is put first: "tokenizer" as the tokenizer does by itself,
    "add" always, "none" never; `attrs["bos"]` of the table holds what was done. `model` is a
    causal model with its output head, or one without it whose head is its embedding matrix.
    Texts go through it sorted by length, padded on the right, at most `batch_tokens` tokens at a
    time (512 on a CPU, whose cache they fit, and 32,768 elsewhere), and logits are made of
    `head_rows` of their vectors at a time; neither changes the result beyond rounding. The logits
    are the model's own (`decoders.prove`): one that gives others when it is read so is read a text
    at a time, whole. Raises `ValueError` for no texts, a text without tokens, a model that is not
    causal or has no head, and one whose output is not finite. Source: arXiv 2502.16173, eq. 1 and
    released code, which scores one text at a time and leaves the first token out.

    >>> from tokenizers import Tokenizer, models
    >>> from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    >>> from helpers.likelihood import score_texts
    >>> letters = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2, " ": 3}, []))
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters)
    >>> sizes = {"vocab_size": 4, "n_embd": 8, "n_head": 1, "n_layer": 1}
    >>> model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    >>> _ = model.transformer.ln_f.weight.data.zero_()  # every letter is as likely
    >>> score_texts(model, tokenizer, ["ab", "abba"])[["log_likelihood", "n_tokens"]].round(3)
       log_likelihood  n_tokens
    0          -1.386         2
    1          -4.159         4
    """
    texts = validation.strings(texts, "texts")
    validation.choice(bos, BOS, "bos")
    decoder = decoders.prove(model)
    if batch_tokens is None:
        batch_tokens = 512 if model.device.type == "cpu" else 32_768
    validation.counts(batch_tokens=(batch_tokens, 1), head_rows=(head_rows, 1))
    start = start_tokens(tokenizer, bos)
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    lengths = np.array([len(row) for row in ids])
    if not lengths.min():
        raise ValueError(f"texts[{int(lengths.argmin())}] has no tokens; leave it out")
    limit = reading.room(model) or max(lengths) + len(start)
    if max_tokens is not None:
        validation.counts(max_tokens=(max_tokens, 2))
        limit = min(limit, max_tokens + len(start))
    rows = [start + list(row)[: limit - len(start)] for row in ids]
    found = np.zeros((len(rows), 2))
    with reading.inference(model):
        for batch in reading.batches([len(row) for row in rows], tokens=batch_tokens):
            for i, values in zip(
                batch,
                _token_scores(decoder, [rows[i] for i in batch], head_rows),
                strict=True,
            ):
                first = len(start)
                found[i] = values[first:].sum(), values[:first].sum()
    check_finite(found.sum(axis=1), "texts")
    table = pd.DataFrame(
        {
            "log_likelihood": found[:, 0],
            "first_token_log_likelihood": found[:, 1] if start else np.nan,
            "n_tokens": [len(row) - len(start) for row in rows],
            "n_bytes": [len(text.encode()) for text in texts],
            "truncated": [len(row) - len(start) < n for row, n in zip(rows, lengths, strict=True)],
        }
    )
    table.attrs["bos"] = tokenizer.convert_ids_to_tokens(start[0]) if start else None
    return table


def check_finite(values: np.ndarray, argument: str) -> None:
    """Refuse log-likelihoods of texts, shape (n,), of which one is NaN or infinite."""
    if not np.isfinite(values).all():
        bad = int(np.argmin(np.isfinite(values)))
        raise ValueError(
            f"model gives {argument}[{bad}] a log-likelihood of {values[bad]}; its weights are "
            "damaged or overflow: download it again, or take another"
        )


def bits_per_byte(
    log_likelihoods: ArrayLike,
    n_bytes: ArrayLike,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the bits per byte of texts, and the ends of an interval over texts.

    `log_likelihoods` (nats) and `n_bytes` have shape (n,). The interval is that of percentiles,
    whole texts drawn with replacement. Source: Efron and Tibshirani (1993), chapter 13.

    >>> import numpy as np
    >>> from helpers.likelihood import bits_per_byte
    >>> n_bytes = np.array([10, 20, 40])
    >>> bits_per_byte(-n_bytes * np.log(256), n_bytes)
    (8.0, 8.0, 8.0)
    """
    bits = -validation.numbers(log_likelihoods, "log_likelihoods") / np.log(2)
    sizes = validation.numbers(n_bytes, "n_bytes")
    drawn = stats.draws(len(bits), n_resamples, seed)
    sample = (drawn @ bits) / (drawn @ sizes)
    low, high = np.quantile(sample, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(bits.sum() / sizes.sum()), float(low), float(high)


def perplexity(scores: pd.DataFrame) -> float:
    """Return the perplexity over all texts of `score_texts`: exp of minus the mean a token.

    The mean is over the tokens after the first of each text.
    """
    tokens = (scores["n_tokens"] - 1).sum()
    return float(np.exp(-scores["log_likelihood"].sum() / tokens))


def draw_tokens(
    model: PreTrainedModel,
    start: Sequence[int],
    n: int,
    n_tokens: int,
    *,
    below: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Draw `n` texts of `n_tokens` tokens from a causal model, exactly, shape (n, n_tokens).

    `start` are the tokens before every text, one at least; with `below` only tokens of smaller
    numbers are drawn, their probabilities made to add up to one. The model has its output head; it
    is read without dropout, on its own device.
    """
    import torch

    room = reading.room(model)
    if room and len(start) + n_tokens > room + 1:
        raise ValueError(
            f"n_tokens is {n_tokens}; this model takes {room} tokens, those of start included"
        )
    decoder = decoders.prove(model)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([list(start)] * n, device=model.device)
    with reading.inference(model):
        states, cache = decoder.begin(ids)
        for t in range(n_tokens):
            # Drawn on the CPU, so that one seed gives one text on every device.
            logits = decoder.logits(states[:, -1])[:, :below].double().cpu()
            last = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)
            ids = torch.cat([ids, last.to(ids.device)], dim=1)
            if t + 1 < n_tokens:
                states, cache = decoder.go_on(ids, cache)
    return ids[:, len(start) :].cpu().numpy()


def start_tokens(tokenizer: PreTrainedTokenizerBase, bos: str) -> list[int]:
    """Return the tokens that stand before every text: a BOS, or none."""
    if not hasattr(tokenizer, "bos_token_id"):
        raise ValueError(f"tokenizer is {tokenizer!r}; pass the one that came with the model")
    number = tokenizer.bos_token_id
    if bos == "none":
        return []
    if bos == "add":
        if number is None:
            raise ValueError("bos is 'add', but tokenizer has no BOS token; pass 'none'")
        return [number]
    first = tokenizer("a")["input_ids"][:1]
    return [number] if number is not None and first == [number] else []


def _token_scores(
    decoder: decoders.Decoder, rows: Sequence[Sequence[int]], head_rows: int
) -> list[np.ndarray]:
    """Return for each text the log-likelihoods of its tokens from the second on, in float64."""
    alone = not decoder.padded or max(map(len, rows)) > decoder.limit
    if len(rows) > 1 and alone:
        return [_token_scores(decoder, [row], head_rows)[0] for row in rows]
    lengths = [len(row) for row in rows]
    ids, mask = (part.to(decoder.model.device) for part in reading.padded(rows))
    states, _ = decoder.read(ids, None if alone else mask, use_cache=False)
    scored = mask[:, 1:].bool()
    scores = head_scores(decoder.logits, states[:, :-1][scored], ids[:, 1:][scored], head_rows)
    return np.split(scores, np.cumsum([n - 1 for n in lengths])[:-1])


def head_scores(
    head: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor, head_rows: int = 512
) -> np.ndarray:
    """Return the log-likelihood of each target token from the state before it, float64, nats.

    `states` (n, width) and `targets` (n,); `head_rows` of them go through the head at a time.
    """
    from torch.nn.functional import cross_entropy

    found = np.empty(len(states))
    for start in range(0, len(states), head_rows):
        logits = head(states[start : start + head_rows]).float()
        losses = cross_entropy(logits, targets[start : start + head_rows], reduction="none")
        found[start : start + len(losses)] = -losses.double().cpu().numpy()
    return found
