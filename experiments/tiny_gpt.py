"""Tiny GPTs trained from nothing: a word tokenizer, the model, its training, exact answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from experiments import training
from helpers import checkpoints

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel, PretrainedConfig, PreTrainedTokenizerFast

Model = TypeVar("Model")

END = "<end>"
# Part of every checkpoint's key: raise it when the same arguments would give other weights.
VERSION = 1


def word_tokenizer(documents: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a word or punctuation mark that the documents have.

    Token 0 is `<end>`, put before every text, which also ends a document in training and stands
    for words never seen; the others are in alphabetical order.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers

    split = pre_tokenizers.Whitespace()
    words = {word for text in documents for word, _ in split.pre_tokenize_str(text)}
    vocabulary = {word: i for i, word in enumerate([END, *sorted(words - {END})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    tokenizer.pre_tokenizer = split
    return with_ends(tokenizer, unk_token=END)


def pieces(texts: Iterable[str], size: int, special: Sequence[str] = (END,)) -> Tokenizer:
    """Return a tokenizer of `size` pieces of bytes (BPE) at most, learnt from texts.

    Source: Sennrich et al. (2016), on bytes as in Radford et al. (2019).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    options = {"special_tokens": list(special), "show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, **options)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def with_ends(tokenizer: Tokenizer, number: int = 0, **more: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer that puts `<end>`, token `number`, before a text, and pads with it."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, number)]
    )
    more |= dict.fromkeys(("bos_token", "eos_token", "pad_token"), END)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **more)


def new_gpt(
    tokenizer: PreTrainedTokenizerFast,
    *,
    width: int = 64,
    layers: int = 2,
    context: int = 32,
    seed: int = 0,
) -> GPT2LMHeadModel:
    """Return a GPT-2 with random weights: `width` wide, heads 16 wide, tied embeddings, no dropout.

    `context` is the number of tokens that it can read. The random state of torch outside is
    left as it is. Source: Radford et al. (2019), as in `transformers`.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=n_heads(width),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **dropout,
    )
    return seeded(GPT2LMHeadModel, config, seed)


def n_heads(width: int) -> int:
    """Return how many heads, 16 wide each, a model has; raises `ValueError` for other widths."""
    if width < 16 or width % 16:
        raise ValueError(f"width is {width}; give a multiple of 16, the width of a head")
    return width // 16


def seeded(kind: type[Model], config: PretrainedConfig, seed: int) -> Model:
    """Return a model with random weights; torch's own random state stays as it is."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config)


def train(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[str],
    *,
    epochs: int = 4,
    batch: int = 64,
    learning_rate: float = 2e-3,
    warm_up: int = 200,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    measure: Callable[[], Mapping[str, float]] | None = None,
) -> pd.DataFrame:
    """Train a model on all tokens of documents, in place, and return its course, a row an epoch.

    Every document is a sequence of its own, between two `<end>`; `batch` of them make a step of
    AdamW (weight decay 0.01, gradients clipped at norm 1). The rate is that of a model 64 wide; for
    others it is multiplied by sqrt(64 / width). It rises over `warm_up` steps and falls to zero by
    a cosine. `seed` orders the documents anew in every epoch.

    With `checkpoint`, the path of a file, every epoch ends with a save, and a run that was
    stopped goes on from the last; the result is the same bit by bit on the same machine. The
    course has `epoch`, from 1, `loss` (mean of its steps, nats a token) and what `measure`,
    called after each epoch with the model ready to read, returns. So the model is left at the
    end.
    """
    import torch

    rows = _encode(model, tokenizer, documents)
    per_epoch, rate = len(rows) // batch, learning_rate * (64 / model.config.n_embd) ** 0.5
    options = [VERSION, epochs, batch, learning_rate, warm_up, seed, torch.__version__]
    options.append(model.device.type)
    run = checkpoints.digest(model.state_dict(), options, hashlib.sha256(rows).hexdigest())
    kept = checkpoint, run, model, training.adamw(model)
    course = training.resume(*kept)
    for epoch in range(len(course), epochs):
        model.train()
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        total = 0.0
        for i, members in enumerate(np.array_split(order, per_epoch), epoch * per_epoch):
            loss = training.next_token_loss(model, rows[members])
            share = training.schedule(i, epochs * per_epoch, warm_up)
            total += training.step(model, kept[-1], loss, rate * share)
        model.eval()
        row = {"epoch": epoch + 1, "loss": total / per_epoch}
        course.append(row | dict(measure() if measure else {}))
        training.save(*kept, course)
    model.eval()
    return pd.DataFrame(course)


def _encode(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]
) -> np.ndarray:
    """Return the tokens of documents between two ends, one a row, filled up with -100."""
    found = tokenizer(list(documents))["input_ids"]
    lengths = np.array([len(ids) + 1 for ids in found])
    if lengths.max() > model.config.n_positions:
        raise ValueError(
            f"the longest of {len(found)} documents has {lengths.max()} tokens with its "
            f"ends, and the model reads {model.config.n_positions}; make it with a larger context"
        )
    return training.filled([[*ids, tokenizer.eos_token_id] for ids in found])
