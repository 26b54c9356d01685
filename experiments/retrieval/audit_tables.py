"""The audit of SMI from single facts: tables by model, with and without leaked facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike

from helpers import validation
from helpers.retrieval import smi
from helpers.retrieval.binned_fits import (
    Gain,
    best_exponent,
    bin_means,
    draw_weights,
    gain,
    predict_held_out,
    quadratic,
    r2_gain,
    standardise,
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
    """Return where each fact lies on the axes of the fit, one column per metric.

    `facts` has the columns `n_both` and `information` (bits, positive), as `kept` returns them.
    Facts below the fixed end of the scale of versions 2 to 4 lie at 0. Source: released code.
    """
    rule = smi.GENERATIONS[generation]
    x = np.clip(smi.normalise(smi.log_bins(facts.information), rule.mi_range), 0, None)
    power = smi.size_dependent_mi(facts.information, parameters, generation)
    count = smi.normalise(smi.log_bins(facts.n_both))
    return pd.DataFrame({"CO-OCCUR": count, "MI": x, "SMI": power}, index=facts.index)


def _versions(facts: pd.DataFrame) -> Iterator[tuple[dict[str, str], float, pd.DataFrame]]:
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

    One row per model and version of its facts; columns of `binned_fits.Gain`. `groups` names a
    column whose values are drawn as wholes; `how` goes to `binned_fits.r2_gain`.
    """
    rows = []
    for name, parameters, rest in _versions(facts):
        weights = draw_weights(
            len(rest), n_resamples, groups=None if groups is None else rest[groups], seed=seed
        )
        found = r2_gain(axes_of(rest, parameters), rest.accuracy, weights, **how)
        rows.append(name | found._asdict())
    return pd.DataFrame(rows)


def resample_weights(
    rows: pd.DataFrame, n_resamples: int = 1000, *, groups: str | None = None, seed: int = 0
) -> np.ndarray:
    """Return ones, and below them the weights of rows in resamples: (1 + n_resamples, rows)."""
    by = None if groups is None else rows[groups]
    drawn = draw_weights(len(rows), n_resamples, groups=by, seed=seed)
    return np.vstack([np.ones((1, len(rows)), np.float32), drawn])


def of_row(sample: ArrayLike) -> Gain:
    """Return the first of a row of values as the estimate, with the interval of the others."""
    sample = validation.numbers(sample, "sample")
    return gain(float(sample[0]), sample[1:])


def rank_gains(
    facts: pd.DataFrame, n_resamples: int, *, groups: str | None = None, seed: int = 0
) -> pd.DataFrame:
    """Return how single facts' accuracy goes with SMI and with the ranks of MI and co-occurrence.

    One row per model and version of its facts: `R²` of a line on SMI with the ends of its interval,
    `R² low` and `R² high`; its `R² lead` over a line on the count; Spearman's rho of `CO-OCCUR` and
    of `MI`; and the columns of `binned_fits.Gain` for the difference MI minus CO-OCCUR. Ranks are
    those of the whole sample in every resample. `groups` names a column drawn as wholes.
    """
    rows = []
    for name, parameters, rest in _versions(facts):
        drawn = resample_weights(rest, n_resamples, groups=groups, seed=seed)
        ranks = rest[["n_both", "information", "accuracy"]].rank()
        co, mi = (
            weighted_correlation(ranks[c], ranks.accuracy, drawn) for c in ("n_both", "information")
        )
        axes = axes_of(rest, parameters)
        ours, count = (
            weighted_correlation(axes[c], rest.accuracy, drawn) ** 2 for c in ("SMI", "CO-OCCUR")
        )
        line = of_row(ours)
        name |= {"R²": line.gain, "R² low": line.low, "R² high": line.high}
        name |= {"R² lead": ours[0] - count[0]}
        name |= {"CO-OCCUR": co[0], "MI": mi[0]}
        rows.append(name | of_row(mi - co)._asdict())
    return pd.DataFrame(rows)


def leaders(
    facts: pd.DataFrame, single: pd.DataFrame, n_resamples: int, *, seed: int = 0
) -> pd.DataFrame:
    """Return in how many models the count ranks single facts better, and SMI fits them better.

    `single` are the `rank_gains` of `facts`. One row per version of the facts, and columns: the
    count ranks better; its interval says so when whole objects are drawn; SMI leads by R² of a
    line.
    """
    alike = rank_gains(facts, n_resamples, groups="object", seed=seed)
    table = {
        "count, by rank": single.gain < 0,
        "count, objects drawn": alike.high < 0,
        "SMI, by a line": single["R² lead"] > 0,
    }
    return pd.DataFrame(table).groupby(single.facts).sum()


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

    One row per model, version and `term`: `estimate` (accuracy per doubling) and its 95 % interval
    with errors clustered by object; and R² over facts of the three together (`R² counts`), of
    normalised binned log2 MI (`R² MI`) and of log2 P(o|s) (`R² given s`).
    """
    rows = []
    for name, parameters, rest in _versions(facts):
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

    One row per model and version of its facts; `best` is a point of `binned_fits.EXPONENTS`,
    `low` and `high` come from drawing facts.
    """
    rows = []
    for name, parameters, rest in _versions(facts):
        drawn = resample_weights(rest, n_resamples, seed=seed)
        found = best_exponent(bin_means(axes_of(rest, parameters).MI, rest.accuracy, drawn))
        low, high = np.quantile(found[1:], [0.025, 0.975])
        rows.append(name | {"parameters": parameters, "best": found[0], "low": low, "high": high})
    return pd.DataFrame(rows)


