"""What the glass box says of the signals: agreement with the truths, choices, gains and costs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.synthesis import glass_box_world
from experiments.synthesis.glass_box_table import SIGNALS, TRUTHS, Suite
from helpers import stats
from helpers.synthesis import agreement, paired_tests

# What two models differ in, and what they share meanwhile.
CONTEXTS = {
    "size": {"same": ["mix", "seed", "stage"], "differ": "width"},
    "corpus": {"same": ["width", "seed", "stage"], "differ": "mix"},
    "checkpoint": {"same": ["width", "mix", "seed"], "differ": "stage"},
}
FREE = ("validation", "parameters", "step")
# What a setting decides before anything is trained.
GIVEN = ("smi", "from_counts", "parameters", "step")
# What the clock of each measurement ran over.
COSTS = {
    "rankme": "RankMe, vectors at hand",
    "probe": "probes, features at hand",
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
    table: pd.DataFrame, *, given: Sequence[str] = (), n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return `agreement.rank_correlations` of all signals and truths, for each kind of model.

    `table` is that of `glass_box_table.judged`. Signals in `given` are left out. Intervals draw
    cells of one width and corpus. Added are `kind` and `label`.
    """
    cells = table.assign(cell=table["width"].astype(str) + table["mix"])
    signals = [name for name in SIGNALS if name not in given]
    parts = [
        agreement.rank_correlations(
            part,
            signals,
            list(TRUTHS),
            groups="cell",
            given=given,
            n_resamples=n_resamples,
            seed=seed,
        ).assign(kind=kind)
        for kind, part in cells.groupby("kind", sort=False)
    ]
    found = pd.concat(parts, ignore_index=True)
    return found.assign(label=found.signal.map(SIGNALS))


def choices(
    table: pd.DataFrame, *, least: float = 0.01, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return `agreement.choices` of all signals by kind, truth and what two models differ in.

    Signals are turned to their better side for each kind and truth (`agreement.towards`). Added
    are `kind`, `truth` and `context`, a key of `CONTEXTS`.
    """
    runs = ["kind", "width", "mix", "seed"]
    staged = table.assign(stage=table.groupby(runs)["step"].rank())
    rows = []
    for kind, part in staged.groupby("kind", sort=False):
        for truth in TRUTHS:
            turned = part.assign(**agreement.towards(part, list(SIGNALS), truth))
            for context, pairs in CONTEXTS.items():
                found = agreement.choices(
                    turned,
                    list(SIGNALS),
                    truth,
                    least=least,
                    n_resamples=n_resamples,
                    seed=seed,
                    **pairs,
                )
                rows.append(found.assign(kind=kind, truth=truth, context=context))
    return pd.concat(rows, ignore_index=True)


def retest(table: pd.DataFrame) -> pd.DataFrame:
    """Return how far two seeds agree: the rank correlation over settings, a row a measure.

    A setting is a width, a mix and a step; columns are the kinds of model. Rows are the signals and
    truths that training decides. A truth on which the seeds disagree is one that no signal can
    follow. Raises `ValueError` where the table has not two seeds.
    """
    seeds = _two_seeds(table)
    labels = TRUTHS | {name: label for name, label in SIGNALS.items() if name not in GIVEN}
    out: dict[str, dict[str, float]] = {}
    for kind, part in table.groupby("kind", sort=False):
        wide = part.pivot(index=["width", "mix", "step"], columns="seed", values=list(labels))
        one, two = (wide.xs(seed, axis=1, level="seed") for seed in seeds)
        out[kind] = one.corrwith(two, method="spearman")
    return pd.DataFrame(out).loc[list(labels)].rename(labels)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Return by how much each signal lowers the error of what is free, on widths left out.

    For each kind and truth a line on ranks is fitted to `FREE` alone, and to `FREE` and one more
    signal (row); a value is the share of the held-out root mean squared error that this saves.
    """
    out: dict[tuple[str, str], dict[str, float]] = {}
    for kind, part in table.groupby("kind", sort=False):
        for truth in TRUTHS:
            ranks = part[[*SIGNALS, truth]].rank().assign(width=part["width"])
            base = stats.held_out_error(ranks, FREE, truth, "width", degree=1)
            out[kind, truth] = {
                SIGNALS[name]: 1
                - stats.held_out_error(ranks, [*FREE, name], truth, "width", degree=1) / base
                for name in SIGNALS
                if name not in FREE
            }
    return pd.DataFrame(out)


def items_of(suite: Suite) -> dict[str, pd.DataFrame]:
    """Return the item-wise scores of all models by their label in `ITEMS`; facts never told go."""
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
    found = pd.DataFrame({"CPU s a model": seconds, "share of fine-tuning": share})
    return found.sort_values("CPU s a model", kind="stable")
