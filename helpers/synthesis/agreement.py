"""How far signals agree with the truth about models, and which of two models they would choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from helpers import validation
from helpers.stats import resampled_rows


def rank_correlations(
    table: pd.DataFrame,
    signals: Sequence[str],
    truths: Sequence[str],
    *,
    groups: str,
    given: Sequence[str] = (),
    ranks: bool = True,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the rank correlation of each signal with each truth, one row per pair.

    `table` has a row per model. With columns `given`, what a line on their ranks explains is first
    removed from the ranks (partial rank correlation); without `ranks` values are used as they are.
    Columns: `signal`, `truth`, `r`, `low`, `high` (95 %, bootstrap over whole `groups`, such as the
    models of one size and corpus; each sample is ranked and fitted again), `p_value` (two-sided,
    normal on Fisher's scale with the bootstrap's error), `n`. A signal that does not vary, or of
    which nothing remains, has NaN. Raises `ValueError` for an absent column and fewer than three
    groups. Source: Spearman (1904); Efron and Tibshirani (1993), chapter 13.

    >>> import pandas as pd
    >>> from helpers.synthesis import rank_correlations
    >>> columns = {"size": [1, 2, 3, 4, 5, 6], "loss": [9, 7, 8, 5, 2, 1], "family": list("aabbcc")}
    >>> found = rank_correlations(pd.DataFrame(columns), ["loss"], ["size"], groups="family")
    >>> found[["signal", "truth", "r", "low", "high", "n"]].round(2)
      signal truth     r  low  high  n
    0   loss  size -0.94 -1.0 -0.82  6
    """
    signals, truths, given = list(signals), list(truths), list(given)
    validation.columns(table, [*signals, *truths, *given, groups], "table")
    validation.counts(n_resamples=(n_resamples, 1), seed=(seed, 0))
    # Pairs without a gap in the same rows are drawn and fitted together.
    blocks: dict[bytes, tuple[np.ndarray, list[tuple[str, str]]]] = {}
    for truth in truths:
        for signal in signals:
            if signal != truth:
                known = table[[signal, truth, *given]].notna().all(axis=1).to_numpy()
                blocks.setdefault(known.tobytes(), (known, []))[1].append((signal, truth))
    rows = {}
    for known, pairs in blocks.values():
        names = list(dict.fromkeys(name for pair in pairs for name in pair))
        values = table.loc[known, [*given, *names]].to_numpy(float)
        places = [(names.index(signal), names.index(truth)) for signal, truth in pairs]
        member = pd.factorize(table.loc[known, groups])[0]
        options = {"n_resamples": n_resamples, "seed": seed, "ranks": ranks}
        found = _with_intervals(values, len(given), member, places, **options)
        for (signal, truth), numbers in zip(pairs, found, strict=True):
            row = dict(zip(("r", "low", "high", "p_value"), numbers, strict=True))
            rows[signal, truth] = {"signal": signal, "truth": truth, **row, "n": len(values)}
    order = [(s, t) for t in truths for s in signals if s != t]
    return pd.DataFrame([rows[pair] for pair in order])


