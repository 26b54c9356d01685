"""SMI on facts that the question does not give away: R², bound and lead, by generation.

`facts` are rows of `audit_tables.kept` of several models, with the columns `model`, `parameters`
and `family`. `weights` are those of `fact_weights`: a first row of ones, then one row a resample,
the same draw for every model, as all of them are asked the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments.retrieval.audit_tables import of_row, resample_weights
from helpers.retrieval import smi
from helpers.retrieval.binned_fits import (
    Gain,
    bin_means,
    end_of_line,
    r2_of_means,
    weighted_correlation,
)

FITS = ("bins", "bins by facts", "facts")


def template_share(facts: pd.DataFrame, templates: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return the share of a fact's questions that hold its object, shape (n,), from 0 to 1.

    `facts` has the columns `subject`, `relation`, `object`; `templates` lists the questions of
    each relation, with "[S]" in the place of the subject. Letter case counts. Where questions
    are graded with the answers, no model can score below this share.
    """
    rows = zip(facts.subject, facts.relation, facts.object, strict=True)
    return np.array([np.mean([o in t.replace("[S]", s) for t in templates[r]]) for s, r, o in rows])


def fact_weights(
    facts: pd.DataFrame, n_resamples: int, *, by_object: bool = False, seed: int = 0
) -> np.ndarray:
    """Return weights for the facts numbered in `fact`, shape (1 + n_resamples, numbers).

    Facts are drawn with replacement, or with `by_object` whole objects; the order of the rows does
    not matter. The first row is ones.
    """
    every = facts.drop_duplicates("fact").set_index("fact")[["object"]].sort_index()
    weights = np.zeros((1 + n_resamples, int(facts.fact.max()) + 1), np.float32)
    groups = "object" if by_object else None
    weights[:, every.index] = resample_weights(every, n_resamples, groups=groups, seed=seed)
    return weights


def _axis(
    facts: pd.DataFrame,
    parameters: float,
    generation: str = "v5-v7",
    metric: str = "SMI",
    *,
    per_octave: int = 5,
) -> np.ndarray:
    """Return where the facts of one model lie on the axis of the fit, shape (n,), 0 to 1.

    As `audit_tables.axes_of`, for bins of any width: `per_octave` of them make a factor of two.
    """
    rule, counted = smi.GENERATIONS[generation], metric == "CO-OCCUR"
    values = facts.n_both if counted else facts.information
    bins = np.trunc(per_octave * np.log2(values)) * (5 / per_octave)
    x = np.clip(smi.normalise(bins, None if counted else rule.mi_range), 0, None)
    return x ** smi.size_exponent(parameters, rule.size_rule) if metric == "SMI" else x


def _r2_draws(
    x: ArrayLike, accuracy: ArrayLike, weights: np.ndarray, *, fit: str = "bins", least: int = 1
) -> np.ndarray:
    """Return R² of the line on `x` under each row of weights.

    `fit` is one of `FITS`: bins that count once, as published, bins weighted by their facts, or
    single facts. Bins of fewer than `least` facts are left out.
    """
    if fit == "facts":
        return weighted_correlation(x, accuracy, weights) ** 2
    bins = bin_means(x, accuracy, weights)
    thick = bins.count[:, 0] >= least
    bins = bins._replace(x=bins.x[thick], count=bins.count[thick], mean=bins.mean[thick])
    return r2_of_means(bins, weighted=fit != "bins")


def draws(
    facts: pd.DataFrame,
    weights: np.ndarray,
    generation: str = "v5-v7",
    metric: str = "SMI",
    **how: str | int,
) -> pd.DataFrame:
    """Return R² of each model (row) under each row of weights (column), by one generation's rule.

    The rule says which facts are kept and where they lie; `how` goes to `_axis` (`per_octave`) and
    to `_r2_draws` (`fit`, `least`). Resampled bin means are noisier than those of the sample, which
    lowers every resampled R²; so the resamples are moved to have the estimate as their mean.
    """
    wide = {"per_octave": how.pop("per_octave", 5)}
    rows = {}
    for model, part in _kept(facts, generation):
        x = _axis(part, float(part.parameters.iloc[0]), generation, metric, **wide)
        sample = _r2_draws(x, part.accuracy, weights[:, part.fact], **how)
        sample[1:] += sample[0] - np.nanmean(sample[1:])
        rows[model] = sample
    return pd.DataFrame(rows).T


