"""The headline sentences of the synthesis under every reasonable way to measure them.

`python -m experiments synthesis_specifications` measures all of them and writes the tables.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.command import Written, command
from experiments.synthesis import glass_box_report, glass_box_table, glass_box_world
from helpers import data, specifications

# What is known beforehand and cleared from both sides.
CONTROLS = {
    "nothing": (),
    "width": ("each width",),
    "width, steps": ("each width", "each step"),
    "width, steps, corpus": ("each width", "each step", "mix"),
}
# Predictors of facts known: two fits to other models, and two that are only multiplied.
COUNTS = {
    "fitted to other corpora": "from_counts",
    "fitted to other widths": "from_counts_widths",
    "statements read": "stated",
    "statements read x width": "stated_width",
}
SCORES = {
    "both tasks": "fine_tuned",
    "sections": "fine_tuned_section",
    "same field": "fine_tuned_same_field",
}
N_RESAMPLES = 200


class _Curve(NamedTuple):
    """One sentence: its choices, what measures one row, a label, and where it holds."""

    choices: list[dict[str, list[str]]]
    measure: Callable[[Tables, dict[str, Any]], dict[str, float]]
    label: str
    above: float = 0.5

    def rows(self) -> list[dict[str, Any]]:
        """Return every specification."""
        return [row for some in self.choices for row in specifications.combinations(**some)]


class Tables(NamedTuple):
    """The balanced suite of both kinds, and both kinds on all six corpora."""

    suite: pd.DataFrame
    corpora: pd.DataFrame


def tables() -> Tables:
    """Return both stored tables with all that the specifications choose from."""
    own, more = (pd.read_csv(f) for f in (glass_box_table.COUNTS, glass_box_table.ADDED_COUNTS))
    suite = _prepared(glass_box_table.load(), own)
    whole = glass_box_table.load(added=True)
    return Tables(suite, _prepared(whole, pd.concat([own, more])))


def _prepared(suite: glass_box_table.Suite, counts: pd.DataFrame) -> pd.DataFrame:
    """Return a suite's table with all that the specifications choose from.

    Added to `glass_box_table.judged` are `from_counts_widths`, fitted to other widths, the mean
    log-likelihoods `loss_facts` and `loss_others` of unread texts of that genre and of the rest,
    and `fewer`, minus the rate at which the corpus states facts.
    """
    table = glass_box_table.judged(suite, counts)
    table["from_counts_widths"] = glass_box_table.count_predictions(suite, counts, groups="width")
    like = glass_box_world.unseen_texts().genre.eq("facts").to_numpy()
    table["loss_facts"] = suite.log_likelihoods.loc[:, like].mean(axis=1)
    table["loss_others"] = suite.log_likelihoods.loc[:, ~like].mean(axis=1)
    table["fewer"] = -table["mix"].map(glass_box_world.statement_rate)
    return table


# How two of six corpora may differ.
SIX = {
    "six": "all",
    "six, same way": "same way",
    "six, opposite ways": "opposite ways",
    "six, equal text": "equal text",
}
WIDTHS = {"narrowest": min, "widest": max}
TEXTS = {"mixed": "validation", "like the facts": "loss_facts", "others": "loss_others"}


def _loss_between_corpora(known: Tables, row: dict[str, Any]) -> dict[str, float]:
    """Return in how many pairs the better loss names the corpus that teaches more facts."""
    table = known.corpora if row["corpora"] in SIX else known.suite
    part = table[table.kind == row["kind"]]
    if row["steps"] == "last":
        part = part[part.step == part.step.max()]
    if row["widths"] != "all":
        part = part[part.width == WIDTHS[row["widths"]](part.width)]
    found = glass_box_report.between_corpora(
        part, [TEXTS[row["texts"]]], "closed_book", n_resamples=N_RESAMPLES
    )
    pair = found.set_index("contrast").loc[SIX.get(row["corpora"], "all")]
    return {"estimate": float(pair.share), "low": float(pair.low), "high": float(pair.high)}


def _correlation(known: Tables, row: dict[str, Any]) -> dict[str, float]:
    """Return the correlation of a predictor from counts with facts known, or of RankMe with scores.

    Of one kind of model; cells of width and corpus are drawn.
    """
    pair = ("rankme", SCORES[row["score"]]) if "score" in row else (COUNTS[row["signal"]], FACTS)
    found = glass_box_report.correlations(
        known.suite[known.suite.kind == row["kind"]],
        given=CONTROLS[row["given"]],
        signals=pair[:1],
        truths=pair[1:],
        ranks=row["scale"] == "ranks",
        n_resamples=N_RESAMPLES,
    ).iloc[0]
    return {"estimate": float(found.r), "low": float(found.low), "high": float(found.high)}


_KINDS, _SCALES, FACTS = ["gpt", "bert"], ["ranks", "values"], "closed_book"
_TEXTS = {"texts": list(TEXTS), "steps": ["all", "last"]}
CURVES = {
    "syn_loss": _Curve(
        [{"kind": ["gpt"], "corpora": list(SIX), **_TEXTS, "widths": ["all", *WIDTHS]},
         {"kind": ["bert"], "corpora": list(SIX), **_TEXTS, "widths": ["all"]},
         {"kind": _KINDS, "corpora": ["three"], **_TEXTS, "widths": ["all", "widest"]}],
        _loss_between_corpora, "pairs named rightly (share)",
    ),
    "syn_counts": _Curve(
        [{"kind": _KINDS, "signal": list(COUNTS), "given": [c for c in CONTROLS if c != "width"],
          "scale": _SCALES}],
        _correlation, "correlation with facts known",
    ),
    "syn_rankme": _Curve(
        [{"kind": _KINDS, "score": list(SCORES), "given": list(CONTROLS), "scale": _SCALES}],
        _correlation, "correlation with scores",
    ),
}  # fmt: skip


def _path(name: str) -> Path:
    """Return where the table of a curve is stored."""
    return data.PUBLISHED / f"spec_{name}.csv"


def load(name: str) -> pd.DataFrame:
    """Return the stored table of one of `CURVES`: its choices, `estimate`, `low`, `high`."""
    return pd.read_csv(_path(name))


def again(name: str, known: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """Return stored rows measured again on `tables`."""
    choices = [column for column in rows if column not in ("estimate", "low", "high")]
    chosen = rows[choices].to_dict("records")
    return pd.DataFrame([row | CURVES[name].measure(known, row) for row in chosen], rows.index)


@command("synthesis_specifications")
def main(_: Namespace) -> Written:
    """Measure every specification, and write the tables that the pages draw."""
    known = tables()
    for name, curve in CURVES.items():
        found = pd.DataFrame([row | curve.measure(known, row) for row in curve.rows()])
        print(f"{name}: {specifications.share(found, above=curve.above)}")
        yield _path(name), found.round(6).to_csv(index=False)
