"""What the glass box says of the signals: agreement with the truths, choices, gains and costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from experiments import intervals
from experiments.synthesis import glass_box_world
from experiments.synthesis.glass_box_table import SIGNALS, TRUTHS, Suite
from helpers import stats
from helpers.synthesis import agreement, paired_tests

# What two models differ in, what they share meanwhile, and what is drawn again for the interval.
CONTEXTS = {
    "size": {"same": ["mix", "seed", "stage"], "differ": "width"},
    "corpus": {"same": ["width", "seed", "stage"], "differ": "mix", "units": "mix"},
    "checkpoint": {"same": ["width", "mix", "seed"], "differ": "stage"},
    "seed": {"same": ["width", "mix", "stage"], "differ": "seed"},
}
FREE = ("parameters", "step")
# Known beforehand as a class: models of one corpus, width or checkpoint are compared.
INDICATED = {"mix": "mix", "each width": "width", "each step": "step"}
# What a setting decides before anything is trained.
GIVEN = ("smi", "stated", "stated_width", "from_counts", "parameters", "step")
# What the clock of each measurement ran over.
COSTS = {
    "rankme": "RankMe, given the vectors",
    "probe": "probes, given the features",
    "alp": "ALP",
    "closed_book": "facts, closed book",
    "bits_per_byte": "validation loss",
    "geometry": "geometry, with its vectors",
    "log_me": "LogME, with the features",
    "fine_tuned": "fine-tuning",
}
# What is asked item by item, and of which items.
ITEMS = {
    "log_likelihoods": "validation loss, texts",
    "accuracy": "closed-book answers, facts",
    "log_posterior": "ALP, people",
}


def correlations(
    table: pd.DataFrame,
    *,
    given: Sequence[str] = (),
    signals: Sequence[str] = tuple(SIGNALS),
    truths: Sequence[str] = tuple(TRUTHS),
    **options: int,
) -> pd.DataFrame:
    """Return `agreement.rank_correlations` of signals and truths, for each kind of model.

    `table` is that of `glass_box_table.judged`. Signals in `given` are left out; the keys of
    `INDICATED` in it stand for one indicator per value of that column. Intervals draw cells of one
    width and corpus. Added are `kind`, `label` and `p_holm`, the p-values corrected for all rows
    (Holm).
    """
    cells = table.assign(cell=table["width"].astype(str) + table["mix"])
    parts = []
    for kind, part in cells.groupby("kind", sort=False):
        columns = [name for name in given if name not in INDICATED]
        for column in (INDICATED[name] for name in given if name in INDICATED):
            values = pd.get_dummies(part[column], prefix=f"is {column}", dtype=float).iloc[:, 1:]
            part, columns = part.join(values), [*columns, *values]
        asked = [name for name in signals if name not in given]
        options |= {"groups": "cell", "given": columns}
        rows = agreement.rank_correlations(part, asked, list(truths), **options)
        parts.append(rows.assign(kind=kind))
    out = pd.concat(parts, ignore_index=True)
    out["p_holm"], tested = out.p_value, out.p_value.notna()
    # Of one row nothing is corrected; statsmodels collects garbage at each call, which is slow.
    if tested.sum() > 1:
        out.loc[tested, "p_holm"] = multipletests(out.p_value[tested], method="holm")[1]
    return out.assign(label=out.signal.map(SIGNALS))


def choices(table: pd.DataFrame, **options: float) -> pd.DataFrame:
    """Return `agreement.choices` of all signals by kind, truth and what two models differ in.

    Signals take their better side for each kind and truth (`agreement.towards`). Added
    are `kind`, `truth` and `context`, a key of `CONTEXTS`. Intervals draw models, and between
    corpora the corpora. Raises as `agreement.choices` where a context has no pair.
    """
    runs = ["kind", "width", "mix", "seed"]
    staged = table.assign(stage=table.groupby(runs)["step"].rank())
    rows = []
    for kind, part in staged.groupby("kind", sort=False):
        for truth in TRUTHS:
            turned = part.assign(**agreement.towards(part, list(SIGNALS), truth))
            for context, pairs in CONTEXTS.items():
                how = {"least": 0.01, **options, **pairs}
                found = agreement.choices(turned, list(SIGNALS), truth, **how)
                rows.append(found.assign(kind=kind, truth=truth, context=context))
    return pd.concat(rows, ignore_index=True)


def between_corpora(
    table: pd.DataFrame,
    signals: Sequence[str],
    truth: str,
    *,
    least: float = 0.01,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often signals name the better of two corpora, by how these differ.

    `table` holds models of one kind; signals are taken as they are. Rows: `contrast` ("all" and
    those of `glass_box_world.contrast`), `signal`, `share`, `low`, `high` (95 %, bootstrap over
    corpora), `n` pairs of models, `corpora` pairs of corpora.
    """
    options = {"same": ["width", "seed", "step"], "differ": "mix", "least": least}
    shares = agreement.contrasts(table, signals, truth, **options)
    kinds = [glass_box_world.contrast(*pair) for pair in shares.index]
    mixes = np.array(list(shares.index))
    corpora, places = np.unique(mixes, return_inverse=True)
    places = places.reshape(mixes.shape)
    draws = np.random.default_rng(seed).multinomial(
        len(corpora), np.full(len(corpora), 1 / len(corpora)), size=n_resamples
    )
    rows = []
    for name in ["all", *dict.fromkeys(sorted(kinds))]:
        chosen = np.array([name in ("all", kind) for kind in kinds])
        weight = (draws[:, places[:, 0]] * draws[:, places[:, 1]])[:, chosen].astype(float)
        weight = weight[weight.sum(axis=1) > 0]
        for signal in signals:
            values = shares[signal].to_numpy()[chosen]
            sample = weight @ values / weight.sum(axis=1)
            low, high = np.quantile(sample, [0.025, 0.975])
            row = {"contrast": name, "signal": signal, "share": values.mean()}
            n = {"n": int(shares.n[chosen].sum()), "corpora": int(chosen.sum())}
            rows.append(row | {"low": low, "high": high} | n)
    return pd.DataFrame(rows)


