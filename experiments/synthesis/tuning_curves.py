"""Tuning curves: orders of models predicted from their beginnings, and the unit of a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments.intervals import rank_correlations
from experiments.modelmap import corpus_names
from experiments.synthesis import released_truths
from helpers import ties, validation
from helpers.synthesis import gate

METHODS = ("parameters", "other tasks", "zero-shot", "last point", "accept then stop")
METHODS += ("rectified law",)


class _Law(NamedTuple):
    """Curves L(n) = floor + drop / (1 + (n / onset)^slope), one value of each per curve."""

    floor: np.ndarray
    drop: np.ndarray
    onset: np.ndarray
    slope: np.ndarray

    def predict(self, examples: float) -> np.ndarray:
        """Return the loss of each curve after so many examples."""
        return self.floor + self.drop / (1 + (examples / self.onset) ** self.slope)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return the rank correlation of two columns, NaN where one does not vary."""
    ranks = pd.DataFrame({"x": np.asarray(x, float), "y": np.asarray(y, float)}).rank()
    return float(ranks["x"].corr(ranks["y"])) if ranks.std().min() > 0 else float("nan")


def regret(signal: ArrayLike, truth: ArrayLike) -> float:
    """Return by how much the model with the largest signal falls short of the largest truth."""
    y = np.asarray(truth, float)
    return float(y.max() - y[ties.first_largest(np.asarray(signal, float))])


def _fit_rectified(examples: ArrayLike, losses: ArrayLike) -> _Law:
    """Fit the rectified scaling law to curves of test loss against tuning examples.

    `examples` (n,) are above 0, `losses` (models, n) nats; n is 4 or more. Least squares on
    relative errors: floor and drop are exact for each onset and slope of a grid, both held at 0 or
    above. The released code fits the same curve from random starts. Source: Lin et al. (2024),
    equation of the rectified law with alpha 1.
    """
    n, y = validation.numbers(examples, "examples"), validation.numbers(losses, "losses")
    slopes, onsets = np.linspace(0.05, 1.5, 59), np.geomspace(1, 1e8, 81)
    slope, onset = (grid.ravel() for grid in np.meshgrid(slopes, onsets, indexing="ij"))
    shape = 1 / (1 + (n[None, :] / onset[:, None]) ** slope[:, None])
    weight = 1 / y**2
    one, f, ff = weight.sum(axis=1), shape @ weight.T, shape**2 @ weight.T
    wy, fy = (weight * y).sum(axis=1), shape @ (weight * y).T
    determinant = np.maximum(one * ff - f**2, 1e-30)
    drop, floor = (one * fy - f * wy) / determinant, (ff * wy - f * fy) / determinant
    drop = np.where(floor < 0, fy / ff, drop)
    floor = np.maximum(floor, 0)
    floor = np.where(drop < 0, wy / one, floor)
    drop = np.maximum(drop, 0)
    # The sum of squares, multiplied out: y weighs 1 / y^2 in itself.
    error = len(n) - 2 * (floor * wy + drop * fy)
    error += floor**2 * one + 2 * floor * drop * f + drop**2 * ff
    best, row = np.argmin(error, axis=0), np.arange(len(y))
    return _Law(floor[best, row], drop[best, row], onset[best], slope[best])


def accept_then_stop(examples: ArrayLike, losses: ArrayLike, at: float) -> float:
    """Return the loss that a straight line on logarithms, fitted to the curve's end, gives at `at`.

    The line takes the last 3 points, then earlier ones while each lies within 5 standard deviations
    of the residuals. The place where it stops is the released code's. Source: Lin et al. (2024),
    algorithm 1, with the released code's numbers.
    """
    x, y = np.log(np.asarray(examples, float)), np.log(np.asarray(losses, float))
    first = 0
    if len(x) > 3:
        for points in range(3, len(x)):
            line = np.polyfit(x[-points:], y[-points:], 1)
            spread = float(np.std(y[-points:] - np.polyval(line, x[-points:])))
            if abs(y[-points - 1] - np.polyval(line, x[-points - 1])) > 5.0 * spread:
                break
        first = len(x) - points
    return float(np.exp(np.polyval(np.polyfit(x[first:], y[first:], 1), np.log(at))))


