"""Sentences of the start page and the guide on the glass box, under other choices than the page's.

`python -m experiments synthesis_headlines` measures all specifications and writes their table.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.command import Written, command, digest, kept, option
from experiments.headlines import ENDS, PAGE
from experiments.synthesis import (
    glass_box_forecast,
    glass_box_report,
    glass_box_table,
    glass_box_world,
)
from experiments.synthesis.specifications import SCORES, Tables, tables
from helpers import data
from helpers.specifications import combinations
from helpers.synthesis import agreement, gate

TABLE = data.PUBLISHED / "headlines_which_signal.csv"
Choice = dict[str, str]
Measure = Callable[[pd.DataFrame, Choice], float]
# The first of each list, nothing, is what the page does.
LAST, ALL = "last checkpoints", "all checkpoints"
FIRST_OUT, LAST_OUT = "without the first checkpoints", "without the last checkpoints"
SCALES, STEPS = ["", "Pearson", "Kendall"], ["", LAST]
SEEDS = [f"seed {seed} alone" for seed in (0, 1)]
WIDTHS = [f"without width {width}" for width in (16, 32, 64, 128)]
CORPORA = [f"without corpus {mix}" for mix in glass_box_world.SUITE]
ADDED = [f"without corpus {mix}" for mix in glass_box_world.ADDED]
SIX, THREE = "six corpora", "three corpora"
TUNED = {f"{name} alone": column for name, column in SCORES.items() if name != "both tasks"}
CLASSES = {"parameters": "each width", "step": "each step"}
LEASTS = {"": 0.01, "any difference": 0.0, "differences above 0.02": 0.02}
GATES = {"gate without other tasks": "static_order", "gate without the family": "family_order"}


class _Sentence(NamedTuple):
    """What measures a claim, its lists of choices, and the models that the page takes."""

    measure: Measure
    choices: list[dict[str, list[str]]]
    kind: str = "gpt"
    six: bool = False
    last: bool = False


def _models(known: Tables, sentence: _Sentence, row: Choice) -> pd.DataFrame:
    """Return the models of a specification, with its score as `fine_tuned`."""
    cut, steps = row.get("cut", ""), row.get("steps", "")
    table = known.corpora if sentence.six or cut == SIX else known.suite
    part = table[table.kind == sentence.kind]
    if steps == LAST or (sentence.last and steps != ALL):
        part = part[part.step == part.step.max()]
    elif steps in (FIRST_OUT, LAST_OUT):
        part = part[part.step != (min if steps == FIRST_OUT else max)(part.step)]
    if cut == THREE:
        part = part[part["mix"].isin(glass_box_world.SUITE)]
    elif cut and cut != SIX:
        column, value = cut.removeprefix("without ").split()[:2]
        column = {"corpus": "mix"}.get(column, column)
        part = part[(part[column].astype(str) == value) != cut.startswith("without")]
    return part.assign(fine_tuned=part[TUNED.get(row.get("score", ""), "fine_tuned")])


def _implied(one: pd.Series, other: pd.Series) -> float:
    """Return the correlation that Kendall's tau implies for normal pairs, sin(pi tau / 2)."""
    return float(np.sin(np.pi / 2 * one.corr(other, method="kendall")))


def _correlation(
    models: pd.DataFrame, row: Choice, signal: str, truth: str, given: tuple[str, ...] = ()
) -> float:
    if row.get("scale") == "Kendall":
        return _implied(models[signal], models[truth])
    if row.get("controls"):
        given = tuple(CLASSES.get(name, name) for name in given)
    pair = {"signals": [signal], "truths": [truth], "given": given, "n_resamples": 1}
    ranks = row.get("scale") != "Pearson"
    return float(glass_box_report.correlations(models, ranks=ranks, **pair).r.iloc[0])


def _difference(models: pd.DataFrame, row: Choice, signal: str, rival: str, truth: str) -> float:
    one, other = (_correlation(models, row, name, truth) for name in (signal, rival))
    return one - other


def _lead(models: pd.DataFrame, row: Choice, signal: str, truth: str) -> float:
    rows = glass_box_forecast.candidates(models)
    free = {k: v for k, v in gate.FREE.items() if k != GATES.get(row.get("gate", ""))}
    how = {"task": truth, "unit": "cell", "n_resamples": 2}
    return float(gate.beside(rows, {signal: signal}, free=free, **how).lead[signal])


def _between(
    models: pd.DataFrame, row: Choice, signal: str, truth: str, contrast: str = "all"
) -> float:
    how = {"least": LEASTS[row.get("least", "")], "n_resamples": 20}
    found = glass_box_report.between_corpora(models, [signal], truth, **how)
    return float(found.set_index("contrast").share[contrast])


