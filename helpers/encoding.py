"""Embeddings of short texts by every layer of a language model, kept in the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import adapters, data, devices, model_sources, models, reading, storage, validation

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Part of every key: raise it when the same options would give other numbers.
_VERSION = 2
_FILES = ("*.json", "*.safetensors", "*.bin", "*.txt", "*.model")


def layer_embeddings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    pooling: str = "mean",
    layers: Sequence[int] | None = None,
    batch_size: int = 64,
    max_tokens: int = 256,
) -> np.ndarray:
    """Return one vector per text from each layer, shape (n_layers + 1, N, width), float32.

    Layer 0 is the token embedding, the last layer what the model hands on. `pooling="mean"`
    averages over the tokens of the text, the special ones included and padding never; "last" takes
    the last token, the only one of a decoder that has seen the whole text. `layers` picks some
    layers, by number, and their order; None takes all. Texts go through in order of length, which
    changes nothing but the time, and are cut at `max_tokens`. Raises `ValueError` for no texts, a
    text without tokens, an unknown layer, a layer that has not one vector of the model's width for
    each token, or states that are not finite.

    >>> from helpers.encoding import layer_embeddings
    >>> from helpers.models import load_model
    >>> tokenizer, encoder = load_model()
    >>> layers = layer_embeddings(encoder, tokenizer, ["Rome", "ROME", "Paris"])
    >>> layers.shape, bool((layers[:, 0] == layers[:, 1]).all())
    ((7, 3, 384), True)
    """
    import torch

    validation.choice(pooling, ("mean", "last"), "pooling")
    texts = validation.strings(texts, "texts")
    validation.counts(batch_size=(batch_size, 1), max_tokens=(max_tokens, 1))
    body = model.get_encoder() if model.config.is_encoder_decoder else model
    wanted = _layer_numbers(model, layers)
    limit = reading.room(model, tokenizer, max_tokens)
    ids = tokenizer([str(text) for text in texts], truncation=True, max_length=limit)["input_ids"]
    lengths = np.array([len(row) for row in ids])
    if lengths.min() == 0:
        empty = int(lengths.argmin())
        raise ValueError(f"texts[{empty}] ({texts[empty]!r}) has no tokens; leave it out")
    out = np.empty((len(wanted), len(texts), model.config.hidden_size), dtype=np.float32)
    with reading.inference(model):
        for rows, mask, found in _read(body, tokenizer, ids, batch_size, hidden=True):
            # A model without layers gives no states but its last, the embeddings.
            states = found.hidden_states or (found.last_hidden_state,)
            if any(each.shape[1] != mask.shape[1] for each in states):
                raise ValueError(
                    f"model, of the type {model.config.model_type}, shortens a text between "
                    "its layers, which have no vector for each token; pass another"
                )
            weight = mask if pooling == "mean" else torch.eye(mask.shape[1])[lengths[rows] - 1]
            weight = (weight / weight.sum(dim=1, keepdim=True)).to(model.device)
            for line, layer in zip(out, wanted, strict=True):
                if states[layer].shape[2] != out.shape[2]:
                    raise ValueError(
                        f"model gives {states[layer].shape[2]} numbers a token in layer {layer}, "
                        f"where its width is {out.shape[2]}; choose other layers, or another model"
                    )
                pooled = torch.einsum("btd,bt->bd", states[layer].float(), weight)
                line[rows] = pooled.cpu().numpy()
    if not np.isfinite(out).all():
        raise ValueError("model gives states that are not finite; load it in float32, or repair it")
    return out


def _read(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[Sequence[int]],
    batch_size: int,
    *,
    hidden: bool,
) -> Iterator[tuple[np.ndarray, Tensor, Any]]:
    """Give what a model says of rows of tokens, by length: their numbers, mask and its output."""
    for rows in reading.batches([len(row) for row in ids], rows=batch_size, model=model):
        tokens, mask = reading.padded([ids[i] for i in rows], tokenizer)
        given = {"input_ids": tokens.to(model.device), "attention_mask": mask.to(model.device)}
        yield rows, mask, model(**given, output_hidden_states=hidden)


def _layer_numbers(model: PreTrainedModel, layers: Sequence[int] | None = None) -> list[int]:
    """Return the layers meant: all from 0 to the number of blocks, or those given, checked."""
    n_layers = int(model.config.num_hidden_layers)
    if layers is None:
        return list(range(n_layers + 1))
    if isinstance(layers, str) or not np.iterable(layers) or not len(layers):
        raise ValueError(f"layers is {layers!r}; pass a list of numbers, or None for all")
    if bad := [layer for layer in layers if layer not in range(n_layers + 1)]:
        raise ValueError(f"layers has {bad}; this model has layers 0 to {n_layers}")
    return [int(layer) for layer in layers]


def randomised(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Return a model of the same architecture with freshly drawn weights, as before training.

    The weights follow the initialisation of the architecture's class in transformers; the draw
    depends on the seed only, and leaves torch's own random state as it was. The dtype is the
    model's. What such a model can tell is due to its tokenizer and its shape.
    """
    import copy

    import torch

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed a GPU.
        torch.default_generator.manual_seed(seed)
        return type(model)(config).to(model.dtype).eval()


