"""What the small world says about SMI: effects of what was set at random, forms, and the bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from numpy.typing import ArrayLike

from experiments.retrieval import audit_tables, clean_facts
from helpers.retrieval import binned_fits, smi

SMI_FORM = "SMI, versions 5 to 7"
BILLIONS_FORM = "SMI, versions 2 to 4"


def by_model(counts: pd.DataFrame, accuracy: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    """Return one row per fact and model size, with the mean accuracy over starts.

    `counts` is a frame of `small_world.counted`, `accuracy` has a row per fact and a column
    `width-seed` a model, and `sizes` gives the parameters of each width. Added to the counts
    are `fact` (its row), `width`, `parameters`, `accuracy`, `ratio` (other mentions of the
    subject for each statement) and `octave` (the power of two at or below the frequency; 0 for
    none).
    """
    base = counts.rename_axis("fact").reset_index()
    base["ratio"] = (base.others / base.frequency.clip(lower=1)).round().astype(int)
    octave = 2.0 ** np.floor(np.log2(base.frequency.clip(lower=1)))
    base["octave"] = octave.where(base.frequency > 0, 0.0)
    parts = []
    for width, parameters in sizes.items():
        found = accuracy[[name for name in accuracy if name.startswith(f"{width}-")]]
        more = {"width": width, "parameters": float(parameters)}
        parts.append(base.assign(**more, accuracy=found.mean(axis=1).to_numpy()))
    return pd.concat(parts, ignore_index=True)


def effects(facts: pd.DataFrame) -> pd.DataFrame:
    """Return the change of accuracy for a doubling of each thing that was set, with intervals.

    `facts` are rows of `by_model`; facts never stated or leaked are left out. Index: `statements`
    (documents that state the fact), `neutral` and `competing` (documents with the subject, at equal
    statements, when the others are of that kind), `size` (parameters). Columns: `effect`, `low` and
    `high`, the 95 % interval of least squares with errors clustered by fact. As all but the size
    was drawn at random, these are mean causal effects in this world.
    """
    stated = facts[(facts.frequency > 0) & ~facts.leaked]
    stated = stated.assign(statements=np.log2(stated.frequency), size=np.log2(stated.parameters))
    for kind in ("neutral", "competing"):
        stated[kind] = np.log2(1 + stated.ratio) * (stated.kind == kind)
    model = smf.ols("accuracy ~ statements + neutral + competing + size", stated)
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": stated.fact})
    ends = fit.conf_int().set_axis(["low", "high"], axis=1)
    return ends.assign(effect=fit.params)[["effect", "low", "high"]].drop("Intercept")


def _forms(facts: pd.DataFrame) -> pd.DataFrame:
    """Return where each fact lies on the axis of each form of the measure, one column per form.

    `facts` are rows of `audit_tables.kept`, of one size of model. Co-occurrence, MI and the two
    SMIs are those of `audit_tables.axes_of`; mutual information of all four cells, P(o | s) and the
    share among rivals are put on their axes in the same way: fifths of an octave, minimum 0,
    maximum 1.
    """
    parameters = float(facts.parameters.iloc[0])
    axes = audit_tables.axes_of(facts, parameters).rename(columns={"SMI": SMI_FORM})
    axes[BILLIONS_FORM] = audit_tables.axes_of(facts, parameters, "v2-v4").SMI
    more = {
        "MI of four cells": smi.mutual_information(*(facts[c] for c in smi.COUNTS), cells=4),
        "P(o | s)": facts.n_both / facts.n_subject,
        "share among rivals": facts.share,
    }
    return axes.assign(**{k: smi.normalise(smi.log_bins(v)) for k, v in more.items()})


def r2_by_form(models: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return R² of a line through bin means and through single facts, for each form (row).

    Columns are pairs: ("bins", "") is their number, which limits what R² of bin means can say;
    ("bin means", model) and ("facts", model) are the two R². NaN where a form has no spread left.
    """
    table: dict[tuple[str, object], dict[str, float]] = {("bins", ""): {}}
    for name, facts in models.items():
        axes = _forms(facts)
        means, single = table.setdefault(("bin means", name), {}), {}
        for form in axes:
            bins = binned_fits.bin_means(axes[form], facts.accuracy)
            table["bins", ""][form] = len(bins.x)
            means[form] = binned_fits.r2_of_means(bins)[0]
            single[form] = axes[form].corr(facts.accuracy) ** 2 if axes[form].std() > 0 else np.nan
        table["facts", name] = single
    ordered = sorted(table, key=lambda column: ("bins", "bin means", "facts").index(column[0]))
    return pd.DataFrame(table)[ordered]


