"""What a frozen encoder's vectors hold ready: the test score of a linear probe on a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from helpers import encoding, glue

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class _Features(NamedTuple):
    """What a probe sees: one row per text or pair, float32, and the labels."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def probe_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: glue.Task,
    *,
    n_train: int = 400,
    n_test: int | None = None,
    seed: int = 0,
) -> _Features:
    """Return the frozen model's vectors of some train and test rows of a task, with the labels.

    A text is the mean of its last-layer token vectors, cut at `max_tokens`; a pair (u, v) is
    [u, v, |u - v|, u v]. `n_train` rows, or all there are, are drawn by `seed`, with the shares of
    the classes kept; a larger draw begins with a smaller one. `n_test` takes the first rows of one
    fixed order, whatever the seed, so that all models and seeds meet the same test; None all.
    """
    train = task.train.iloc[train_order(task, seed)[:n_train]]
    test = task.test.iloc[test_order(task)[:n_test]]
    texts = pd.concat([part[c] for part in (train, test) for c in text_columns(part)])
    unique = list(dict.fromkeys(texts))
    last = int(model.config.num_hidden_layers)
    vectors = encoding.layer_embeddings(model, tokenizer, unique, layers=[last], max_tokens=48)[0]
    row = {text: i for i, text in enumerate(unique)}
    found = []
    for part in (train, test):
        sides = [vectors[[row[text] for text in part[c]]] for c in text_columns(part)]
        if len(sides) == 2:
            u, v = sides
            sides = [u, v, np.abs(u - v), u * v]
        found += [np.hstack(sides), part["label"].to_numpy()]
    return _Features(*found)


def text_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of a task's table that hold texts: one, or two of a pair."""
    return [c for c in ("sentence1", "sentence2") if c in table]


def train_order(task: glue.Task, seed: int = 0) -> np.ndarray:
    """Return the train rows in an order of which every beginning keeps the shares of classes."""
    order = np.random.default_rng(seed).permutation(len(task.train))
    if task.kind == "regression":
        return order
    labels = task.train["label"].iloc[order].reset_index(drop=True)
    place = labels.groupby(labels).cumcount() + 0.5
    return order[np.argsort(place / labels.map(labels.value_counts()), kind="stable")]


def test_order(task: glue.Task) -> np.ndarray:
    """Return the test rows in one fixed random order."""
    return np.random.default_rng(0).permutation(len(task.test))


def probe_score(task: glue.Task, features: _Features) -> float:
    """Return the score of a linear probe fitted on the train features, on the test features.

    Features are standardised by the train rows. Classes: logistic regression with C = 0.05;
    regression: ridge with the penalty chosen by leave-one-out among 10 to 10^6.
    """
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X_train, y_train, X_test, y_test = features
    if task.kind == "regression":
        head = RidgeCV(alphas=np.logspace(1, 6, 11))
    else:
        head = LogisticRegression(C=0.05, max_iter=2000)
    probe = make_pipeline(StandardScaler(), head).fit(X_train.astype(np.float64), y_train)
    return glue.score(task, y_test, probe.predict(X_test.astype(np.float64)))
