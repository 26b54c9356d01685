"""Measured signals as a table: values with intervals, and places among reference models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from helpers import data, likelihood, models, stats
from helpers.modelmap import held_out_texts, model_map, placement, stored_families
from helpers.synthesis import fact_tests, paired_tests, signal_inputs, single_signals

REFERENCES = data.PUBLISHED / "your_model_references.csv"
# How each measure is called, its unit, and what more of it means.
MEASURES = {
    "skill": ("ALP above chance", "nats", "better"),
    "above_spelling": ("ALP above spelling", "nats", "better"),
    "lloyd_index": ("patchiness (Lloyd)", "", ""),
    "rankme": ("RankMe", "dimensions", ""),
    "mean_cosine": ("mean cosine", "", ""),
    "error": ("reconstruction error", "share", ""),
    "between_share": ("between-sentence share", "share", ""),
    "first": ("right answer first", "share", "better"),
    "gain": ("log P that the subject adds", "nats", "better"),
    "N(s,o)": ("answers with N(s,o)", "Spearman's rho", "better"),
    "P(o|s)": ("answers with P(o|s)", "Spearman's rho", "better"),
    "SMI": ("answers with SMI", "Spearman's rho", "better"),
    "distance": ("distance to the nearest", "nats² per text", ""),
    "bits_per_byte": ("bits per byte", "bits", "worse"),
    "pseudo_bits": ("pseudo-bits per byte", "bits", "worse"),
    "accuracy": ("right continuation first", "share", "better"),
    "own_bits": ("bits per byte, my texts", "bits", "worse"),
    "own_pseudo_bits": ("pseudo-bits per byte, my texts", "bits", "worse"),
}
# What the packaged models are called among the references.
_ITSELF = {models.MINILM: ["MiniLM, 6 layers"], models.SMOLLM: ["SmolLM2", "smollm2"]}
COLUMNS = ["model", "signal", "measure", "value", "low", "high", "unit", "place", "among", "by"]
TESTS = ["expected", "p", "p_adjusted", "verdict", "why"]
_SUBJECTS = "subjects and objects"
# Fewer groups of entities than this carry no test.
_LEAST_GROUPS = 10


class References(NamedTuple):
    """Reference models: `values` has `signal`, `measure`, `model`, `value`; `made` is the map.

    `entities` is the digest of the table on which the values of "categories" were measured; `own`
    has values of the reader's own references, which were asked the same.
    """

    values: pd.DataFrame
    made: model_map.ModelMap
    models: pd.DataFrame
    entities: str
    own: pd.DataFrame = pd.DataFrame(columns=["signal", "measure", "model", "value", "kind"])


def references() -> References:
    """Return what the book keeps of its reference models: four small tables and a map.

    Geometry comes from the rows of size "small", of encoders and of one decoder.
    """
    parts = []
    stored = pd.read_csv(REFERENCES)
    parts.append(stored[["signal", "measure", "model", "value"]])
    encoders = pd.read_csv(data.PUBLISHED / "geometry_variants.csv").query("size == 'small'")
    decoder = pd.read_csv(data.PUBLISHED / "geometry_decoder.csv").query("level == 0")
    clouds = pd.concat([encoders, decoder.assign(model="SmolLM2")])
    made, table = stored_families.load()
    for signal, frame, names in (
        ("latent space", clouds.set_index("model"), single_signals.SPREAD),
        ("prediction", table, held_out_texts.SCORES),
    ):
        long = frame[list(names)].melt(ignore_index=False, var_name="measure").reset_index()
        parts.append(long.rename(columns={long.columns[0]: "model"}).assign(signal=signal))
    values = pd.concat(parts, ignore_index=True).dropna(subset="value")
    return References(values, made, table, str(stored["entities"].iloc[0]))


def digest(table: pd.DataFrame) -> str:
    """Return a short text that changes when entities or their labels do."""
    return hashlib.sha256(table[["text", "label"]].to_csv(index=False).encode()).hexdigest()[:16]


def _among(
    value: float, low: float, high: float, others: Sequence[float], *, worse: bool = False
) -> str:
    """Return how many reference values a value lies above, and so the ends around it.

    Where more is worse, it says below how many it lies.
    """
    known = np.asarray(others, float)
    at, least, most = (
        int((known > v).sum() if worse else (known < v).sum()) for v in (value, low, high)
    )
    least, most = sorted((least, most))
    where = "below" if worse else "above"
    return f"{where} {at} of {len(known)}" + (f" ({least} to {most})" if most > least else "")


def tidy(
    name: str,
    found: Mapping[str, Mapping[str, Any]],
    inputs: signal_inputs.Inputs,
    known: References,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per measure of a model: value, interval, place among the references.

    `found` is what `signals.measure` returned. `low` and `high` are the ends of the interval, over
    what `by` names; `place` is empty and `among` says why where no reference was measured alike.
    Where a statement could be made, `expected` is what a model gives that knows nothing and `p` its
    two-sided p-value, before `_decided`; it is NaN, and `why` says why, where data are too few.
    """
    options = {"n_resamples": n_resamples, "seed": seed}
    rows: list[dict[str, Any]] = []

    def add(
        signal: str, measure: str, value: float, low: float, high: float, by: str, **test: Any
    ) -> None:
        label, unit, _ = MEASURES[measure]
        row = {"model": name, "signal": signal, "measure": label, "value": value, "low": low}
        row |= {"high": high, "unit": unit, "key": measure, "by": by}
        rows.append(row | {"expected": np.nan, "p": np.nan, "why": ""} | test)

    for signal, raw in found.items():
        if raw["status"] != "computed":
            continue
        if signal == "categories":
            for measure, values in (
                ("skill", np.array(raw["skill"])),
                ("above_spelling", np.subtract(raw["skill"], raw["spelling"])),
            ):
                *ends, p, n = _grouped(values, inputs.entities["group"], 0.95)
                by = f"{n} groups of entities" if n < len(values) else "entities"
                few = f"{n} groups of entities; a test needs {_LEAST_GROUPS} that differ"
                test = {"expected": 0.0, "p": p, "why": few if np.isnan(p) else ""}
                add(signal, measure, *ends, by, **(test if measure == "above_spelling" else {}))
        elif signal == "latent space":
            t = float(student.ppf(0.975, raw["n_groups"] - 1))
            for measure, part in raw["measures"].items():
                reach = t * part["error"]
                ends = part["value"] - reach, part["value"] + reach
                add(signal, measure, part["value"], *ends, "sentences left out")
        elif signal == "facts":
            table = fact_tests.knowledge(fact_tests.answers(raw, inputs.facts), **options)
            for row in table.itertuples():
                test = {"expected": row.expected, "p": row.p, "why": row.why}
                test = test if row.Index == "first" else {}
                add(signal, row.Index, row.value, row.low, row.high, _SUBJECTS, **test)
        elif signal == "corpus":
            for row in fact_tests.follow(
                fact_tests.answers(raw, inputs.facts), **options
            ).itertuples():
                test = {"expected": 0.0, "p": row.p, "why": row.why}
                add(signal, row.Index, row.value, row.low, row.high, _SUBJECTS, **test)
        elif signal == "map":
            near = neighbours(raw, known.made, **options).iloc[0]
            add(signal, "distance", near.distance, near.low, near.high, "texts")
        elif signal == "prediction":
            asked = held_out_texts.load()
            bits = "pseudo_bits" if raw["pseudo"] else "bits_per_byte"
            n = len(asked.texts)
            nats, sizes = (raw[column][:n] for column in ("log_likelihood", "n_bytes"))
            ends = likelihood.bits_per_byte(nats, sizes, **options)
            add(signal, bits, *ends, "texts", **_beside_guess(raw, n))
            if not raw["pseudo"]:
                right = _right(np.array(raw["log_likelihood"][n:]), asked.items)
                add(signal, "accuracy", *stats.bootstrap_mean(right, **options)[:3], "items")
        elif signal == "my texts":
            bits = "own_pseudo_bits" if raw["pseudo"] else "own_bits"
            ends = likelihood.bits_per_byte(raw["log_likelihood"], raw["n_bytes"], **options)
            few = f"{len(raw['read'])} of {len(inputs.texts)} texts" if raw["left_out"] else "texts"
            add(signal, bits, *ends, few)
    columns = [c for c in COLUMNS if c not in ("place", "among")]
    table = pd.DataFrame(rows, columns=[*columns, "key", "expected", "p", "why"])
    places = [_place(row, found, inputs, known) for row in table.itertuples()]
    table["place"], table["among"] = zip(*places, strict=True) if places else ([], [])
    return _decided(table)