def _better_seed(models: pd.DataFrame, row: Choice, signal: str, truth: str) -> float:
    turned = models.assign(**agreement.towards(models, [signal], truth))
    how = {"same": ["width", "mix", "step"], "differ": "seed", "n_resamples": 20}
    least = LEASTS[row.get("least", "")]
    return float(agreement.choices(turned, [signal], truth, least=least, **how).share.iloc[0])


def _seeds_agree(
    models: pd.DataFrame, row: Choice, truths: tuple[str, ...], widths: str = "together"
) -> float:
    """Return the lowest agreement of two seeds, over truths and, where asked, widths."""
    if widths == "widest":
        models = models[models.width == models.width.max()]
    parts = models.groupby(models.width if widths == "each" else models.kind)
    how = row.get("scale", "").lower() or "spearman"
    settings, found = ["width", "mix", "step"], []
    for _, part in parts:
        for truth in truths:
            one, other = part.pivot(index=settings, columns="seed", values=truth).T.to_numpy()
            pair = pd.Series(one), pd.Series(other)
            found.append(_implied(*pair) if how == "kendall" else pair[0].corr(pair[1], how))
    return float(min(found))


def _off(models: pd.DataFrame, row: Choice) -> float:
    """Return the largest error of a corpus's mean, as the curve on counts predicts it."""
    parts = [glass_box_report.calibration(part) for _, part in models.groupby("step")]
    return float(pd.concat(parts, axis=1).mean(axis=1).abs().max())


_SCORE = {"score": list(TUNED)}


def _choices(
    cuts: list[str], *, tuning: bool, steps: list[str] = STEPS, **own: list[str]
) -> list[dict[str, list[str]]]:
    """Return own choices crossed with checkpoints and cuts, and with checkpoints and scores."""
    both = own | {"steps": steps}
    return [both | {"cut": ["", *cuts]}, *([both | _SCORE] if tuning else [])]


def _of_pair(
    signal: str, truth: str, *, given: tuple[str, ...] = (), kind: str = "gpt", last: bool = False
) -> _Sentence:
    """Return the sentence that a signal correlates with a truth, given what is known."""
    cuts = [*WIDTHS, *CORPORA, SIX]
    own = {"scale": SCALES[:2], "controls": ["", "controls as classes"]} if given else {}
    own = own or {"scale": SCALES}
    # The steps do not vary at one checkpoint.
    steps = ["", FIRST_OUT, LAST_OUT] if signal == "step" else STEPS[: 1 if last else 2]
    choices = _choices(cuts, tuning=truth == "fine_tuned", steps=steps, **own)
    # Among one seed's 12 last models nothing remains of a signal, given size and corpus.
    choices.append(own | {"steps": STEPS[:1] if "mix" in given else steps, "cut": SEEDS})
    measure = partial(_correlation, signal=signal, truth=truth, given=given)
    return _Sentence(measure, choices, kind, last=last)


def _of_lead(signal: str, truth: str) -> _Sentence:
    cuts = [*SEEDS, *WIDTHS, *CORPORA, SIX]
    choices = _choices(cuts, tuning=truth == "fine_tuned", gate=["", *GATES])
    return _Sentence(partial(_lead, signal=signal, truth=truth), choices)


def _of_corpora(signal: str, truth: str, contrast: str = "all", kind: str = "gpt") -> _Sentence:
    cuts = [*SEEDS, *WIDTHS, *CORPORA, *ADDED, THREE]
    choices = _choices(cuts, tuning=truth == "fine_tuned", least=list(LEASTS))
    measure = partial(_between, signal=signal, truth=truth, contrast=contrast)
    return _Sentence(measure, choices, kind, six=True)


def _of_seeds(truths: tuple[str, ...], widths: str) -> _Sentence:
    """Return the sentence that two seeds agree; within a width there are few settings."""
    steps = STEPS if widths == "together" else ["", FIRST_OUT, LAST_OUT]
    cuts = [*([] if widths == "widest" else WIDTHS), *CORPORA, SIX]
    choices = _choices(cuts, tuning=widths == "widest", steps=steps, scale=SCALES)
    return _Sentence(partial(_seeds_agree, truths=truths, widths=widths), choices)


