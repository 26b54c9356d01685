"""Tables of the pages on models harmed by noise: predictions of levels left out, and resampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from experiments import intervals
from helpers import figures, stats
from helpers.geometry import reliability
from helpers.stats import Correlation

# Heads of what these tables hold, as a page shows them; those of a second interval end in a space.
HEADS = {
    **figures.ENDS,
    **{f"{end} ": f"{head} " for end, head in figures.ENDS.items()},
    "models": "SD of models",
    "repeats": "SD of repeats",
    "capped": "error ratio, capped",
    "rank r": "rank correlation",
}


def held_out_residuals(
    frame: pd.DataFrame, columns: Sequence[str], y: str, groups: str, *, degree: int = 2
) -> pd.Series:
    """Return observed minus predicted `y`, each group predicted from the others.

    The prediction is least squares on the powers of the columns up to `degree`, without
    products; with no columns it is the mean of the other groups. In the units of `y`, with the
    index of `frame`. Source: leave-one-group-out cross-validation; `stats.held_out_error` gives
    its mean.
    """
    x = frame[list(columns)].to_numpy(float)
    centre = x - x.mean(axis=0)
    scaled = centre / np.where(centre.std(axis=0) > 0, centre.std(axis=0), 1)
    design = np.hstack([np.ones((len(frame), 1)), *(scaled**k for k in range(1, degree + 1))])
    given = design, frame[y].to_numpy(float), frame[groups].to_numpy()
    return pd.Series(stats.held_out_residuals(*given), index=frame.index)


def resampled(
    frame: pd.DataFrame, statistic: Callable[..., float], groups: str | None, **options: int
) -> Correlation:
    """Return `intervals.bootstrap` of a statistic of a table like `frame`, whole groups drawn.

    Without `groups` single rows are drawn. Returned is the number of rows, too.
    """
    units = np.arange(len(frame)) if groups is None else frame[groups]
    ends = intervals.bootstrap(lambda rows: statistic(frame.iloc[rows]), units, **options)
    return Correlation(*ends, len(frame))


def partial_rank(frame: pd.DataFrame, x: str, y: str, given: Sequence[str] = ()) -> float:
    """Return the rank correlation of two columns, cleared of a line on the ranks of others.

    NaN where nothing is left of one of them. Source: Spearman (1904); Fisher (1924).
    """
    ranks = rankdata(frame[[x, y, *given]].to_numpy(float), axis=0)
    design = np.column_stack([np.ones(len(ranks)), ranks[:, 2:]])
    left = ranks[:, :2] - design @ np.linalg.lstsq(design, ranks[:, :2], rcond=None)[0]
    norms = np.sqrt((left**2).sum(axis=0))
    if (norms <= 1e-9 * np.sqrt((ranks[:, :2] ** 2).sum(axis=0))).any():
        return float("nan")
    return float(left[:, 0] @ left[:, 1] / norms.prod())


def mean_ratio(
    squares: pd.DataFrame, one: str, other: str, groups: str | None = None, **options: int
) -> Correlation:
    """Return the mean of one column over that of another, with its bootstrap interval.

    With squared errors of two predictions the ratio of their mean squared errors; below 1 the first
    is nearer. `options` are those of `resampled`.
    """
    return resampled(squares, lambda rows: rows[one].mean() / rows[other].mean(), groups, **options)


def error_ratios(
    frame: pd.DataFrame,
    measures: Sequence[str],
    rival: str,
    y: str,
    groups: str,
    *,
    degrees: Sequence[int] = (1, 2, 3),
    **options: int,
) -> pd.DataFrame:
    """Return each measure's error over the rival's, for groups left out, by the degree of the fit.

    One row per measure and degree, with `ratio` (of root mean squared errors; below 1 the measure
    predicts better) and the ends of its interval from whole groups, `low` and `high`. Both are
    fitted with the same degree (`held_out_residuals`). `options` are those of `resampled`.
    """
    rows = {}
    for name, degree in product(measures, degrees):
        pair = {"measure": name, "rival": rival}
        left = {
            k: held_out_residuals(frame, [m], y, groups, degree=degree) for k, m in pair.items()
        }
        squares = pd.DataFrame(left) ** 2
        found = mean_ratio(squares.assign(group=frame[groups]), *pair, "group", **options)
        rows[name, degree] = np.sqrt(found[:3])
    index = pd.MultiIndex.from_tuples(rows, names=["measure", "degree"])
    return pd.DataFrame([*rows.values()], index, ["ratio", "low", "high"])


def size_difference(
    frame: pd.DataFrame,
    x: str,
    rival: str,
    y: str,
    groups: str | None = None,
    *,
    ranks: bool = False,
    **options: int,
) -> Correlation:
    """Return |r(x, y)| - |r(rival, y)|, with its bootstrap interval.

    Above 0 `x` goes with `y` more closely than the rival, whatever the signs. With `ranks` every
    draw is ranked first. `options` are those of `resampled`.
    """

    def gap(rows: pd.DataFrame) -> float:
        trio = rows[[x, rival, y]]
        table = np.corrcoef((trio.rank() if ranks else trio).to_numpy(float), rowvar=False)
        return abs(table[0, 2]) - abs(table[1, 2])

    return resampled(frame, gap, groups, **options)


def beyond_noise(
    models: pd.DataFrame, reliabilities: pd.Series, measures: Sequence[str]
) -> pd.DataFrame:
    """Return what each measure says of the score once the noise is held fixed, a row per measure.

    `models` has `dose` (the logarithm of the noise-to-signal ratio) and `level`; `reliabilities`
    those within levels, by measure. Columns: `r`; `given noise`, the partial correlation given a
    quadratic in `dose`, with its ends; `within levels`, with its ends; `reliability`; and
    `corrected`, the correlation within levels over the root of the reliability.
    """
    dose = np.stack([models["dose"], models["dose"] ** 2], axis=1)
    levels, rows = pd.get_dummies(models["level"]), {}
    for name in measures:
        share = float(reliabilities[name])
        x, y = models[name], models["score"]
        given, inside = (stats.partial_correlation(x, y, held) for held in (dose, levels))
        ends = stats.correlation(x, y).r, *given[:3], *inside[:3]
        rows[name] = (*ends, share, reliability.disattenuated(inside.r, share))
    columns = ["r", "given noise", "low", "high", "within levels", "low ", "high "]
    return pd.DataFrame.from_dict(rows, "index", columns=[*columns, "reliability", "corrected"])


def forecasts(
    teachers: pd.DataFrame, models: pd.DataFrame, measures: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return how a line in each measure, fitted to the teachers, predicts other models.

    Both tables hold the measures and `score`. The first result has a row per measure: `error
    ratio`, the mean squared error over that of the teachers' mean; `capped`, the same with
    predictions kept within the teachers' scores; and `rank r` of prediction and score with Fisher's
    ends. The second maps a measure to the squared errors of each model: `line`, `capped` and
    `mean`.
    """
    limits, rows, squares = (teachers["score"].min(), teachers["score"].max()), {}, {}
    for name in measures:
        slope, constant = np.polyfit(teachers[name], teachers["score"], 1)
        guess = constant + slope * models[name]
        guesses = {"line": guess, "capped": guess.clip(*limits), "mean": teachers["score"].mean()}
        squares[name] = pd.DataFrame({k: (v - models["score"]) ** 2 for k, v in guesses.items()})
        mean = squares[name].mean()
        order = stats.correlation(guess.rank(), models["score"].rank())
        ratios = mean["line"] / mean["mean"], mean["capped"] / mean["mean"]
        rows[name] = (*ratios, order.r, order.low, order.high)
    columns = ["error ratio", "capped", "rank r", "low", "high"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns), squares
