"""What measured signals say, in plain words: statuses, reasons, costs and a paragraph per model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from helpers import escaping
from helpers.modelmap import placement
from helpers.synthesis import signal_inputs, signal_report, signals


def statuses(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """Return models × signals: "computed", "cannot" or "refused"."""
    rows = {m: {s: raw[s]["status"] for s in signals.SIGNALS} for m, raw in found.items()}
    return pd.DataFrame(rows).T


def reasons(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """Return what was not computed, one row per model and reason, with the signals it concerns."""
    rows = [
        {"model": model, "signal": signal, "status": part["status"], "why": part["why"]}
        for model, raw in found.items()
        for signal, part in raw.items()
        if part["status"] != "computed" and signal != "model"
    ]
    table = pd.DataFrame(rows, columns=["model", "signal", "status", "why"])
    grouped = table.groupby(["model", "status", "why"], sort=False)["signal"].agg(", ".join)
    return grouped.reset_index()[["model", "signal", "status", "why"]]


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return all rows of `signal_report.joined` as a page has room for them, in words.

    One row per model and measure: `value` with its interval and unit, `over` what, `verdict` with
    what is expected of a model that knows nothing and the corrected p, and `place`.
    """
    rows = []
    for row in table.itertuples():
        verdict = row.verdict
        if verdict:
            p = "" if pd.isna(row.p_adjusted) else f", p {row.p_adjusted:.2g}"
            verdict += f" ({row.expected:.3g} expected{p})"
        place = f"{row.place} ({row.among})" if row.place else row.among
        form = ",.0f" if abs(row.value) >= 1000 else ".3g"
        value = f"{row.value:{form}} {_interval(row, form)} {row.unit}".strip()
        names = {"model": row.model, "measure": row.measure, "value": value}
        rows.append(names | {"over": row.by, "verdict": verdict, "place": place})
    columns = ["model", "measure", "value", "over", "verdict", "place"]
    return pd.DataFrame(rows, columns=columns).set_index(["model", "measure"])