def curvature(
    x: pd.Series, y: pd.Series, chosen: pd.Series | None = None
) -> tuple[float, float, float]:
    """Return the quadratic coefficient of y against x with the ends of its 95 % interval.

    `x` and `y` share an index; `chosen` is a mask over it. Below zero, y grows less and less.
    """
    frame = pd.DataFrame({"x": x, "y": y})
    frame = frame if chosen is None else frame[chosen]
    fit = smf.ols("y ~ x + I(x**2)", frame).fit()
    low, high = fit.conf_int().iloc[2]
    return float(fit.params.iloc[2]), float(low), float(high)


def pooled_lead(
    pool: pd.DataFrame, better: str, than: str, n_resamples: int, *, seed: int = 0
) -> Gain:
    """Return R² of one line through the bins of all models on one column less that on another.

    `pool` is a frame of `pooled_bins`. The intervals come from drawing whole models, as the bins of
    one model are not independent.
    """
    drawn = resample_weights(pool, n_resamples, groups="model", seed=seed)
    first, second = (
        weighted_correlation(pool[c], pool["mean"], drawn) ** 2 for c in (better, than)
    )
    return of_row(first - second)


def pooled_bins(statistics: Mapping[str, pd.DataFrame], sizes: pd.Series) -> pd.DataFrame:
    """Return the bin means of several models in one frame, with the axes they are fitted on.

    `statistics` maps models to frames of `smi.bin_statistics` over bins of MI, `sizes` gives their
    parameter counts. One row per bin: `model`, `parameters`, `mean`, `size` (log2 of the
    parameters), `MI` (minimum to maximum), and one column of SMI for each generation's rule.
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


def designs(facts: pd.DataFrame) -> dict[str, tuple[np.ndarray, bool]]:
    """Return what each predictor of a fact's accuracy knows: a design matrix, and whether logistic.

    `facts` are rows of `kept` of several models, with `model`, `parameters` and `corpus`. Lines:
    SMI of each generation, normalised co-occurrence, the mean. Logistic curves, quadratic in what
    they name: co-occurrence, MI or all three counts (standardised by corpus, once over all) with
    log2 of the size, and the relation with either.
    """
    one = np.ones((len(facts), 1))
    shares = facts[["both", "subject share", "object share"]]
    shares = shares.assign(size=np.log2(facts.parameters))
    raw = standardise(shares, np.zeros(len(facts)))
    z = standardise(shares.drop(columns="size"), facts.corpus).assign(size=raw["size"])
    each = list(facts.groupby("model", sort=False))
    x = {
        g: pd.concat(axes_of(part, float(part.parameters.iloc[0]), g) for _, part in each)
        for g in smi.GENERATIONS
    }
    lines = {f"line on SMI, {g}": x[g].SMI for g in x} | {"line on count": x["v1"]["CO-OCCUR"]}
    few = {"count": z[["both", "size"]], "MI": z[["size"]].assign(mi=x["v1"].MI), "three counts": z}
    few["three counts, not by corpus"] = raw
    curves = {f"{name}, size": quadratic(values) for name, values in few.items()}
    curves["relation, size"] = quadratic(z[["size"]], facts.relation)
    curves["three counts, size, relation"] = quadratic(z, facts.relation)
    straight = {name: np.column_stack([one, v]) for name, v in lines.items()} | {"mean": one}
    return {name: (X, name in curves) for name, X in {**straight, **curves}.items()}


def held_out_errors(
    facts: pd.DataFrame, groups: pd.Series, chosen: Mapping[str, tuple[np.ndarray, bool]], thin: int
) -> pd.DataFrame:
    """Return prediction less accuracy of every fact, by fits to the facts of all other groups.

    `chosen` are items of `designs`, one column each; `thin` is that of
    `binned_fits.predict_held_out`.
    """
    guess = {
        name: predict_held_out(X, facts.accuracy, groups, logistic=logistic, thin=thin)
        for name, (X, logistic) in chosen.items()
    }
    return pd.DataFrame(guess).sub(facts.accuracy, axis=0)


def same_fact_elsewhere(facts: pd.DataFrame) -> pd.Series:
    """Return the mean accuracy of each fact in the models of other families, NaN without any."""
    total, own = (facts.groupby(by).accuracy.transform for by in ("fact", ["fact", "family"]))
    return (total("sum") - own("sum")) / (total("size") - own("size")).replace(0, np.nan)
