"""ALP, its rivals and the yardsticks, on every model of a task, each with its processor time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import quantile_transform, scale

from experiments.posterior import real_models
from experiments.posterior.agreement import difference, rank_agreement
from experiments.posterior.real_models import Task
from helpers.posterior import average_log_posterior, transferability
from helpers.posterior.dimensions import varied

BLOCK = 16
FIXED = (1e-3, 1e-2, 1e-1)
PROBES = [*(f"probe, C = {C:g}" for C in FIXED), "probe, tuned"]
DOWNSTREAM = "downstream"
FORMS = ["ALP calibrated, blocks", "ALP calibrated", "ALP recipe"]
Score = Callable[[np.ndarray, np.ndarray], float]


def normal(X: np.ndarray) -> np.ndarray:
    """Return each dimension that varies, mapped by its ranks to a normal distribution."""
    changing = X[:, np.ptp(X, axis=0) > 0]
    quantiles = min(500, len(X))
    return quantile_transform(changing, output_distribution="normal", n_quantiles=quantiles)


def _network_accuracy(X: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
    """Return the held-out accuracy, in three folds, of a small network trained on an embedding."""
    network = MLPClassifier(
        64, batch_size=64, early_stopping=True, n_iter_no_change=8, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cross_val_score(network, scale(X), labels, cv=3).mean())


def methods(block: int = BLOCK, seed: int = 0) -> dict[str, Score]:
    """Return every score by name: a function of an embedding (N, d) and its labels (N,).

    *Published*, *leave-one-out* and *blocks* divide the dimensions into blocks of `block` at most;
    the other forms of ALP take the whole space. *Recipe* leaves out dimensions that hardly vary,
    *normal* maps each one to a normal distribution. Rivals that measure distances or coding rates
    get standardised dimensions.
    """
    alp, peers = average_log_posterior, transferability

    def blocks(X: np.ndarray) -> dict:
        return {"head_dim": min(block, X.shape[1]), "seed": seed}

    return {
        "ALP published": lambda X, y: alp(X, y, form="published", **blocks(X)).score,
        "ALP leave-one-out": lambda X, y: alp(X, y, form="leave_one_out", **blocks(X)).score,
        "ALP calibrated, blocks": lambda X, y: alp(X, y, **blocks(X)).score,
        "ALP calibrated": lambda X, y: alp(X, y, seed=seed).score,
        "ALP recipe": lambda X, y: alp(X[:, varied(X)], y, seed=seed).score,
        "ALP calibrated, normal": lambda X, y: alp(normal(X), y, seed=seed).score,
        "LogME": lambda X, y: peers.log_me(X, y),
        "H-score": lambda X, y: peers.h_score(X, y),
        "GBC": lambda X, y: peers.gbc(scale(X), y),
        "TransRate": lambda X, y: peers.trans_rate(scale(X), y),
        "silhouette": lambda X, y: peers.silhouette(scale(X), y),
        "neighbours": lambda X, y: peers.knn_accuracy(scale(X), y),
        "RankMe": lambda X, y: peers.rank_me(X),
    }


def yardsticks(seed: int = 0) -> dict[str, Score]:
    """Return the yardsticks by name: probes of three penalties, a tuned one, a small network.

    Probes give their held-out log likelihood in nats, the network its held-out accuracy.
    """

    def probe(C: float) -> Score:
        return lambda X, y: transferability.linear_probe(X, y, C=C, seed=seed).log_likelihood

    found: dict[str, Score] = {f"probe, C = {C:g}": probe(C) for C in FIXED}
    found["probe, tuned"] = lambda X, y: (
        transferability.tuned_probe(X, y, seed=seed)[0].log_likelihood
    )
    return found | {DOWNSTREAM: lambda X, y: _network_accuracy(X, y, seed)}


def measured(task: Task, scores: Mapping[str, Score]) -> pd.DataFrame:
    """Return what every score says of every model of a task, and the processor seconds it took.

    The columns are `model`, `unit` (models that share one are not independent), `trained` (no
    control), `width` (dimensions), `score`, `value` and `seconds`. A downstream result that the
    task brings along stands in place of the network's.
    """
    rows = []
    for (model, X), (name, score) in ((m, s) for m in task.models.items() for s in scores.items()):
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            brought = name == DOWNSTREAM and model in task.downstream
            value = task.downstream[model] if brought else score(X, task.labels)
        row = {"model": model, "unit": real_models.unit(model), "trained": model in task.trained}
        row |= {"width": X.shape[1], "score": name, "value": float(value)}
        rows.append(row | {"seconds": time.process_time() - start})
    return pd.DataFrame(rows)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `measured` with one row per model and one column per score."""
    columns = table.pivot(index="model", columns="score", values="value")
    about = table.drop_duplicates("model").set_index("model")[["unit", "trained", "width"]]
    return about.join(columns[list(dict.fromkeys(table.score))])


def rival_table(tables: Mapping[str, pd.DataFrame], n_resamples: int = 500) -> pd.DataFrame:
    """Return by how much each form of ALP follows each yardstick more closely than LogME.

    `tables` maps tasks to frames of `wide`. One row per specification: `tasks` (all, or one of
    them), `models` (all, or without the controls), `yardstick`, `form`; `estimate` is the
    difference of the mean rank correlations, `low` and `high` the ends of its bootstrap interval
    over independent models.
    """
    trained = {name: table[table.trained] for name, table in tables.items()}
    sets = [("all", "all", tables), ("all", "trained", trained)]
    sets += [(name, "all", {name: table}) for name, table in tables.items()]
    rows = []
    for (tasks, models, chosen), yardstick in (
        (chosen, yardstick) for chosen in sets for yardstick in [*PROBES[1:], DOWNSTREAM]
    ):
        found = rank_agreement(
            chosen, [*FORMS, "LogME"], yardstick, unit="unit", n_resamples=n_resamples
        )
        for form in FORMS:
            estimate, low, high = difference(found, form, "LogME")
            row = {"tasks": tasks, "models": models, "yardstick": yardstick}
            row["form"] = form.removeprefix("ALP ")
            rows.append(row | {"estimate": estimate, "low": low, "high": high})
    return pd.DataFrame(rows)


def fooled_by_noise(
    tables: Mapping[str, pd.DataFrame],
    names: Sequence[str],
    *,
    probe: str = "probe, tuned",
    margin: float = 0.05,
) -> pd.Series:
    """Return how many models each score puts below noise although a probe knows better.

    Counted over all tables are the models whose `probe`, one of `PROBES`, is above that of noise by
    more than `margin` nats.
    """
    total = pd.Series(0, index=list(names))
    for table in tables.values():
        knows = table[table[probe] > table[probe]["noise"] + margin]
        total += (knows[list(names)] < table.loc["noise", list(names)]).sum()
    return total