def costs(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """Return the CPU seconds that each computed signal of each model took, loading apart."""
    rows = {
        m: {s: p["seconds"] for s, p in raw.items() if p["status"] == "computed" and s != "model"}
        for m, raw in found.items()
    }
    return pd.DataFrame(rows).T.reindex(columns=[s for s in signals.SIGNALS if s != "corpus"])


def paragraph(
    name: str,
    found: Mapping[str, Mapping[str, Any]],
    table: pd.DataFrame,
    inputs: signal_inputs.Inputs,
    known: signal_report.References,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> str:
    """Return what was measured of a model in plain words, a sentence or two per signal.

    `table` has the model's rows of `signal_report.joined`; no sentence says more than its verdicts.
    """
    about, name = found["model"], escaping.markdown(name)
    if about["status"] != "computed":
        return f"**{name}** was not read: {escaping.markdown(about['why'])}."
    said = [
        f"**{name}** is {_article(about['kind'])} model: {about['layers']} layers, "
        f"width {about['width']}, {about['parameters']:,} weights."
    ]
    if about["note"]:
        said.append(f"Note that {escaping.markdown(about['note'])}.")
    rows = table.set_index("key")
    if "skill" in rows.index:
        said.append(_categories(rows, found["categories"]))
    if "rankme" in rows.index:
        said.append(_space(rows, about["width"]))
    if "first" in rows.index:
        said.append(_facts(rows.loc["first"]))
    if found["corpus"]["status"] == "computed":
        whose = "your corpus" if "corpus" in inputs.own else "the Factbook, a proxy corpus,"
        said.append(_counts(rows, whose))
    said += _texts(rows, found, known, {"n_resamples": n_resamples, "seed": seed})
    left = [s for s in signals.SIGNALS if found[s]["status"] != "computed"]
    if left:
        said.append(f"Not computed: {', '.join(left)}.")
    return " ".join(said)


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _interval(row: pd.Series, form: str = ".2f") -> str:
    return f"[{row.low:{form}}, {row.high:{form}}]"


def _test(row: pd.Series) -> str:
    """Return the reason why nothing is decided, or the p-value."""
    return row.why or f"corrected p = {row.p_adjusted:.2g}"


def _categories(rows: pd.DataFrame, raw: Mapping[str, Any]) -> str:
    row, more = rows.loc["skill"], rows.loc["above_spelling"]
    told = f"Its vectors separate the labels by {row.value:.2f} nats above chance {_interval(row)}"
    reached = sum(score >= row.value for score in raw["null"])
    told += f"; {reached} of {len(raw['null'])} shufflings of the labels scored as high"
    told += f"; {row.place} ({row.among})." if row.place else "."
    size = f"({more.value:+.2f} {_interval(more)}; {_test(more)})"
    told += {
        "above": f" That is more than spelling alone gives {size}.",
        "below": f" That is less than spelling alone gives {size}, so it shows no knowledge.",
        "undecided": f" Whether that is more than spelling alone gives is undecided {size}.",
    }[more.verdict]
    return told + (
        f" Warning: {escaping.markdown('; '.join(raw['warnings']))}." if raw["warnings"] else ""
    )


def _space(rows: pd.DataFrame, width: int) -> str:
    told = []
    for key in ("lloyd_index", "rankme"):
        row = rows.loc[key]
        at = f", {row.place} ({row.among})" if row.place else ""
        unit = f" of {width} dimensions" if key == "rankme" else ""
        told.append(f"{row.measure} {row.value:.3g}{unit} {_interval(row, '.3g')}{at}")
    return f"Its latent space: {'; '.join(told)}. Neither has a better direction."


def _facts(row: pd.Series) -> str:
    told = f"It puts the right answer first in {row.value:.0%} {_interval(row, '.0%')} of the facts"
    alone = f"the {row.expected:.0%} that its preferences among answers give for any subject"
    return {
        "above": f"{told}, more than {alone} ({_test(row)}).",
        "below": f"{told}, less than {alone} ({_test(row)}).",
        "undecided": f"{told}; whether that is more than {alone} is undecided ({_test(row)}).",
    }[row.verdict]


def _counts(rows: pd.DataFrame, whose: str) -> str:
    shown = rows[rows["signal"] == "corpus"]
    if not len(shown):
        return f"Whether counts of {whose} show what it knows is undecided: they vary too little."
    parts = [f"{r.Index} {r.value:+.2f} {_interval(r, '+.2f')}" for r in shown.itertuples()]
    told = f"(rank correlation: {', '.join(parts)})"
    words = []
    for verdict, verb in (("above", "rise"), ("below", "fall")):
        if names := list(shown.index[shown["verdict"] == verdict]):
            verb = f"{verb}s" if len(names) == 1 else verb
            words.append(f"{' and '.join(names)} {verb} with what the subject adds to log P")
    if words:
        return f"Of the counts of {whose} {'; '.join(words)} of its own answer {told}."
    why = f": {shown['why'].iloc[0]}" if shown["why"].iloc[0] else f" {told}"
    return f"Whether counts of {whose} correlate with its answers is undecided{why}."


def _texts(
    rows: pd.DataFrame,
    found: Mapping[str, Mapping[str, Any]],
    known: signal_report.References,
    options: dict[str, int],
) -> list[str]:
    """Return the sentences on likelihoods, and on the place on the map of a model that predicts."""
    said, keys = [], ("bits_per_byte", "pseudo_bits", "own_bits", "own_pseudo_bits")
    bits = next((rows.loc[key] for key in keys[:2] if key in rows.index), None)
    predicts = bits is not None and bits.verdict == "below"
    if bits is not None:
        masked = " pseudo-bits (comparable among masked models only)"
        pseudo = masked if bits.name == "pseudo_bits" else " bits"
        alone = f"the {bits.expected:.2f} of a guess with equal probability for all tokens"
        word = {"below": "less than", "above": "more than"}.get(
            bits.verdict, "not shown to be below"
        )
        where = ""
        if predicts and bits.place:
            n_grams = (known.models["kind"] == "n-gram").sum()
            where = f"; {bits.place} ({bits.among}; {n_grams} of the book's are n-gram models)"
        told = f"Held-out text costs it {bits.value:.2f}{pseudo} per byte {_interval(bits)}, "
        told += f"{word} {alone}"
        said.append(f"{told} ({_test(bits)}){where}.")
    for key in keys[2:]:
        if key in rows.index:
            row, pseudo = rows.loc[key], "pseudo-" if key == "own_pseudo_bits" else ""
            said.append(
                f"Your texts cost it {row.value:.2f} {pseudo}bits per byte {_interval(row)}."
            )
    if found["map"]["status"] == "computed" and predicts:
        said.append(_nearest(found["map"], known, options))
    elif bits is not None and found["map"]["status"] == "computed":
        said.append("So its place on the map says nothing about what it learnt.")
    return said


def _nearest(
    raw: Mapping[str, Any], known: signal_report.References, options: dict[str, int]
) -> str:
    near = signal_report.neighbours(raw, known.made, **options).iloc[0]
    yards = placement.yardsticks(signal_report.part_of(known.made, raw["keys"]), known.models)
    kin = placement.kinship_between(near.low, near.high, yards)
    return (
        f"On the map its nearest model is {near.name}, in {near.nearest:.0%} of the resamples of "
        f"texts, at {near.distance:,.0f} nats² per text {_interval(near, ',.0f')}: {kin}."
    )


def summary(inputs: signal_inputs.Inputs) -> str:
    """Return in plain words what the models are asked about."""
    whose = {n: "yours" if n in inputs.own else "the book's" for n in ("entities", "facts")}
    told = [
        f"entities: {len(inputs.entities)}, {whose['entities']}, of "
        f"{inputs.entities['label'].nunique() if len(inputs.entities) else 0} labels",
        f"facts: {len(inputs.facts)}, {whose['facts']}",
    ]
    if "n_documents" in inputs.facts:
        which = "yours" if "corpus" in inputs.own else "the Factbook as a proxy"
        n = int(inputs.facts["n_documents"].iloc[0])
        met = int((inputs.facts["n_both"] > 0).sum())
        told.append(f"corpus: {which}, {n:,} documents; {met} facts have both names in it")
    told.append(
        f"texts: {len(inputs.texts)} of yours" if inputs.texts else "texts: the book's only"
    )
    told += [f"left out, {signal}: {why}" for signal, why in inputs.missing.items()]
    return "\n".join(told)