def predictions(curves: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return each method's signal for each model and task from the first `k` sizes above 0.

    `curves` is that of `released_truths.tuning_curves`. Columns: facts, `truth` (minus the loss at
    the last size) and `METHODS`, where larger is better: predicted losses come with a minus.
    """
    table = released_truths.language_models(curves)
    wide = curves.pivot(index=["task", "model"], columns="examples", values="loss")
    sizes = np.array([n for n in wide.columns if n > 0], float)
    rows = wide.loc[list(zip(table["task"], table["model"], strict=True))]
    y = rows[sizes[:k].astype(int)].to_numpy()
    stopped = [accept_then_stop(sizes[:k], row, sizes[-1]) for row in y]
    return table[["model", "task", "family", "parameters", "tokenizer", "truth"]].assign(
        **{
            "other tasks": gate.static_order(table),
            "zero-shot": -rows[0].to_numpy(),
            "last point": -y[:, -1],
            "accept then stop": -np.array(stopped),
            "rectified law": -_fit_rectified(sizes[:k], y).predict(sizes[-1]),
        }
    )


def curve_qualities(curves: pd.DataFrame, steps: Sequence[int]) -> pd.DataFrame:
    """Return how well each method orders the models: a row per task, number of sizes and method.

    Columns: `task`, `k`, `examples` (the largest size seen), `method`, `rho`, `pearson`, `regret`
    (nats per token lost by its choice).
    """
    sizes, rows = sorted(n for n in curves["examples"].unique() if n > 0), []
    for k in steps:
        for task, part in predictions(curves, k).groupby("task"):
            for method in METHODS:
                about = {"task": task, "k": k, "examples": sizes[k - 1], "method": method}
                x = np.log(part[method]) if method == "parameters" else part[method]
                about["rho"] = spearman(x, part["truth"])
                about["pearson"] = float(np.corrcoef(x, part["truth"])[0, 1])
                rows.append(about | {"regret": regret(x, part["truth"])})
    return pd.DataFrame(rows)


def _over_families(
    table: pd.DataFrame,
    columns: Sequence[str],
    statistic: Callable[[np.ndarray], float],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the mean over tasks of a statistic of some columns, and its ends, families drawn."""
    families = sorted(table["family"].unique())
    parts = [
        (part[list(columns)].to_numpy(float), part["family"].to_numpy())
        for _, part in table.groupby("task")
    ]

    def mean(names: Sequence[str]) -> float:
        rows = [[np.flatnonzero(family == n) for n in names] for _, family in parts]
        drawn = [x[np.concatenate(some)] for (x, _), some in zip(parts, rows, strict=True)]
        return float(np.mean([statistic(values) for values in drawn]))

    rng = validation.generator(seed)
    sample = [mean(rng.choice(families, len(families))) for _ in range(n_resamples)]
    low, high = np.nanquantile(sample, [0.025, 0.975])
    return mean(families), float(low), float(high)


def mean_order(table: pd.DataFrame, signal: str, **options: int) -> tuple[float, float, float]:
    """Return a signal's rank correlation with the truth, mean over tasks, and its ends.

    `table` is that of `predictions`; families are drawn with replacement, the same for all tasks
    (95 %). Draws that leave a column without variation are left out.
    """
    columns = [signal, "truth"]
    return _over_families(table, columns, lambda v: float(rank_correlations(v)[0]), **options)


def family_gain(
    table: pd.DataFrame, method: str, rival: str, **options: int
) -> tuple[float, float, float]:
    """Return the gain in rank correlation of one method over another, as `mean_order` does."""

    def gain(values: np.ndarray) -> float:
        first, second = rank_correlations(values)
        return float(first - second)

    return _over_families(table, [method, rival, "truth"], gain, **options)


def explained_interval(
    table: pd.DataFrame, column: str, group: str, **options: int
) -> tuple[float, float]:
    """Return the 95 % interval of the share of a column's spread between groups, families drawn."""
    codes = table.assign(code=pd.factorize(table[group])[0])

    def share(values: np.ndarray) -> float:
        if not np.ptp(values[:, 0]) > 0:
            return float("nan")
        factor = pd.DataFrame({"group": values[:, 1]})
        return float(corpus_names.explained_shares(values[:, :1], factor)["group"])

    return _over_families(codes, [column, "code"], share, **options)[1:]


def _pair_agreement(table: pd.DataFrame, signal: str, truth: str, group: str) -> pd.DataFrame:
    """Return how often a signal orders two models as the truth does, within and across groups.

    One row per task and kind of pair ("same", "other"): `share`, `low`, `high` (95 %, families
    drawn with replacement), `n` pairs. Ties count half.
    """
    rng, rows = np.random.default_rng(0), []
    for task, part in table.groupby("task"):
        x, y = part[signal].to_numpy(float), part[truth].to_numpy(float)
        i, j = np.triu_indices(len(part), 1)
        agrees = 0.5 + 0.5 * np.sign((x[i] - x[j]) * (y[i] - y[j]))
        names, member = np.unique(part["family"], return_inverse=True)
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=1000)
        weight = draws[:, member][:, i] * draws[:, member][:, j]
        same = part[group].to_numpy()[i] == part[group].to_numpy()[j]
        for kind, mask in (("same", same), ("other", ~same)):
            total = weight[:, mask].sum(axis=1)
            sample = (weight[:, mask] @ agrees[mask])[total > 0] / total[total > 0]
            low, high = np.quantile(sample, [0.025, 0.975])
            row = {"task": task, "pairs": kind, "share": float(agrees[mask].mean())}
            rows.append(row | {"low": float(low), "high": float(high), "n": int(mask.sum())})
    return pd.DataFrame(rows)


def all_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Return `_pair_agreement` by tokenizer of three signals: a column `method` comes first."""
    parts = [
        _pair_agreement(table, name, "truth", "tokenizer").assign(method=name)
        for name in ("parameters", "zero-shot", "last point", "accept then stop")
    ]
    return pd.concat(parts, ignore_index=True)


def share_within(losses: ArrayLike, groups: ArrayLike, ratio: float) -> float:
    """Return the share of pairs across groups whose losses differ by less than a factor `ratio`.

    The order of such a pair depends on how much text a token of either group holds, where that
    differs by as much.
    """
    y, names = validation.numbers(losses, "losses"), np.asarray(groups)
    i, j = np.triu_indices(len(y), 1)
    apart = names[i] != names[j]
    return float(np.mean(np.abs(np.log(y[i] / y[j]))[apart] < np.log(ratio)))


def order_changes(first: ArrayLike, second: ArrayLike, groups: ArrayLike) -> tuple[int, int]:
    """Return how many pairs across groups two units order differently, and of how many."""
    x, y, names = np.asarray(first, float), np.asarray(second, float), np.asarray(groups)
    i, j = np.triu_indices(len(x), 1)
    apart = names[i] != names[j]
    changed = ((x[i] - x[j]) * (y[i] - y[j]) < 0) & apart
    return int(changed.sum()), int(apart.sum())
