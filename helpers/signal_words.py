"""What measured signals say, in plain words: statuses, reasons, costs and a paragraph a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from helpers import escaping, placing, signal_inputs, signal_places, signals


def statuses(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """Return models × signals: "computed", "cannot" or "refused"."""
    rows = {m: {s: raw[s]["status"] for s in signals.SIGNALS} for m, raw in found.items()}
    return pd.DataFrame(rows).T


def reasons(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """Return what was not computed, one row a model and reason, with the signals it concerns."""
    rows = [
        {"model": model, "signal": signal, "status": part["status"], "why": part["why"]}
        for model, raw in found.items()
        for signal, part in raw.items()
        if part["status"] != "computed" and signal != "model"
    ]
    table = pd.DataFrame(rows, columns=["model", "signal", "status", "why"])
    grouped = table.groupby(["model", "status", "why"], sort=False)["signal"].agg(", ".join)
    return grouped.reset_index()[["model", "signal", "status", "why"]]


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
    known: signal_places.References,
    spelling: float,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> str:
    """Return what was measured of a model in plain words, a sentence or two a signal.

    `table` is that of `tidy`, and `spelling` what spelling alone scores on the same entities.
    """
    about, name = found["model"], escaping.markdown(name)
    if about["status"] != "computed":
        return f"**{name}** was not read: {escaping.markdown(about['why'])}."
    said = [
        f"**{name}** is read as {_article(about['kind'])} model: {about['layers']} layers, "
        f"{about['width']} wide, {about['parameters']:,} weights."
    ]
    if about["note"]:
        said.append(f"Mind that {escaping.markdown(about['note'])}.")
    rows = table.set_index("key")
    if "skill" in rows.index:
        said.append(_categories(rows.loc["skill"], found["categories"], spelling))
    if "rankme" in rows.index:
        said.append(_space(rows, about["width"]))
    if "first" in rows.index:
        said.append(_facts(rows.loc["first"], found["facts"]))
    if "corpus" in found and found["corpus"]["status"] == "computed":
        whose = "your corpus" if "corpus" in inputs.own else "the Factbook, a stand-in,"
        said.append(_counts(rows, whose))
    if found["map"]["status"] == "computed":
        options = {"n_resamples": n_resamples, "seed": seed}
        near = signal_places.neighbours(found["map"], known.made, **options).iloc[0]
        yards = placing.yardsticks(
            signal_places.part_of(known.made, found["map"]["keys"]), known.models
        )
        kin = placing.kinship(near.distance, yards)
        said.append(
            f"On the map its nearest model is {near.name}, in {near.nearest:.0%} of the draws of "
            f"texts, at {near.distance:,.0f} nats² a text [{near.low:,.0f}, {near.high:,.0f}]: "
            f"{kin}."
        )
    for key, words in (
        ("bits_per_byte", "It needs {:.2f} bits for a byte of held-out text"),
        ("pseudo_bits", "Its pseudo-likelihood is {:.2f} bits a byte, beside masked models only"),
        ("own_bits", "Of your texts a byte costs it {:.2f} bits"),
        ("own_pseudo_bits", "Of your texts a byte costs it {:.2f} pseudo-bits"),
    ):
        if key in rows.index:
            row = rows.loc[key]
            where = ""
            if row.place:
                n_grams = (known.models["kind"] == "n-gram").sum()
                where = f", {row.place} reference models, of which {n_grams} are n-gram models"
            said.append(words.format(row.value) + f" [{row.low:.2f}, {row.high:.2f}]{where}.")
    if "bits_per_byte" in rows.index and rows.loc["bits_per_byte"].value > 8:
        said.append(
            "A guess that takes all bytes for equally likely needs 8: this model predicts nothing "
            "of such text, and its place on the map says no more than that."
        )
    left = [s for s in signals.SIGNALS if found[s]["status"] != "computed"]
    if left:
        said.append(f"Not computed: {', '.join(left)}.")
    return " ".join(said)


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _categories(row: pd.Series, raw: Mapping[str, Any], spelling: float) -> str:
    told = f"Its vectors tell the labels apart by {row.value:.2f} nats above chance "
    told += f"[{row.low:.2f}, {row.high:.2f}]"
    if max(raw["null"]) >= row.value or row.low <= 0:
        return told + ", no more than shuffled labels may reach: it knows nothing of these labels."
    where = f"more than the {spelling:.2f} that spelling alone gives"
    if row.low <= spelling:
        reach = "less than" if row.high < spelling else "within reach of"
        where = f"{reach} the {spelling:.2f} that spelling alone gives, so knowledge is not shown"
    among = f"; {row.place} reference models" if row.place else ""
    warned = " The score warns: " + "; ".join(raw["warnings"]) + "." if raw["warnings"] else ""
    return (
        f"{told}, {where}{among}; of {len(raw['null'])} shufflings of the labels none reached as "
        f"much (p = {raw['p_value']:.2f})." + warned
    )


def _space(rows: pd.DataFrame, width: int) -> str:
    told = []
    for key in ("lloyd_index", "rankme"):
        row = rows.loc[key]
        at = f", {row.place} reference models" if row.place else ""
        unit = f" of {width} dimensions" if key == "rankme" else ""
        told.append(f"{row.measure} {row.value:.3g}{unit} [{row.low:.3g}, {row.high:.3g}]{at}")
    return f"Its latent space: {'; '.join(told)}."


def _facts(row: pd.Series, raw: Mapping[str, Any]) -> str:
    chance = float(np.mean(raw["chance"]))
    where = "which is within reach of"
    if row.low > chance:
        where = "above"
    elif row.high < chance:
        where = "below"
    return (
        f"Of {len(raw['first'])} facts it puts the right answer first in {row.value:.0%} "
        f"[{row.low:.0%}, {row.high:.0%}], {where} the {chance:.0%} of chance."
    )


def _counts(rows: pd.DataFrame, whose: str) -> str:
    shown = rows.reindex([k for k in ("N(s,o)", "P(o|s)", "SMI") if k in rows.index])
    if not len(shown):
        return f"No count of {whose} can tell which are known: they vary too little."
    parts = [f"{r.Index} {r.value:+.2f} [{r.low:+.3f}, {r.high:+.3f}]" for r in shown.itertuples()]
    told, sure = ", ".join(parts), list(shown.index[shown["low"] > 0])
    if not sure:
        return (
            f"No count of {whose} surely tells which facts it answers (rank correlation): {told}."
        )
    verb = "goes" if len(sure) == 1 else "go"
    return (
        f"Of the counts of {whose} {' and '.join(sure)} surely {verb} with what it answers "
        f"(rank correlation): {told}."
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
        which = "yours" if "corpus" in inputs.own else "the Factbook as a stand-in"
        n = int(inputs.facts["n_documents"].iloc[0])
        met = int((inputs.facts["n_both"] > 0).sum())
        told.append(f"corpus: {which}, {n:,} documents; {met} facts are named together in it")
    told.append(
        f"texts: {len(inputs.texts)} of yours" if inputs.texts else "texts: the book's only"
    )
    told += [f"left out, {signal}: {why}" for signal, why in inputs.missing.items()]
    return "\n".join(told)
