"""The families of models that the book stores, and the saved map of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import data, text_sets
from helpers.modelmap import held_out_texts, model_map

MAP = "reference_map.npz"
_TABLE = "reference_map_models.csv"
COLUMNS = ["family", "parent", "kind", "level", "corpus", *held_out_texts.SCORES]


class Gathered(NamedTuple):
    """Log-likelihoods (models by keys of texts, nats) and a row per model with `COLUMNS`."""

    log_likelihoods: pd.DataFrame
    models: pd.DataFrame


def stored(name: str, folder: Path = data.PUBLISHED) -> Gathered:
    """Return a stored family, `map_NAME.csv` with its table of models.

    The columns of the second frame are those of its file, `family` among them. Of training
    runs, which have the columns `size` and `seed`, each run is a family.
    """
    files = [folder / f"map_{name}.csv", folder / f"map_{name}_models.csv"]
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


def trained_further() -> Gathered:
    """Return the small models of `merges` as trained, without merges.

    A parent on all genres, four children trained on, on one genre each, and a stranger of the same
    shape from another seed, a family of its own. The second frame has `family`, `kind`, `corpus`.
    """
    found = stored("merges")
    about = found.models[found.models["size"] == "full"].reset_index()
    rows = about.set_index(["triple", "a", "b"])["model"]
    names = [f"small GPT, {name}" for name, *_ in _TRAINED]
    values = found.log_likelihoods.loc[[rows[tuple(place)] for _, *place in _TRAINED]]
    corpora = ["" if n in ("parent", "stranger") else n.split(",")[0] for n, *_ in _TRAINED]
    columns = {
        "family": ["small GPT, stranger" if "stranger" in n else "small GPT" for n in names],
        "kind": ["tuned" if corpus else "trained" for corpus in corpora],
        "corpus": corpora,
    }
    models = pd.DataFrame(columns, pd.Index(names, name="model"))
    return Gathered(values.set_axis(models.index), models)


def makes(models: pd.DataFrame) -> pd.Series:
    """Return how each model was made: "n-gram", "small GPT" (of this book) or "pretrained".

    `models` has the columns `kind` and `family`, a row per model. Errors of a prediction are alike
    within these, not across them.
    """
    small = models["family"].str.startswith(("tiny gpt", "small GPT"))
    found = pd.Series("pretrained", models.index, name="make")
    return found.mask(small, "small GPT").mask(models["kind"] == "n-gram", "n-gram")


def gather(parts: Sequence[Gathered]) -> Gathered:
    """Join families on the texts that all of them have, in the order of the first.

    What a table of models does not tell is missing, or empty for
    names. Raises `ValueError` for no common text.
    """
    keys = [k for k in parts[0].log_likelihoods if all(k in p.log_likelihoods for p in parts)]
    if not keys:
        raise ValueError("parts have no text in common; score the same texts")
    values = pd.concat([part.log_likelihoods[keys] for part in parts])
    models = pd.concat([part.models.reindex(columns=COLUMNS) for part in parts])
    words = ["family", "parent", "kind", "corpus"]
    models[words] = models[words].astype(object).where(models[words].notna(), "")
    return Gathered(values, models)


def beside(
    made: model_map.ModelMap, models: pd.DataFrame, other: Gathered
) -> tuple[model_map.ModelMap, pd.DataFrame]:
    """Return a saved map with another family on it, and the table of all models, in its order.

    `models` has a row per model of the map. Of the map's texts those stay that the family was
    scored on, cut at the map's own threshold. Raises `ValueError` for no common text.
    """
    values = pd.DataFrame(made.log_likelihoods, made.names, made.texts)
    joined = gather([Gathered(values, models), other])
    names, keys = tuple(joined.log_likelihoods.index), tuple(joined.log_likelihoods)
    places = [made.texts.index(key) for key in keys]
    n_bytes = None if made.n_bytes is None else np.asarray(made.n_bytes)[places]
    clipped = np.maximum(joined.log_likelihoods.to_numpy(float), made.threshold)
    return model_map.map_of(clipped, names, keys, made.threshold, n_bytes), joined.models


def load(folder: Path = data.PUBLISHED) -> tuple[model_map.ModelMap, pd.DataFrame]:
    """Return the saved map and the table of its models, in the map's order."""
    made = model_map.load_map(folder / MAP)
    models = pd.read_csv(folder / _TABLE, index_col="model", keep_default_na=False)
    models[list(held_out_texts.SCORES)] = models[list(held_out_texts.SCORES)].apply(pd.to_numeric)
    return made, models.loc[list(made.names)]


def save(gathered: Gathered, folder: Path = data.PUBLISHED) -> model_map.ModelMap:
    """Fit the map of all models, write it with their table, and return it."""
    lengths = text_sets.load_texts(128)["n_bytes"][gathered.log_likelihoods.columns]
    # Two decimals are far below what one text tells, and halve the file.
    values = gathered.log_likelihoods.round(2)
    made = model_map.fit_map(values, n_bytes=np.asarray(lengths))
    made.save(folder / MAP)
    data.write_atomically(folder / _TABLE, gathered.models.round(4).to_csv())
    return made