def rank_difference(
    table: pd.DataFrame,
    signal: str,
    rival: str,
    truth: str,
    *,
    groups: str,
    given: Sequence[str] = (),
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.Series:
    """Return by how much a signal follows a truth more closely than a rival does.

    The series has `difference`, of the two rank correlations, and `low`, `high` (95 %, bootstrap
    over whole `groups`, both ranked and fitted again in each sample). Arguments and errors are
    those of `rank_correlations`.
    """
    columns = [*given, signal, rival, truth]
    validation.columns(table, [*columns, groups], "table")
    validation.counts(n_resamples=(n_resamples, 1), seed=(seed, 0))
    rows = table.dropna(subset=columns)
    values, member = rows[columns].to_numpy(float), pd.factorize(rows[groups])[0]
    drawn = _draws(member, n_resamples, seed)
    found = np.array([_correlations(values[some], len(given), True)[2, :2] for some in drawn])
    whole = _correlations(values, len(given), True)[2]
    low, high = np.nanquantile(found[:, 0] - found[:, 1], [0.025, 0.975])
    return pd.Series({"difference": whole[0] - whole[1], "low": low, "high": high})


def _draws(member: np.ndarray, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Return the rows of each sample of whole groups, of which there must be three at least."""
    n_groups = member.max(initial=-1) + 1
    if n_groups < 3:
        raise ValueError(f"groups has {n_groups} distinct values; resampling needs at least 3")
    return resampled_rows(member, n_resamples, np.random.default_rng(seed))


def _with_intervals(
    values: np.ndarray,
    n_given: int,
    member: np.ndarray,
    places: Sequence[tuple[int, int]],
    *,
    n_resamples: int,
    seed: int,
    ranks: bool,
) -> np.ndarray:
    """Return r, low, high and p for pairs of columns, (n_pairs, 4); whole groups are drawn."""
    out = np.full((len(places), 4), np.nan)
    if len(values) <= 3:
        return out
    one, other = np.transpose(places)
    r = _correlations(values, n_given, ranks)[one, other]
    sample = np.empty((n_resamples, len(places)))
    for i, drawn in enumerate(_draws(member, n_resamples, seed)):
        sample[i] = _correlations(values[drawn], n_given, ranks)[one, other]
    out[:, 0] = r
    for row, column in zip(out, sample.T, strict=True):
        usable = column[np.isfinite(column)]
        if not np.isfinite(row[0]) or not len(usable):
            continue
        row[1:3] = np.quantile(usable, [0.025, 0.975])
        scale = np.arctanh(np.clip([row[0], *usable], -1 + 1e-12, 1 - 1e-12))
        row[3] = 2 * stats.norm.sf(abs(scale[0]) / max(float(np.std(scale[1:])), 1e-12))
    return out


def _correlations(values: np.ndarray, n_given: int, ranks: bool) -> np.ndarray:
    """Return the correlations of the columns behind the first `n_given`, cleared of these."""
    x = stats.rankdata(values, axis=0) if ranks else values
    x = x - x.mean(axis=0)
    given, rest = x[:, :n_given], x[:, n_given:]
    before = np.sqrt((rest**2).sum(axis=0))
    if n_given:
        rest = rest - given @ np.linalg.lstsq(given, rest, rcond=None)[0]
    after = np.sqrt((rest**2).sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.where(after > 1e-8 * before, rest / after, np.nan)
    return np.clip(rest.T @ rest, -1, 1)


def choices(
    table: pd.DataFrame,
    signals: Sequence[str],
    truth: str,
    *,
    same: Sequence[str],
    differ: str,
    units: str | None = None,
    least: float = 0.0,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often each signal chooses the better of two models, one row per signal.

    Pairs agree in the columns `same`, differ in `differ`, and lie further apart in the truth than
    `least`. A signal chooses the model in which it is higher; a tie counts half, and a pair of
    which it is missing not at all. Columns: `share`, `low`, `high` (95 %, bootstrap over models, or
    over the values of the column `units`: give "mix" where another corpus could have been used),
    `n` pairs; the first three are NaN without one. Signals for which less is better must come with
    their sign changed. Raises `ValueError` for an absent column, and where there are no
    such pairs. Source: the concordance of Kendall (1938).
    """
    signals, same = list(signals), list(same)
    units_column = [] if units is None else [units]
    validation.columns(table, [*signals, truth, *same, differ, *units_column], "table")
    validation.counts(n_resamples=(n_resamples, 1), seed=(seed, 0))
    first, second, gap = _pairs(table, truth, same, differ, least)
    member = np.arange(len(table)) if units is None else pd.factorize(table[units])[0]
    n_units = member.max() + 1
    draws = np.random.default_rng(seed).multinomial(
        n_units, np.full(n_units, 1 / n_units), size=n_resamples
    )
    one, other = draws[:, member[first]], draws[:, member[second]]
    weight = np.where(member[first] == member[second], one, one * other).astype(float)
    rows = []
    for signal in signals:
        agrees = _agrees(table[signal], first, second, gap)
        known = ~np.isnan(agrees)
        drawn, agrees = weight[:, known], agrees[known]
        total = drawn.sum(axis=1)
        sample = (drawn @ agrees)[total > 0] / total[total > 0]
        row = {"signal": signal, "share": np.nan, "low": np.nan, "high": np.nan, "n": len(agrees)}
        if len(sample):
            low, high = np.quantile(sample, [0.025, 0.975])
            row |= {"share": agrees.mean(), "low": low, "high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def contrasts(
    table: pd.DataFrame,
    signals: Sequence[str],
    truth: str,
    *,
    same: Sequence[str],
    differ: str,
    least: float = 0.0,
) -> pd.DataFrame:
    """Return how often each signal chooses well in each contrast, one row per contrast.

    A contrast is two values of `differ`, such as two corpora; pairs are those of `choices`. The
    index has the two values in the order in which `table` first has them; columns are the signals,
    and `n`, the number of pairs. Raises as `choices`. Source: as there.
    """
    signals, same = list(signals), list(same)
    validation.columns(table, [*signals, truth, *same, differ], "table")
    first, second, gap = _pairs(table, truth, same, differ, least)
    codes, values = pd.factorize(table[differ])
    ends = np.sort([codes[first], codes[second]], axis=0)
    frame = pd.DataFrame({s: _agrees(table[s], first, second, gap) for s in signals})
    grouped = frame.groupby([ends[0], ends[1]])
    out = grouped.mean().assign(n=grouped.size())
    index = [(values[i], values[j]) for i, j in out.index]
    return out.set_axis(pd.MultiIndex.from_tuples(index, names=["one", "other"]))


def _pairs(
    table: pd.DataFrame, truth: str, same: Sequence[str], differ: str, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of both models of each pair, and by how much the first is better."""
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
    return first, second, gap[first, second]


def _agrees(
    signal: pd.Series, first: np.ndarray, second: np.ndarray, gap: np.ndarray
) -> np.ndarray:
    """Return 1 for each pair that a signal chooses well, 0.5 for a tie, NaN where it is missing."""
    x = signal.to_numpy(float)
    return 0.5 + 0.5 * np.sign((x[first] - x[second]) * gap)


def towards(table: pd.DataFrame, signals: Sequence[str], truth: str) -> pd.DataFrame:
    """Return the columns of signals, those with a negative rank correlation with `truth` negated.

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