def between_corpora_by_step(
    table: pd.DataFrame, signals: Sequence[str], truth: str, **options: float
) -> pd.DataFrame:
    """Return `between_corpora` over all pairs of corpora, of all checkpoints and of the last alone.

    A row a signal; the columns are `share`, `low`, `high` under "all" and "last".
    """
    parts = {"all": table, "last": table[table.step == table.step.max()]}
    found = {}
    for name, part in parts.items():
        rows = between_corpora(part, signals, truth, **options).set_index("signal")
        found[name] = rows.loc[rows.contrast == "all", ["share", "low", "high"]]
    return pd.concat(found, axis=1)


def retest(table: pd.DataFrame) -> pd.DataFrame:
    """Return how far two seeds agree: the rank correlation over settings, one row per measure.

    A setting is a width, a mix and a step; columns are the kinds of model. Rows are the signals and
    truths that training decides. A truth on which the seeds disagree is one that no signal can
    follow. Raises `ValueError` where the table has not two seeds.
    """
    labels = TRUTHS | {name: label for name, label in SIGNALS.items() if name not in GIVEN}
    out = {}
    for kind, part in table.groupby("kind", sort=False):
        one, two = _two_runs(part, list(labels))
        out[kind] = one.corrwith(two, method="spearman").loc[list(labels)].rename(labels)
    return pd.DataFrame(out)


def retest_within(
    table: pd.DataFrame,
    names: Sequence[str],
    *,
    by: Sequence[str] = ("kind", "width"),
    **options: int,
) -> pd.DataFrame:
    """Return how far two seeds agree within each width, with 95 % intervals over settings.

    `names` are signals or truths, `by` the columns within which settings are compared. Columns:
    those of `by`, `measure`, `r`, `low`, `high`, `n` (settings). The interval draws settings, and
    each sample is ranked again.
    """
    rows = []
    for values, part in table.groupby(list(by), sort=False):
        one, two = _two_runs(part, names)
        for name in names:
            pair = pd.DataFrame({"one": one[name], "two": two[name]}).reset_index(drop=True)
            pair, how = pair.assign(setting=pair.index), {"groups": "setting", **options}
            found = agreement.rank_correlations(pair, ["one"], ["two"], **how).iloc[0]
            about = dict(zip(by, values, strict=True))
            rows.append(about | {"measure": name} | found[["r", "low", "high", "n"]].to_dict())
    return pd.DataFrame(rows)


