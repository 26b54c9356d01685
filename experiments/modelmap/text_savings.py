"""How many texts a rule of choosing saves at one error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments.modelmap import text_choice_tables
from helpers import validation


def texts_needed(curve: pd.DataFrame, error: float, *, column: str = "relative_error") -> pd.Series:
    """Return how many different texts each rule of a curve needs for an error, NaN outside it.

    Read by straight lines between the points on logarithmic axes, after points that rise with
    more texts are pooled with their neighbours (isotonic regression). Raises `ValueError` for an
    error not above 0 and a column that is not there.
    """
    if column not in curve or not error > 0:
        raise ValueError(
            f"error is {error} and column {column!r}; give a positive error and one of "
            f"{list(curve)}"
        )
    found = {}
    for rule, part in curve.groupby("rule", sort=False):
        errors, texts = _falling(part, column)
        inside = len(errors) and errors[-1] <= error <= errors[0]
        found[rule] = _read(errors, texts, error) if inside else np.nan
    return pd.Series(found, name="texts")


def texts_ratio(
    curve: pd.DataFrame,
    rule: str = "length-squared",
    rival: str = "uniform",
    *,
    column: str = "relative_error",
) -> float:
    """Return how many texts a rule needs for one of its rival, at equal error.

    The geometric mean of the ratio of different texts, over the points of both curves whose error
    lies on the other curve. Where none does, the rival's nearest end goes on as the root of the
    number of texts, which is how chance errors fall; NaN without any error. Raises `ValueError`
    for a rule that the curve has not.
    """
    parts = [curve[curve.rule == name] for name in (rule, rival)]
    if not all(map(len, parts)):
        raise ValueError(f"curve has no rule {rule!r} or {rival!r}; it has {set(curve.rule)}")
    (errors, texts), (others, needed) = (_falling(part, column) for part in parts)
    if not len(errors) or not len(others):
        return float("nan")
    at = np.concatenate([errors, others])
    at = at[(at <= min(errors[0], others[0])) & (at >= max(errors[-1], others[-1]))]
    if len(at):
        ratios = [_read(errors, texts, e) / _read(others, needed, e) for e in at]
        return float(np.exp(np.log(ratios).mean()))
    here, end = (-1, 0) if errors[-1] > others[0] else (0, -1)
    return float(texts[here] / needed[end] * (errors[here] / others[end]) ** 2)


def _falling(part: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return errors that never rise with more texts, and the texts, ascending."""
    from sklearn.isotonic import isotonic_regression

    part = part[part[column] > 0].sort_values("unique", kind="stable")
    if not len(part):
        return np.empty(0), np.empty(0)
    logs = isotonic_regression(np.log(part[column].to_numpy()), increasing=False)
    # One point for errors that were pooled: in the middle of their texts.
    pooled = pd.Series(np.log(part["unique"].to_numpy())).groupby(-logs).mean()
    return np.exp(-pooled.index.to_numpy()), np.exp(pooled.to_numpy())


def _read(errors: np.ndarray, texts: np.ndarray, error: float) -> float:
    return float(np.exp(np.interp(-np.log(error), -np.log(errors), np.log(texts))))


def ratio_interval(
    log_likelihoods: ArrayLike,
    families: ArrayLike,
    sizes: Sequence[int],
    *,
    rule: str = "length-squared",
    rival: str = "uniform",
    column: str = "relative_error",
    n_resamples: int = 50,
    n_runs: int = 5,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the range of `texts_ratio` over smaller maps: its 2.5 and 97.5 % quantiles.

    Each map has a random half of the families, drawn without replacement, for a family drawn twice
    would have copies of its models for neighbours. Raises `ValueError` for unequal lengths or
    fewer than 6 families.
    """
    values, names = validation.matrix(log_likelihoods, "log_likelihoods"), np.asarray(families)
    members = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
    if len(names) != len(values) or len(members) < 6:
        raise ValueError(
            f"families has length {len(names)} and {len(members)} values for {len(values)} models; "
            "pass one per model, six different ones at least"
        )
    rng, found = validation.generator(seed), []
    for resample in range(n_resamples):
        drawn = rng.permutation(len(members))[: -(-len(members) // 2)]
        rows = np.concatenate([members[i] for i in drawn])
        options = {"rules": [rule, rival], "n_runs": n_runs, "seed": seed + 1000 * resample}
        curve = text_choice_tables.rule_curve(values[rows], sizes, **options)
        found.append(texts_ratio(curve, rule, rival, column=column))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)