def leads(models: Mapping[int, pd.DataFrame], n_resamples: int, *, seed: int = 0) -> pd.DataFrame:
    """Return by how much SMI leads co-occurrence in R², over all facts and without contradiction.

    One row per model and set of facts, with `gain`, `low`, `high` of `binned_fits.r2_gain`: facts
    are drawn with replacement. The second set leaves out facts with competing mentions.
    """
    rows = []
    for name, every in models.items():
        agreed = every[every.kind != "competing"].reset_index(drop=True)
        for what, facts in {"all": every, "none compete": agreed}.items():
            axes = audit_tables.axes_of(facts, float(facts.parameters.iloc[0]))
            weights = binned_fits.draw_weights(len(facts), n_resamples, seed=seed)
            found = binned_fits.r2_gain(axes, facts.accuracy, weights)
            rows.append({"model": name, "facts": what, **found._asdict()})
    return pd.DataFrame(rows)[["model", "facts", "gain", "low", "high"]]


def bin_points(facts: pd.DataFrame, accuracy: ArrayLike | None = None) -> pd.DataFrame:
    """Return the bins of the released fit of SMI (versions 5 to 7): where, how many, how accurate.

    One row per bin: `x` (its SMI), `n`, `mean` and `variance` of accuracy. `facts` are rows of
    `audit_tables.kept`, of one model; `accuracy` takes the place of theirs.
    """
    accuracy = facts.accuracy if accuracy is None else accuracy
    bins = smi.bin_statistics(smi.log_bins(facts.information), accuracy)
    parameters = float(facts.parameters.iloc[0])
    return bins.assign(x=smi.positions(bins, parameters, "v5-v7", "SMI"))


def line(facts: pd.DataFrame, accuracy: ArrayLike | None = None) -> pd.Series:
    """Return the released fit to the bins of `bin_points`, the columns of `smi.fit_bins`."""
    points = bin_points(facts, accuracy)
    return smi.fit_bins(points, points.x)


