"""Whether a model's answers depend on who is asked about, beyond what it prefers to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers.retrieval import factbook_facts
from helpers.retrieval.binned_fits import draw_weights, weighted_correlation

# Below these numbers of facts, subjects, and right or wrong answers nothing is tested.
LEAST_FACTS, LEAST_SUBJECTS, LEAST_ANSWERS = 20, 10, 5
# Differences of log P below this, in nats, are rounding: such a model does not vary.
ROUNDING = 1e-4
COUNTS = {"N(s,o)": "log2 N(s,o)", "P(o|s)": "P(o|s)", "SMI": "MI"}


class _Answers(NamedTuple):
    """Facts that were asked, and log P of every answer of their block after every question.

    `facts` has a row per fact, and `row`, its place in the table of questions; `blocks` has for
    each block the places of its n rows in `facts`, the column of each row's own object, and the
    matrix (n, answers) in nats.
    """

    facts: pd.DataFrame
    blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def answers(raw: Mapping[str, Any], facts: pd.DataFrame) -> _Answers:
    """Return what `single_signals.facts` measured, as matrices; facts with a `hint` are left out.

    `facts` is the table that was asked, with the columns of `signal_inputs.FACTS`, `block`, `hint`.
    """
    asked = facts.iloc[raw["rows"]].assign(row=raw["rows"]).reset_index(drop=True)
    rows = [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for names, values in zip(asked["choices"], raw["answers"], strict=True)
    ]
    keep = np.flatnonzero(~asked["hint"])
    asked, rows = asked.iloc[keep].reset_index(drop=True), [rows[i] for i in keep]
    blocks = []
    for _, places in asked.groupby("block", sort=False).indices.items():
        names = list(rows[places[0]])
        own = np.array([names.index(asked["object"][i]) for i in places])
        blocks.append((places, own, np.array([[rows[i][name] for name in names] for i in places])))
    return _Answers(asked, blocks)


def _centred(matrix: np.ndarray) -> np.ndarray:
    """Return by how much each subject raises log P of each answer, nats, shape (n, answers).

    It is what the matrix has beyond the means of its rows and columns: a model that prefers some
    answers whoever is asked about, or gives one subject all of them, has 0 everywhere.
    """
    apart = matrix - matrix.mean(axis=1, keepdims=True)
    apart = apart - apart.mean(axis=0)
    return np.where(np.abs(apart) > ROUNDING, apart, 0.0)


def _right(found: _Answers) -> np.ndarray:
    """Return whether each fact's own object is the likeliest answer of its block, bool (n,)."""
    return _shuffled(found, np.zeros(0), 0, _first)[0] > 0


def beyond(found: _Answers) -> pd.Series:
    """Return `_right` less how often other questions of the block get the same answer first.

    One value a fact, from -1 to 1, indexed by its row in the table that was asked; 0 in the mean
    for a model that answers the same whoever is asked about.
    """
    values = np.zeros(len(found.facts))
    for places, own, matrix in found.blocks:
        first = _first(matrix)[:, own]
        values[places] = first.diagonal() - first.mean(axis=0)
    return pd.Series(values, found.facts["row"])


def _first(matrix: np.ndarray) -> np.ndarray:
    best = matrix.max(axis=1, keepdims=True)
    top = matrix > best - ROUNDING
    return (top & (top.sum(axis=1, keepdims=True) == 1)).astype(float)


def _shuffled(found: _Answers, rng: Any, n: int, score: Any) -> np.ndarray:
    """Return the true answers' scores, then those with the questions shuffled, (n + 1, m).

    Within a block each fact keeps its object and its counts, and takes the scores of another
    question: where answers do not depend on the subject, all dealings are equally likely.
    """
    values = np.zeros((n + 1, len(found.facts)))
    for places, own, matrix in found.blocks:
        scores, order = score(matrix), np.tile(np.arange(len(own)), (n + 1, 1))
        if n:
            order[1:] = rng.permuted(order[1:], axis=1)
        values[:, places] = scores[order, own]
    return values


def _p_value(values: np.ndarray) -> float:
    """Return how often a shuffled statistic is as far above its mean as the first, or below.

    Twice the smaller tail, (1 + number as far) / (1 + shuffles) each. Source: Phipson and Smyth
    (2010).
    """
    edge = 1e-9 * max(1.0, float(np.abs(values).max()))
    tails = [(values[1:] * side >= values[0] * side - edge).sum() + 1 for side in (1, -1)]
    return float(min(1.0, 2 * min(tails) / len(values)))


def _why_not(found: _Answers) -> str:
    """Return why so few facts carry no test, "" where they do."""
    n, subjects = len(found.facts), found.facts["subject"].nunique()
    if n < LEAST_FACTS or subjects < LEAST_SUBJECTS:
        return (
            f"{n} facts of {subjects} subjects could be used, and a test needs {LEAST_FACTS} of "
            f"{LEAST_SUBJECTS}; give more facts"
        )
    return ""