def _decided(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `tidy`, or several joined, with what its tests carry together.

    `p_adjusted` is Holm's over all rows with a p-value. `verdict` is "above" or "below" what is
    expected of a model that knows nothing where `p_adjusted` is below `level` and the interval
    does not hold it, "undecided" for other rows with an expectation, and "" for the rest, which
    state nothing. Counts are tested only for models whose answers are right more often than
    expected, as others answer nothing that could be told. Source: Holm (1979).
    """
    from statsmodels.stats.multitest import multipletests

    table = table.assign(p_adjusted=np.nan, verdict="")
    shown = (table["key"] == "first") & (table["p"] < 0.05) & (table["value"] > table["expected"])
    knows = table["model"].isin(table["model"][shown])
    gated = (table["signal"] == "corpus") & ~knows & table["p"].notna()
    table.loc[gated, "p"] = np.nan
    table.loc[gated, "why"] = "it is not shown to answer any fact better than by its preferences"
    tested = table["p"].notna()
    if tested.any():
        table.loc[tested, "p_adjusted"] = multipletests(table.loc[tested, "p"], 0.05, "holm")[1]
    sure = tested & (table["p_adjusted"] < 0.05)
    table.loc[table["expected"].notna(), "verdict"] = "undecided"
    table.loc[sure & (table["low"] > table["expected"]), "verdict"] = "above"
    table.loc[sure & (table["high"] < table["expected"]), "verdict"] = "below"
    right = table["model"][(table["key"] == "first") & (table["verdict"] == "above")]
    unclear = (table["signal"] == "corpus") & ~table["model"].isin(right)
    table.loc[unclear, "verdict"] = "undecided"
    return table[[*COLUMNS, *TESTS, "key"]]


def favourable(table: pd.DataFrame) -> pd.Series:
    """Return which rows of a decided table say something for a model, or what it answers, bool.

    That a score is worse than what is expected of a model that knows nothing says nothing for it;
    that counts run against its answers would say that it answers something.
    """
    worse = table["key"].map(lambda key: MEASURES[key][2] == "worse")
    good = np.where(worse, "below", "above")
    counted = (table["signal"] == "corpus") & table["verdict"].isin(("above", "below"))
    return (table["verdict"] == good) | counted


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several tables of `tidy` as one, `_decided` together."""
    some = [table for table in tables if len(table)]
    if not some:
        return pd.DataFrame(columns=[*COLUMNS, *TESTS, "key"])
    return _decided(pd.concat(some, ignore_index=True))


def _place(
    row: Any, found: Mapping[str, Any], inputs: signal_inputs.Inputs, known: References
) -> tuple[str, str]:
    """Return the place of a row among the book's references and the reader's, and their number."""
    if row.signal == "map":
        near = _nearest(found["map"], known.made)
        return f"nearest: {near}", f"{len(known.made.names)} models"
    worse, parts = MEASURES[row.key][2] == "worse", []
    why = _no_place(row, found, inputs, known)

    def close(others: pd.DataFrame) -> np.ndarray:
        return np.isclose(others.value, row.value, rtol=1e-4, atol=0)

    for values, whose in ((known.values, "reference models"), (known.own, "of yours")):
        others = values.query("signal == @row.signal and measure == @row.key")
        if why and values is known.values or not len(others):
            continue
        if values is known.own:
            if row.signal in ("facts", "corpus"):
                others = others[others.kind == found["model"]["kind"]]
            if found[row.signal].get("left_out"):  # the others read other texts
                others = others[:0]
            # Another model may have the same name, as checkpoints have.
            others = others[~(close(others) & (others.model == row.model))]
        else:
            # A packaged model is a reference itself, under whatever name.
            others = others[~(close(others) | others.model.isin(_ITSELF.get(row.model, [])))]
        if not len(others):
            continue
        told = _among(row.value, row.low, row.high, others.value, worse=worse)
        parts.append((told, f"{len(others)} {whose}"))
    if parts:
        return "; ".join(told for told, _ in parts), ", ".join(among for _, among in parts)
    return "", why or "no reference is measured so"


def _no_place(
    row: Any, found: Mapping[str, Any], inputs: signal_inputs.Inputs, known: References
) -> str:
    """Return why the book's references cannot stand beside a row, "" where they can."""
    if row.signal == "categories" and digest(inputs.entities) != known.entities:
        return "controls only: no reference model was given these entities"
    if row.signal == "latent space" and found[row.signal]["n_sentences"] != 500:
        return "not placed: the references read 500 sentences"
    return {
        "my texts": "no reference model has read your texts",
        "facts": "no reference model was asked these facts",
        "corpus": "no reference model was asked these facts",
    }.get(row.signal, "")


def _grouped(
    values: np.ndarray, groups: pd.Series, confidence: float
) -> tuple[float, float, float, float, int]:
    """Return a mean, the ends of its interval, its p-value against 0, and the number of groups.

    Rows of a group may depend on each other. p is NaN for fewer than ten groups.
    """
    codes = pd.factorize(groups)[0]
    n = int(codes.max()) + 1
    if n < 3 or not np.ptp(values):
        return float(values.mean()), float(values.min()), float(values.max()), np.nan, n
    mean, low, high, p = paired_tests.mean_test(values, codes, confidence)
    return mean, low, high, p if n >= _LEAST_GROUPS else np.nan, n


def _beside_guess(raw: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Return the bits per byte of equally likely tokens, and p of no difference over texts."""
    nats, guess, n_bytes = (np.array(raw[c][:n]) for c in ("log_likelihood", "guess", "n_bytes"))
    p = paired_tests.paired_test(guess / n_bytes, nats / n_bytes).p_value
    return {"expected": float(-guess.sum() / np.log(2) / n_bytes.sum()), "p": float(p), "why": ""}


def _right(values: np.ndarray, items: pd.DataFrame) -> list[float]:
    table = items.assign(value=values).pivot(index="item", columns="candidate", values="value")
    return (table[0] > table.drop(columns=0).max(axis=1)).astype(float).tolist()


def part_of(made: model_map.ModelMap, keys: Sequence[str]) -> model_map.ModelMap:
    """Return the map on its first texts; raises `ValueError` where these have other keys."""
    part = placement.first_texts(made, len(keys))
    if list(part.texts) != list(keys):
        raise ValueError("keys are not those of the map's first texts; install the pinned packages")
    return part


def neighbours(raw: Mapping[str, Any], made: model_map.ModelMap, **options: Any) -> pd.DataFrame:
    """Return `placement.neighbours` of a model measured by `single_signals.map_texts`."""
    part = part_of(made, raw["keys"])
    return placement.neighbours(part, raw["log_likelihood"], **options)


def _nearest(raw: Mapping[str, Any], made: model_map.ModelMap) -> str:
    """Return the name of the nearest model on the map."""
    return str(neighbours(raw, made, k=1, n_resamples=1).index[0])


def between(
    raws: Mapping[str, Mapping[str, Any]], known: References, **options: Any
) -> pd.DataFrame:
    """Return the distances among the reader's own models, with intervals and what they mean.

    One row per pair: `model`, `other`, `distance`, `low`, `high` (nats² per text), `kinship`.
    """
    rows, names = [], list(raws)
    for i, one in enumerate(names):
        part = part_of(known.made, raws[one]["keys"])
        yards = placement.yardsticks(part, known.models)
        for other in names[i + 1 :]:
            values = np.maximum(np.asarray(raws[other]["log_likelihood"], float), part.threshold)
            alone = replace(part, names=(other,), log_likelihoods=values[None])
            near = placement.neighbours(alone, raws[one]["log_likelihood"], k=1, **options).iloc[0]
            row = {"model": one, "other": other, "distance": near.distance, "low": near.low}
            row |= {"high": near.high}
            row |= {"kinship": placement.kinship_between(near.low, near.high, yards)}
            rows.append(row)
    return pd.DataFrame(rows, columns=["model", "other", "distance", "low", "high", "kinship"])