def cached_layer_embeddings(
    name_or_path: str | Path,
    texts: Sequence[str],
    *,
    pooling: str = "mean",
    n_layers: int | None = None,
    control_seed: int | None = None,
    max_tokens: int = 256,
    shard_size: int = 512,
    folder: Path | None = None,
    allow_bin: bool = False,
    how: devices.How = devices.DEFAULT,
) -> dict[int, np.ndarray]:
    """Return the embeddings of a named model, layer number -> (N, width), from the cache if there.

    `name_or_path` and `allow_bin` are what `helpers.models.load_model` takes; `n_layers` picks as
    many layers, evenly spread from the first to the last, None all. `control_seed` asks for the
    same architecture with weights drawn by this seed. Texts are kept in shards of `shard_size`,
    each in an npz file that takes its name when it is whole: a run that was stopped goes on where
    it stood, and the model is loaded only when a shard is missing; of a hub model the commit is
    asked for each time. Names are SHA-256 sums of the model's files, the texts and the options; a
    damaged file is made anew. Nothing is unpickled. `folder` defaults to `embeddings` in the cache
    folder. `how` says where the model is read, and in which numbers. Raises as `load_model` and
    `layer_embeddings`.
    """
    texts = validation.strings(texts, "texts")
    folder = Path(folder) if folder else data.cache_folder() / "embeddings"
    control_seed = None if control_seed is None else int(control_seed)
    n_layers = None if n_layers is None else int(n_layers)
    files = identity(name_or_path)
    options = [_VERSION, files, pooling, n_layers, control_seed, int(max_tokens), "float32"]
    options += how.key().values()
    parts = []
    for first in range(0, len(texts), shard_size):
        shard = [str(text) for text in texts[first : first + shard_size]]
        key = storage.digest([*options, shard])
        part = _stored(folder / f"{key}.npz", len(shard))
        if part is None:
            tokenizer, model = _loaded(str(name_or_path), control_seed, files, allow_bin, how)
            layers = _layer_numbers(model)
            if n_layers is not None:
                even = np.linspace(0, layers[-1], min(n_layers, len(layers)))
                layers = sorted({int(layer) for layer in even.round()})
            vectors = layer_embeddings(
                model, tokenizer, shard, pooling=pooling, layers=layers, max_tokens=max_tokens
            )
            part = (np.array(layers), vectors)
            _store(folder / f"{key}.npz", *part)
        parts.append(part)
    layers, _ = parts[0]
    return {
        int(layer): np.concatenate([vectors[i] for _, vectors in parts])
        for i, layer in enumerate(layers)
    }


def identity(name_or_path: str | Path) -> str:
    """Return a text that changes when a model's files do: a digest, or hub name and commit."""
    source = model_sources.local_source(name_or_path)
    if source is None:
        return models.pinned(name_or_path)
    if source.is_file():
        return data.sha256(source)
    if adapters.is_alone(source):
        with models.loading(name_or_path, "pass the whole model"):
            source = models.source(source)
    files = sorted({file for pattern in _FILES for file in source.glob(pattern)})
    sums = [(file.name, data.sha256(file)) for file in files]
    return storage.digest(sums)