def graded(models: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return the released analysis with leaked facts at their accuracy, and at 1.

    `models` hold rows of `audit_tables.kept`, leaked facts included. One row per model and way of
    grading, with mean accuracy, R² and the bound.
    """
    rows = {}
    for name, facts in models.items():
        wrong = facts.accuracy.where(~facts.leak, 1.0)
        for how, accuracy in {"answer alone": facts.accuracy, "with the question": wrong}.items():
            rows[name, how] = line(facts, accuracy)[["acc", "R2", "upper bound"]]
    return pd.DataFrame(rows).T.rename_axis(["model", "graded"])


def line_ends(models: Mapping[int, pd.DataFrame], most: Iterable[int]) -> pd.DataFrame:
    """Return where the SMI line ends when facts stated more than so many times are left out.

    One row per model and limit: `bound`, the line at SMI = 1, and `ceiling`, the mean accuracy that
    documents allow on the facts used.
    """
    rows = []
    for name, facts in models.items():
        for limit in most:
            rest = facts[facts.frequency <= limit]
            row = {"model": name, "most": int(limit), "bound": line(rest)["upper bound"]}
            rows.append(row | {"ceiling": rest.ceiling.mean()})
    return pd.DataFrame(rows)


def bound_rise(
    facts: pd.DataFrame, limit: int, n_resamples: int, *, seed: int = 0
) -> binned_fits.Gain:
    """Return how much the end of the SMI line rises when facts stated more than `limit` times join.

    `facts` are rows of `audit_tables.kept`, of one model. The intervals come from drawing
    facts; the positions of all bins are fixed.
    """
    facts = facts.reset_index(drop=True)
    weights = audit_tables.resample_weights(facts, n_resamples, seed=seed)
    ends = []
    for rest in (facts, facts[facts.frequency <= limit]):
        x = audit_tables.axes_of(rest, float(rest.parameters.iloc[0])).SMI
        bins = binned_fits.bin_means(x, rest.accuracy, weights[:, rest.index])
        ends.append(binned_fits.end_of_line(bins))
    return audit_tables.of_row(ends[0] - ends[1])


def doubling_along(
    models: Mapping[int, pd.DataFrame], edges: Iterable[int], n_resamples: int, *, seed: int = 0
) -> pd.DataFrame:
    """Return what a doubling of statements adds to accuracy in each band of frequency, by model.

    `models` hold rows of `audit_tables.kept`; facts with competing mentions are left out. `edges`
    are the lower ends of the bands; the last has no upper end. One row per model and band: `from`,
    and the `estimate`, `low`, `high` of the slope on log2 frequency, from drawing facts.
    """
    edges, rows = list(edges), []
    for name, every in models.items():
        for low, high in zip(edges, [*edges[1:], np.inf], strict=True):
            facts = every[(every.kind != "competing") & (every.frequency >= low)]
            facts = facts[facts.frequency < high].reset_index(drop=True)
            x, y = np.log2(facts.frequency), facts.accuracy
            weights = audit_tables.resample_weights(facts, n_resamples, seed=seed).astype(float)
            n, sx, sy, sxx, sxy = (weights @ np.column_stack([x**0, x, y, x * x, x * y])).T
            slope = audit_tables.of_row((sxy - sx * sy / n) / (sxx - sx * sx / n))
            rows.append({"model": name, "from": low, **clean_facts.ends(slope)})
    return pd.DataFrame(rows)


def saturation(models: Mapping[int, pd.DataFrame], least: int = 64) -> pd.DataFrame:
    """Return how well two predictions meet the accuracy of facts stated `least` times or more.

    `line` is the MI line fitted to the bins of rarer facts and carried on, cut to 0 and 1;
    `ceiling` what documents allow. Columns: mean `accuracy` of the frequent facts, and the root
    mean squared error of each prediction.
    """
    rows = {}
    for name, facts in models.items():
        common, rare = (facts[q] for q in (facts.frequency >= least, facts.frequency < least))
        bins = smi.bin_statistics(smi.log_bins(rare.information), rare.accuracy)
        fit = smi.fit_bins(bins, bins.index)
        guess = np.clip(fit["a"] * smi.log_bins(common.information) + fit["b"], 0, 1)
        predicted = {"line": guess, "ceiling": common.ceiling}
        errors = {k: np.sqrt(np.mean((common.accuracy - v) ** 2)) for k, v in predicted.items()}
        rows[name] = {"accuracy": common.accuracy.mean(), **errors}
    return pd.DataFrame(rows).T.rename_axis("model")


def predictors(models: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return the errors of four predictors on facts of relations left out of their fit.

    `models` hold rows of `audit_tables.kept`. Columns: the two SMIs on a straight line; a logistic
    curve with squares and products of the three log2 shares of documents, log2 size and its
    products with them; and the same curve with the log2 share among rivals. Beside them `fact`,
    the row each belongs to.
    """
    facts = pd.concat(models.values(), ignore_index=True)
    axes = pd.concat([_forms(part) for part in models.values()], ignore_index=True)
    columns = facts[["both", "subject share", "object share"]]
    one, size = np.ones(len(facts)), np.log2(facts.parameters)
    columns, size = ((v - v.mean()) / v.std() for v in (columns, size))
    curve = np.c_[binned_fits.quadratic(columns), size, columns.mul(size, axis=0)]
    designs = {form: np.c_[one, axes[form]] for form in (SMI_FORM, BILLIONS_FORM)}
    designs["three counts and size"] = curve
    designs["with rivals"] = np.c_[curve, np.log2(facts.share)]
    out = {}
    for name, X in designs.items():
        options = {"logistic": name not in axes}
        guess = binned_fits.predict_held_out(X, facts.accuracy, facts.relation, **options)
        out[name] = facts.accuracy - guess
    return pd.DataFrame(out).assign(fact=facts.fact)
