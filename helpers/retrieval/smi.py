"""Size-dependent mutual information (SMI): its released generations and the binned fit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import linregress

from helpers import validation

METRICS = ("CO-OCCUR", "MI", "SMI")
V1_PARAMETERS = {"v1-1.1B": 1.1e9, "v1-1.6B": 1.6e9, "v1-7B": 7e9, "v1-13B": 13e9}


class _Generation(NamedTuple):
    """One published definition of the metric.

    `keep_above`: facts whose mutual information (bits) exceeds it are kept, `closed` makes that
    "or equals"; `mi_range`: fixed ends of log2 MI, or None for minimum and maximum of the facts;
    `size_rule`: what P is in the exponent 1 + 1/P, parameters in billions, or their log2.
    """

    name: str
    keep_above: float
    closed: bool
    mi_range: tuple[float, float] | None
    size_rule: str


# What is counted of a fact, in the order of `mutual_information`.
COUNTS = ("n_documents", "n_subject", "n_object", "n_both")
GENERATIONS = {
    "v1": _Generation("v1", 0.0, False, None, "billions"),
    "v2-v4": _Generation("v2-v4", 2.0**-30, True, (-30.0, 0.0), "billions"),
    "v5-v7": _Generation("v5-v7", 0.0, False, None, "log2"),
}


def mutual_information(
    n_documents: ArrayLike,
    n_subject: ArrayLike,
    n_object: ArrayLike,
    n_both: ArrayLike,
    *,
    cells: int = 1,
) -> np.ndarray:
    """Return the mutual information of subject and object over documents, in bits.

    All arguments are document counts that broadcast to one shape. `cells=1` is the released form,
    the one term P(s,o) log2(P(s,o) / P(s)P(o)), 0 where the two never meet; `cells=4` sums all
    cells of the 2x2 table, the mutual information of two indicator variables. Raises `ValueError`
    for counts that no set of documents can have. Source: released code of arXiv 2502.04066.

    >>> from helpers.retrieval import mutual_information
    >>> mutual_information(1000, n_subject=100, n_object=100, n_both=[0, 20, 100]).round(3)
    array([0.   , 0.02 , 0.332])
    """
    if cells not in (1, 4):
        raise ValueError(f"cells is {cells}; give 1 (as released) or 4 (the whole table)")
    given = dict(zip(COUNTS, (n_documents, n_subject, n_object, n_both), strict=True))
    counts = [validation.numbers(a, name) for name, a in given.items()]
    try:
        n, s, o, both = np.broadcast_arrays(*counts)
    except ValueError as error:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in zip(COUNTS, counts, strict=True))
        raise ValueError(f"shapes differ: {shapes}; pass one count a fact in each") from error
    if not np.all(n > 0):
        raise ValueError("n_documents must be above 0; pass the size of the corpus")
    if not np.all((both >= 0) & (both <= np.minimum(s, o)) & (s + o - both <= n)):
        raise ValueError(
            "n_both must lie between 0 and both n_subject and n_object, within n; count them again"
        )

    def term(joint: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        p, expected = joint / n, (first / n) * (second / n)
        ratio = np.divide(p, expected, out=np.ones_like(p), where=joint > 0)
        return p * np.log2(ratio)

    total = term(both, s, o)
    if cells == 4:
        total = total + term(s - both, s, n - o) + term(o - both, n - s, o)
        total = total + term(n - s - o + both, n - s, n - o)
    return total


def facts_information(facts: pd.DataFrame) -> np.ndarray:
    """Return the one-cell mutual information of facts with the columns `COUNTS`, in bits."""
    validation.columns(facts, COUNTS, "facts")
    return mutual_information(*(facts[c] for c in COUNTS))


def log_bins(values: ArrayLike) -> np.ndarray:
    """Return the integer bin of each positive value: fifths of an octave, cut toward zero.

    So counts are rounded down and mutual informations, whose log2 is negative, up.
    Source: released code of arXiv 2502.04066, which keeps trunc(5 log2 v) / 5.
    """
    values = validation.numbers(values, "values")
    if np.any(~(values > 0)):
        raise ValueError("values must be positive; drop the facts that never co-occur first")
    return np.trunc(5 * np.log2(values)).astype(np.int64)


def normalise(bins: ArrayLike, ends: tuple[float, float] | None = None) -> np.ndarray:
    """Map bins to the axis of the fit: their minimum to 0 and maximum to 1, or fixed log2 ends.

    `bins` are integers of `log_bins`; `ends` are in log2 units, five bins each.
    """
    bins = validation.numbers(bins, "bins")
    if not bins.size:
        raise ValueError("bins is empty; pass the bin of each fact")
    low, high = (bins.min() / 5, bins.max() / 5) if ends is None else ends
    if not high > low:
        raise ValueError(f"ends are {low} and {high}; a scale needs two different ones")
    return (bins / 5 - low) / (high - low)


def size_exponent(parameters: float, rule: str = "log2", *, unit: float = 1e9) -> float:
    """Return the exponent 1 + 1/P of the normalised mutual information.

    `parameters` is the model's parameter count. `rule="billions"` takes P in units of `unit`
    (v1 to v4 of the paper), `rule="log2"` takes P = log2(parameters) (v5 to v7).
    """
    if not isinstance(parameters, int | float | np.number) or not 1 < parameters < np.inf:
        raise ValueError(f"parameters is {parameters!r}; give the count, such as 1.1e9")
    if rule == "billions":
        return 1 + unit / parameters
    if rule == "log2":
        return 1 + 1 / np.log2(parameters)
    raise ValueError(f"rule is {rule!r}; give 'billions' or 'log2'")


def size_dependent_mi(
    information: ArrayLike, parameters: float, generation: str = "v5-v7"
) -> np.ndarray:
    """Return the size-dependent mutual information (SMI) of each fact for a model, from 0 to 1.

    `information` is the one-cell mutual information of facts in bits (`mutual_information`), as
    seen in the model's corpus; `parameters` the model's parameter count. SMI is log2 MI in steps
    of a fifth, put on an axis from 0 to 1 (the least and the largest of these facts, or the fixed
    ends of versions 2 to 4, below which it is 0), to the power of `size_exponent`. NaN where
    subject and object never meet. Source: released code of arXiv 2502.04066.

    >>> from helpers.retrieval import size_dependent_mi
    >>> size_dependent_mi([0, 1e-6, 1e-5, 1e-3], parameters=1e9).round(3)
    array([  nan, 0.   , 0.308, 1.   ])
    """
    validation.choice(generation, tuple(GENERATIONS), "generation")
    rule, information = GENERATIONS[generation], validation.numbers(information, "information")
    found, meet = np.full(information.shape, np.nan), information > 0
    x = normalise(log_bins(information[meet]), rule.mi_range)
    found[meet] = np.clip(x, 0, None) ** size_exponent(parameters, rule.size_rule)
    return found


def keep(information: ArrayLike, generation: str) -> np.ndarray:
    """Return the mask of facts that a generation of the metric keeps, from their MI in bits."""
    validation.choice(generation, tuple(GENERATIONS), "generation")
    rule, information = GENERATIONS[generation], validation.numbers(information, "information")
    return information >= rule.keep_above if rule.closed else information > rule.keep_above


def bin_statistics(bins: ArrayLike, accuracy: ArrayLike) -> pd.DataFrame:
    """Return `n`, `mean` and population `variance` of the accuracies in each bin, by bin."""
    bins, accuracy = np.asarray(bins), validation.numbers(accuracy, "accuracy")
    if bins.shape != accuracy.shape or not bins.size:
        raise ValueError(
            f"bins has shape {bins.shape} and accuracy {accuracy.shape}; pass one a fact in each"
        )
    frame = pd.DataFrame({"bin": bins, "accuracy": accuracy})
    if frame.accuracy.isna().any():
        raise ValueError("accuracy has missing values; drop those facts first")
    groups = frame.groupby("bin").accuracy
    variance = groups.var(ddof=0)
    return pd.DataFrame({"n": groups.size(), "mean": groups.mean(), "variance": variance})


def fit_bins(statistics: pd.DataFrame, x: ArrayLike, *, weighted: bool = False) -> pd.Series:
    """Fit a line through bin means and return the columns of the published tables.

    `statistics` is a frame of `bin_statistics` and `x` the position of each of its rows. Every
    bin counts once, as released; `weighted=True` counts it by its facts. Returns slope `a`,
    intercept `b`, `R2` (of bin means), `MSE` (mean over bins of the mean squared distance of
    single accuracies to the line), `x intercept`, `upper bound` (the line at x = 1) and `acc`
    (mean accuracy of the facts). Source: released code of arXiv 2502.04066.
    """
    validation.columns(statistics, ("n", "mean", "variance"), "statistics")
    x, mean = validation.numbers(x, "x"), statistics["mean"].to_numpy()
    if len(x) != len(mean):
        raise ValueError(f"x has {len(x)} entries but statistics {len(mean)}; pass one a bin")
    if len(x) < 3:
        raise ValueError(f"{len(x)} bins are too few for a line; three or more are needed")
    n = statistics["n"].to_numpy()
    if weighted:
        a, b = np.polyfit(x, mean, 1, w=np.sqrt(n))
        covariance = np.cov(x, mean, fweights=n)
        r2 = covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1])
    else:
        fit = linregress(x, mean)
        a, b, r2 = fit.slope, fit.intercept, fit.rvalue**2
    distance = statistics["variance"].to_numpy() + (mean - (a * x + b)) ** 2
    return pd.Series(
        {
            "a": a,
            "b": b,
            "R2": r2,
            "MSE": np.average(distance, weights=n if weighted else None),
            "x intercept": -b / a,
            "upper bound": a + b,
            "acc": np.average(mean, weights=n),
        }
    )


def positions(
    statistics: pd.DataFrame, parameters: float, generation: str, method: str
) -> np.ndarray:
    """Return where a generation puts the bins of one metric on the axis of its fit."""
    if method == "CO-OCCUR":
        return normalise(statistics.index)
    rule = GENERATIONS[generation]
    x = normalise(statistics.index, rule.mi_range)
    return x if method == "MI" else x ** size_exponent(parameters, rule.size_rule)


def fit_metrics(
    co_occurrence: pd.DataFrame,
    information: pd.DataFrame,
    parameters: float,
    generation: str,
    **options: bool,
) -> pd.DataFrame:
    """Fit the three metrics of one model and return one row per metric, as the tables have them.

    `co_occurrence` and `information` are frames of `bin_statistics` over bins of N_so and of MI;
    `options` go to `fit_bins`. Source: released code of arXiv 2502.04066.

    >>> import numpy as np
    >>> from helpers.retrieval import fit_metrics
    >>> from helpers.retrieval.smi import bin_statistics, log_bins
    >>> information = np.array([1e-6, 1e-5, 1e-4, 1e-3])
    >>> bins = bin_statistics(log_bins(information), accuracy=[0.2, 0.4, 0.6, 0.8])
    >>> fit_metrics(bins, bins, 1e9, "v5-v7")[["a", "b", "R2"]].round(3)
                  a      b     R2
    method
    CO-OCCUR  0.599  0.204  1.000
    MI        0.599  0.204  1.000
    SMI       0.598  0.207  0.999
    """
    rows = {}
    for method in METRICS:
        bins = co_occurrence if method == "CO-OCCUR" else information
        x = positions(bins, parameters, generation, method)
        rows[method] = fit_bins(bins, x, **options)
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="method"))


def r2_interval(
    x: ArrayLike, mean: ArrayLike, *, level: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the bootstrap interval of R² of a binned fit, drawing the bins with replacement.

    `x` and `mean` have one entry a bin: the bins are the observations of the published fit.
    Resamples in which a side does not vary have no R² and are left out; where `mean` itself does
    not vary both ends are NaN. Raises `ValueError` for fewer than 3 different positions and missing
    values.
    """
    x, mean = validation.numbers(x, "x"), validation.numbers(mean, "mean")
    validation.share(level, "level")
    validation.counts(n_resamples=(n_resamples, 1))
    if x.ndim != 1 or x.shape != mean.shape or not len(x):
        raise ValueError(f"x has shape {x.shape} and mean {mean.shape}; pass one a bin in each")
    if not (np.isfinite(x).all() and np.isfinite(mean).all()):
        raise ValueError("x or mean has a missing or infinite value; leave out bins without facts")
    if len(np.unique(x)) < 3:
        raise ValueError(f"x has {len(np.unique(x))} different positions; pass 3 bins or more")
    drawn = validation.generator(seed).integers(len(x), size=(n_resamples, len(x)))
    a = x[drawn] - x[drawn].mean(axis=1, keepdims=True)
    b = mean[drawn] - mean[drawn].mean(axis=1, keepdims=True)
    spread = (a**2).sum(axis=1) * (b**2).sum(axis=1)
    usable = spread > 1e-22 * len(x) ** 2 * np.var(x) * np.var(mean)
    if np.ptp(mean) == 0 or not usable.any():
        return float("nan"), float("nan")
    r2 = (a * b).sum(axis=1)[usable] ** 2 / spread[usable]
    low, high = np.quantile(r2, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def object_in_subject(subjects: ArrayLike, objects: ArrayLike) -> np.ndarray:
    """Return the mask of facts whose subject contains the object string, case-sensitively.

    Source: this book's audit of arXiv 2502.04066, released code.

    >>> from helpers.retrieval import object_in_subject
    >>> object_in_subject(["South Africa", "Rome"], ["Africa", "Italy"])
    array([ True, False])
    """
    subjects = validation.strings(subjects, "subjects")
    objects = validation.strings(objects, "objects")
    if len(subjects) != len(objects):
        raise ValueError(
            f"objects has length {len(objects)} but subjects {len(subjects)}; pass one a fact"
        )
    return np.array([o in s for s, o in zip(subjects, objects, strict=True)], dtype=bool)


def statistics_of(bins: pd.DataFrame, generation: str, model: str, metric: str) -> pd.DataFrame:
    """Return `n`, `mean` and `variance` of one model's accuracies by bin, from `release_bins`."""
    chosen = bins.loc[(generation, model, metric)]
    n, mean = chosen["n"], chosen["sum"] / (400 * chosen["n"])
    variance = chosen["sum_of_squares"] / (400**2 * n) - mean**2
    return pd.DataFrame({"n": n, "mean": mean, "variance": variance.clip(lower=0)})


def table(
    bins: pd.DataFrame,
    models: pd.DataFrame,
    generation: str,
    *,
    n_resamples: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the table of one generation: all its models, three metrics, seven columns.

    With `n_resamples`, columns `low` and `high` hold the 95 % bootstrap interval of R².
    """
    parts, sizes = {}, {**models.parameters, **V1_PARAMETERS}
    for model in dict.fromkeys(bins.loc[generation].index.get_level_values("model")):
        count, mi = (statistics_of(bins, generation, model, m) for m in ("count", "mi"))
        parts[model] = fit_metrics(count, mi, sizes[model], generation)
        if n_resamples:
            ends = []
            for method in METRICS:
                chosen = count if method == "CO-OCCUR" else mi
                x = positions(chosen, sizes[model], generation, method)
                ends.append(r2_interval(x, chosen["mean"], n_resamples=n_resamples, seed=seed))
            parts[model][["low", "high"]] = ends
    return pd.concat(parts, names=["model"])


def r2_of_power(statistics: pd.DataFrame, exponent: float, ends: tuple[float, float]) -> float:
    """Return R² of the fit on normalised MI to a power; NaN where the power leaves no spread.

    Bins whose positions a large power makes equal (underflow to 0) are pooled, as released.
    """
    x = normalise(statistics.index, ends) ** exponent
    n, total = statistics["n"], statistics["n"] * statistics["mean"]
    pooled = pd.DataFrame({"n": n.to_numpy(), "total": total.to_numpy()}).groupby(x).sum()
    if np.var(pooled.index) == 0:
        return float("nan")
    return float(linregress(pooled.index, pooled.total / pooled.n).rvalue ** 2)
