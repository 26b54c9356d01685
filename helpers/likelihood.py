"""Log-likelihoods of texts under a causal language model, one row a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import checks

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

BOS = ("tokenizer", "add", "none")
# Settings of models whose output is more than a product with the head's matrix, and the types that
# are known to use them in one way.
_SCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling")
_RESCALED = {
    "gemma2": "final_logit_softcapping",
    "cohere": "logit_scale",
    "cohere2": "logit_scale",
    "granite": "logits_scaling",
    "granitemoe": "logits_scaling",
}
# Listed as causal by transformers, but without a mask for each order every token sees all others.
_PERMUTED = ("xlnet",)


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

    One row a text, in their order: `log_likelihood`, the sum over its tokens after the first in
    float64; `first_token_log_likelihood`, that of the first token after a BOS, NaN without one;
    `n_tokens` of the text, a BOS not counted; `n_bytes` in UTF-8, of the whole text; `truncated`,
    whether tokens beyond `max_tokens`, or beyond what the model takes, were dropped.

    `bos` says whether a BOS token is put first: "tokenizer" as the tokenizer does by itself,
    "add" always, "none" never; `attrs["bos"]` of the table holds what was done. `model` is a
    causal model with its output head, or one without it whose head is its embedding matrix.
    Texts go through it sorted by length, padded on the right, at most `batch_tokens` tokens at a
    time (512 on a CPU, whose cache they fit, and 32,768 elsewhere), and the head sees `head_rows`
    of their vectors at a time; neither changes the result beyond rounding. Raises `ValueError` for
    no texts, a text without tokens, a model that is not causal or has no head, or one that rescales
    its output in a way not known here. Source: arXiv 2502.16173, eq. 1 and released code, which
    scores one text at a time and leaves the first token out.
    """
    import torch

    texts = checks.strings(texts, "texts")
    checks.choice(bos, BOS, "bos")
    body, head = body_and_head(model)
    if batch_tokens is None:
        batch_tokens = 512 if head.weight.device.type == "cpu" else 32_768
    checks.counts(batch_tokens=(batch_tokens, 1), head_rows=(head_rows, 1))
    start = start_tokens(tokenizer, bos)
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    lengths = np.array([len(row) for row in ids])
    if not lengths.min():
        raise ValueError(f"texts[{int(lengths.argmin())}] has no tokens; leave it out")
    limit = getattr(model.config, "max_position_embeddings", None) or max(lengths) + len(start)
    if max_tokens is not None:
        checks.counts(max_tokens=(max_tokens, 2))
        limit = min(limit, max_tokens + len(start))
    rows = [start + list(row)[: limit - len(start)] for row in ids]
    found = np.zeros((len(rows), 2))
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches([len(row) for row in rows], batch_tokens):
                for i, values in zip(
                    batch,
                    _token_scores(body, head, [rows[i] for i in batch], head_rows),
                    strict=True,
                ):
                    first = len(start)
                    found[i] = values[first:].sum(), values[:first].sum()
    finally:
        model.train(was_training)
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


