"""What a causal language model answers from its weights alone: probabilities, samples, grades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import decoders, likelihood, reading, validation

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def answer_log_probability(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    temperature: float = 1.0,
    batch_tokens: int = 512,
) -> pd.DataFrame:
    """Return log P(answer | prompt) of one or many answers per prompt, in nats, exactly.

    `answers` holds a list of strings for each prompt, each with the space it begins with. One row
    an answer, in order: `prompt` and `answer` (their numbers, the second within the prompt),
    `log_probability`, the sum over the answer's tokens in float64, and `n_tokens`. Nothing is
    said of what follows the answer. With a `temperature` T logits are divided by it, as in
    sampling: exp(log_probability) is then the share of samples that begin with these tokens.

    Prompts of one length go through the model together, and answers go on from their states, or
    are read again with their prompts where the model's cache does not give its own logits
    (`decoders.prove`); nothing is padded, so `batch_tokens` changes the result by rounding only.
    The first token has its probability from the prompt alone, the others from the prompt with the
    answer, which counts where positions depend on the length of a text (longrope).
    Raises `ValueError` for no prompts, a prompt or an answer without tokens, an answer whose first
    letters merge into the prompt's last token, a temperature not above 0, or a model that is not
    causal or whose output is not finite. Source: the chain rule.

    >>> from tokenizers import Tokenizer, models
    >>> from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    >>> from helpers.retrieval import answer_log_probability
    >>> letters = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2, " ": 3}, []))
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters)
    >>> sizes = {"vocab_size": 4, "n_embd": 8, "n_head": 1, "n_layer": 1}
    >>> model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    >>> _ = model.transformer.ln_f.weight.data.zero_()  # every letter is as likely
    >>> answer_log_probability(model, tokenizer, ["a b"], [[" c", " ca"]]).round(3)
       prompt  answer  log_probability  n_tokens
    0       0       0           -2.773         2
    1       0       1           -4.159         3
    """
    validation.counts(batch_tokens=(batch_tokens, 1))
    prompt_ids = _prompt_ids(tokenizer, prompts, temperature)
    answer_ids = _answer_ids(tokenizer, prompts, prompt_ids, answers)
    found = [np.zeros(len(row)) for row in answer_ids]
    decoder = decoders.prove(model)
    with reading.inference(model):
        lengths = [len(ids) for ids in prompt_ids]
        for chosen in reading.batches(lengths, tokens=batch_tokens, apart=True):
            states, cache = decoder.begin(_tensor([prompt_ids[i] for i in chosen], model))
            scores = _log_softmax(decoder.logits(states[:, -1]), temperature)
            for row, i in enumerate(chosen):
                found[i] += scores[row, [ids[0] for ids in answer_ids[i]]].double().numpy()
            for group in _beginnings(chosen, answer_ids, batch_tokens):
                whole = _tensor([[*prompt_ids[chosen[r]], *b] for r, b in group], model)
                states, _ = decoder.go_on(whole, cache, [r for r, _ in group])
                m = len(next(iter(group))[1])
                states = states[:, -m:]
                scores = _log_softmax(decoder.logits(states.flatten(0, 1)), temperature)
                scores = scores.unflatten(0, states.shape[:2])
                for at, ((row, _), ends) in enumerate(group.items()):
                    i = chosen[row]
                    for j in ends:
                        rest = answer_ids[i][j][1:]
                        found[i][j] += float(scores[at, range(m), rest].double().sum())
    likelihood.check_finite(np.concatenate(found), "answers")
    table = [
        (i, j, found[i][j], len(ids))
        for i, row in enumerate(answer_ids)
        for j, ids in enumerate(row)
    ]
    return pd.DataFrame(table, columns=["prompt", "answer", "log_probability", "n_tokens"])


def sample_continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    n: int = 4,
    temperature: float = 0.7,
    max_new_tokens: int = 12,
    seed: int = 0,
) -> list[list[str]]:
    """Return `n` sampled continuations of each prompt, without the prompt.

    Tokens are drawn from the softmax of the logits over `temperature`, at most `max_new_tokens` of
    them, fewer where the model ends its text. A prompt's draws depend on its text and the seed
    alone, not on its neighbours: the same prompt and seed give the same texts. Source: the protocol
    of arXiv 2502.04066, released code, has 20 samples of 32 tokens at 0.7 for each of 20 templates.
    """
    prompt_ids = _prompt_ids(tokenizer, prompts, temperature)
    decoder = decoders.prove(model)
    # A text ends where the tokenizer, or the model's settings for generation, say so.
    ends = {tokenizer.eos_token_id, _end_of(model)} - {None}
    found: list[list[str]] = [[] for _ in prompts]
    with reading.inference(model):
        lengths, most = [len(ids) for ids in prompt_ids], max(1, 128 // n)
        for chosen in reading.batches(lengths, rows=most, apart=True):
            keys = [[seed, *prompts[i].encode()] for i in chosen]
            u = [np.random.default_rng(key).random((n, max_new_tokens)) for key in keys]
            begins = [prompt_ids[i] for i in chosen]
            rows = _draw(decoder, begins, np.concatenate(u), temperature, ends)
            for k, ids in enumerate(rows):
                text = tokenizer.decode(ids, skip_special_tokens=True)
                found[chosen[k // n]].append(text)
    return found


def grade(
    continuations: Sequence[Sequence[str]],
    answers: Sequence[str],
    *,
    prompts: Sequence[str] | None = None,
) -> np.ndarray:
    """Return the share of each prompt's continuations that hold its answer, shape (n_prompts,).

    An answer is held when it is a substring; spaces around it do not count. Only continuations
    are graded. With `prompts` each is graded together with what follows it, which is how most
    released accuracies of arXiv 2502.04066 were made: an answer in the question then scores 1.
    Raises `ValueError` for an empty answer.
    """
    answers = validation.strings(answers, "answers")
    shares = np.empty(len(answers))
    for i, (texts, answer) in enumerate(zip(continuations, answers, strict=True)):
        if not (wanted := answer.strip()):
            raise ValueError(f"answers[{i}] is empty; leave this prompt out")
        before = "" if prompts is None else prompts[i]
        shares[i] = np.mean([wanted in before + text for text in texts])
    return shares


def _end_of(model: PreTrainedModel) -> int | None:
    end = getattr(model.config, "eos_token_id", None)
    return end[0] if isinstance(end, list) else end


def _prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], temperature: float
) -> list[list[int]]:
    prompts = validation.strings(prompts, "prompts")
    validation.positive(temperature, "temperature")
    start = likelihood.start_tokens(tokenizer, "tokenizer")
    ids = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    for i, row in enumerate(ids):
        if not row:
            raise ValueError(f"prompts[{i}] has no tokens; leave it out")
    return [start + list(row) for row in ids]


def _answer_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    prompt_ids: list[list[int]],
    answers: Sequence[Sequence[str]],
) -> list[list[list[int]]]:
    """Return each answer's tokens as they are after its prompt."""
    if len(answers) != len(prompts):
        raise ValueError(
            f"answers has length {len(answers)} but prompts has {len(prompts)}; pass a list of "
            "answers a prompt"
        )
    n_start = len(likelihood.start_tokens(tokenizer, "tokenizer"))
    found = []
    for i, (prompt, row) in enumerate(zip(prompts, answers, strict=True)):
        if isinstance(row, str) or not len(row):
            raise ValueError(f"answers[{i}] is empty or one string; pass a list of strings")
        whole = tokenizer([prompt + a for a in row], add_special_tokens=False)["input_ids"]
        begins = prompt_ids[i][n_start:]
        for answer, ids in zip(row, whole, strict=True):
            if list(ids[: len(begins)]) != begins or len(ids) == len(begins):
                raise ValueError(
                    f"answer {answer!r} has no tokens of its own after {prompt!r}; begin it with a "
                    "space, and end the prompt without one"
                )
        found.append([list(ids[len(begins) :]) for ids in whole])
    return found


