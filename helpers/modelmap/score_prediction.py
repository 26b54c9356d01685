"""Benchmark scores predicted from coordinates: ridge regression in its exact dual form."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import stats, ties, validation

ALPHAS = tuple(10.0**e for e in range(1, 10))


class _ScorePrediction(NamedTuple):
    """Out-of-fold predictions, shaped as y; penalties chosen (folds, t); the fold of each row."""

    predictions: np.ndarray
    alphas: np.ndarray
    fold: np.ndarray


def predict_scores(
    X: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike | None = None,
    alphas: ArrayLike = ALPHAS,
    n_splits: int = 5,
    seed: int = 0,
    *,
    n_inner: int = 5,
) -> _ScorePrediction:
    """Predict the scores of each model by ridge regression fitted to the other folds.

    `X` has shape (n, p), such as coordinates; `y` (n,) or (n, t), any unit. Folds are
    `GroupKFold` with `groups` (whole families are held out), else `KFold`, both shuffled by `seed`.
    In each fold and for each column of `y` the penalty of `alphas` with the best mean R² in
    `n_inner` unshuffled folds of the training rows is taken, the first of equals, and the rest is
    fitted with an intercept: what scikit-learn's `RidgeCV(alphas, cv=n_inner, scoring="r2")` does,
    and to rounding the same numbers. The work is done on the n x n Gram matrix, one eigen-
    decomposition for all penalties and columns.

    Raises `ValueError` for missing values, unequal lengths, penalties not above 0, and fewer rows
    or groups than folds. Source: arXiv 2502.16173, released code; the dual form is exact.

    >>> import numpy as np
    >>> from helpers.modelmap import predict_scores
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 2))
    >>> for y in (X @ [2, 1], rng.standard_normal(60)):
    ...     print(np.corrcoef(y, predict_scores(X, y, alphas=[0.1, 10]).predictions)[0, 1].round(2))
    1.0
    -0.03
    """
    from sklearn.model_selection import GroupKFold, KFold

    X, y = validation.matrix(X, "X"), validation.numbers(y, "y")
    targets = y.reshape(len(y), -1)
    penalties = validation.numbers(alphas, "alphas")
    if len(X) != len(y):
        raise ValueError(f"y has {len(y)} rows but X has {len(X)}; pass one per model")
    if not np.isfinite(targets).all():
        raise ValueError("y has a missing value; leave models without all scores out")
    if penalties.ndim != 1 or not len(penalties) or not (penalties > 0).all():
        raise ValueError("alphas must be one or more positive numbers")
    validation.counts(n_splits=(n_splits, 2), n_inner=(n_inner, 2), seed=(seed, 0))
    n_units = len(X) if groups is None else len(np.unique(groups))
    if n_units < n_splits or len(X) * (n_splits - 1) // n_splits < n_inner:
        raise ValueError(
            f"there are {n_units} rows or groups for n_splits {n_splits}; give fewer folds"
        )
    if groups is None:
        outer = KFold(n_splits, shuffle=True, random_state=seed)
    else:
        outer = GroupKFold(n_splits, shuffle=True, random_state=seed)
    # Less the overall mean, which no fit feels, so that the products keep their digits.
    centred = X - X.mean(axis=0)
    gram = centred @ centred.T
    out, fold = np.empty(targets.shape), np.empty(len(X), dtype=int)
    chosen = np.empty((n_splits, targets.shape[1]))
    inner = KFold(n_inner)
    for number, (train, test) in enumerate(outer.split(X, targets, groups)):
        scores = np.zeros((len(penalties), targets.shape[1]))
        for fit, check in inner.split(train):
            guess = _predict(gram, targets, train[fit], train[check], penalties)
            scores += _r2(targets[train[check]], guess)
        best = ties.first_largest(scores, axis=0)
        guess = _predict(gram, targets, train, test, penalties)
        out[test] = np.take_along_axis(guess, best[None, None, :], axis=0)[0]
        chosen[number], fold[test] = penalties[best], number
    return _ScorePrediction(out.reshape(y.shape), chosen, fold)


def _predict(
    gram: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, alphas: np.ndarray
) -> np.ndarray:
    """Return predictions of test rows for every penalty, shape (penalties, test rows, columns)."""
    inside, across = gram[np.ix_(train, train)], gram[np.ix_(test, train)]
    means = inside.mean(axis=0)
    across = across - across.mean(axis=1, keepdims=True) - means + means.mean()
    inside = inside - means - means[:, None] + means.mean()
    values, vectors = np.linalg.eigh(inside)
    mean = y[train].mean(axis=0)
    right = vectors.T @ (y[train] - mean)
    left = across @ vectors
    # Rounding may leave eigenvalues just below zero.
    weights = 1 / (np.maximum(values, 0) + alphas[:, None])
    return (left * weights[:, None, :]) @ right + mean


def _r2(y: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Return R² of each penalty and column as scikit-learn's `r2_score`, shape (penalties, t)."""
    error = ((y - guess) ** 2).sum(axis=1)
    spread = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    some = spread > 0
    exact = np.where(error > 0, 0.0, 1.0)
    return np.where(some, 1 - error / np.where(some, spread, 1), exact)