@lru_cache(maxsize=2)
def _loaded(
    name: str,
    control_seed: int | None,
    version: str,
    allow_bin: bool = False,
    how: devices.How = devices.DEFAULT,
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load a model once; `version` is its `identity`, so that changed files are read again.

    Of a hub model the commit in it is read, should the hub have a later one by now.
    """
    if control_seed is None:
        place = version if model_sources.local_source(name) is None else name
        return how.load(models.load_model, place, allow_bin=allow_bin)
    tokenizer, model = _loaded(name, None, version, allow_bin, how)
    return tokenizer, how.move(randomised(model, control_seed))


def _store(path: Path, layers: np.ndarray, vectors: np.ndarray) -> None:
    """Write a shard under a name of its own first, so that no reader sees half of it."""
    cure = "make room there, pass another folder, or set BOOK_DATA_CACHE"
    with storage.whole(path, cure) as part, open(part, "wb") as file:
        np.savez(file, layers=layers, vectors=vectors)


def _stored(path: Path, n_texts: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Read a shard, or None where there is none or it is damaged (the zip checks its sums)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            layers, vectors = file["layers"], file["vectors"]
        good = vectors.ndim == 3 and vectors.shape[:2] == (len(layers), n_texts)
        good = good and layers.dtype.kind == "i" and vectors.dtype.kind == "f"
        return (layers, vectors) if good and np.isfinite(vectors).all() else None
    except Exception:  # a damaged zip raises what it likes
        return None


def token_vectors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    *,
    tokens_per_sentence: int | None = 3,
    batch_size: int = 64,
    seed: int = 0,
    layer: int | None = None,
    pooling: str | None = None,
    max_tokens: int | None = None,
) -> np.ndarray:
    """Return vectors of randomly drawn tokens of each sentence at one layer, as float32.

    The result has shape (len(sentences) * tokens_per_sentence, width), in the order of the
    sentences: `reshape(len(sentences), tokens_per_sentence, -1)` gives them back. Tokens are drawn
    without replacement among all tokens, the special ones included; `None` takes every token. The
    draw depends on the tokenizer and the seed only, so that two models with one vocabulary are
    seen through the same tokens. `pooling="mean"` draws none: it gives one vector per sentence, the
    mean over all its tokens. `layer` is 0 for the embeddings, 1 for the first layer and so on;
    `None` is the last. Sentences are cut at `max_tokens`, or at what the model can take, and go
    through it sorted by length, which changes nothing but the time. Dropout is off meanwhile.
    Raises `ValueError` for no sentences, one with too few tokens, or a layer that is not there.
    Source: Marbut et al. (2024), released code, which takes every token of the last layer.

    >>> from helpers.encoding import token_vectors
    >>> from helpers.models import load_model
    >>> tokenizer, encoder = load_model()
    >>> sentences = ["Rome is the capital of Italy.", "It rains."]
    >>> token_vectors(encoder, tokenizer, sentences, tokens_per_sentence=3).shape
    (6, 384)
    >>> token_vectors(encoder, tokenizer, sentences, pooling="mean").shape
    (2, 384)
    """
    sentences = validation.strings(sentences, "sentences")
    if tokens_per_sentence is not None:
        validation.counts(tokens_per_sentence=(tokens_per_sentence, 1))
    if pooling is not None:
        validation.choice(pooling, ("mean",), "pooling")
    validation.counts(batch_size=(batch_size, 1))
    last = int(model.config.num_hidden_layers)
    at_end = layer is None or _layer_numbers(model, [layer]) == [last]
    least = 1 if pooling or tokens_per_sentence is None else tokens_per_sentence
    ids = _token_ids(model, tokenizer, sentences, max_tokens, least)
    rng = validation.generator(seed)
    every = pooling or tokens_per_sentence is None
    drawn = [np.arange(len(row)) if every else rng.permutation(len(row))[:least] for row in ids]
    starts = np.concatenate([[0], np.cumsum([1 if pooling else len(p) for p in drawn])])
    vectors = None
    with reading.inference(model):
        for chosen, _, found in _read(model, tokenizer, ids, batch_size, hidden=not at_end):
            states = found.last_hidden_state if at_end else found.hidden_states[layer]
            states = states.float().cpu().numpy()
            if vectors is None:
                # A last layer may be narrower than the model, as in OPT-350m.
                vectors = np.empty((starts[-1], states.shape[2]), dtype=np.float32)
            for row, i in enumerate(chosen):
                tokens = states[row, drawn[i]]
                vectors[starts[i] : starts[i + 1]] = tokens.mean(axis=0) if pooling else tokens
    return vectors


def _token_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    max_tokens: int | None,
    least: int,
) -> list[list[int]]:
    """Return the token numbers of each sentence, cut at `max_tokens`, none with below `least`."""
    limit = (reading.room(model, tokenizer) or 512) - 2
    if max_tokens is not None:
        # Two special tokens would leave no room for a word.
        validation.counts(max_tokens=(max_tokens, tokenizer.num_special_tokens_to_add() + 1))
        limit = min(limit, max_tokens)
    ids = tokenizer(list(sentences), truncation=True, max_length=limit)["input_ids"]
    lengths = [len(row) for row in ids]
    if min(lengths) < least:
        short = int(np.argmin(lengths))
        raise ValueError(
            f"sentences[{short}] has {lengths[short]} tokens, fewer than tokens_per_sentence="
            f"{least}; leave it out or draw fewer"
        )
    return ids
