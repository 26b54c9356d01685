"""Changed copies of a causal language model, and the stored families of two real models.

`python -m experiments smollm2_family` makes that of SmolLM2-135M, and with `--family gemma` that of
Gemma 3 270M, and writes its tables.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from experiments import tuning
from experiments.command import Written, command, digest, kept, option, to_folder
from helpers import (
    data,
    decoders,
    injection,
    likelihood,
    model_edits,
    models,
    text_sets,
)
from helpers.modelmap import held_out_texts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Model = TypeVar("Model", bound=PreTrainedModel)

KINDS = ("as it is", "rounded", "pruned", "layers dropped", "noise", "tuned")


def _decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the layers of a decoder, named as in Llama or GPT-2, from the bottom up."""
    body = model.base_model
    return getattr(body, "layers", getattr(body, "h", None))


def layers_dropped(model: Model, n: int) -> Model:
    """Return a copy of a decoder without `n` neighbouring layers, from its middle.

    Of L layers those from (L - n) // 2 go; the configuration tells the new number.
    """
    from torch import nn

    count = len(_decoder_layers(model))
    new, first = copy.deepcopy(model), (count - n) // 2
    layers = _decoder_layers(new)
    kept = nn.ModuleList([*layers[:first], *layers[first + n :]])
    for number, layer in enumerate(kept):
        # A layer finds its states in the cache by this number.
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = number
    setattr(new.base_model, "layers" if hasattr(new.base_model, "layers") else "h", kept)
    types = getattr(new.config, "layer_types", None)
    if types is not None:
        new.config.layer_types = [*types[:first], *types[first + n :]]
    new.config.num_hidden_layers = len(kept)
    return new