_FACTS, _TUNED, _SIZE = "closed_book", "fine_tuned", ("parameters", "step")
_SUITE_CUTS = [*SEEDS, *WIDTHS, *CORPORA, SIX]
SENTENCES = {
    "syn-stated-follows-facts": _of_pair("stated", _FACTS),
    "syn-steps-follow-facts": _of_pair("step", _FACTS),
    "syn-counts-follow-facts": _of_pair("from_counts", _FACTS),
    "syn-smi-follows-facts": _of_pair("smi", _FACTS),
    "syn-alp-follows-facts": _of_pair("alp", _FACTS),
    "syn-alp-follows-facts-when-trained": _of_pair("alp", _FACTS, last=True),
    "syn-rankme-follows-tuning": _of_pair("rankme", _TUNED),
    "syn-gpt-width-follows-tuning": _of_pair("parameters", _TUNED),
    "syn-log-me-follows-tuning": _of_pair("log_me", _TUNED),
    "syn-probe-follows-tuning": _of_pair("probe", _TUNED),
    "syn-patchiness-follows-tuning": _of_pair("lloyd_index", _TUNED, kind="bert"),
    "syn-rankme-left-of-tuning": _of_pair("rankme", _TUNED, given=_SIZE),
    "syn-rankme-left-of-tuning-bert": _of_pair("rankme", _TUNED, given=_SIZE, kind="bert"),
    "syn-rankme-left-given-corpus": _of_pair("rankme", _TUNED, given=(*_SIZE, "mix")),
    "syn-log-me-left-of-tuning": _of_pair("log_me", _TUNED, given=_SIZE),
    "syn-facts-against-tasks": _of_pair(_FACTS, _TUNED, given=_SIZE),
    "syn-facts-against-tasks-bert": _of_pair(_FACTS, _TUNED, given=_SIZE, kind="bert"),
    "syn-rankme-beyond-width": _Sentence(
        partial(_difference, signal="rankme", rival="parameters", truth=_TUNED),
        _choices(_SUITE_CUTS, tuning=True, scale=SCALES),
    ),
    "syn-gate-stated-facts": _of_lead("stated", _FACTS),
    "syn-gate-counts-facts": _of_lead("from_counts", _FACTS),
    "syn-gate-loss-facts": _of_lead("validation", _FACTS),
    "syn-gate-rankme-probe": _of_lead("rankme", "probe"),
    "syn-gate-rankme-tuning": _of_lead("rankme", _TUNED),
    "syn-rankme-between-corpora": _of_corpora("rankme", _FACTS),
    "syn-rankme-between-corpora-tuning": _of_corpora("rankme", _TUNED),
    "syn-loss-between-corpora": _of_corpora("validation", _FACTS),
    "syn-loss-between-corpora-bert": _of_corpora("validation", _FACTS, kind="bert"),
    "syn-loss-on-facts-between-corpora": _of_corpora("loss_facts", _FACTS),
    "syn-loss-on-facts-opposite": _of_corpora("loss_facts", _FACTS, "opposite ways"),
    "syn-rankme-names-better-seed": _Sentence(
        # At the last checkpoints alone three pairs of seeds differ.
        partial(_better_seed, signal="rankme", truth=_TUNED),
        _choices([*WIDTHS, *CORPORA, SIX], tuning=True, steps=["", FIRST_OUT], least=list(LEASTS)),
    ),
    "syn-truths-repeat": _of_seeds((_FACTS, "probe", _TUNED), "together"),
    "syn-facts-repeat-within-width": _of_seeds((_FACTS,), "each"),
    "syn-tuning-repeats-in-the-widest": _of_seeds((_TUNED,), "widest"),
    "syn-counts-are-calibrated": _Sentence(
        _off,
        _choices(_SUITE_CUTS, tuning=False, steps=["", ALL]),
        last=True,
    ),
}  # fmt: skip


def specifications() -> pd.DataFrame:
    """Return `claim`, `specification` and, not to be stored, the `choice` of every row."""
    rows = []
    for claim, sentence in SENTENCES.items():
        for choice in (row for some in sentence.choices for row in combinations(**some)):
            told = ", ".join(value for value in choice.values() if value)
            rows.append({"claim": claim, "specification": told or PAGE, "choice": choice})
    return pd.DataFrame(rows)


def again(known: Tables, rows: pd.DataFrame) -> pd.Series:
    """Return the estimates of rows of `specifications`, measured on `tables`."""

    def measure(claim: str, choice: Choice) -> float:
        sentence = SENTENCES[claim]
        return sentence.measure(_models(known, sentence, choice), choice)

    return pd.Series(map(measure, rows.claim, rows.choice), rows.index, dtype=float)


@command(
    "synthesis_headlines",
    option("--pieces", default="build/headlines", help="where measured sentences are kept"),
)
def main(given: Namespace) -> Written:
    """Measure every specification of each sentence, and write their table."""
    known, rows, found = tables(), specifications(), []
    sources = [data.sha256(path) for path in (glass_box_table.TABLE, glass_box_table.ADDED_TABLE)]
    for claim, part in rows.groupby("claim", sort=False):
        piece = Path(given.pieces) / f"{claim}-{digest(part.choice.tolist(), sources)[:16]}.json"
        found += kept(piece, lambda part=part: again(known, part).tolist(), claim)
    table = rows.assign(estimate=found).reindex(columns=["claim", "specification", *ENDS])
    return [(TABLE, table.round(6).to_csv(index=False))]
