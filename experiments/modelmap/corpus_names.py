"""Which corpus was a model trained on? Names from losses, with the architecture held out.

`python -m experiments corpus_names` makes the stored tables of the page from the registry's files.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from experiments import intervals
from experiments.command import Written, command
from helpers import data, ties, validation

KEY = "transferability/loss_lines/models.csv"
TABLES = {name: data.PUBLISHED / f"corpus_{name}.csv" for name in ("names", "signatures")}
# Corpora whose losses the release gives; the first three are somebody's training data.
LOSSES = ("C4", "FineWeb-Edu", "The Pile UC", "RefineWeb", "Slimpajama")
OWN = {"C4": "C4", "FineWeb-Edu": "FineWeb-Edu", "The Pile UC": "The Pile"}
ANSWERS = ("ARC-Challenge", "ARC-Easy", "HellaSwag", "PIQA", "Social IQa", "CommonSenseQA", "COPA")
ANSWERS += ("OpenBookQA", "Winogrande")
TEXTS = {"all five": LOSSES, "RefinedWeb and SlimPajama": LOSSES[3:], "nine answers": ANSWERS}


class _Rate(NamedTuple):
    """A mean share over groups, the ends of its interval, and the number of groups."""

    rate: float
    low: float
    high: float
    n: int


def load_loss_lines(path: Path | None = None) -> pd.DataFrame:
    """Return the released models with all five losses, one row each, repeated rows dropped.

    Columns: `model`, `architecture`, `corpus`, `size` (parameters), `tokens`, `tokenizer`, and for
    each text set bits per byte under its name and nats per token under "NAME, nats". Source:
    brendel-group/llm-line at e57749d.
    """
    raw = pd.read_csv(data.fetch(KEY) if path is None else path).iloc[1:]
    columns = {"Name": "model", "Architecture": "architecture", "Pretraining Data": "corpus"}
    columns |= {"Size": "size", "Tokens": "tokens", "Tokenizer": "tokenizer"}
    columns |= {f"{name} Validation BPB": name for name in LOSSES}
    columns |= {f"{name} BPB": name for name in ANSWERS}
    columns |= {f"{name} Validation Loss": f"{name}, nats" for name in LOSSES}
    table = raw[list(columns)].rename(columns=columns)
    table["corpus"] = table["corpus"].replace("The Pile Deduped", "The Pile")
    table["architecture"] = table["architecture"].replace("olmo", "OLMo")
    numeric = ["size", "tokens", *LOSSES, *ANSWERS, *(f"{name}, nats" for name in LOSSES)]
    table[numeric] = table[numeric].apply(pd.to_numeric)
    table = table.dropna(subset=list(LOSSES)).drop_duplicates(list(LOSSES))
    return table.reset_index(drop=True)


def signatures(losses: ArrayLike, *, logs: bool = True) -> np.ndarray:
    """Return each model's losses without its own mean: where it is better than it is elsewhere.

    `losses` has shape (models, texts). With `logs`, logarithms are taken first, so that a
    signature is in relative units; pass log-likelihoods with `logs=False`. The means of the texts
    are not taken off: they cancel in every difference of two models. Raises `ValueError` for fewer
    than two texts, or a loss that is missing or, with `logs`, not above 0.
    """
    values = validation.numbers(losses, "losses")
    if not np.isfinite(values).all() or (logs and not (values > 0).all()):
        raise ValueError("losses has a missing value, or one not above 0; drop the model")
    values = np.log(values) if logs else values
    return values - values.mean(axis=1, keepdims=True)


def other_groups(groups: ArrayLike) -> np.ndarray:
    """Return who may teach whom, shape (n, n): rows of every group but one's own."""
    names = np.asarray(groups)
    return names[:, None] != names[None, :]


def nearest_labels(values: ArrayLike, labels: ArrayLike, teaches: np.ndarray) -> np.ndarray:
    """Return for each row the label whose mean, over the rows that may teach it, is nearest.

    `values` has shape (n, d), `labels` (n,), `teaches` (n, n): row i learns from the rows j
    with `teaches[i, j]`. "" stands where these have fewer than two labels; of equal distances
    the first label in alphabetical order counts. Source: nearest centroid, Tibshirani et al.
    (2002), without shrinkage.
    """
    X, names = validation.numbers(values, "values"), np.asarray(labels)
    kinds, out = np.unique(names), np.full(len(X), "", dtype=object)
    member = (names[None, :] == kinds[:, None]).astype(float)
    rows, which = np.unique(np.asarray(teaches, bool), axis=0, return_inverse=True)
    for i, allowed in enumerate(rows):
        weight = member * allowed
        there = weight.sum(axis=1) > 0
        if there.sum() < 2:
            continue
        centres = weight[there] @ X / weight[there].sum(axis=1, keepdims=True)
        chosen = np.flatnonzero(which.ravel() == i)
        apart = ((X[chosen, None, :] - centres[None]) ** 2).sum(axis=2)
        out[chosen] = kinds[there][ties.first_smallest(apart)]
    return out


