"""The audit of SMI from single facts: tables by model, with and without leaked facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

from helpers.retrieval import smi
from helpers.retrieval.binned_fits import (
    best_exponent,
    bin_means,
    draw_weights,
    gain,
    r2_gain,
    weighted_correlation,
)

TERMS = {"both": "log2 P(s, o)", "subject": "log2 P(s)", "object": "log2 P(o)"}


def kept(facts: pd.DataFrame) -> pd.DataFrame:
    """Return the facts with positive mutual information, with what the audit needs beside them.

    `facts` has the columns of `release.load_facts`. Added are `fact` (the row number before
    any was dropped), `information` (one-cell MI, bits), `leak` (the object stands in the subject),
    and `both`, `subject share`, `object share`: log2 of the shares of documents. The rule of what
    is kept is that of versions 5 to 7 of arXiv 2502.04066.
    """
    information = smi.facts_information(facts)
    leak = smi.object_in_subject(facts.subject, facts.object)
    full = facts.assign(fact=np.arange(len(facts)), information=information, leak=leak)
    rows = full[smi.keep(information, "v5-v7")].reset_index(drop=True)
    shares = {"both": "n_both", "subject share": "n_subject", "object share": "n_object"}
    return rows.assign(**{k: np.log2(rows[v] / rows.n_documents) for k, v in shares.items()})


def axes_of(facts: pd.DataFrame, parameters: float, generation: str = "v5-v7") -> pd.DataFrame:
    """Return where each fact lies on the axes of the fit, one column a metric.

    `facts` has the columns `n_both` and `information` (bits, positive), as `kept` returns them.
    Facts below the fixed end of the scale of versions 2 to 4 lie at 0. Source: released code.
    """
    rule = smi.GENERATIONS[generation]
    x = np.clip(smi.normalise(smi.log_bins(facts.information), rule.mi_range), 0, None)
    power = smi.size_dependent_mi(facts.information, parameters, generation)
    count = smi.normalise(smi.log_bins(facts.n_both))
    return pd.DataFrame({"CO-OCCUR": count, "MI": x, "SMI": power}, index=facts.index)


def versions(facts: pd.DataFrame) -> Iterator[tuple[dict[str, str], float, pd.DataFrame]]:
    """Yield the facts of each model, all of them and then the clean ones, without leaked facts.

    `facts` are rows of `kept` with the columns `model` and `parameters`. Each item is a dict that
    names `model` and `facts` ("all facts" or "clean"), the parameter count, and the rows.
    """
    for model, part in facts.groupby("model", sort=False):
        for what, rows in {"all facts": part, "clean": part[~part.leak]}.items():
            yield {"model": model, "facts": what}, float(part.parameters.iloc[0]), rows


def leads(
    facts: pd.DataFrame, n_resamples: int, *, groups: str | None = None, seed: int = 0, **how: bool
) -> pd.DataFrame:
    """Return by how much SMI leads co-occurrence in R² of bin means, with bootstrap intervals.

    One row a model and version of its facts; columns of `binned_fits.Gain`. `groups` names a column
    whose values are drawn as wholes; `how` goes to `binned_fits.r2_gain`.
    """
    rows = []
    for name, parameters, rest in versions(facts):
        weights = draw_weights(
            len(rest), n_resamples, groups=None if groups is None else rest[groups], seed=seed
        )
        found = r2_gain(axes_of(rest, parameters), rest.accuracy, weights, **how)
        rows.append(name | found._asdict())
    return pd.DataFrame(rows)


def rank_gains(facts: pd.DataFrame, n_resamples: int, *, seed: int = 0) -> pd.DataFrame:
    """Return how single facts' accuracy goes with SMI and with the ranks of MI and co-occurrence.

    One row a model and version of its facts: `R²` of a line on SMI, Spearman's rho of `CO-OCCUR`
    and of `MI`, and the columns of `binned_fits.Gain` for the difference MI minus CO-OCCUR. Ranks
    are those of the whole sample in every resample.
    """
    rows = []
    for name, parameters, rest in versions(facts):
        weights = draw_weights(len(rest), n_resamples, seed=seed)
        weights = np.vstack([np.ones((1, len(rest)), np.float32), weights])
        ranks = rest[["n_both", "information", "accuracy"]].rank()
        co, mi = (
            weighted_correlation(ranks[c], ranks.accuracy, weights)
            for c in ("n_both", "information")
        )
        line = axes_of(rest, parameters).SMI.corr(rest.accuracy) ** 2
        name |= {"R²": line, "CO-OCCUR": co[0], "MI": mi[0]}
        rows.append(name | gain(mi[0] - co[0], (mi - co)[1:])._asdict())
    return pd.DataFrame(rows)


def bounds(facts: pd.DataFrame, drop: tuple[int, ...] = (0, 1, 10)) -> pd.DataFrame:
    """Return the height of the line at SMI = 1 without the facts of highest MI, and without leaks.

    For each model and each entry of `drop`, that many facts are left out from the top, and the
    scale ends at the highest fact left; the last row leaves out the leaked facts instead. `low` and
    `high` are the 95 % interval of the fitted line, bins as observations.
    """
    rows = []
    for model, part in facts.groupby("model", sort=False):
        ranked = part.sort_values("information", ascending=False, kind="stable")
        subsets = {f"without the top {k}" if k else "all facts": ranked[k:] for k in drop}
        subsets["clean"] = ranked[~ranked.leak]
        for what, rest in subsets.items():
            x = axes_of(rest, float(part.parameters.iloc[0])).SMI
            means = pd.DataFrame({"x": x, "y": rest.accuracy}).groupby("x").y.mean().reset_index()
            line = smf.ols("y ~ x", means).fit().get_prediction(pd.DataFrame({"x": [1.0]}))
            low, high = line.conf_int()[0]
            top = f"{rest.subject.iloc[0]}, {rest.object.iloc[0]}"
            row = {"model": model, "facts": what, "top": top, "bound": line.predicted_mean[0]}
            rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(rows)


def coefficients(facts: pd.DataFrame) -> pd.DataFrame:
    """Return the regression of accuracy on three log2 shares of documents, by model and version.

    One row a model, version and `term`: `estimate` (accuracy per doubling) and its 95 % interval
    with errors clustered by object; and R² over facts of the three together (`R² counts`), of
    normalised binned log2 MI (`R² MI`) and of log2 P(o|s) (`R² given s`).
    """
    rows = []
    for name, parameters, rest in versions(facts):
        shares = {"subject": rest["subject share"], "object": rest["object share"]}
        frame = pd.DataFrame({"y": rest.accuracy, "both": rest.both, **shares})
        errors = {"cov_type": "cluster", "cov_kwds": {"groups": pd.factorize(rest.object)[0]}}
        fit = smf.ols("y ~ both + subject + object", frame).fit(**errors)
        name |= {"R² counts": fit.rsquared}
        name["R² MI"] = axes_of(rest, parameters).MI.corr(rest.accuracy) ** 2
        name["R² given s"] = (frame.both - frame.subject).corr(frame.y) ** 2
        for column, term in TERMS.items():
            low, high = fit.conf_int().loc[column]
            ends = {"estimate": fit.params[column], "low": low, "high": high}
            rows.append(name | {"term": term} | ends)
    return pd.DataFrame(rows)


def exponents(facts: pd.DataFrame, n_resamples: int, *, seed: int = 0) -> pd.DataFrame:
    """Return the power of normalised MI that fits bin means best, with percentile intervals.

    One row a model and version of its facts; `best` is a point of `binned_fits.EXPONENTS`,
    `low` and `high` come from drawing facts.
    """
    rows = []
    for name, parameters, rest in versions(facts):
        weights = draw_weights(len(rest), n_resamples, seed=seed)
        weights = np.vstack([np.ones((1, len(rest)), np.float32), weights])
        found = best_exponent(bin_means(axes_of(rest, parameters).MI, rest.accuracy, weights))
        low, high = np.quantile(found[1:], [0.025, 0.975])
        rows.append(name | {"parameters": parameters, "best": found[0], "low": low, "high": high})
    return pd.DataFrame(rows)


def curvature(
    x: pd.Series, y: pd.Series, chosen: pd.Series | None = None
) -> tuple[float, float, float]:
    """Return the quadratic coefficient of y against x with the ends of its 95 % interval.

    `x` and `y` share an index; `chosen` is a mask over it. Below zero, y grows less and less.
    Raises `ValueError` for fewer than four points.
    """
    frame = pd.DataFrame({"x": x, "y": y})
    frame = frame if chosen is None else frame[chosen]
    if len(frame) < 4:
        raise ValueError(f"{len(frame)} points are too few for a quadratic with an interval; 4 do")
    fit = smf.ols("y ~ x + I(x**2)", frame).fit()
    low, high = fit.conf_int().iloc[2]
    return float(fit.params.iloc[2]), float(low), float(high)


def pooled_bins(statistics: Mapping[str, pd.DataFrame], sizes: pd.Series) -> pd.DataFrame:
    """Return the bin means of several models in one frame, with the axes they are fitted on.

    `statistics` maps models to frames of `smi.bin_statistics` over bins of MI, `sizes` gives their
    parameter counts. One row a bin: `model`, `parameters`, `mean`, `size` (log2 of the parameters),
    `MI` (minimum to maximum), and one column of SMI for each generation's rule.
    """
    parts = []
    for model, bins in statistics.items():
        frame = pd.DataFrame({"model": model, "parameters": sizes[model], "mean": bins["mean"]})
        frame["size"], frame["MI"] = np.log2(sizes[model]), smi.normalise(bins.index)
        for name, rule in smi.GENERATIONS.items():
            x = np.clip(smi.normalise(bins.index, rule.mi_range), 0, None)
            frame[f"SMI, {name}"] = x ** smi.size_exponent(sizes[model], rule.size_rule)
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)