def _bound_draws(
    facts: pd.DataFrame, weights: np.ndarray, generation: str = "v5-v7"
) -> pd.DataFrame:
    """Return the height of each model's SMI line at its end, the bound, as `draws` returns R²."""
    rows = {}
    for model, part in _kept(facts, generation):
        x = _axis(part, float(part.parameters.iloc[0]), generation)
        rows[model] = end_of_line(bin_means(x, part.accuracy, weights[:, part.fact]))
    return pd.DataFrame(rows).T


def _kept(facts: pd.DataFrame, generation: str) -> list[tuple[str, pd.DataFrame]]:
    rows = facts[smi.keep(facts.information, generation)]
    return list(rows.groupby("model", sort=False))


def ends(found: Gain) -> dict[str, float]:
    """Return an estimate with its interval as columns of a table: `estimate`, `low`, `high`."""
    return {"estimate": found.gain, "low": found.low, "high": found.high}


def least_r2(facts: pd.DataFrame, n_resamples: int, *, seed: int = 0, **how: str | int) -> Gain:
    """Return the smallest R² of any model, with its interval over draws of facts.

    `how` goes to `draws`.
    """
    weights = fact_weights(facts, n_resamples, seed=seed)
    return of_row(np.nanmin(draws(facts, weights, **how).to_numpy(), axis=0))


def _headline(r2: pd.DataFrame, above: float) -> dict[str, Gain | str]:
    """Return what an abstract's sentence "R² above ..." becomes, from a frame of `draws`.

    `models`, the number of models above the threshold, and `least`, the smallest R² of any, each
    with the interval over resamples; `where`, the model of the smallest. A resample in which a
    model has no R² counts it as not above.
    """
    values = r2.to_numpy()
    return {
        "models": of_row((values > above).sum(axis=0)),
        "least": of_row(np.nanmin(values, axis=0)),
        "where": str(r2.index[np.nanargmin(values[:, 0])]),
    }


def generations(
    facts: pd.DataFrame, weights: np.ndarray, thresholds: Mapping[str, float]
) -> pd.DataFrame:
    """Return R², bound and lead of each generation, for the models of `facts` together.

    One row per generation and measure: `models` above the generation's threshold, `least` R²,
    `bound` and `lead` over co-occurrence as means over models, `leading`, the number of models with
    a lead above 0; with `estimate`, `low` and `high`.
    """
    rows = []
    for generation, above in thresholds.items():
        r2 = draws(facts, weights, generation)
        lead = (r2 - draws(facts, weights, generation, "CO-OCCUR")).to_numpy()
        sentence = _headline(r2, above)
        measures = {"models": sentence["models"], "least": sentence["least"]}
        measures["bound"] = of_row(_bound_draws(facts, weights, generation).mean().to_numpy())
        measures["lead"] = of_row(np.nanmean(lead, axis=0))
        measures["leading"] = of_row((lead > 0).sum(axis=0))
        for name, found in measures.items():
            rows.append({"generation": generation, "measure": name, **ends(found)})
    return pd.DataFrame(rows).set_index(["generation", "measure"])


def _doubling_of_documents(
    facts: pd.DataFrame, weights: np.ndarray, *, given: Sequence[str] = ()
) -> np.ndarray:
    """Return the change of accuracy for a doubling of a fact's joint documents, by resample.

    One least squares slope on log2 of `n_both` for all models, each with a level of its own;
    `given` names columns of counts whose log2 is held fixed, such as `n_subject`. It is an
    association over facts and contains whatever else frequent facts have in common.
    """
    columns = ["n_both", *given]
    total = 0.0
    for _, part in facts.groupby("model", sort=False):
        z = np.column_stack([np.log2(part[c]) for c in columns] + [part.accuracy])
        z = np.column_stack([np.ones(len(z)), z - z.mean(axis=0)])
        k = z.shape[1]
        products = (z[:, :, None] * z[:, None, :]).reshape(len(z), k * k)
        moments = (weights[:, part.fact].astype(float) @ products).reshape(-1, k, k)
        n, sums = moments[:, 0, 0], moments[:, 0, 1:]
        # A resample without any fact of a model has nothing to say of it.
        n = np.maximum(n, 1e-300)[:, None, None]
        total += moments[:, 1:, 1:] - sums[:, :, None] * sums[:, None, :] / n
    slopes = np.linalg.solve(total[:, :-1, :-1], total[:, :-1, -1:])
    return slopes[:, 0, 0]