def _nearest_line_labels(
    values: ArrayLike, along: ArrayLike, labels: ArrayLike, teachers: ArrayLike
) -> np.ndarray:
    """Return for each row the label whose line along the mean loss passes nearest to it.

    `along` (n,) is the mean log loss of each row; each label has one least-squares line per column
    of `values`, fitted to its rows among `teachers` (n,), a mask. So a model is compared with what
    each corpus would give at the model's own level. Source: the lines of Mayilvahanan et al.
    (2025), straight on logarithms.
    """
    X, level = validation.numbers(values, "values"), validation.numbers(along, "along")
    names, mask = np.asarray(labels), np.asarray(teachers, bool)
    kinds, counts = np.unique(names[mask], return_counts=True)
    design, apart = np.column_stack([np.ones(len(level)), level]), []
    for kind in kinds:
        rows = mask & (names == kind)
        fitted = design @ np.linalg.lstsq(design[rows], X[rows], rcond=None)[0]
        apart.append(((X - fitted) ** 2).sum(axis=1))
    return kinds[ties.first_smallest(np.array(apart).T)]


def _relative_labels(losses: ArrayLike, reference: ArrayLike, names: Sequence[str]) -> np.ndarray:
    """Return for each model the text set on which it is best relative to a reference model.

    `losses` has shape (models, texts), `reference` (texts,), the losses of a model trained on none
    of the sets alone; `names` are the sets. Nothing is fitted.
    """
    values, base = validation.numbers(losses, "losses"), validation.numbers(reference, "reference")
    return np.asarray(names, dtype=object)[ties.first_smallest(np.log(values) - np.log(base))]