def with_head(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a causal model that can be trained, with its output head.

    A model read from a GGUF file has none; its embedding matrix is the head, as
    `decoders.with_output` has it. Raises `ValueError` where that function does.
    """
    return copy.deepcopy(decoders.with_output(model))


def tuned(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: str,
    steps: int,
    *,
    seed: int = 0,
    n_bytes: int = 60_000,
    **options: Any,
) -> PreTrainedModel:
    """Return a copy trained on for some steps on texts of one genre of `text_sets`.

    None of the texts is among the first 256 of `text_sets.load_texts`, which maps and the scores of
    `held_out_texts` use; `n_bytes` are read, `seed` orders them, `options` go to `tuning.tune`.
    Raises `ValueError` as the functions named do.
    """
    unwanted = text_sets.load_texts(256)["text"]
    texts = text_sets.training_texts(corpus, n_bytes, without=unwanted)
    new = with_head(model)
    given = {"batch": 4, "max_tokens": 96, "learning_rate": 2e-4} | options
    tuning.tune(new, tokenizer, texts, steps=steps, seed=seed, **given)
    return new


def make(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    kind: str,
    level: float,
    *,
    corpus: str = "",
    seed: int = 0,
) -> PreTrainedModel:
    """Return a changed copy of a causal model; the old one stays as it is.

    `kind` and `level`: "as it is"; "rounded", to bits (`model_edits.rounded`, by row);
    "pruned", percent of each matrix set to 0 (`model_edits.pruned`); "layers dropped", their
    number (`layers_dropped`); "noise", percent of each matrix's own spread
    (`injection.inject_noise`, relative rule, drawn by `seed`); "tuned", for so many steps on a
    genre, `corpus` (`tuned`, ordered by `seed`).
    """
    if kind == "rounded":
        return model_edits.rounded(model, int(level), by_row=True)
    if kind == "pruned":
        return model_edits.pruned(model, level / 100)
    if kind == "layers dropped":
        return layers_dropped(model, int(level))
    if kind == "noise":
        return injection.inject_noise(model, level, rule="relative", seed=seed)[0]
    if kind == "tuned":
        return tuned(model, tokenizer, corpus, int(level), seed=seed)
    return copy.deepcopy(model)


# The families of the book.

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 1
PARENT = models.SMOLLM
N_TEXTS = 64
PIECE = 32
FAMILY: dict[str, dict[str, Any]] = {
    "smollm2": {"kind": "as it is", "level": 0},
    "smollm2-4-bits": {"kind": "rounded", "level": 4},
    "smollm2-tuned-python": {"kind": "tuned", "level": 10, "corpus": "python"},
    "smollm2-2-layers-dropped": {"kind": "layers dropped", "level": 2},
    "smollm2-8-bits": {"kind": "rounded", "level": 8},
    "smollm2-noise-10": {"kind": "noise", "level": 10},
    "smollm2-tuned-romance": {"kind": "tuned", "level": 10, "corpus": "romance"},
    "smollm2-3-bits": {"kind": "rounded", "level": 3},
    "smollm2-4-layers-dropped": {"kind": "layers dropped", "level": 4},
    "smollm2-6-bits": {"kind": "rounded", "level": 6},
    "smollm2-noise-20": {"kind": "noise", "level": 20},
    "smollm2-5-bits": {"kind": "rounded", "level": 5},
}
# Of the optional set; none is trained, for which the other family has to serve.
GEMMA: dict[str, dict[str, Any]] = {
    "gemma": {"kind": "as it is", "level": 0},
    "gemma-4-bits": {"kind": "rounded", "level": 4},
    "gemma-pruned-20": {"kind": "pruned", "level": 20},
    "gemma-6-bits": {"kind": "rounded", "level": 6},
    "gemma-2-layers-dropped": {"kind": "layers dropped", "level": 2},
    "gemma-pruned-40": {"kind": "pruned", "level": 40},
    "gemma-noise-10": {"kind": "noise", "level": 10},
    "gemma-8-bits": {"kind": "rounded", "level": 8},
}
# The first model of each is its root.
FAMILIES = {"smollm2": (PARENT, FAMILY), "gemma": (models.GEMMA, GEMMA)}


def family(
    names: Sequence[str],
    folder: str | Path,
    *,
    of: str = "smollm2",
    n_texts: int = N_TEXTS,
    load: Callable[[], tuple[PreTrainedTokenizerBase, PreTrainedModel]] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score models of a family, each piece of texts kept in a folder, so that a run can resume.

    Returns the log-likelihoods of `text_sets.load_texts(n_texts)` (models by keys of texts, nats)
    and a row per model: its place in the family and the scores of `held_out_texts`. The first
    `PIECE` texts of all models come first. `of` is a name of `FAMILIES`. `load` gives the tokenizer
    and the parent, and is called when something must be scored; the log gets a line after each
    piece. Raises `ValueError` for a name that is not of the family.
    """
    name_of_parent, specs = FAMILIES[of]
    for name in names:
        validation.choice(name, tuple(specs), "names")
    texts, asked = text_sets.load_texts(n_texts), held_out_texts.load()
    work = [*(texts[i : i + PIECE]["text"] for i in range(0, n_texts, PIECE)), asked.every_text]
    parent, trained = cache(load or partial(load_parent, of)), {}

    def scored(name: str, some: list[str]) -> dict[str, Any]:
        tokenizer, model = parent()
        # Training takes as long as scoring, the other changes take seconds.
        copy = trained.get(name) or make(model, tokenizer, **specs[name])
        if specs[name]["kind"] == "tuned":
            trained[name] = copy
        # Small batches are faster on a CPU.
        values = likelihood.score_texts(copy, tokenizer, some, batch_tokens=1024).log_likelihood
        return {"log_likelihood": values.round(4).tolist(), "n_parameters": copy.num_parameters()}

    found: dict[str, list] = {name: [] for name in names}
    # All models get the first texts and their scores before any gets more texts.
    last = len(work) - 1
    passes = [(0, last), *((number,) for number in range(1, last))]
    for name, number in ((n, i) for numbers in passes for n in names for i in numbers):
        some = list(work[number])
        place = Path(folder) / f"{digest(VERSION, name_of_parent, specs[name], some)}.kept.json"
        piece = kept(place, partial(scored, name, some), f"{name}, {len(some)} texts")
        found[name].append(piece)
    return _tables(of, found, texts, asked)


def load_parent(of: str = "smollm2") -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Return the tokenizer and the model from which a family was made; takes about a minute."""
    return decoders.load_causal(FAMILIES[of][0])


def _tables(
    of: str, found: dict[str, list], texts: pd.DataFrame, asked: held_out_texts.HeldOut
) -> tuple[pd.DataFrame, pd.DataFrame]:
    values, rows = [], []
    for name, (first, scored, *others) in found.items():
        pieces = [first, *others]
        values.append(np.concatenate([piece["log_likelihood"] for piece in pieces]))
        spec = {"corpus": "", "seed": 0} | FAMILIES[of][1][name]
        row = {"model": name, "parent": "" if name == of else of, "family": of}
        row |= {key: spec[key] for key in ("kind", "level", "corpus", "seed")}
        row |= {"step": spec["level"] if spec["kind"] == "tuned" else 0}
        row |= {"n_parameters": first["n_parameters"]}
        rows.append(row | held_out_texts.scores(scored["log_likelihood"], asked))
    matrix = pd.DataFrame(values, pd.Index(list(found), name="model"), texts.index)
    return matrix, pd.DataFrame(rows).set_index("model")


@command(
    "smollm2_family",
    to_folder("folder"),
    option("--family", default="smollm2", choices=list(FAMILIES), dest="of"),
    option("--texts", type=int, default=N_TEXTS, help="texts of the map"),
    option("--models", nargs="+", default=[], help="some of its models; all by default"),
)
def main(given: Namespace) -> Written:
    """Make a family, by default that of SmolLM2-135M, score its models, and write two tables."""
    folder = data.cache_folder() / "descendants"
    names = given.models or list(FAMILIES[given.of][1])
    matrix, rows = family(names, folder, of=given.of, n_texts=given.texts)
    yield given.folder / f"map_{given.of}.csv", matrix.round(3).to_csv()
    yield given.folder / f"map_{given.of}_models.csv", rows.round(4).to_csv()