def repeated(
    X: ArrayLike,
    y: pd.DataFrame,
    groups: ArrayLike,
    alphas: ArrayLike = ALPHAS,
    seeds: int = 5,
    *,
    n_splits: int = 5,
) -> tuple[pd.Series, pd.DataFrame]:
    """Return Pearson's r of held-out predictions, and the predictions averaged over splits.

    `y` has a column per score, in percent; predictions are cut to 0 to 100. Of `seeds` splits into
    `n_splits` folds each has its own r over all rows, and their mean is returned for every column.
    With as many folds as groups each group is left out in turn. Source: arXiv 2502.16173, released
    code.
    """
    truth = y.to_numpy(float)

    def predict(seed: int) -> np.ndarray:
        return predict_scores(X, truth, groups, alphas, n_splits, seed).predictions

    return averaged(predict, y, seeds)


def averaged(
    predict: Callable[[int], ArrayLike], y: pd.DataFrame, seeds: int
) -> tuple[pd.Series, pd.DataFrame]:
    """Return the mean r over seeds, and the mean prediction, both cut to 0 to 100 percent.

    What `predict` gives has the shape of `y`; r is Pearson's, over all rows, for every column.
    """
    truth, cut = y.to_numpy(float), np.clip([predict(seed) for seed in range(seeds)], 0, 100)
    columns = range(truth.shape[1])
    r = [[np.corrcoef(guess[:, k], truth[:, k])[0, 1] for k in columns] for guess in cut]
    mean = pd.DataFrame(cut.mean(axis=0), y.index, y.columns)
    return pd.Series(np.mean(r, axis=0), y.columns), mean


def prediction_gain(
    better: ArrayLike,
    than: ArrayLike,
    truth: ArrayLike,
    groups: ArrayLike,
    *,
    measure: str = "r",
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return by how much one prediction is better than another, and the 95 % interval of that.

    All have shape (n,). By `measure` "r" the gain is the difference of Pearson's r with the truth,
    by "error" that of the root mean squared errors, in the units of `truth`, positive where
    `better` errs less. For the percentile interval whole `groups` are drawn with replacement.
    """
    truth = validation.numbers(truth, "truth")
    kinds, member = np.unique(np.asarray(groups), return_inverse=True)
    # How often a group was drawn is the weight of each of its rows; the first row is the sample.
    drawn = stats.draws(len(kinds), n_resamples, seed)[:, member]
    weight = np.vstack([np.ones(len(truth)), drawn])
    weight /= weight.sum(axis=1, keepdims=True)
    quality = _weighted_r if measure == "r" else _weighted_error
    first, second = (quality(np.asarray(guess, float), truth, weight) for guess in (better, than))
    gain = first - second if measure == "r" else second - first
    low, high = np.nanquantile(gain[1:], [0.025, 0.975])
    return float(gain[0]), float(low), float(high)


def _weighted_r(guess: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return Pearson's r for each row of weights (draws, n), which add up to one."""
    a, b = guess - guess.mean(), truth - truth.mean()
    mean_a, mean_b = weight @ a, weight @ b
    spread = (weight @ a**2 - mean_a**2) * (weight @ b**2 - mean_b**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weight @ (a * b) - mean_a * mean_b) / np.sqrt(spread)


def _weighted_error(guess: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.sqrt(weight @ (guess - truth) ** 2)
