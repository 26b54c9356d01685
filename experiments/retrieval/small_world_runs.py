"""Tiny GPTs trained on a small world, each asked for every fact, in runs that can resume.

`python -m experiments small_world_runs` trains the ladder of sizes of the book and
writes its tables.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from experiments import tiny_gpt
from experiments.command import Written, command, digest, kept, parts, to_folder
from experiments.retrieval import small_world
from helpers import data
from helpers.retrieval import closed_book

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 1
TEMPERATURE = 0.7
WORLD = {"n_facts": 1200, "most": 128}
SMALL_WORLD = {"n_facts": 300, "most": 128}
EPOCHS = 6
SMALL_SETTING = {"width": 64, "layers": 2, "epochs": 4, "seed": 0}
SETTINGS = [
    {"width": width, "layers": 2, "epochs": EPOCHS, "seed": seed}
    for width in (16, 32, 64, 128)
    for seed in range(2)
]


class _Trained(NamedTuple):
    """A trained model and its tokenizer, the accuracy of each fact, and its course by epochs.

    `accuracy` has one row a fact and the columns `training` and `held_out`, by forms asked;
    `course` one row an epoch: `epoch`, `loss` (nats a token), `training`, `held_out` (means).
    """

    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast
    accuracy: pd.DataFrame
    course: pd.DataFrame


def _ask(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    world: small_world.World,
    *,
    temperature: float = TEMPERATURE,
) -> pd.DataFrame:
    """Return the expected accuracy of a model on each fact, closed book, by forms of the question.

    The object is one word, so the probability of that word after the form and the subject is the
    share of samples at `temperature` that begin with it: the mean over forms is what drawing 20
    samples of each form estimates. Columns `training` (forms seen in training) and `held_out`.
    """
    out = {}
    for name in ("training", "held_out"):
        _, prompts, objects = zip(*questions(world, world.facts, name), strict=True)
        asked, options = [[f" {o}"] for o in objects], {"temperature": temperature}
        found = closed_book.answer_log_probability(
            model, tokenizer, prompts, asked, batch_tokens=8192, **options
        )
        shares = np.exp(found.log_probability.to_numpy())
        out[name] = shares.reshape(len(world.facts), -1).mean(axis=1)
    return pd.DataFrame(out)


def questions(
    world: small_world.World, facts: pd.DataFrame, forms: str = "training"
) -> list[tuple[int, str, str]]:
    """Return row, beginning and object of every form that facts of a world are asked in.

    `forms` is "training" or "held_out". All forms of a fact stand together.
    """
    return [
        (fact.Index, form.format(fact.subject), fact.object)
        for fact in facts.itertuples()
        for form in getattr(world, forms)[fact.relation]
    ]


def run(
    world: small_world.World,
    *,
    width: int = 64,
    layers: int = 2,
    epochs: int = EPOCHS,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> _Trained:
    """Train one model on the documents of a world and ask it for every fact.

    `seed` makes the first weights and orders the documents; `checkpoint` and `options` go to
    `tiny_gpt.train`. Raises as the functions named.
    """
    texts = list(world.documents.text)
    # An object that no document states must be a word that the model could say.
    names = [" ".join(objects) for objects in world.objects.values()]
    tokenizer = tiny_gpt.word_tokenizer(texts + names)
    model = tiny_gpt.new_gpt(tokenizer, width=width, layers=layers, seed=seed)
    options |= {"epochs": epochs, "seed": seed, "checkpoint": checkpoint}
    options["measure"] = lambda: _ask(model, tokenizer, world).mean().to_dict()
    course = tiny_gpt.train(model, tokenizer, texts, **options)
    return _Trained(model, tokenizer, _ask(model, tokenizer, world), course)


def _ladder(
    settings: Sequence[dict[str, int]], folder: str | Path, *, world: dict[str, Any] = WORLD
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a model a setting, each kept in a folder once it is whole, so that a ladder can resume.

    `settings` are arguments of `run` (width, layers, epochs, seed), `world` those of
    `small_world.make_world`. The first frame has one row a fact and a column `width-seed` a
    model, with the accuracy on training forms; the second is the course of all models, with
    `width`, `layers`, `seed`, `parameters`, `cpu_seconds`. A model that was stopped goes on
    from its last epoch. The log gets a line after each model.
    """
    names = [f"{setting['width']}-{setting['seed']}" for setting in settings]
    made, accuracy, courses = small_world.make_world(**world), {}, []
    for name, setting in zip(names, settings, strict=True):
        place = Path(folder) / digest(VERSION, tiny_gpt.VERSION, world, setting)
        measure = partial(_measure, made, setting, place)
        found = kept(place.with_suffix(".json"), measure, f"{setting}")
        place.with_suffix(".safetensors").unlink(missing_ok=True)
        accuracy[name] = found["accuracy"]
        courses += [setting | row for row in found["course"]]
    return pd.DataFrame(accuracy), pd.DataFrame(courses)


def _measure(made: small_world.World, setting: dict[str, int], place: Path) -> dict[str, Any]:
    start = time.process_time()
    trained = run(made, checkpoint=place.with_suffix(".safetensors"), **setting)
    more = {
        "parameters": trained.model.num_parameters(),
        "cpu_seconds": round(time.process_time() - start, 1),
    }
    course = [row | more for row in trained.course.to_dict("records")]
    return {"accuracy": trained.accuracy.training.round(4).tolist(), "course": course}


@command("small_world_runs", to_folder("folder"), parts("trains every k-th model"))
def main(given: Namespace) -> Written:
    """Train the ladder of sizes on the world of the book, and write its two tables.

    The second table also has the course of one model on a world of 300 facts, as `world` "small".
    """
    folder = data.cache_folder() / "small_world"
    _ladder(SETTINGS[given.part], folder)
    accuracy, course = _ladder(SETTINGS, folder)
    _, small = _ladder([SMALL_SETTING], folder, world=SMALL_WORLD)
    course = pd.concat({"full": course, "small": small}, names=["world"]).reset_index(level=0)
    yield given.folder / "small_world_accuracy.csv", accuracy.to_csv(index=False)
    yield given.folder / "small_world_course.csv", course.round(5).to_csv(index=False)
