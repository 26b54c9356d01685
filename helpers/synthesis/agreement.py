"""How far signals agree with the truth about models, and which of two models they would choose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers import stats, validation


def rank_correlations(
    table: pd.DataFrame,
    signals: Sequence[str],
    truths: Sequence[str],
    *,
    groups: str,
    given: Sequence[str] = (),
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the rank correlation of each signal with each truth, one row a pair.

    `table` has a row a model. With columns `given`, ranks are first cleared of what a line on their
    ranks explains (partial rank correlation). Columns: `signal`, `truth`, `r`, `low`, `high` (95 %,
    bootstrap, whole `groups` drawn, such as the models of one size and corpus), `n`. A signal that
    does not vary, or of which nothing is left, has NaN. Raises `ValueError` for an absent column.
    Source: Spearman (1904).

    >>> import pandas as pd
    >>> from helpers.synthesis import rank_correlations
    >>> columns = {"size": [1, 2, 3, 4, 5, 6], "loss": [9, 7, 8, 5, 2, 1], "family": list("aabbcc")}
    >>> rank_correlations(pd.DataFrame(columns), ["loss"], ["size"], groups="family").round(2)
      signal truth     r  low  high  n
    0   loss  size -0.94 -1.0  -0.8  6
    """
    signals, truths, given = list(signals), list(truths), list(given)
    validation.columns(table, [*signals, *truths, *given, groups], "table")
    rows = []
    for truth in truths:
        for signal in signals:
            if signal == truth:
                continue
            whole = table[[signal, truth, *given]].dropna().rank()
            left = _cleared(whole[[signal, truth]], whole[given])
            row = {"signal": signal, "truth": truth, "r": np.nan, "low": np.nan, "high": np.nan}
            if (
                len(left) > 3
                and (left.std() > 1e-8 * np.maximum(whole[left.columns].std(), 1)).all()
            ):
                found = stats.bootstrap_correlation(
                    left.assign(groups=table.loc[left.index, groups]),
                    signal,
                    truth,
                    groups="groups",
                    n_resamples=n_resamples,
                    seed=seed,
                )
                row |= {"r": found.r, "low": found.low, "high": found.high}
            rows.append(row | {"n": len(left)})
    return pd.DataFrame(rows)


def choices(
    table: pd.DataFrame,
    signals: Sequence[str],
    truth: str,
    *,
    same: Sequence[str],
    differ: str,
    least: float = 0.0,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often each signal chooses the better of two models, one row a signal.

    Pairs agree in the columns `same`, differ in `differ`, and lie further apart in the truth than
    `least`. A signal chooses the model in which it is higher; a tie counts half, and a pair of
    which it is missing not at all. Columns: `share`, `low`, `high` (95 %, bootstrap over models),
    `n` pairs; the first three are NaN without one. Signals for which less is better must come with
    their sign turned. Raises `ValueError` for an absent column, and where there are no
    such pairs. Source: the concordance of Kendall (1938).
    """
    signals, same = list(signals), list(same)
    validation.columns(table, [*signals, truth, *same, differ], "table")
    validation.counts(n_resamples=(n_resamples, 1), seed=(seed, 0))
    validation.non_negative(least, "least")
    y = table[truth].to_numpy(float)
    gap = y[:, None] - y[None, :]
    chosen = np.triu(np.abs(gap) > least, 1)
    for column in same:
        values = pd.factorize(table[column])[0]
        chosen &= values[:, None] == values[None, :]
    values = pd.factorize(table[differ])[0]
    chosen &= values[:, None] != values[None, :]
    first, second = np.nonzero(chosen)
    if not len(first):
        raise ValueError(
            f"same and differ leave no pair of models further apart in {truth!r} than {least}; "
            "take fewer conditions"
        )
    draws = np.random.default_rng(seed).multinomial(
        len(table), np.full(len(table), 1 / len(table)), size=n_resamples
    )
    weight = (draws[:, first] * draws[:, second]).astype(float)
    rows = []
    for signal in signals:
        x = table[signal].to_numpy(float)
        apart = (x[first] - x[second]) * gap[first, second]
        known = ~np.isnan(apart)
        agrees = 0.5 + 0.5 * np.sign(apart[known])
        drawn = weight if known.all() else weight[:, known]
        total = drawn.sum(axis=1)
        sample = (drawn @ agrees)[total > 0] / total[total > 0]
        row = {"signal": signal, "share": np.nan, "low": np.nan, "high": np.nan, "n": len(agrees)}
        if len(sample):
            low, high = np.quantile(sample, [0.025, 0.975])
            row |= {"share": agrees.mean(), "low": low, "high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def towards(table: pd.DataFrame, signals: Sequence[str], truth: str) -> pd.DataFrame:
    """Return the columns of signals, those with a negative rank correlation with `truth` turned.

    The sign is taken from the very models that are judged, which flatters a signal whose direction
    is not known beforehand.
    """
    validation.columns(table, [*signals, truth], "table")
    signs = {}
    for signal in signals:
        ranks = pd.DataFrame({"x": table[signal], "y": table[truth]}).dropna().rank()
        ranks -= ranks.mean()
        signs[signal] = np.sign((ranks.x * ranks.y).sum()) or 1.0
    return table[list(signals)] * pd.Series(signs)


def _cleared(ranks: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame:
    """Return what a line on the columns given leaves of ranks."""
    X = np.column_stack([np.ones(len(given)), given.to_numpy(float)])
    fitted = X @ np.linalg.lstsq(X, ranks.to_numpy(float), rcond=None)[0]
    return ranks - fitted
