"""Checks of what a caller passes: embeddings, labels and counts, each error naming its argument."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
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
    try:
        X = np.asarray(X)
    except ValueError as error:
        raise ValueError(f"{argument} has rows of unequal length; pass shape (N, d)") from error
    if X.ndim != 2:
        raise ValueError(
            f"{argument} has {X.ndim} dimensions; pass one row per entity, shape (N, d)"
        )
    if X.dtype.kind not in "fiu":
        raise ValueError(f"{argument} has dtype {X.dtype}; pass real numbers")
    if 0 in X.shape:
        raise ValueError(f"{argument} has shape {X.shape}; it needs rows and columns")
    with np.errstate(invalid="ignore", over="ignore"):
        # A sum of all entries is fast, and finite only if each of them is.
        if np.isfinite(X.sum()):
            return X
    # The sum of large entries is infinite too.
    if len(bad := np.flatnonzero(~np.isfinite(X).all(axis=1))):
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


def labels(labels: ArrayLike, n_rows: int, argument: str = "labels", rows: str = "") -> pd.Series:
    """Return `labels` as a series of `n_rows` present values, or raise `ValueError`.

    `argument` names them in the message and `rows` what they belong to, by default the X to labels.
    """
    if np.ndim(labels) != 1:
        raise ValueError(f"{argument} has {np.ndim(labels)} dimensions; pass one label a row")
    series = pd.Series(list(labels))
    if len(series) != n_rows:
        of = rows or argument.replace("labels", "X")
        raise ValueError(
            f"{argument} has length {len(series)} but {of} has {n_rows} rows; pass one label a row"
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


def _is_number(value: float) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def non_negative(value: float, argument: str) -> None:
    """Raise `ValueError` unless `value` is a finite number, 0 or above."""
    if not (_is_number(value) and value >= 0):
        raise ValueError(f"{argument} is {value!r}; give a finite number, 0 or above")


def positive(value: float, argument: str) -> None:
    """Raise `ValueError` unless `value` is a finite number above 0."""
    if not (_is_number(value) and value > 0):
        raise ValueError(f"{argument} is {value!r}; give a finite number above 0")


def share(value: float, argument: str) -> None:
    """Raise `ValueError` unless `value` lies between 0 and 1, neither of them."""
    if not (_is_number(value) and 0 < value < 1):
        raise ValueError(f"{argument} is {value!r}; give a number between 0 and 1, such as 0.95")


def generator(seed: int) -> np.random.Generator:
    """Return NumPy's generator for a seed; raise `ValueError` unless it is a whole number from 0.

    None, which would give other numbers in every run, is refused too.
    """
    counts(seed=(seed, 0))
    return np.random.default_rng(seed)


def address(scheduler: str) -> None:
    """Raise `ValueError` unless `scheduler` looks like the address of a Dask scheduler."""
    if not isinstance(scheduler, str) or not re.search(r":\d+$", scheduler):
        raise ValueError(f"scheduler is {scheduler!r}; give its address, such as tcp://host:8786")


def numbers(values: ArrayLike, argument: str) -> np.ndarray:
    """Return `values` as an array of float64, of any shape, or raise `ValueError` for text."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{argument} is not all numbers ({error}); pass numbers only") from error


def strings(values: Sequence[str], argument: str) -> list[str]:
    """Return `values` as a list of strings, one at least; raise `ValueError` for one string."""
    one = isinstance(values, str | bytes) or not isinstance(values, Iterable)
    # A column of a frame gives its strings twenty times faster at once than one by one.
    column = getattr(values, "ndim", 0) == 1
    if one or not (values := values.tolist() if column else list(values)):
        raise ValueError(f"{argument} is empty or one string; pass a list of at least one string")
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"{argument}[{i}] is {value!r}; pass a string, or leave it out")
    return values


def columns(frame: pd.DataFrame, names: Iterable[str], argument: str) -> None:
    """Raise `ValueError` unless `frame` is a data frame that has all columns named."""
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{argument} is of type {type(frame).__name__}; pass a data frame")
    if absent := [name for name in names if name not in frame]:
        raise ValueError(
            f"{argument} has no column {absent}; its columns are {list(frame.columns)}"
        )


def name_some(names: list) -> str:
    """Write the first names of a list for an error message, and how many more there are."""
    text = ", ".join(repr(n) if isinstance(n, str) else str(n) for n in names[:5])
    return text + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def key_faults(keys: Sequence[str], wanted: Sequence[str]) -> str:
    """Say which keys are missing, unknown or repeated; "" where none is."""
    known, here = set(wanted), set(keys)
    wrong = {"lacks": [key for key in wanted if key not in here]}
    wrong["has, unknown here,"] = [key for key in dict.fromkeys(keys) if key not in known]
    wrong["names twice"] = [key for key, n in Counter(keys).items() if n > 1]
    return " and ".join(f"{what} {name_some(some)}" for what, some in wrong.items() if some)


def cloud(points: ArrayLike) -> np.ndarray:
    """Return a matrix of 2 or more points, not all equal, in 2 or more dimensions."""
    x = matrix(points, "points")
    if len(x) < 2 or x.shape[1] < 2:
        raise ValueError(f"points has shape {x.shape}; pass 2 points and 2 dimensions or more")
    return varying(x, "points")