def _doubling_of_size(facts: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """Return the change of mean accuracy for a doubling of parameters within a family, by resample.

    One least squares slope of the models' mean accuracies on log2 of `parameters` for all families
    of two or more models, each with a level of its own. The models are held fixed: the facts are
    drawn. NaN stands for a resample in which a model has no facts.
    """
    total = product = 0.0
    for _, family in facts.groupby("family", sort=False):
        sizes, means = [], []
        for _, part in family.groupby("model", sort=False):
            w = weights[:, part.fact]
            sizes.append(np.log2(part.parameters.iloc[0]))
            n = np.where(w.any(axis=1), w.sum(axis=1), np.nan)
            means.append((w @ part.accuracy.to_numpy()) / n)
        centred = np.array(sizes) - np.mean(sizes)
        total += (centred**2).sum()
        product = product + centred @ np.array(means)
    return product / total


def _along_the_axis(
    facts: pd.DataFrame, weights: np.ndarray, edges: Sequence[int] = (0, 4, 8, 12, 16)
) -> pd.DataFrame:
    """Return what a doubling of documents, and of size, adds to accuracy along the axis of counts.

    Facts are put into bands of joint documents, 2**edges[i] up to 2**edges[i + 1], the last band
    without an end. One row per band and kind of doubling: `from`, `facts` (a mean over models),
    `accuracy`, and `estimate`, `low`, `high` of the gain per doubling within the band.
    """
    rows, octave = [], np.log2(facts.n_both)
    for low, high in zip(edges, [*edges[1:], np.inf], strict=True):
        part = facts[(octave >= low) & (octave < high)]
        about = {"from": 2**low, "facts": len(part) / part.model.nunique()}
        about["accuracy"] = part.accuracy.mean()
        kinds = {"documents": _doubling_of_documents, "size": _doubling_of_size}
        for kind, slope in kinds.items():
            rows.append({"doubling of": kind, **about, **ends(of_row(slope(part, weights)))})
    return pd.DataFrame(rows)


def doublings(facts: pd.DataFrame, weights: np.ndarray) -> pd.DataFrame:
    """Return the gains of `_along_the_axis`, and over the whole axis, in one table.

    Rows with `from` 0 are of the whole axis: a doubling of `documents`; of `documents, names
    equal`, with the counts of both names held fixed; of `size`; and `documents less size`. The row
    `documents, later less earlier` is the gain in the band from 4,096 joint documents less that in
    the band from 16: below 0, returns diminish per doubling.
    """
    documents, size = _doubling_of_documents(facts, weights), _doubling_of_size(facts, weights)
    equal = _doubling_of_documents(facts, weights, given=["n_subject", "n_object"])
    late, early = (
        _doubling_of_documents(facts[facts.n_both.between(low, 16 * low - 1)], weights)
        for low in (4096, 16)
    )
    samples = {
        "documents": documents,
        "documents, names equal": equal,
        "size": size,
        "documents less size": documents - size,
        "documents, later less earlier": late - early,
    }
    rows = []
    for name, sample in samples.items():
        about = {"facts": len(facts) / facts.model.nunique(), "accuracy": facts.accuracy.mean()}
        rows.append({"doubling of": name, "from": 0, **about, **ends(of_row(sample))})
    return pd.concat([pd.DataFrame(rows), _along_the_axis(facts, weights)], ignore_index=True)


def data_over_size(facts: pd.DataFrame, weights: np.ndarray) -> pd.DataFrame:
    """Return by how much a doubling of documents adds more accuracy than one of the model.

    Rows: `all` facts together, and each family of two models or more. Columns: `estimate`, `low`
    and `high`, over the whole axis of joint documents.
    """
    families = facts.groupby("family", sort=False)
    parts = {"all": facts} | {name: f for name, f in families if f.model.nunique() > 1}
    gaps = {
        name: _doubling_of_documents(part, weights) - _doubling_of_size(part, weights)
        for name, part in parts.items()
    }
    return pd.DataFrame({name: ends(of_row(gap)) for name, gap in gaps.items()}).T
