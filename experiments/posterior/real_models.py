"""The models that the pages on ALP score: digits, names of places and titles, and films."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from experiments.command import digest
from experiments.posterior import film_log
from experiments.posterior import movielens as films
from experiments.posterior.images import digit_representations
from helpers import data, encoding, storage
from helpers.model_sources import GEMMA, MINILM, MPNET, SMOLLM
from helpers.posterior import embedding_tree, entities

NAMES = {"MiniLM": MINILM, "SmolLM2": SMOLLM}
# The optional set, of `make models-more`.
LARGER = {"MPNet": MPNET, "Gemma": GEMMA}


class Task(NamedTuple):
    """Models that embed the same entities, each entity's cluster, and the name of the noise.

    `models` maps names to (N, d); `labels` (N,) is text; `trained` names the models that have
    learned something, as against controls; `downstream` holds a result per model, where there is
    one.
    """

    models: dict[str, np.ndarray]
    labels: np.ndarray
    trained: list[str]
    downstream: dict[str, float]


def unit(model: str) -> str:
    """Return what is independent of other models: the network of a layer, the run of an age."""
    return "item2vec" if model.startswith("item2vec") else model.split(",")[0]


def digits(seed: int = 0) -> Task:
    """Return the ten representations of digits, to tell ten digits apart."""
    models, classes = digit_representations(seed)
    trained = [name for name in models if name != "noise"]
    return Task(models, classes.astype(str), trained, {})


def named(which: str, every: int = 1, packages: Mapping[str, str] = NAMES) -> Task:
    """Return the layers of MiniLM and SmolLM2 over names, with GloVe, spelling and noise.

    `which` is "places", whose clusters are countries, or "titles", whose clusters are songs, films
    and books; `packages` names other models. Of seven layers of a model, evenly spread, every
    `every`-th is taken.
    """
    if which == "places":
        table = entities.places(data.fetch("entities/world_place.csv"), 12, 100)
        labels = table.country
    else:
        table = entities.art_titles(data.fetch("entities/art.csv"), 100)
        labels = table.entity_type
    texts, models = list(table.text), {}
    for name, package in packages.items():
        layers = encoding.cached_layer_embeddings(package, texts, n_layers=7)
        models |= {f"{name}, layer {layer}": layers[layer] for layer in list(layers)[::every]}
    trained = list(models)
    models |= {"GloVe": entities.glove_control(texts)}
    models |= {"spelling": entities.spelling_control(texts)}
    models["noise"] = entities.noise_control(len(texts), models[trained[0]].shape[1])
    large = (labels.map(labels.value_counts()) >= 40).to_numpy()
    kept = {name: np.asarray(X, dtype=float)[large] for name, X in models.items()}
    return Task(kept, labels[large].to_numpy(str), trained, {})


class Films(NamedTuple):
    """Nine embeddings of films, their clusters by several features, and their hit rates."""

    models: dict[str, np.ndarray]
    clusterings: dict[str, pd.Series]
    hits: dict[str, float]


def film_embeddings() -> Films:
    """Return the film embeddings of the page on MovieLens, trained once and kept in the cache.

    The clusterings are `decade`, `genre`, `crossed` (one cluster per genre and decade) and `tree`,
    grown on all trained embeddings together. A film without a cluster has a missing value.
    """
    training, held_out, table, binary = film_log.load_films()
    n = len(table)
    key = digest("films", 1, (1, 15, 40), 150, 0)[:16]
    place = data.cache_folder() / "film_embeddings" / f"{key}.npz"
    if not place.is_file():
        with storage.whole(place) as partial, open(partial, "wb") as file:
            np.savez(file, **_trained_films(training, held_out, n))
    with np.load(place, allow_pickle=False) as file:
        models = {name: file[name] for name in file.files}
    pooled = np.hstack([scale(X) for X in models.values()])
    tree = embedding_tree(PCA(16, random_state=0).fit_transform(pooled), binary)
    models["popularity"] = films.popularity_embedding(training, n)
    models["random"] = films.random_embedding(n)
    clusterings = {"decade": table.decade, "genre": table.genre}
    clusterings["crossed"] = crossed(table.genre, table.decade)
    clusterings["tree"] = pd.Series(np.array(tree.names)[tree.leaf])
    hits = {name: films.hit_rate(X, training, held_out) for name, X in models.items()}
    return Films(models, clusterings, hits)


def crossed(first: pd.Series, second: pd.Series) -> pd.Series:
    """Return one cluster per pair of values of two features; missing where either is."""
    return (first + ", " + second).where(first.notna() & second.notna())


def _trained_films(training: list, held_out: np.ndarray, n: int) -> dict[str, np.ndarray]:
    models = {"SVD": films.svd_embedding(training, n)}
    models["PPMI-SVD"] = films.ppmi_svd_embedding(training, n)
    word2vec = films.item2vec_embedding(training, n)
    models |= {f"item2vec {name}": X for name, X in word2vec.items()}
    ages = films.sasrec_checkpoints(training, held_out, n)
    return models | {f"SASRec, epoch {age}": found.embedding for age, found in ages.items()}


def clustered(films: Films, by: str) -> Task:
    """Return the films whose cluster has at least 60 of them, as a task."""
    labels = films.clusterings[by]
    keep = (labels.map(labels.value_counts()) >= 60).to_numpy()
    models = {name: X[keep] for name, X in films.models.items()}
    trained = [name for name in models if name not in ("popularity", "random")]
    models["noise"] = models.pop("random")
    hits = {**films.hits, "noise": films.hits["random"]}
    return Task(models, labels[keep].to_numpy(str), trained, hits)
