"""Which of several models is the first for one use, and whether the data can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers import validation
from helpers.modelmap import held_out_texts
from helpers.retrieval.binned_fits import draw_weights
from helpers.synthesis import fact_tests, gate, signal_inputs

# Use: what is compared, whether more is better, and what a model that learnt nothing gives.
_USES = {
    "facts": ("right answers beyond its preferences (share)", 1, "its preferences alone"),
    "categories": ("ALP above chance (nats)", 1, "the spelling of the names alone"),
    "texts": ("bits per byte", -1, "a guess with equal probability for all tokens"),
}
COLUMNS = ["kind", "value", "low", "high", "behind", "behind_low", "behind_high", "first"]
COLUMNS += ["parameters", "above_nothing", "verdict"]
# With fewer groups of entities, or texts, nothing is ranked: bootstraps of so few are too narrow.
_LEAST_UNITS = 10


class _Items(NamedTuple):
    """What models share: numbers (models, n), a denominator (n,), resamples, units drawn whole.

    `nothing`, of the shape of `values`, has what a model that learnt nothing would give.
    """

    names: list[str]
    values: np.ndarray
    nothing: np.ndarray
    sizes: np.ndarray
    weights: np.ndarray
    n_units: int


def rank(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]],
    inputs: signal_inputs.Inputs,
    use: str,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the models from best to worst for one use, with what resamples say.

    `found` maps a model to what `signals.measure` returned. All models get the same resamples of
    subjects and objects, groups of entities, or texts. `first` is the share of resamples in which
    a model is the best, ties shared; `behind`, `behind_low`, `behind_high` are by how much it is
    worse than the best one, in the unit of the values. That interval is Student's with the spread
    of the resamples, corrected for all pairs of models (Bonferroni), as the same data chose the
    best one. `verdict` is "first" where the best one's lead over every other excludes 0,
    "undecided" for all that could be the first, and "behind" for the rest. No model is "first"
    whose `above_nothing` is false: its lead over one that learnt nothing (its preferences, the
    spelling of the names, equally likely tokens) must exclude 0 as well. Models of different
    kinds are ranked apart, but for categories. `parameters` is the rival: their number costs
    nothing. Models that were not measured are absent; so are kinds with one model only.
    """
    validation.choice(use, tuple(_USES), "rank_for")
    kinds: dict[str, dict[str, Any]] = {}
    for name, raw in found.items():
        if raw["model"]["status"] == "computed":
            group = "all" if use == "categories" else raw["model"]["kind"]
            kinds.setdefault(group, {})[name] = raw
    tables = []
    for kind, group in kinds.items():
        items = _items(group, inputs, use, n_resamples, seed)
        if items is not None and len(items.names) > 1:
            table = _ranked(items, _USES[use][1])
            table["parameters"] = [group[name]["model"]["parameters"] for name in table.index]
            tables.append(table.assign(kind=kind))
    empty = pd.DataFrame(columns=COLUMNS, index=pd.Index([], name="model"))
    return pd.concat(tables)[COLUMNS] if tables else empty


def shown(ranks: pd.DataFrame) -> pd.DataFrame:
    """Return a ranking as a page has room for it: intervals in brackets, columns in words."""
    table = ranks.drop(columns="kind") if ranks["kind"].nunique() < 2 else ranks.copy()
    for name, end in {"value": "", "behind": "behind_"}.items():
        ends = zip(ranks[name], ranks[f"{end}low"], ranks[f"{end}high"], strict=True)
        table[name] = [f"{x:.3g} [{low:.3g}, {high:.3g}]" for x, low, high in ends]
        table = table.drop(columns=[f"{end}low", f"{end}high"])
    table["above_nothing"] = table["above_nothing"].map({True: "yes", False: "no"})
    table["parameters"] = table["parameters"].map("{:,.0f}".format)
    return table.round(3).rename(columns={"above_nothing": "above nothing"})


def _items(
    group: Mapping[str, Any], inputs: signal_inputs.Inputs, use: str, n_resamples: int, seed: int
) -> _Items | None:
    signal = {"texts": "my texts" if inputs.texts else "prediction"}.get(use, use)
    raws = {n: raw[signal] for n, raw in group.items() if raw[signal]["status"] == "computed"}
    if not raws:
        return None
    if use == "facts":
        return _right(raws, inputs.facts, n_resamples, seed)
    if use == "categories":
        n_units = inputs.entities["group"].nunique()
        if n_units < _LEAST_UNITS:
            return None
        values, spelling = (
            np.array([raw[name] for raw in raws.values()]) for name in ("skill", "spelling")
        )
        weights = draw_weights(
            values.shape[1], n_resamples, groups=inputs.entities["group"], seed=seed
        )
        return _Items(list(raws), values, spelling, np.ones(values.shape[1]), weights, n_units)
    # Texts that one of the models could not read whole are left out for all of them.
    n = len(inputs.texts) or len(held_out_texts.load().texts)
    read = [raw["read"] for raw in raws.values()]
    shared = sorted(set.intersection(*map(set, read)) & set(range(n)))
    if len(shared) < _LEAST_UNITS:
        return None
    bits, guesses, sizes = [], [], np.zeros(0)
    for raw, numbers in zip(raws.values(), read, strict=True):
        at = [numbers.index(i) for i in shared]
        bits.append(-np.array(raw["log_likelihood"])[at] / np.log(2))
        guesses.append(-np.array(raw["guess"])[at] / np.log(2))
        sizes = np.array(raw["n_bytes"], float)[at]
    weights = draw_weights(len(shared), n_resamples, seed=seed)
    return _Items(list(raws), np.array(bits), np.array(guesses), sizes, weights, len(shared))