def knowledge(
    found: _Answers,
    *,
    n_shuffles: int = 9999,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return whether answers depend on the subject: rows "first" and "gain".

    "first" is the share of facts whose object comes first, "gain" the mean, in nats, of how much
    the subject raises log P of its own object, beyond the means of its block's rows and columns.
    Columns: `value`; `low`, `high`, over subjects and objects drawn as wholes; `expected`, the mean
    under shuffled questions, which is what preferences alone give; `p`, NaN with the reason in
    `why` where there are too few facts. Source of the two-way interval: Owen (2007).
    """
    rows, why = {}, _why_not(found)
    weights = two_way(found.facts, n_resamples, seed)
    for name, score in (("first", _first), ("gain", _centred)):
        if not len(found.facts):
            break
        rng = np.random.default_rng(seed)
        values = _shuffled(found, rng, n_shuffles, score)
        sample = weights @ values[0] / weights.sum(axis=1)
        low, high = np.quantile(sample, [0.5 - confidence / 2, 0.5 + confidence / 2])
        means = values.mean(axis=1)
        p = np.nan if why else _p_value(means)
        rows[name] = {"value": means[0], "low": min(low, means[0]), "high": max(high, means[0])}
        rows[name] |= {"expected": means[1:].mean(), "p": p, "why": why}
    columns = ["value", "low", "high", "expected", "p", "why"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def two_way(facts: pd.DataFrame, n_resamples: int, seed: int) -> np.ndarray:
    """Return weights of facts in resamples of whole subjects and whole objects, (n_resamples, n).

    A fact counts as often as its subject was drawn times as often as its object was; resamples
    without a fact are left out.
    """
    if facts["subject"].nunique() < 2 or facts["object"].nunique() < 2:
        return np.ones((1, len(facts)))
    parts = [
        draw_weights(len(facts), n_resamples, groups=facts[name], seed=seed + i)
        for i, name in enumerate(("subject", "object"))
    ]
    weights = parts[0].astype(float) * parts[1]
    return weights[weights.sum(axis=1) > 0]


def follow(
    found: _Answers,
    *,
    n_shuffles: int = 9999,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how the gain of `knowledge` follows what a corpus says, by rank within relations.

    One row per count: index "N(s,o)", "P(o|s)", "SMI"; `value`, Spearman's rho; `low`, `high`, over
    subjects and objects drawn as wholes, with the ranks of the whole sample; `p` under shuffled
    questions, NaN with the reason in `why` where facts, or right or wrong answers, are too few. A
    model's preferences, and what it gives to a subject whatever the answer, count for nothing.
    SMI raises mutual information to a power of the model's size, which leaves the order of facts as
    it is: for one model it is the rank of MI. A count that does not vary is left out.
    """
    facts = found.facts
    columns = ["value", "low", "high", "p", "why"]
    if len(facts) < 3:
        return pd.DataFrame(columns=columns)
    rng = np.random.default_rng(seed)
    values = _shuffled(found, rng, n_shuffles, _centred)
    ranked = _ranks(values, facts["relation"])
    signals = factbook_facts.ranks(facts[list(COUNTS.values())], facts["relation"])
    weights = two_way(facts, n_resamples, seed)
    why, n_right = _why_not(found), int(_right(found).sum())
    if not why and min(n_right, len(facts) - n_right) < LEAST_ANSWERS:
        why = f"{n_right} of {len(facts)} answers are right; {LEAST_ANSWERS} of each are needed"
    rows = {}
    for name, column in COUNTS.items():
        x = signals[column].to_numpy()
        if not np.ptp(x) or not np.ptp(ranked[0]):
            continue
        rho = ranked @ x / np.sqrt((ranked**2).sum(axis=1).clip(1e-12) * (x @ x))
        with np.errstate(invalid="ignore", divide="ignore"):
            sample = weighted_correlation(x, ranked[0], weights)
        ends = np.nanquantile(sample, [0.5 - confidence / 2, 0.5 + confidence / 2])
        rows[name] = {"value": rho[0], "low": min(ends[0], rho[0]), "high": max(ends[1], rho[0])}
        rows[name] |= {"p": np.nan if why else _p_value(rho), "why": why}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _ranks(values: np.ndarray, relations: pd.Series) -> np.ndarray:
    """Return `factbook_facts.ranks` of each row of values (r, n)."""
    ranked = np.zeros_like(values)
    for places in relations.groupby(relations).indices.values():
        order = stats.rankdata(values[:, places], axis=1)
        ranked[:, places] = (order - 0.5) / len(places) - 0.5
    return ranked
