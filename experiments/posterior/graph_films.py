"""LightGCN on the films of MovieLens, a kind of model that the paper did not try, and its ALP."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from experiments.command import Written, command, option
from experiments.posterior import movielens as films
from experiments.posterior.agreement import Agreement, rank_agreement
from experiments.posterior.film_log import load_films
from experiments.posterior.real_models import crossed, unit
from helpers import data, validation
from helpers.posterior import average_log_posterior, embedding_tree

STORED = data.PUBLISHED / "alp_graph.csv"
CONTROLS = ("popularity", "random")
LEAVES = (6, 12)
STEPS = (50, 200, 800)
LEAST = 60  # films in a cluster, as on the page


def _lightgcn_checkpoints(
    training: Sequence[np.ndarray],
    n_items: int,
    *,
    d: int = 64,
    layers: int = 3,
    steps: Sequence[int] = (400,),
    batch: int = 8192,
    learning_rate: float = 0.02,
    decay: float = 1e-4,
    seed: int = 0,
) -> dict[int, np.ndarray]:
    """Return item vectors (n_items, d) of LightGCN after some `steps` of training, by step.

    Users and items are the nodes of a graph, with an edge per rating. A node's vector is the mean
    over 0 to `layers` rounds of taking its neighbours' vectors, each divided by the root of the
    product of both degrees; nothing but the vectors of round 0 is learned. Without `layers` it is
    matrix factorisation. Each step of Adam takes `batch` edges, and for each an item drawn at
    random, by the loss of BPR with L2 `decay`. Raises `ValueError` for empty sequences
    and codes beyond `n_items`. Source: He et al. (2020); Rendle et al. (2009) for the loss.
    """
    items = np.concatenate(training)
    users = np.repeat(np.arange(len(training)), [len(s) for s in training])
    edges = np.unique(np.stack([users, len(training) + items]), axis=1)
    n = len(training) + n_items
    graph = sparse.csr_matrix((np.ones(edges.shape[1], np.float32), edges), (n, n))
    graph = graph + graph.T
    root = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1)))
    graph = (root @ graph @ root).astype(np.float32)

    def spread(vectors: np.ndarray) -> np.ndarray:
        total = rounds = vectors
        for _ in range(layers):
            rounds = graph @ rounds
            total = total + rounds
        return total / (layers + 1)

    rng = validation.generator(seed)
    vectors = (0.1 * rng.standard_normal((n, d))).astype(np.float32)
    take_step, kept = films.adam(vectors, learning_rate, 1e-8), {}
    for step in range(1, max(steps) + 1):
        rows = rng.integers(edges.shape[1], size=batch)
        user, seen = edges[:, rows]
        other = len(training) + rng.integers(n_items, size=batch)
        now = spread(vectors)
        slope = expit(-((now[seen] - now[other]) * now[user]).sum(axis=1, keepdims=True)) / batch
        # The gradient of the loss in the vectors that are compared; what spreads is symmetric.
        sums = sparse.csr_matrix(
            (np.ones(3 * batch, np.float32), (np.r_[user, seen, other], np.arange(3 * batch))),
            (n, 3 * batch),
        )
        parts = [slope * (now[other] - now[seen]), -slope * now[user], slope * now[user]]
        take_step(spread(sums @ np.concatenate(parts)) + decay / n * vectors)
        if step in steps:
            kept[step] = spread(vectors)[len(training) :].astype(float)
    return kept


def _film_models(training: Sequence[np.ndarray], n_items: int) -> dict[str, np.ndarray]:
    """Return five graph models, four static ones and two controls, each (n_items, 64)."""
    ages = _lightgcn_checkpoints(training, n_items, steps=STEPS, seed=0)
    models = {f"LightGCN, step {age}": X for age, X in ages.items()}
    for layers, name in ((1, "LightGCN, one round"), (0, "BPR, no graph")):
        options = {"layers": layers, "steps": STEPS[-1:], "seed": 0}
        models[name] = _lightgcn_checkpoints(training, n_items, **options)[STEPS[-1]]
    models["SVD"] = films.svd_embedding(training, n_items, seed=0)
    models["PPMI-SVD"] = films.ppmi_svd_embedding(training, n_items, seed=0)
    word2vec = films.item2vec_embedding(training, n_items, seed=0)
    models |= {f"item2vec {name}": X for name, X in word2vec.items()}
    models["popularity"] = films.popularity_embedding(training, n_items, seed=0)
    return models | {"random": films.random_embedding(n_items, seed=0)}


def _clusterings(
    models: dict[str, np.ndarray], labels: pd.DataFrame, binary: pd.DataFrame
) -> dict[str, pd.Series]:
    """Return the clusters of each film: by feature, crossed, and by trees of several sizes.

    The trees are grown on all trained models together, as on the page; without a stop, so that
    they have the numbers of leaves in `LEAVES`, and once with it.
    """
    trained = [X for name, X in models.items() if name not in CONTROLS]
    pooled = PCA(16, random_state=0).fit_transform(np.hstack([scale(X) for X in trained]))
    found = {"decade": labels.decade, "genre": labels.genre}
    found["crossed"] = crossed(labels.genre, labels.decade)
    grown = {"tree": embedding_tree(pooled, binary)}
    for n in LEAVES:
        grown[f"tree, {n} leaves"] = embedding_tree(pooled, binary, stop="none", max_leaves=n)
    return found | {name: pd.Series(np.array(t.names)[t.leaf]) for name, t in grown.items()}


def _graph_table() -> pd.DataFrame:
    """Return the score of each film model over each clustering, and its hit rate, a row per pair.

    Columns: `clusters` (the clustering), `model`, `n` films and `k` clusters of 60 films and more;
    `published` (in-sample, blocks of 16) and `calibrated`, in nats; `chance`; `hit@10`. Raises
    `DataError` without MovieLens.
    """
    training, held_out, labels, binary = load_films()
    models, rows = _film_models(training, len(labels)), []
    hits = {name: films.hit_rate(X, training, held_out) for name, X in models.items()}
    for by, label in _clusterings(models, labels, binary).items():
        large = (label.map(label.value_counts()) >= LEAST).to_numpy()
        y = label[large]
        for name, X in models.items():
            blocks = average_log_posterior(X[large], y, form="published", head_dim=16)
            whole = average_log_posterior(X[large], y)
            row = {"clusters": by, "model": name, "n": len(y), "k": y.nunique()}
            row |= {"published": blocks.score, "calibrated": whole.score, "chance": whole.chance}
            rows.append(row | {"hit@10": hits[name]})
    return pd.DataFrame(rows)


def follows_hits(
    graph: pd.DataFrame, form: str = "calibrated", n_resamples: int = 500, seed: int = 0
) -> Agreement:
    """Return how a form of the score follows the hit rate, by clustering, methods drawn as wholes.

    `graph` is a table of `_graph_table`. The measures of the result are its clusterings, and one
    draw of methods serves them all, so that they can be compared (`agreement.difference`). The ages
    of one method count as one.
    """
    by = list(dict.fromkeys(graph.clusters))
    frame = graph.pivot(index="model", columns="clusters", values=form)
    frame["hit@10"] = graph.drop_duplicates("model").set_index("model")["hit@10"]
    frame["unit"] = [unit(model) for model in frame.index]
    return rank_agreement(
        {"films": frame}, by, "hit@10", unit="unit", n_resamples=n_resamples, seed=seed
    )


def headlines(
    graph: pd.DataFrame, n_resamples: int = 500, seed: int = 0
) -> tuple[list[pd.Series], pd.DataFrame]:
    """Return three rows of agreement with the hit rate, and that of the calibrated form in full.

    The rows are the calibrated form by decade, by the clustering where it is lowest, and the
    published form by decade. The table has the calibrated form by clustering, with the controls
    and without them.
    """
    how = {"n_resamples": n_resamples, "seed": seed}
    trained = graph[~graph.model.isin(["popularity", "random"])]
    whole, published, alone = (
        follows_hits(rows, form, **how).table
        for rows, form in ((graph, "calibrated"), (graph, "published"), (trained, "calibrated"))
    )
    rows = [whole.loc["decade"], whole.loc[whole.estimate.idxmin()], published.loc["decade"]]
    return rows, pd.concat({"all": whole, "without controls": alone}, axis=1)


@command("alp_graph", option("--out", type=Path, default=STORED, help="CSV file to write"))
def main(given: Namespace) -> Written:
    """Train LightGCN and its rivals on MovieLens and write their scores: three minutes of CPU."""
    yield given.out, _graph_table().round(6).to_csv(index=False)