def _right(
    raws: Mapping[str, Any], facts: pd.DataFrame, n_resamples: int, seed: int
) -> _Items | None:
    """Return what models gain on the facts that all were asked about the same answers."""
    asked = [
        {row: tuple(a is not None for a in a_row) for row, a_row in
         zip(raw["rows"], raw["answers"], strict=True)}
        for raw in raws.values()
    ]  # fmt: skip
    shared = [r for r in asked[0] if all(other.get(r) == asked[0][r] for other in asked)]
    shared = [r for r in shared if not facts["hint"].iloc[r]]
    if len(shared) < fact_tests.LEAST_FACTS:
        return None
    values = []
    for raw in raws.values():
        values.append(fact_tests.beyond(fact_tests.answers(raw, facts)))
    weights = fact_tests.two_way(facts.iloc[shared], n_resamples, seed)
    values = np.array([scores[shared] for scores in values])
    n_units = min(facts[name].iloc[shared].nunique() for name in ("subject", "object"))
    nothing = np.zeros_like(values)
    return _Items(list(raws), values, nothing, np.ones(len(shared)), weights, n_units)


def _ranked(items: _Items, sign: int) -> pd.DataFrame:
    whole = items.values.sum(axis=1) / items.sizes.sum()
    sample = (items.weights @ items.values.T) / (items.weights @ items.sizes)[:, None]
    order = np.argsort(-sign * whole, kind="stable")
    best, tail = order[0], 0.025
    top = sign * sample >= (sign * sample).max(axis=1, keepdims=True) - 1e-12
    first = (top / top.sum(axis=1, keepdims=True)).mean(axis=0)
    n_pairs, rows = len(order) * (len(order) - 1) / 2, []
    gain = sign * (items.values - items.nothing)
    apart = (items.weights @ gain.T) / (items.weights @ items.sizes)[:, None]
    gain = gain.sum(axis=1) / items.sizes.sum()
    alone = stats.t.ppf(1 - tail / len(order), items.n_units - 1)
    reach = stats.t.ppf(1 - tail / n_pairs, items.n_units - 1)
    for i in order:
        behind = sign * (whole[best] - whole[i])
        half = reach * (sample[:, best] - sample[:, i]).std()
        low, high = np.quantile(sample[:, i], [tail, 1 - tail])
        row = {"value": whole[i], "low": low, "high": high, "first": first[i], "behind": behind}
        row |= {"behind_low": behind - half, "behind_high": behind + half}
        row["above_nothing"] = bool(gain[i] > alone * apart[:, i].std())
        rows.append(row | {"verdict": "behind" if behind > half else "undecided"})
    table = pd.DataFrame(rows, index=pd.Index([items.names[i] for i in order], name="model"))
    if table["above_nothing"].iloc[0] and (table["verdict"].iloc[1:] == "behind").all():
        table.iloc[0, table.columns.get_loc("verdict")] = "first"
    return table


def beside_gate(table: pd.DataFrame, use: str, **options: float) -> pd.DataFrame:
    """Return how far what costs nothing gives the order of `rank`, as `gate.beside` for each kind.

    Here the measured values are the truth, and there are no signals: a correlation of 1 with the
    number of parameters says that the measurement told no more than sorting by size. Of a reader's
    models nobody has told training tokens, relatives or other results, and the rows say so.
    """
    rows = []
    for kind, part in table.groupby("kind", sort=False):
        frame = pd.DataFrame({"truth": _USES[use][1] * part["value"].astype(float)}, part.index)
        frame["parameters"] = part["parameters"].astype(float)
        found = gate.beside(gate.stacked({kind: frame}, "truth"), {}, draw_tasks=False, **options)
        rows.append(found.assign(kind=kind))
    return pd.concat(rows) if rows else pd.DataFrame()


def in_words(table: pd.DataFrame, use: str) -> str:
    """Return a ranking in a sentence or two for each kind of model."""
    if not len(table):
        return (
            f"rank_for {use!r}: fewer than two models could be compared on enough of the same data"
        )
    told = []
    for kind, part in table.groupby("kind", sort=False):
        names = list(part.index[part["verdict"].isin(("first", "undecided"))])
        of = f"Of {len(part)} {'' if kind == 'all' else f'{kind} '}models, by {_USES[use][0]}: "
        shares = f"{part['first'].iloc[0]:.0%} of resamples"
        if not part["above_nothing"].iloc[0]:
            of += f"undecided, because {part.index[0]}, first in {shares}, is not shown to be "
            of += f"better than {_USES[use][2]}"
        elif len(names) == 1:
            of += f"{names[0]} comes first ({shares})"
        else:
            shares = ", ".join(f"{n} {part.loc[n, 'first']:.0%}" for n in names)
            of += f"undecided between {' and '.join(names)} (first in resamples: {shares})"
        largest = part["parameters"].astype(float).idxmax()
        told.append(f"{of}. By the number of parameters alone it would be {largest}.")
    return "\n".join(told)
