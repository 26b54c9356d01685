"""The gate: what a signal must beat before it is worth its cost, and how well it chooses.

Tables have one row per model and task. A larger `truth` is better, and so is a larger value of
every signal; turn the sign of the others first. Rivals are signals that cost the chooser nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers import validation

# The measures, the range of each, and whether more is better.
MEASURES = {
    "rank correlation": (-1.0, 1.0, 1),
    "regret": (0.0, np.inf, -1),
    "top 1": (0.0, 1.0, 1),
    "top 3": (0.0, 1.0, 1),
}
# What is known of a model before anything is measured, and why a row may be empty.
FREE = {
    "parameters": "gate: number of parameters",
    "family_order": "gate: its family, other tasks",
    "tokens": "gate: training tokens",
    "static_order": "gate: its order, other tasks",
}
_LEAST_MODELS = 3
_BESIDE = ("rank_correlation", "low", "high", "lead", "lead_low", "lead_high")
# Orders are rounded to so many digits, or rounding errors would break ties.
_DIGITS = 12


class _Scores(NamedTuple):
    """Mean measures of signals (measures, signals), and of resamples (resamples, ..., signals)."""

    estimate: np.ndarray
    resamples: np.ndarray
    t: float
    n_tasks: int
    n_models: int
    n_units: int


def static_order(table: pd.DataFrame) -> pd.Series:
    """Return for each row the mean rank of its model on the *other* tasks, 0 to 1, 1 is best.

    `table` has `model`, `task` and `truth`; ranks are shares of the models of a task, so that tasks
    with more models weigh the same. NaN for a model that has no other task. A list that somebody
    published costs its reader nothing; so is it a rival of every signal.
    """
    (truth,), tasks, models = _cube(table, ["truth"])
    known = ~np.isnan(truth)
    ranks = stats.rankdata(truth, axis=1, nan_policy="omit") / known.sum(axis=1, keepdims=True)
    ranks = np.nan_to_num(ranks)
    n_others = known.sum(axis=0) - known
    others = (ranks.sum(axis=0) - ranks) / np.where(n_others > 0, n_others, np.nan)
    return pd.Series(others[tasks, models].round(_DIGITS), table.index)


def family_order(table: pd.DataFrame, family: str = "family") -> pd.Series:
    """Return for each row the mean `static_order` of the other models of its family, 0 to 1.

    It uses nothing of the model itself, nor of its task. A model without relatives gets the mean
    of all models, so that it stands in the middle.
    """
    validation.columns(table, [family], "table")
    order = static_order(table)
    groups = order.groupby([table["task"], table[family]])
    others = groups.transform("count") - order.notna()
    relatives = (groups.transform("sum") - order.fillna(0)) / others.replace(0, np.nan)
    return relatives.fillna(order.mean()).round(_DIGITS)


def _score(
    table: pd.DataFrame,
    signals: Sequence[str],
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    draw_tasks: bool = True,
    unit: str = "model",
    seed: int = 0,
) -> _Scores:
    """Return the four measures of each signal, and the same in resamples of tasks and models.

    In each task: Spearman's correlation with the truth over models; the regret, by how much the
    model that the signal puts first falls short of the best, in units of the truth; whether that
    model is the best; whether the best is among the signal's first three. Then the mean over tasks.
    Ties of a signal count as if broken at random, and a signal that does not vary has a correlation
    of 0. A resample draws the tasks, and the models once for all tasks; a choice is made among the
    distinct models, and a task of which fewer than two were drawn is left out. Without `draw_tasks`
    the tasks stay: an interval is then one for these tasks. With another column as `unit`, such as
    the family, all models that share its value are drawn together. Columns of rivals are not
    computed again. Raises `ValueError` for an absent column, fewer than two tasks to draw, or
    fewer than three models.
    """
    signals = validation.strings(signals, "signals")
    validation.columns(table, ["model", "task", "truth", unit, *signals], "table")
    validation.counts(n_resamples=(n_resamples, 2))
    validation.share(confidence, "confidence")
    (y, *x), _, _ = _cube(table, ["truth", *signals])
    x = np.stack(x)
    n_tasks, n_models = y.shape
    if n_tasks < 1 + draw_tasks or n_models < _LEAST_MODELS:
        raise ValueError(
            f"table has {n_tasks} tasks and {n_models} models; pass {1 + draw_tasks} and "
            f"{_LEAST_MODELS} at least"
        )
    members = _members(table, unit)
    if (n_units := len(members)) < 2:
        raise ValueError(f"unit {unit!r} has one value for all models; pass one that varies")
    rng = validation.generator(seed)
    resamples = np.empty((n_resamples, len(MEASURES), len(signals)))
    for i in range(n_resamples):
        models = np.concatenate([members[u] for u in rng.integers(n_units, size=n_units)])
        tasks = rng.integers(n_tasks, size=n_tasks) if draw_tasks else np.arange(n_tasks)
        resamples[i] = _measures(x[:, tasks], y[tasks], models)
    drawn = min(n_tasks, n_units) if draw_tasks else n_units
    t = float(stats.t.ppf(0.5 + confidence / 2, drawn - 1))
    return _Scores(_measures(x, y, np.arange(n_models)), resamples, t, n_tasks, n_models, n_units)


def judge(table: pd.DataFrame, signals: Sequence[str], **options: float) -> pd.DataFrame:
    """Return the measures of signals and rivals with intervals, one row per signal and measure.

    Columns: `signal`, `measure`, `estimate`, `low`, `high`, `n_tasks`, `n_models`. The interval is
    Student's with the spread of the resamples, and the smaller of the numbers of drawn tasks and
    models less one as degrees of freedom, cut to the possible range. Options: `n_resamples`,
    `confidence`, `seed`; `draw_tasks`, without which the interval is one for these tasks; and
    `unit`, a column whose equal values are drawn together, by default the model. Raises
    `ValueError` for an absent column, fewer than two tasks to draw, or fewer than three models.

    >>> import pandas as pd
    >>> from helpers.synthesis import judge
    >>> rows = [(m, t, i, i + 5 * (m == "c")) for t in "xy" for i, m in enumerate("abcd")]
    >>> table = pd.DataFrame(rows, columns=["model", "task", "truth", "signal"])
    >>> judge(table, ["signal"], n_resamples=50).estimate.tolist()
    [0.8, 1.0, 0.0, 1.0]
    """
    scores, rows = _score(table, signals, **options), []
    spread = np.nanstd(scores.resamples, axis=0, ddof=1)
    for j, signal in enumerate(signals):
        for i, (measure, (least, most, _)) in enumerate(MEASURES.items()):
            value, half = scores.estimate[i, j], scores.t * spread[i, j]
            ends = max(least, value - half), min(most, value + half)
            rows.append((signal, measure, value, *ends, scores.n_tasks, scores.n_models))
    columns = ["signal", "measure", "estimate", "low", "high", "n_tasks", "n_models"]
    return pd.DataFrame(rows, columns=columns)


def leads(
    table: pd.DataFrame, signals: Sequence[str], rivals: Sequence[str], **options: float
) -> pd.DataFrame:
    """Return by how much each signal is better than each rival, from the same resamples.

    Columns: `signal`, `rival`, `measure`, `lead` (positive where the signal is better, also in
    regret), `low`, `high`, `verdict`: "ahead" or "behind" where the interval excludes 0, otherwise
    "undecided". Intervals, options and errors as `judge`.
    """
    names, rows = list(dict.fromkeys([*signals, *rivals])), []
    scores = _score(table, names, **options)
    for signal in signals:
        for rival in (name for name in rivals if name != signal):
            a, b = names.index(signal), names.index(rival)
            for i, (measure, (_, _, sign)) in enumerate(MEASURES.items()):
                lead = sign * (scores.estimate[i, a] - scores.estimate[i, b])
                gaps = scores.resamples[:, i, a] - scores.resamples[:, i, b]
                half = scores.t * np.nanstd(gaps, ddof=1)
                sides = {lead - half > 0: "ahead", lead + half < 0: "behind"}
                verdict = sides.get(True, "undecided")
                rows.append((signal, rival, measure, lead, lead - half, lead + half, verdict))
    columns = ["signal", "rival", "measure", "lead", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def stacked(frames: Mapping[str, pd.DataFrame], truth: str = "") -> pd.DataFrame:
    """Return frames of tasks, one row per model by name, as one table with `model` and `task`.

    `truth` is the column that becomes the truth; without one it is that named after each task.
    """
    about = {task: {"truth": frame[truth or task], "task": task, "model": frame.index}
             for task, frame in frames.items()}  # fmt: skip
    parts = [frame.assign(**about[task]).reset_index(drop=True) for task, frame in frames.items()]
    return pd.concat(parts, ignore_index=True)


def beside(
    table: pd.DataFrame,
    signals: Mapping[str, str],
    *,
    task: str | None = None,
    free: Mapping[str, str] = FREE,
    **options: float | str,
) -> pd.DataFrame:
    """Return signals and all of the gate by rank correlation, one row each, with the leads.

    `signals` maps columns to labels. Of the models `table` may tell `parameters`, `tokens` and
    `family`; the two orders are computed (`family_order`, `static_order`). With `task` only that
    task is judged, and the others serve the orders. Columns: `label`, `rank_correlation`, `low`,
    `high`; `lead` over the best of the gate by estimate, from the same resamples, with `lead_low`
    and `lead_high`; `n_tasks`, `n_models`, `n_units`; and `why`, of a rival that cannot order these
    models: unknown, or one value for all of them, or no other task. `free` has the gate's columns
    and labels; options and errors are those of `_score`, but for fewer than three models every row
    says so.
    """
    table, why = _with_free(table, free)
    if task is not None:
        validation.choice(task, tuple(table["task"].unique()), "task")
        table, options = table[table["task"] == task], {**options, "draw_tasks": False}
    rivals = [name for name in free if name not in why]
    names, n_models = [*signals, *rivals], table["model"].nunique()
    rows = pd.DataFrame({"label": {**signals, **free}})
    rows[[*_BESIDE]] = np.nan
    rows["n_tasks"], rows["n_models"] = table["task"].nunique(), n_models
    if n_models < _LEAST_MODELS:
        told = f"{n_models} models, and {_LEAST_MODELS} are needed"
        return rows.assign(n_units=n_models, why=told)
    scores = _score(table, names, **options) if names else None
    if scores is not None:
        values, drawn = scores.estimate[0], scores.resamples[:, 0]
        rows.loc[names, [*_BESIDE[:3]]] = _ends(values, drawn, scores.t, 1.0)
    if scores is not None and rivals:
        best = len(signals) + int(values[len(signals) :].argmax())
        leads_of = [i for i in range(len(names)) if i != best]
        gaps = values[leads_of] - values[best], drawn[:, leads_of] - drawn[:, [best]]
        rows.loc[[names[i] for i in leads_of], [*_BESIDE[3:]]] = _ends(*gaps, scores.t, 2.0)
    rows["n_units"] = n_models if scores is None else scores.n_units
    return rows.assign(why=pd.Series(why, dtype=object).reindex(rows.index).fillna(""))


def _with_free(
    table: pd.DataFrame, free: Mapping[str, str] = FREE
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a table with the orders of the gate, and why some of the gate says nothing here."""
    validation.columns(table, ["model", "task", "truth"], "table")
    n, why, out = table["model"].nunique(), {}, table.copy()
    twice = int((table.groupby("model")["task"].nunique() > 1).sum())
    if twice and "static_order" in free:
        out["static_order"] = static_order(table)
    if twice and "family_order" in free and "family" in table:
        out["family_order"] = family_order(table)
    for name in free:
        if name in ("static_order", "family_order") and not twice:
            why[name] = f"0 of {n} models stand in two tasks"
        elif name == "family_order" and "family" not in table:
            why[name] = f"family known of 0 of {n} models"
        elif name not in out or not (known := out[name].notna()).any():
            why[name] = f"known of 0 of {n} models"
        elif (out[known].groupby("task")[name].nunique() < 2).all():
            value = f", {out[name][known].iloc[0]:,.6g}" if out[name].nunique() == 1 else ""
            why[name] = f"one value for all {out['model'][known].nunique()} models{value}"
    return out, why


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `beside` as text, to be read: estimates with intervals, and reasons."""
    told = rows.set_index("label")
    out = pd.DataFrame(index=told.index.rename("signal, or gate"))
    for name, ends in (("rank_correlation", ("low", "high")), ("lead", ("lead_low", "lead_high"))):
        columns = told[[name, *ends]].itertuples(index=False)
        text = [
            "\N{EN DASH}" if pd.isna(v) else f"{v:.2f} [{low:.2f}, {high:.2f}]"
            for v, low, high in columns
        ]
        out[{"lead": "lead over the best of the gate"}.get(name, "rank correlation")] = text
    empty = told["rank_correlation"].isna()
    out.loc[empty, "rank correlation"] = "no gate: " + told.loc[empty, "why"].to_numpy()
    counts = told[["n_tasks", "n_models", "n_units"]].astype(int).astype(str)
    return out.assign(**{"tasks, models, units": counts.agg(", ".join, axis=1)})


def without_each(table: pd.DataFrame, signals: Sequence[str]) -> pd.DataFrame:
    """Return the measures with each model left out in turn, one row per model and signal.

    Columns: `left_out`, `signal` and the names of `MEASURES`. Rivals are not computed again.
    """
    validation.columns(table, ["model"], "table")
    rows = []
    for model in dict.fromkeys(table["model"]):
        part = _score(
            table[table["model"] != model], signals, n_resamples=2, draw_tasks=False
        ).estimate
        rows += [(model, name, *part[:, j]) for j, name in enumerate(signals)]
    return pd.DataFrame(rows, columns=["left_out", "signal", *MEASURES])


def _ends(values: np.ndarray, drawn: np.ndarray, t: float, most: float) -> np.ndarray:
    """Return values (n,) and the ends of Student's intervals within -`most` and `most`, (n, 3)."""
    half = t * np.nanstd(drawn, axis=0, ddof=1)
    return np.column_stack([values, *np.clip([values - half, values + half], -most, most)])


