"""The saved map on which a reader's own model is placed, and the table of its models.

`python -m experiments reference_map` makes both from the stored families and from n-gram
models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments import ngrams
from experiments.modelmap import smollm2_family
from helpers import data, likelihood, text_sets, validation
from helpers.modelmap import held_out_texts, model_map

MAP = "reference_map.npz"
TABLE = "reference_map_models.csv"
COLUMNS = ["family", "parent", "kind", "level", "corpus", *held_out_texts.SCORES]
# Few bytes of these genres are left once the texts of the scores are taken out.
_FEWER = {"romance": (3_000, 10_000, 30_000)}


class Gathered(NamedTuple):
    """Log-likelihoods (models by keys of texts, nats) and a row a model with `COLUMNS`."""

    log_likelihoods: pd.DataFrame
    models: pd.DataFrame


def stored(name: str, folder: Path = data.PUBLISHED) -> Gathered | None:
    """Return a stored family, `map_NAME.csv` with its table of models, or None where it is not.

    The columns of the second frame are those of its file, `family` among them. Of training
    runs, which have the columns `size` and `seed`, each run is a family.
    """
    files = [folder / f"map_{name}.csv", folder / f"map_{name}_models.csv"]
    if not all(file.is_file() for file in files):
        return None
    values, models = (pd.read_csv(file, index_col="model", keep_default_na=False) for file in files)
    models = models.loc[values.index]
    if {"size", "seed"} <= set(models):
        # Checkpoints of one training run are relatives, other runs are not.
        runs = models["size"].astype(str) + ", seed " + models["seed"].astype(str)
        models["family"] = models["family"] + ", " + runs
    return Gathered(values.astype(float), models)


# Name, triple and mixing weights of the trained models among the merges.
_TRAINED = (
    ("parent", "short", 0, 0),
    ("python", "short", 1, 0),
    ("facts", "short", 0, 1),
    ("python, long", "long", 1, 0),
    ("facts, long", "long", 0, 1),
    ("stranger", "strangers", 0, 1),
)


def trained_further(folder: Path = data.PUBLISHED) -> Gathered | None:
    """Return the small models of `merges` as trained, without merges; None without them.

    A parent on all genres, four children trained on, on one genre each, and a stranger of the same
    shape from another seed, a family of its own. The second frame has `family`, `kind`, `corpus`.
    """
    found = stored("merges", folder)
    if found is None:
        return None
    about = found.models[found.models["size"] == "full"].reset_index()
    rows = about.set_index(["triple", "a", "b"])["model"]
    names = [f"small GPT, {name}" for name, *_ in _TRAINED]
    values = found.log_likelihoods.loc[[rows[tuple(place)] for _, *place in _TRAINED]]
    models = pd.DataFrame(
        {
            "family": ["small GPT, stranger" if "stranger" in n else "small GPT" for n in names],
            "kind": [
                "trained" if name in ("parent", "stranger") else "tuned" for name, *_ in _TRAINED
            ],
            "corpus": [
                "" if p in ("parent", "stranger") else p.split(",")[0] for p, *_ in _TRAINED
            ],
        },
        pd.Index(names, name="model"),
    )
    return Gathered(values.set_axis(models.index), models)


def ngram_models(n_texts: int, *, sizes: Sequence[int] | None = None) -> Gathered:
    """Train n-gram models and return their log-likelihoods on the map's texts, with their scores.

    Neither the texts of the map nor those of the scores are trained on. `sizes` keeps some of
    `ngrams.SIZES`. A family is what was trained on one genre.
    """
    asked = held_out_texts.load()
    texts = text_sets.load_texts(max(n_texts, 128) + 56)
    keys = [*texts.index, *(f"asked-{i}" for i in range(len(asked.every_text)))]
    every = pd.DataFrame({"text": [*texts["text"], *asked.every_text]}, index=keys)
    zoos = []
    for corpus in ngrams.SIZES:
        chosen = _FEWER.get(corpus, ngrams.SIZES[corpus])
        chosen = [n for n in chosen if sizes is None or n in sizes]
        if chosen:
            zoos.append(ngrams.zoo(every, corpora=[corpus], sizes=chosen))
    values = pd.concat([zoo.log_likelihoods for zoo in zoos])
    models = pd.concat([zoo.models for zoo in zoos]).set_index("model")
    rows = values.iloc[:, len(texts) :].to_numpy()
    scores = pd.DataFrame([held_out_texts.scores(row, asked) for row in rows], values.index)
    models = models.assign(family="n-grams, " + models["corpus"], parent="", kind="n-gram")
    models["level"] = models["order"]
    return Gathered(values.iloc[:, :n_texts], models.join(scores)[COLUMNS])


def stand_in(kind: str, dropped: int = 3) -> tuple[str, Callable[[Sequence[str]], np.ndarray]]:
    """Return the name of a model that is not on the map, and what scores texts by it, in nats.

    `kind` is "smollm2", the model without `dropped` layers, or "n-gram", of order 4, trained on
    facts and Python. None of the texts of the map or of `held_out` is trained on. Raises
    `ValueError` for another kind, and as `smollm2_family.layers_dropped` does.
    """
    validation.choice(kind, ("smollm2", "n-gram"), "kind")
    if kind == "n-gram":
        unwanted = text_sets.load_texts(184)["text"]
        documents = [
            text
            for genre in ("facts", "python")
            for text in text_sets.training_texts(genre, 30_000, without=unwanted)
        ]
        counted = ngrams.fit(documents, 4)
        return "n-grams of facts and Python", lambda texts: ngrams.log_likelihood(counted, texts)
    tokenizer, parent = smollm2_family.load_parent()
    child = smollm2_family.layers_dropped(parent, dropped)

    def score(texts: Sequence[str]) -> np.ndarray:
        table = likelihood.score_texts(child, tokenizer, texts, batch_tokens=1024)
        return table["log_likelihood"].to_numpy()

    return f"SmolLM2 without {dropped} layers", score


def gather(parts: Sequence[Gathered | None]) -> Gathered:
    """Join families on the texts that all of them have, in the order of the first.

    A part that is None is left out. What a table of models does not tell is missing, or empty for
    names. Raises `ValueError` for no common text.
    """
    parts = [part for part in parts if part is not None]
    keys = [k for k in parts[0].log_likelihoods if all(k in p.log_likelihoods for p in parts)]
    if not keys:
        raise ValueError("parts have no text in common; score the same texts")
    values = pd.concat([part.log_likelihoods[keys] for part in parts])
    models = pd.concat([part.models.reindex(columns=COLUMNS) for part in parts])
    words = ["family", "parent", "kind", "corpus"]
    models[words] = models[words].astype(object).where(models[words].notna(), "")
    return Gathered(values, models)


def load(folder: Path = data.PUBLISHED) -> tuple[model_map.ModelMap, pd.DataFrame]:
    """Return the saved map and the table of its models, in the map's order.

    Raises `FileNotFoundError` where they are not there, with the command that makes them.
    """
    if not (folder / MAP).is_file():
        raise FileNotFoundError(
            f"{folder / MAP} is not there; make it with `python -m experiments reference_map`"
        )
    made = model_map.load(folder / MAP)
    models = pd.read_csv(folder / TABLE, index_col="model", keep_default_na=False)
    models[list(held_out_texts.SCORES)] = models[list(held_out_texts.SCORES)].apply(pd.to_numeric)
    return made, models.loc[list(made.names)]


def save(gathered: Gathered, folder: Path = data.PUBLISHED) -> model_map.ModelMap:
    """Fit the map of all models, write it with their table, and return it."""
    lengths = text_sets.load_texts(128)["n_bytes"][gathered.log_likelihoods.columns]
    # Two decimals are far below what one text tells, and halve the file.
    values = gathered.log_likelihoods.round(2)
    made = model_map.fit_map(values, n_bytes=np.asarray(lengths))
    made.save(folder / MAP)
    data.write_atomically(folder / TABLE, gathered.models.round(4).to_csv())
    return made


def main(words: Sequence[str] | None = None) -> None:
    """Make the reference map of the book from its stored families and n-gram models."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments reference_map", description=main.__doc__
    )
    parser.add_argument("--folder", type=Path, default=data.PUBLISHED, help="where it goes")
    folder = parser.parse_args(words).folder
    parts = [part for name in ("smollm2", "tiny_gpts") if (part := stored(name)) is not None]
    n_texts = min(part.log_likelihoods.shape[1] for part in parts) if parts else 128
    made = save(gather([*parts, ngram_models(n_texts)]), folder)
    print(f"{len(made.names)} models by {len(made.texts)} texts: {folder / MAP}")