def _two_runs(part: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the measures `names` of each of two seeds, a row per setting."""
    seeds = _two_seeds(part)
    wide = part.pivot(index=["width", "mix", "step"], columns="seed", values=list(names))
    one, two = (wide.xs(seed, axis=1, level="seed") for seed in seeds)
    return one, two


def gains(
    table: pd.DataFrame, *, groups: str = "width", free: Sequence[str] = FREE
) -> pd.DataFrame:
    """Return by how much each signal lowers the error of what is free, on `groups` left out.

    For each kind and truth a line on ranks is fitted to `free` alone, and to `free` and one more
    signal (row); a value is the share of the held-out root mean squared error that this saves.
    `groups` is a column such as "width" or "mix".
    """
    out: dict[tuple[str, str], dict[str, float]] = {}
    for kind, part in table.groupby("kind", sort=False):
        for truth in TRUTHS:
            ranks = part[[*SIGNALS, truth]].rank().assign(groups=part[groups])
            base = stats.held_out_error(ranks, free, truth, "groups", degree=1)
            out[kind, truth] = {
                SIGNALS[name]: 1
                - stats.held_out_error(ranks, [*free, name], truth, "groups", degree=1) / base
                for name in SIGNALS
                if name not in free
            }
    return pd.DataFrame(out)


def calibration(table: pd.DataFrame) -> pd.Series:
    """Return the mean of what counts predict less the facts known, by kind and corpus.

    Only the last checkpoint of each run counts.
    """
    last = table[table.step == table.groupby("kind").step.transform("max")]
    gap = last.from_counts - last.closed_book
    return gap.groupby([last["kind"], last["mix"]], sort=False).mean()


def cluster_bootstrap(
    table: pd.DataFrame, column: str, unit: str, *, quantile: float | None = None, **options: int
) -> tuple[float, float, float]:
    """Return the mean, or a quantile, of a column and its interval by `intervals.bootstrap`.

    `unit` names a column whose values could have been others, such as the run.
    """
    values = table[column].to_numpy(float)

    def value(rows: np.ndarray) -> float:
        sample = values[rows]
        return float(sample.mean() if quantile is None else np.quantile(sample, quantile))

    return intervals.bootstrap(value, table[unit], **options)


def items_of(suite: Suite) -> dict[str, pd.DataFrame]:
    """Return the item-wise scores of all models by their label in `ITEMS`, of stated facts only."""
    told = glass_box_world.make_world().facts.frequency.to_numpy() > 0
    found = {label: getattr(suite, name) for name, label in ITEMS.items()}
    found[ITEMS["accuracy"]] = suite.accuracy.loc[:, told]
    return found


def checkpoint_pairs(suite: Suite) -> pd.DataFrame:
    """Return a paired test for each run, each two neighbouring checkpoints and each kind of item.

    Columns: `kind`, `run`, `stage` (1 for the first two checkpoints), `before`, `after` (names),
    `items` (a label of `ITEMS`), those of `paired_tests.paired_test`, `needed` (items for a power
    of 0.8), and for each truth `TRUTH_change`, after minus before.
    """
    rows = []
    for _, part in suite.table.groupby(["kind", "width", "mix", "seed"], sort=False):
        names = list(part.sort_values("step", kind="stable").index)
        run = {"kind": part["kind"].iloc[0], "run": names[0].rsplit("-", 1)[0]}
        for stage, pair in enumerate(zip(names, names[1:], strict=False), 1):
            rows.append(run | {"stage": stage} | _pair(suite.table, *pair))
    return _tested(suite, rows)


def seed_pairs(suite: Suite) -> pd.DataFrame:
    """Return a paired test of the two seeds of each setting, for each kind of item.

    Columns are those of `checkpoint_pairs`, with `width`, `mix` and `step` for `run` and `stage`;
    the lower seed is `before`. Raises `ValueError` where the table has not two seeds.
    """
    _two_seeds(suite.table)
    rows = []
    for about, part in suite.table.groupby(["kind", "width", "mix", "step"], sort=False):
        setting = dict(zip(("kind", "width", "mix", "step"), about, strict=True))
        rows.append(setting | _pair(suite.table, *part.sort_values("seed", kind="stable").index))
    return _tested(suite, rows)


def _two_seeds(table: pd.DataFrame) -> tuple[int, int]:
    seeds = sorted(set(table["seed"]))
    if len(seeds) != 2:
        raise ValueError(f"table has seeds {seeds}; give models of two")
    return seeds[0], seeds[1]


def _pair(table: pd.DataFrame, before: str, after: str) -> dict[str, object]:
    change = table.loc[after, list(TRUTHS)] - table.loc[before, list(TRUTHS)]
    names = {"before": before, "after": after}
    return names | {f"{truth}_change": float(value) for truth, value in change.items()}


def _tested(suite: Suite, rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return each pair once for each kind of item, with its test."""
    items, out = items_of(suite), []
    for row in rows:
        for label, values in items.items():
            pair = values.loc[row["before"]], values.loc[row["after"]]
            tested = paired_tests.paired_test(*pair)
            out.append(
                {**row, "items": label, **tested, "needed": paired_tests.items_needed(*pair)}
            )
    return pd.DataFrame(out)


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean CPU seconds of each measurement, and the share of fine-tuning's, by cost.

    What two measurements share is counted once: token vectors with the geometry, the features of
    the tasks with LogME (`COSTS`).
    """
    seconds = table.filter(like="seconds_").mean().rename(lambda c: c.removeprefix("seconds_"))
    share = seconds / seconds["fine_tuned"]
    seconds, share = seconds.rename(COSTS), share.rename(COSTS)
    found = pd.DataFrame({"CPU s per model": seconds, "share of fine-tuning": share})
    return found.sort_values("CPU s per model", kind="stable")