def group_rate(right: ArrayLike, groups: ArrayLike, *, seed: int = 0) -> _Rate:
    """Return the mean over groups of the share of rows that are right, with a 95 % interval.

    Each group counts once, whatever its size. Groups are drawn with replacement; where all
    groups have the share 0, or 1, such an interval has no width, and the exact binomial
    interval of so many groups stands in. Source: Clopper and Pearson (1934).
    """
    shares = pd.Series(np.asarray(right, float)).groupby(np.asarray(groups)).mean().to_numpy()
    n, rate = len(shares), float(shares.mean())
    if rate in (0.0, 1.0):
        edge = 0.025 ** (1 / n)
        return _Rate(rate, edge, 1.0, n) if rate else _Rate(rate, 0.0, 1 - edge, n)
    means = shares[validation.generator(seed).integers(n, size=(2000, n))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return _Rate(rate, float(low), float(high), n)


def _permuted(
    labels: ArrayLike, units: ArrayLike, blocks: ArrayLike, rng: np.random.Generator
) -> np.ndarray:
    """Return labels with those of whole units exchanged at random within each block.

    All rows of a unit, such as the checkpoints of one run, have one label before and after.
    """
    frame = pd.DataFrame({"label": labels, "unit": units, "block": blocks})
    whole = frame.drop_duplicates().set_index("unit")
    for _, part in whole.groupby("block", sort=False):
        whole.loc[part.index, "label"] = rng.permutation(part["label"].to_numpy())
    return whole["label"].loc[frame["unit"]].to_numpy()


def null_rates(
    values: ArrayLike,
    labels: ArrayLike,
    teaches: np.ndarray,
    units: ArrayLike,
    blocks: ArrayLike,
    *,
    n_shuffles: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """Return the share of rows named rightly when the labels of whole units are exchanged.

    Shape (n_shuffles,). Arguments as `nearest_labels` and `_permuted` take them.
    """
    rng, rates = validation.generator(seed), np.empty(n_shuffles)
    for i in range(n_shuffles):
        other = _permuted(labels, units, blocks, rng)
        rates[i] = np.mean(nearest_labels(values, other, teaches) == other)
    return rates


def exact_p_value(names: Sequence[str], truths: Sequence[str]) -> float:
    """Return how often truths in another order would fit the names as well as they do.

    All orders count alike, so that the value is a multiple of one over the number of orders
    that differ.
    """
    from itertools import permutations

    fits = sum(a == b for a, b in zip(names, truths, strict=True))
    orders = set(permutations(truths))
    other = [sum(a == b for a, b in zip(names, order, strict=True)) for order in orders]
    return float(np.mean(np.array(other) >= fits))


def explained_shares(values: ArrayLike, factors: pd.DataFrame) -> pd.Series:
    """Return the share of all squared distances that lies between the levels of each factor.

    `values` has shape (n, d) and `factors` a row each. In a balanced design the shares of the
    factors add up to at most 1, and the rest is their interplay and noise.
    """
    X = validation.numbers(values, "values")
    X = X - X.mean(axis=0)
    total = float((X**2).sum())
    shares = {}
    for name in factors:
        level = pd.factorize(factors[name])[0]
        member = (level[None, :] == np.arange(level.max() + 1)[:, None]).astype(float)
        means = member @ X / member.sum(axis=1, keepdims=True)
        shares[name] = float((member.sum(axis=1) * (means**2).sum(axis=1)).sum() / total)
    return pd.Series(shares)


def share_difference(
    values: ArrayLike, factors: pd.DataFrame, first: str, second: str, **options: int
) -> _Rate:
    """Return by how much `explained_shares` of one factor exceeds another's, texts resampled.

    `values` are log-likelihoods, one column per text; a resample takes the models' means off again.
    """
    X = validation.numbers(values, "values")

    def gap(columns: np.ndarray) -> float:
        shares = explained_shares(signatures(X[:, columns], logs=False), factors[[first, second]])
        return float(shares[first] - shares[second])

    texts = np.arange(X.shape[1])
    return _Rate(*intervals.bootstrap(gap, texts, **{"n_resamples": 500, **options}), len(texts))


def rates_by_texts(
    values: ArrayLike,
    labels: ArrayLike,
    teaches: np.ndarray,
    sizes: Sequence[int],
    *,
    n_draws: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the share of models named rightly from some of the texts: `n_texts`, `rate`.

    `values` are log-likelihoods (models, texts); one row per draw of texts without replacement.
    """
    X, names = validation.numbers(values, "values"), np.asarray(labels)
    rng, rows = validation.generator(seed), []
    for n in sizes:
        for _ in range(n_draws):
            part = X[:, rng.choice(X.shape[1], n, replace=False)]
            right = nearest_labels(signatures(part, logs=False), names, teaches) == names
            rows.append({"n_texts": n, "rate": float(right.mean())})
    return pd.DataFrame(rows)


def named_real(table: pd.DataFrame, texts: Mapping[str, Sequence[str]] = TEXTS) -> pd.DataFrame:
    """Return how many released models are named rightly, by rule, texts and architecture.

    `table` is that of `load_loss_lines`, `texts` names sets of its losses. Rules learn from the
    checkpoints of Llama alone; models whose corpus these do not know are left out. Columns:
    `rule`, `texts`, `architecture`, `n`, `right`.
    """
    known = set(table.loc[table["architecture"] == "Llama", "corpus"])
    about = table[table["corpus"].isin(known)].dropna(subset=list(ANSWERS)).reset_index(drop=True)
    learns = (about["architecture"] == "Llama").to_numpy()
    teaches = np.repeat(learns[None], len(about), axis=0)
    names = {}
    for label, columns in texts.items():
        values, level = signatures(about[list(columns)]), np.log(about[list(columns)]).mean(axis=1)
        names["nearest mean", label] = nearest_labels(values, about["corpus"], teaches)
        names["nearest line", label] = _nearest_line_labels(values, level, about["corpus"], learns)
    level = np.log(about[list(LOSSES)]).mean(axis=1).to_numpy()[:, None]
    names["mean loss alone", "all five"] = nearest_labels(level, about["corpus"], teaches)
    rows = []
    for (rule, texts), found in names.items():
        right = pd.Series(found == about["corpus"].to_numpy())
        for name, part in right[~learns].groupby(about["architecture"]):
            row = {"rule": rule, "texts": texts, "architecture": name}
            rows.append(row | {"n": len(part), "right": int(part.sum())})
    return pd.DataFrame(rows)


def named_rate(named: pd.DataFrame, rule: str, texts: str) -> _Rate:
    """Return `group_rate` over the architectures of one rule and one set of texts.

    `named` is that of `named_real`. Raises `ValueError` where it has no such row.
    """
    rows = named[(named["rule"] == rule) & (named["texts"] == texts)]
    right = [np.arange(n) < k for n, k in zip(rows["n"], rows["right"], strict=True)]
    groups = np.repeat(rows["architecture"].to_numpy(), rows["n"].to_numpy())
    return group_rate(np.concatenate([np.zeros(0), *right]), groups)


def relative_units(table: pd.DataFrame) -> pd.DataFrame:
    """Return the name of each architecture and corpus by `_relative_labels`, most models deciding.

    The reference is the mean log loss of OLMo, which is left out. Columns:
    `architecture`, `corpus`, `n`, `name`.
    """
    own = list(OWN)
    away = table["architecture"] == "OLMo"
    base = np.exp(np.log(table.loc[away, own]).mean())
    about = table[~away].reset_index(drop=True)
    about["name"] = _relative_labels(about[own], base, list(OWN.values()))
    found = about.groupby(["architecture", "corpus"])["name"].agg(
        n="size", name=lambda names: names.value_counts(sort=True).index[0]
    )
    return found.reset_index()


def signature_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean signature over the five text sets of each architecture and corpus."""
    values = pd.DataFrame(signatures(table[list(LOSSES)]), columns=list(LOSSES))
    # Differences between models are what counts: the reference is the mean of the Dolma models.
    values -= values[(table["corpus"] == "Dolma").to_numpy()].mean()
    grouped = values.groupby([table["architecture"], table["corpus"]])
    return grouped.mean().assign(n=grouped.size()).reset_index()


def binomial_interval(right: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share. Source: Clopper and Pearson (1934)."""
    found = stats.binomtest(right, n).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


@command("corpus_names")
def main(_: Namespace) -> Written:
    """Write the tables that the page shows where the released losses cannot be fetched."""
    table = load_loss_lines()
    yield TABLES["names"], named_real(table).round(5).to_csv(index=False)
    yield TABLES["signatures"], signature_means(table).round(5).to_csv(index=False)