def perplexity(scores: pd.DataFrame) -> float:
    """Return the perplexity over all texts of `score_texts`: exp of minus the mean a token.

    The mean is over the tokens after the first of each text. Raises `ValueError` when there are
    none.
    """
    checks.columns(scores, ("log_likelihood", "n_tokens"), "scores")
    tokens = (scores["n_tokens"] - 1).sum()
    if tokens < 1:
        raise ValueError("scores has no token after the first of a text; pass longer texts")
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
    is read without dropout, on its own device. Raises `ValueError` without a start, and for sizes
    below 1.
    """
    import torch

    checks.counts(n=(n, 1), n_tokens=(n_tokens, 1), seed=(seed, 0))
    if below is not None:
        checks.counts(below=(below, 1))
    if not len(start):
        raise ValueError("start is empty; give the token that the model begins a text with")
    words = model.config.vocab_size
    if bad := [token for token in start if token not in range(words)]:
        raise ValueError(f"start has {bad}; this model has tokens 0 to {words - 1}")
    room = getattr(model.config, "max_position_embeddings", None)
    if room and len(start) + n_tokens > room + 1:
        raise ValueError(
            f"n_tokens is {n_tokens}; this model takes {room} tokens, those of start included"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.empty(n, n_tokens, dtype=torch.long)
    last, past = torch.tensor([list(start)] * n), None
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for t in range(n_tokens):
                made = model(input_ids=last.to(model.device), past_key_values=past, use_cache=True)
                past = made.past_key_values
                # Drawn on the CPU, so that one seed gives one text on every device.
                p = torch.softmax(made.logits[:, -1, :below].double().cpu(), dim=1)
                last = torch.multinomial(p, 1, generator=generator)
                drawn[:, t] = last[:, 0]
    finally:
        model.train(was_training)
    return drawn.numpy()


def is_causal(model: PreTrainedModel) -> bool:
    """Tell whether a model, by its type, sees only the tokens before each one."""
    return _is_causal(model.config)


def _is_causal(config: PretrainedConfig) -> bool:
    from transformers.models.auto import modeling_auto

    return getattr(config, "is_decoder", False) or (
        config.model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and config.model_type not in _PERMUTED
        and config.model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )


def check_causal(config: PretrainedConfig) -> None:
    """Refuse the configuration of a model that sees the tokens to come, by `ValueError`."""
    if not _is_causal(config):
        raise ValueError(
            f"model is of the type {config.model_type}, which sees the tokens to come; pass a "
            "causal language model"
        )


def body_and_head(model: PreTrainedModel) -> tuple[PreTrainedModel, nn.Module | _Rescaled]:
    """Return the model up to its last hidden state, and what makes logits of it.

    What makes logits takes states and has a `weight`. Raises `ValueError` for a model that is not
    causal, has no output head, or rescales its logits in a way that is not known here.
    """
    from torch import nn

    if not hasattr(model, "config"):
        raise ValueError(f"model is {model!r}; pass a loaded one, as closed_book.load_causal gives")
    config = model.config
    check_causal(config)
    scaled = [name for name in _SCALED if getattr(config, name, None) not in (None, 1, 1.0)]
    if scaled and scaled != [_RESCALED.get(config.model_type)]:
        raise ValueError(f"model rescales its output ({scaled[0]}), which is not supported here")
    body, head = model.base_model, model.get_output_embeddings()
    if head is None:
        if not config.tie_word_embeddings:
            raise ValueError(
                "model has no output head; load it with transformers.AutoModelForCausalLM"
            )
        embeddings = model.get_input_embeddings().weight
        head = nn.Linear(embeddings.shape[1], 1, bias=False, device="meta")
        head.weight, body = embeddings, model
    return body, _Rescaled(head, scaled[0], getattr(config, scaled[0])) if scaled else head


class _Rescaled:
    """An output layer whose logits are scaled, or softly capped, by a setting of the model."""

    def __init__(self, head: nn.Module, setting: str, value: float) -> None:
        self.head, self.setting, self.value = head, setting, value

    @property
    def weight(self) -> Tensor:
        """Return the matrix of the layer."""
        return self.head.weight

    def __call__(self, states: Tensor) -> Tensor:
        """Return the logits of states."""
        logits = self.head(states)
        if self.setting == "logit_scale":
            return logits * self.value
        if self.setting == "logits_scaling":
            return logits / self.value
        return (logits / self.value).tanh() * self.value


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


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Give the numbers of the texts by length, so that padded batches have `most` tokens."""
    batch: list[int] = []
    for i in np.argsort(lengths, kind="stable"):
        if batch and lengths[i] * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(int(i))
    yield batch


def _token_scores(
    body: PreTrainedModel,
    head: nn.Module | _Rescaled,
    rows: Sequence[Sequence[int]],
    head_rows: int,
) -> list[np.ndarray]:
    """Return for each text the log-likelihoods of its tokens from the second on, in float64."""
    import torch

    lengths = [len(row) for row in rows]
    ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    ids, mask = ids.to(head.weight.device), mask.to(head.weight.device)
    states = body(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    scored = mask[:, 1:].bool()
    scores = head_scores(head, states[:, :-1][scored], ids[:, 1:][scored], head_rows)
    return np.split(scores, np.cumsum([n - 1 for n in lengths])[:-1])


def head_scores(
    head: nn.Module | _Rescaled, states: Tensor, targets: Tensor, head_rows: int
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


if __name__ == "__main__":
    import sys

    from helpers import likelihood_runs

    sys.exit(likelihood_runs.main())
