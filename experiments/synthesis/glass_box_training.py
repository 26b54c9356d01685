"""Small GPTs and BERTs trained from nothing on a glass box, in runs that can stop and resume."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments import tiny_gpt, training
from helpers import checkpoints, reading, validation

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Part of every checkpoint's key: raise it when the same arguments would give other weights.
VERSION = 1
KINDS = ("gpt", "bert")
CONTEXT = 128
# Of a BERT's tokens, so many are to be guessed, hidden in four of five cases.
MASKED, HIDDEN, SWAPPED = 0.3, 0.8, 0.1


class Run(NamedTuple):
    """One model: its kind, width and number of layers, the mix it reads, and its seed."""

    kind: str
    width: int
    layers: int
    mix: str
    seed: int

    @property
    def name(self) -> str:
        """Return the name of the run, as `gpt-64x2-even-0`."""
        return f"{self.kind}-{self.width}x{self.layers}-{self.mix}-{self.seed}"


def new_model(
    kind: str,
    tokenizer: PreTrainedTokenizerFast,
    *,
    width: int = 64,
    layers: int = 2,
    seed: int = 0,
) -> PreTrainedModel:
    """Return a GPT-2 or a BERT with random weights, a head 16 wide, no dropout, `CONTEXT` tokens.

    Inner layers are four times as wide as `width`; the output layer shares the embeddings. The
    random state of torch outside is left as it is. Raises `ValueError` for another `kind` and bad
    sizes. Source: Radford et al. (2019), Devlin et al. (2019), as in `transformers`.
    """
    validation.choice(kind, KINDS, "kind")
    if kind == "gpt":
        return tiny_gpt.new_gpt(tokenizer, width=width, layers=layers, context=CONTEXT, seed=seed)
    from transformers import BertConfig, BertForMaskedLM

    validation.counts(layers=(layers, 1), seed=(seed, 0))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=tiny_gpt.n_heads(width),
        intermediate_size=4 * width,
        max_position_embeddings=CONTEXT,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        # Wider than usual: from 0.02 so narrow a model takes long to look at its neighbours.
        initializer_range=0.05,
        pad_token_id=None,
    )
    return tiny_gpt.seeded(BertForMaskedLM, config, seed)


def _token_rows(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]) -> list[np.ndarray]:
    """Return the tokens of documents in rows of at most `CONTEXT`, each after an `<end>`, uint16.

    A document too long for one row goes on in others; a last piece below 8 tokens is dropped.
    """
    found, size = [], CONTEXT - 1
    for ids in tokenizer(list(documents), add_special_tokens=False)["input_ids"]:
        pieces = [ids[i : i + size] for i in range(0, len(ids), size)]
        found += [
            np.array([tokenizer.bos_token_id, *piece], np.uint16)
            for n, piece in enumerate(pieces)
            if not n or len(piece) >= 8
        ]
    return found


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[str],
    steps: int,
    *,
    batch_tokens: int = 1024,
    learning_rate: float = 2e-3,
    seed: int = 0,
    keep: Collection[int] = (),
    at: Callable[[int], None] | None = None,
    checkpoint: str | Path | None = None,
    loss: Callable[[PreTrainedModel, np.ndarray, np.random.Generator], Tensor] | None = None,
) -> list[dict[str, float]]:
    """Train a model on documents, in place, and return the mean loss between the steps kept.

    Each epoch deals the rows of `_token_rows` again into batches of like lengths, padded to at most
    `batch_tokens` tokens; each is a step of AdamW (weight decay 0.01, gradients clipped at norm 1).
    The rate is that of a model 64 wide, times sqrt(64 / width); it rises over a twentieth of the
    steps and falls to zero by a cosine. A GPT guesses each next token; a BERT `MASKED` of the
    tokens, of which `HIDDEN` are behind the mask and `SWAPPED` replaced.

    `at` is called after each number of steps in `keep`, 0 for the beginning. With `checkpoint`, a
    path ending in .safetensors, the run is saved then as well, and goes on from the last save to
    the very bit on the same machine. `loss` stands in for that of `LOSSES`. Rows have `step`,
    `epoch` (from 1) and `loss` (nats per token guessed). Raises `ValueError` for bad sizes, no
    documents or none with a token, and the checkpoint of another run.
    """
    import torch

    validation.counts(steps=(steps, 1), batch_tokens=(batch_tokens, CONTEXT), seed=(seed, 0))
    documents = validation.strings(documents, "documents")
    kept = sorted({*keep, steps} - {0})
    if kept[-1] > steps:
        raise ValueError(f"keep has step {kept[-1]}, after the last of {steps}")
    batches = _Batches(tokenizer, documents, batch_tokens, seed)
    rate = learning_rate * (64 / model.config.hidden_size) ** 0.5
    options = [VERSION, steps, batch_tokens, learning_rate, seed, kept, documents]
    run = checkpoints.digest(model.state_dict(), options, torch.__version__)
    kept_run = checkpoint, run, model, training.adamw(model)
    course, loss_of = training.resume(*kept_run), loss or LOSSES[model.config.model_type]
    done = int(course[-1]["step"]) if course else 0
    if not done and 0 in keep and at is not None:
        at(0)
    total = 0.0
    model.train()
    for step in range(done, steps):
        value = loss_of(model, batches.at(step), np.random.default_rng([seed, step, 1]))
        share = training.schedule(step, steps, steps // 20)
        total += training.step(model, kept_run[-1], value, rate * share)
        if step + 1 in kept:
            since = step + 1 - (course[-1]["step"] if course else 0)
            course.append({"step": step + 1, "epoch": batches.epoch + 1, "loss": total / since})
            total = 0.0
            model.eval()
            if at is not None:
                at(step + 1)
            training.save(*kept_run, course)
            model.train()
    model.eval()
    return course


class _Batches:
    """The rows of each step, of like lengths; every epoch draws its batches again."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        documents: Sequence[str],
        batch_tokens: int,
        seed: int,
    ) -> None:
        self.rows = _token_rows(tokenizer, documents)
        if not self.rows:
            raise ValueError("documents has no token in any text; pass longer ones")
        self.lengths = np.array([len(row) for row in self.rows])
        self.batch_tokens, self.seed = batch_tokens, seed
        self.epoch, self.first, self.batches = -1, 0, []

    def at(self, step: int) -> np.ndarray:
        """Return the tokens of a step, a row a text, filled up with -100."""
        while step >= self.first + len(self.batches):
            self.first += len(self.batches)
            self.epoch += 1
            rng = np.random.default_rng([self.seed, self.epoch])
            order = rng.permutation(len(self.rows))
            found = [
                order[some]
                for some in reading.batches(self.lengths[order], tokens=self.batch_tokens)
            ]
            self.batches = [found[i] for i in rng.permutation(len(found))]
        chosen = self.batches[step - self.first]
        return training.filled([self.rows[i] for i in chosen])


def _next_loss(model: PreTrainedModel, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
    return training.next_token_loss(model, rows)


def _masked_loss(model: PreTrainedModel, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return the loss of a BERT; only the states of the tokens to guess go through its head."""
    import torch

    told = rows > 0
    asked = told & (rng.random(rows.shape) < MASKED)
    draw, seen = rng.random(rows.shape), np.maximum(rows, 0)
    seen[asked & (draw < HIDDEN)] = 1
    swapped = asked & (draw >= HIDDEN) & (draw < HIDDEN + SWAPPED)
    seen[swapped] = rng.integers(2, model.config.vocab_size, int(swapped.sum()))
    ids, wanted, whole = (torch.from_numpy(x).to(model.device) for x in (seen, asked, rows >= 0))
    states = model.bert(ids, attention_mask=whole.long()).last_hidden_state[wanted]
    targets = torch.from_numpy(rows[asked]).to(model.device)
    return torch.nn.functional.cross_entropy(model.cls(states), targets)


LOSSES = {"gpt2": _next_loss, "bert": _masked_loss}
