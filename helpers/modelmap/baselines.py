"""What the map must beat: scores predicted from a model's mean log-likelihood or its size."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import validation
from helpers.modelmap import score_prediction

FORMS = ("linear", "quadratic", "spline")


def predict_by_curve(
    X: ArrayLike,
    y: ArrayLike,
    groups: ArrayLike,
    form: str = "quadratic",
    *,
    n_splits: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Predict the scores of each model by a curve that is fitted to the other folds.

    `X` has shape (n,) or (n, p) with few columns, such as the mean log-likelihood (nats) and the
    logarithm of the number of parameters; `y` (n, t), any unit. Folds are those of
    `score_prediction.predict_scores` with the same `groups` and `seed`. `form`: "linear" and
    "quadratic" are least squares on the powers of the columns, products included; "spline" is the
    sum of a monotone spline per column (degree 2, four knots, straight lines beyond the ends),
    rising or falling, whichever fits the training rows better. Returns predictions of y's shape.
    Raises `ValueError` for missing values and fewer groups than folds. Source: Ramsay (1988) for
    monotone splines.
    """
    from sklearn.model_selection import GroupKFold

    targets = validation.matrix(y, "y").astype(float)
    columns = np.asarray(X, float).reshape(len(targets), -1)
    folds = GroupKFold(n_splits, shuffle=True, random_state=seed)
    predictions = np.empty(targets.shape)
    for train, test in folds.split(columns, targets, groups):
        centre, spread = columns[train].mean(axis=0), columns[train].std(axis=0)
        scaled = (columns - centre) / np.where(spread > 0, spread, 1)
        fit = _monotone if form == "spline" else _polynomial
        degree = 1 if form == "linear" else 2
        predictions[test] = fit(scaled[train], targets[train], scaled[test], degree)
    return predictions


def repeated(
    X: ArrayLike,
    y: pd.DataFrame,
    groups: ArrayLike,
    form: str = "quadratic",
    *,
    seeds: int = 5,
    n_splits: int = 5,
) -> tuple[pd.Series, pd.DataFrame]:
    """Return Pearson's r and the averaged predictions, as `score_prediction.repeated` does."""

    def predict(seed: int) -> np.ndarray:
        return predict_by_curve(X, y, groups, form, n_splits=n_splits, seed=seed)

    return score_prediction.averaged(predict, y, seeds)


def _polynomial(train: np.ndarray, y: np.ndarray, test: np.ndarray, degree: int) -> np.ndarray:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    model = make_pipeline(PolynomialFeatures(degree, include_bias=False), LinearRegression())
    return model.fit(train, y).predict(test)


def _monotone(train: np.ndarray, y: np.ndarray, test: np.ndarray, degree: int) -> np.ndarray:
    """Return predictions of a sum of monotone splines, one per column, for each column of y."""
    from scipy.optimize import nnls
    from sklearn.preprocessing import SplineTransformer

    bases = []
    for column in range(train.shape[1]):
        spline = SplineTransformer(n_knots=4, degree=degree, extrapolation="linear")
        spline.fit(train[:, [column]])
        # A spline rises where its coefficients do: sums from the right rise one by one.
        values = (spline.transform(rows[:, [column]])[:, ::-1] for rows in (train, test))
        bases.append([np.cumsum(each, axis=1)[:, -2::-1] for each in values])
    predictions = np.empty((len(test), y.shape[1]))
    for target in range(y.shape[1]):
        best = np.inf
        for signs in product((1, -1), repeat=len(bases)):
            rows, new = (
                np.hstack([sign * basis[i] for sign, basis in zip(signs, bases, strict=True)])
                for i in (0, 1)
            )
            # The intercept may have either sign, so it stands twice.
            rows, new = (np.insert(m, [0], [1, -1], axis=1) for m in (rows, new))
            weights, error = nnls(rows, y[:, target])
            if error < best:
                best, predictions[:, target] = error, new @ weights
    return predictions
