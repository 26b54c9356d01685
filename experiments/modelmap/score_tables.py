"""Scores of real models predicted from the map and from what is simpler, and the gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import rankdata, zscore

from experiments import intervals
from helpers.modelmap import baselines, model_map, release
from helpers.modelmap import score_prediction as scoring

VECTORS = ("vector, centred", "vector as it is")
CURVES = ("mean, straight line", "mean, quadratic", "mean, monotone spline")
RIVALS = (*CURVES, "size, quadratic", "mean and size")


def predictions(
    source: release.Release, llm_map: model_map.ModelMap, *, seeds: int = 5
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return r of each predictor with each score, families held out, and the predictions.

    Rows of the first are `VECTORS` and `RIVALS`, columns the scores of `source`. "size" is the
    logarithm of the number of parameters. Models of unknown size get the median of the others.
    """
    scores = source.scores
    about = source.models.loc[scores.index]
    rows = source.models.index.get_indexer(scores.index)
    mean = llm_map.mean_log_likelihood.to_numpy()[rows]
    size = np.log(about["size"].fillna(about["size"].median())).to_numpy()
    vectors = (llm_map.coordinates[rows], llm_map.log_likelihoods[rows])
    found = {
        name: scoring.repeated(X, scores, about["family"], seeds=seeds)
        for name, X in zip(VECTORS, vectors, strict=True)
    }
    columns = dict(zip(CURVES, zip([mean] * 3, baselines.FORMS, strict=True), strict=True))
    columns["size, quadratic"] = (size, "quadratic")
    columns["mean and size"] = (np.column_stack([mean, size]), "quadratic")
    for name, (X, form) in columns.items():
        found[name] = baselines.repeated(X, scores, about["family"], form, seeds=seeds)
    return pd.DataFrame({k: r for k, (r, _) in found.items()}).T, {
        k: guess for k, (_, guess) in found.items()
    }


def gains(
    guesses: Mapping[str, pd.DataFrame],
    scores: pd.DataFrame,
    families: Sequence[str],
    *,
    better: str = VECTORS[0],
    **options: str | int,
) -> pd.DataFrame:
    """Return the gain of one predictor over each of `RIVALS`, a row per score and rival.

    Columns `score`, `rival`, `gain`, `low`, `high`: `score_prediction.prediction_gain`,
    families drawn.
    """
    rows = []
    for score in scores:
        for rival in (name for name in RIVALS if name in guesses):
            pair = guesses[better][score], guesses[rival][score]
            ends = scoring.prediction_gain(*pair, scores[score], families, **options)
            rows.append((score, rival, *ends))
    return pd.DataFrame(rows, columns=["score", "rival", "gain", "low", "high"])


def mean_gains(
    guesses: Mapping[str, pd.DataFrame],
    scores: pd.DataFrame,
    families: Sequence[str],
    rival: str,
    **options: int,
) -> pd.DataFrame:
    """Return the gain of the centred vector over a rival, mean of all scores, families drawn.

    Rows: "r" (Pearson's correlation) and "rank" (Spearman's). Columns: `gain`, `low`, `high`. A
    draw takes the same models for all scores.
    """
    frames = guesses[VECTORS[0]], guesses[rival], scores
    tables, rows = [frame[list(scores)].to_numpy() for frame in frames], {}
    for kind, scale in {"r": np.asarray, "rank": partial(rankdata, axis=0)}.items():

        def gain(chosen: np.ndarray, scale: Callable[..., np.ndarray] = scale) -> float:
            ours, theirs, truth = (zscore(scale(table[chosen])) for table in tables)
            return float(((ours - theirs) * truth).mean())

        rows[kind] = intervals.bootstrap(gain, families, **options)
    return pd.DataFrame(rows, index=["gain", "low", "high"]).T


def held_out_errors(
    source: release.Release, llm_map: model_map.ModelMap, score: str = "mean"
) -> pd.DataFrame:
    """Return errors, truth less prediction, with each family left out in turn, in percent points.

    Columns are the centred vector and the quadratic in the mean; one row per model with a score.
    """
    scores = source.scores[[score]]
    rows = source.models.index.get_indexer(scores.index)
    families = source.models["family"].iloc[rows]
    options = {"seeds": 1, "n_splits": families.nunique()}
    _, vector = scoring.repeated(llm_map.coordinates[rows], scores, families, **options)
    mean = llm_map.mean_log_likelihood.to_numpy()[rows]
    _, curve = baselines.repeated(mean, scores, families, **options)
    pair = zip((VECTORS[0], CURVES[1]), (vector, curve), strict=True)
    return pd.DataFrame({name: scores[score] - guess[score] for name, guess in pair})


def gap_at_equal_score(
    scores: pd.Series, means: pd.Series, mark: pd.Series, families: pd.Series, degree: int,
    *, n_resamples: int = 1000, seed: int = 0,
) -> tuple[float, float, float]:  # fmt: skip
    """Return by how many standard deviations marked models lie above the curve of the others.

    The curve is a polynomial of `degree` in the score, fitted to the mean log-likelihood of the
    unmarked models; the unit is the standard deviation of their residuals. The 95 % interval draws
    families with replacement and fits again. All are indexed by model.
    """
    rows = pd.DataFrame({"score": scores, "mean": means, "mark": mark, "family": families}).dropna()
    values = rows[["score", "mean"]].to_numpy(float)
    marked = rows["mark"].to_numpy(bool)

    def gap(chosen: np.ndarray) -> float:
        some, flag = values[chosen], marked[chosen]
        if flag.all() or not flag.any() or len(np.unique(some[~flag, 0])) <= degree + 1:
            return np.nan
        curve = np.polynomial.Polynomial.fit(some[~flag, 0], some[~flag, 1], degree)
        off = some[:, 1] - curve(some[:, 0])
        return float(off[flag].mean() / off[~flag].std(ddof=1))

    return intervals.bootstrap(gap, rows["family"], n_resamples=n_resamples, seed=seed)
