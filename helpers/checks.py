"""Checks of what a caller passes: embeddings, labels and counts, each error naming its argument."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


class Clusters(NamedTuple):
    """Which cluster each row belongs to (`codes`, 0 to K-1), the K names, and the K sizes."""

    codes: np.ndarray
    names: list
    sizes: np.ndarray


def matrix(X: ArrayLike, argument: str = "X") -> np.ndarray:
    """Return `X` as an array (N, d) of finite real numbers, or raise `ValueError`."""
    X = np.asarray(X)
    if X.ndim != 2:
        raise ValueError(
            f"{argument} has {X.ndim} dimensions; pass one row an entity, shape (N, d)"
        )
    if X.dtype.kind not in "fiu":
        raise ValueError(f"{argument} has dtype {X.dtype}; pass real numbers")
    if 0 in X.shape:
        raise ValueError(f"{argument} has shape {X.shape}; it needs rows and columns")
    with np.errstate(invalid="ignore", over="ignore"):
        # A sum of all entries is fast, and finite only if each of them is.
        if np.isfinite(X.sum()):
            return X
        bad = np.flatnonzero(~np.isfinite(X.sum(axis=1, dtype=np.float64)))
    if len(bad):
        raise ValueError(
            f"{argument} has NaN or infinite values in {len(bad)} rows, first in row {bad[0]}; "
            "drop these entities or compute them again"
        )
    return X


def varying(X: np.ndarray, argument: str = "X") -> np.ndarray:
    """Return `X` (N, d), or raise `ValueError` if all its rows are equal."""
    if (X[:2] == X[0]).all() and (X == X[0]).all():
        raise ValueError(f"every dimension of {argument} is constant; nothing can be told from it")
    return X


def labels(labels: ArrayLike, n_rows: int, argument: str = "labels") -> pd.Series:
    """Return `labels` as a series of `n_rows` present values, or raise `ValueError`."""
    if np.ndim(labels) != 1:
        raise ValueError(f"{argument} has {np.ndim(labels)} dimensions; pass one label a row")
    series, rows = pd.Series(list(labels)), argument.replace("labels", "X")
    if len(series) != n_rows:
        raise ValueError(
            f"{argument} has length {len(series)} but {rows} has {n_rows} rows; "
            "pass one label a row"
        )
    if series.isna().any():
        raise ValueError(f"{argument} has {series.isna().sum()} missing values; drop these rows")
    return series


def clusters(values: ArrayLike, n_rows: int, least: int, argument: str = "labels") -> Clusters:
    """Return the clusters that labels name, two at least, none below `least` entities."""
    codes, names = pd.factorize(labels(values, n_rows, argument))
    sizes = np.bincount(codes)
    if len(names) < 2:
        raise ValueError(f"{argument} names one cluster only; a posterior needs at least two")
    if small := [name for name, n in zip(names, sizes, strict=True) if n < least]:
        raise ValueError(
            f"{argument} has clusters below {least} entities: {name_some(small)}; "
            "drop or merge them"
        )
    return Clusters(codes, list(names), sizes)


def counts(**values: tuple[int, int]) -> None:
    """Raise `ValueError` unless each value is a whole number, at least its second entry."""
    for name, (value, least) in values.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value!r}; give a whole number, at least {least}")


def choice(value: str, options: tuple[str, ...], argument: str) -> None:
    """Raise `ValueError` unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"{argument} is {value!r}; choose one of {', '.join(options)}")


def non_negative(value: float, argument: str) -> None:
    """Raise `ValueError` unless `value` is a finite number, 0 or above."""
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{argument} is {value}; give a finite number, 0 or above")


def name_some(names: list, most: int = 5) -> str:
    """Write the first names of a list for an error message, and how many more there are."""
    text = ", ".join(repr(n) if isinstance(n, str) else str(n) for n in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")