def _beginnings(
    chosen: Sequence[int], answer_ids: list[list[list[int]]], most: int
) -> Iterator[dict[tuple[int, tuple[int, ...]], list[int]]]:
    """Give what stands before the last token of answers, of one length, with these answers.

    A key is a row of the batch and the tokens, a value the numbers of the answers that go on so.
    """
    ends: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for row, i in enumerate(chosen):
        for j, ids in enumerate(answer_ids[i]):
            if len(ids) > 1:
                ends.setdefault((row, tuple(ids[:-1])), []).append(j)
    keys = list(ends)
    for some in reading.batches([len(ids) for _, ids in keys], tokens=most, apart=True):
        yield {keys[i]: ends[keys[i]] for i in some}


def _tensor(rows: Sequence[Sequence[int]], model: PreTrainedModel) -> Tensor:
    import torch

    return torch.tensor(np.asarray(rows), dtype=torch.long, device=model.device)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return (logits.float() / temperature).log_softmax(dim=-1).cpu()


def _draw(
    decoder: decoders.Decoder,
    begins: Sequence[Sequence[int]],
    u: np.ndarray,
    temperature: float,
    ends: set[int],
) -> list[list[int]]:
    """Return tokens drawn after beginnings of one length by the uniform numbers `u` (rows, k).

    The first rows of `u` are for the first beginning, as many for the second, and so on.
    """
    import torch

    rows: list[list[int]] = [[] for _ in u]
    going = np.ones(len(u), dtype=bool)
    ids = _tensor(begins, decoder.model)
    states, cache = decoder.begin(ids)
    owner = np.repeat(np.arange(len(begins)), len(u) // len(begins)).tolist()
    ids, states, chosen = ids[owner], states[owner, -1], owner
    for step in range(u.shape[1]):
        weights = _log_softmax(decoder.logits(states), temperature).double().exp_().cumsum(dim=-1)
        aim = torch.tensor(u[:, step : step + 1], dtype=weights.dtype) * weights[:, -1:]
        tokens = torch.searchsorted(weights, aim, right=True)[:, 0].clamp(max=weights.shape[1] - 1)
        for k, token in enumerate(tokens.tolist()):
            going[k] &= token not in ends
            if going[k]:
                rows[k].append(token)
        if not going.any() or step + 1 == u.shape[1]:
            break
        ids = torch.cat([ids, tokens[:, None].to(ids.device)], dim=1)
        states, cache = decoder.go_on(ids, cache, chosen)
        states, chosen = states[:, -1], None
    return rows