def _members(table: pd.DataFrame, unit: str) -> list[np.ndarray]:
    """Return the places of the models of each unit, in the order of `_cube`."""
    of = table.groupby("model", sort=True)[unit] if unit != "model" else None
    if of is None:
        return [np.array([i]) for i in range(table["model"].nunique())]
    if (of.nunique(dropna=False) != 1).any():
        raise ValueError(f"table has a model with several values of {unit!r}; give each one")
    codes = pd.factorize(of.first())[0]
    return [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]


def _measures(x: np.ndarray, y: np.ndarray, models: np.ndarray) -> np.ndarray:
    """Return the mean measures (4, signals) of x (signals, tasks, models) for drawn models."""
    known = ~np.isnan(x) & ~np.isnan(y)
    x, y = np.where(known, x, np.nan), np.where(known, y, np.nan)
    ranks = [stats.rankdata(v[..., models], axis=-1, nan_policy="omit") for v in (x, y)]
    n = np.maximum(known[..., models].sum(axis=-1, keepdims=True), 1)
    ranks = [np.nan_to_num(r - np.nansum(r, axis=-1, keepdims=True) / n) for r in ranks]
    spread = np.sqrt(np.prod([(r**2).sum(axis=-1) for r in ranks], axis=0))
    agreement = (ranks[0] * ranks[1]).sum(axis=-1)
    rho = np.divide(agreement, spread, out=np.zeros_like(spread), where=spread > 1e-9)
    drawn = np.unique(models)
    known = known[..., drawn]
    x, y = (np.where(known, v[..., drawn], -np.inf) for v in (x, y))
    first = known & (x == x.max(axis=-1, keepdims=True))
    best = y.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(best), best, 0)
    gap = np.where(first, top - np.where(known, y, 0), 0).sum(axis=-1)
    # Of several best models the one that the signal puts first counts.
    least = np.where(known & (y == best), x, -np.inf).max(axis=-1, keepdims=True)
    above, tied = (x > least).sum(axis=-1), np.maximum((known & (x == least)).sum(axis=-1), 1)
    tops = [np.clip((k - above) / tied, 0, 1) for k in (1, 3)]
    measures = np.stack([rho, gap / np.maximum(first.sum(axis=-1), 1), *tops])
    choice = known.sum(axis=-1) > 1
    total, n_choices = np.where(choice, measures, 0).sum(axis=-1), choice.sum(axis=-1)
    return np.where(n_choices > 0, total / np.maximum(n_choices, 1), np.nan)


def _cube(table: pd.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return columns as an array (columns, tasks, models), and the row's places in it."""
    validation.columns(table, ["model", "task", *columns], "table")
    if table.duplicated(["model", "task"]).any():
        raise ValueError("table has a model twice in one task; pass one row per model and task")
    tasks, task_names = pd.factorize(table["task"], sort=True)
    models, model_names = pd.factorize(table["model"], sort=True)
    cube = np.full((len(columns), len(task_names), len(model_names)), np.nan)
    cube[:, tasks, models] = [validation.numbers(table[name], name) for name in columns]
    return cube, tasks, models
