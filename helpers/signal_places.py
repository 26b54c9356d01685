"""Measured signals as a table: values with intervals, and places among reference models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import (
    data,
    held_out,
    modelmap,
    models,
    placing,
    real_model,
    reference_map,
    signal_inputs,
    signals,
    stats,
)

REFERENCES = data.PUBLISHED / "your_model_references.csv"
# How each measure is called, its unit, and what more of it means.
MEASURES = {
    "skill": ("ALP above chance", "nats", "better"),
    "lloyd_index": ("patchiness (Lloyd)", "", ""),
    "rankme": ("RankMe", "dimensions", ""),
    "mean_cosine": ("mean cosine", "", ""),
    "error": ("reconstruction error", "share", ""),
    "between_share": ("between-sentence share", "share", ""),
    "first": ("right answer first", "share", "better"),
    "log_probability": ("log P of the right answer", "nats", "better"),
    "N(s,o)": ("answers with N(s,o)", "Spearman's rho", "better"),
    "P(o|s)": ("answers with P(o|s)", "Spearman's rho", "better"),
    "SMI": ("answers with SMI", "Spearman's rho", "better"),
    "distance": ("distance to the nearest", "nats² a text", ""),
    "bits_per_byte": ("bits per byte", "bits", "worse"),
    "pseudo_bits": ("pseudo-bits per byte", "bits", "worse"),
    "accuracy": ("right continuation first", "share", "better"),
    "own_bits": ("bits per byte, my texts", "bits", "worse"),
    "own_pseudo_bits": ("pseudo-bits per byte, my texts", "bits", "worse"),
}
# What the packaged models are called among the references.
ITSELF = {models.MINILM: ["MiniLM, 6 layers"], models.SMOLLM: ["SmolLM2", "smollm2"]}
COLUMNS = ["model", "signal", "measure", "value", "low", "high", "unit", "place", "among", "by"]


class References(NamedTuple):
    """Reference models: `values` has `signal`, `measure`, `model`, `value`; `made` is the map.

    `entities` is the digest of the table on which the values of "categories" were measured.
    """

    values: pd.DataFrame
    made: modelmap.ModelMap
    models: pd.DataFrame
    entities: str


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
    made, table = reference_map.load()
    for signal, frame, names in (
        ("latent space", clouds.set_index("model"), signals.SPREAD),
        ("prediction", table, held_out.SCORES),
    ):
        long = frame[list(names)].melt(ignore_index=False, var_name="measure").reset_index()
        parts.append(long.rename(columns={long.columns[0]: "model"}).assign(signal=signal))
    values = pd.concat(parts, ignore_index=True).dropna(subset="value")
    return References(values, made, table, str(stored["entities"].iloc[0]))


def digest(table: pd.DataFrame) -> str:
    """Return a short text that changes when entities or their labels do."""
    return hashlib.sha256(table[["text", "label"]].to_csv(index=False).encode()).hexdigest()[:16]


def place(
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
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row a measure of a model: value, interval, place among the references.

    `found` is what `signals.measure` returned. `low` and `high` are the ends of the interval, over
    what `by` names; `place` is empty and `among` says why where no reference was measured alike.
    """
    options = {"n_resamples": n_resamples, "confidence": confidence, "seed": seed}
    rows: list[dict[str, Any]] = []

    def add(signal: str, measure: str, value: float, low: float, high: float, by: str) -> None:
        label, unit, _ = MEASURES[measure]
        row = {"model": name, "signal": signal, "measure": label, "value": value, "low": low}
        rows.append(row | {"high": high, "unit": unit, "key": measure, "by": by})

    def mean(signal: str, measure: str, values: Sequence[float], by: str) -> None:
        if len(values) >= 3:
            add(signal, measure, *stats.bootstrap_mean(values, **options)[:3], by)

    for signal, raw in found.items():
        if raw["status"] != "computed":
            continue
        if signal == "categories":
            mean(signal, "skill", raw["skill"], "entities")
        elif signal == "latent space":
            t = _t_quantile(raw["n_groups"] - 1, confidence)
            for measure, part in raw["measures"].items():
                reach = t * part["error"]
                ends = part["value"] - reach, part["value"] + reach
                add(signal, measure, part["value"], *ends, "sentences left out")
        elif signal == "facts":
            mean(signal, "first", raw["first"], "facts")
            mean(signal, "log_probability", raw["log_probability"], "facts")
        elif signal == "corpus":
            for row in follow(raw, inputs.facts, n_resamples=n_resamples, seed=seed).itertuples():
                add(signal, row.signal, row.rho, row.low, row.high, "subjects")
        elif signal == "map":
            near = neighbours(raw, known.made, **options).iloc[0]
            add(signal, "distance", near.distance, near.low, near.high, "texts")
        elif signal == "prediction":
            asked = held_out.load()
            bits = "pseudo_bits" if raw["pseudo"] else "bits_per_byte"
            n = len(asked.texts)
            add(signal, bits, *_bits(raw, n, **options), "texts")
            if not raw["pseudo"]:
                right = _right(np.array(raw["log_likelihood"][n:]), asked.items)
                mean(signal, "accuracy", right, "items")
        elif signal == "my texts":
            bits = "own_pseudo_bits" if raw["pseudo"] else "own_bits"
            add(signal, bits, *_bits(raw, len(raw["n_bytes"]), **options), "texts")
    table = pd.DataFrame(
        rows, columns=[*[c for c in COLUMNS if c not in ("place", "among")], "key"]
    )
    places = [_place(row, found, inputs, known) for row in table.itertuples()]
    table["place"], table["among"] = zip(*places, strict=True) if places else ([], [])
    return table[[*COLUMNS, "key"]]


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several tables of `tidy` as one, with its columns where there is none."""
    some = [table for table in tables if len(table)]
    if not some:
        return pd.DataFrame(columns=[*COLUMNS, "key"])
    return pd.concat(some, ignore_index=True)


def _place(
    row: Any, found: Mapping[str, Any], inputs: signal_inputs.Inputs, known: References
) -> tuple[str, str]:
    others = known.values.query("signal == @row.signal and measure == @row.key")
    why = ""
    if row.signal == "map":
        near = nearest(found["map"], known.made)
        return f"nearest: {near}", f"{len(known.made.names)} models"
    if row.signal == "categories" and digest(inputs.entities) != known.entities:
        why = "controls only: no reference model was given these entities"
    elif row.signal == "latent space" and found[row.signal]["n_sentences"] != 500:
        why = "not placed: the references read 500 sentences"
    elif row.signal == "my texts":
        why = "no reference model has read your texts"
    elif row.signal in ("facts", "corpus"):
        why = "no reference model was asked these facts"
    elif not len(others):
        why = "no reference is measured so"
    if why:
        return "", why
    # A packaged model is a reference itself, under whatever name, and is not compared with itself.
    same = np.isclose(others.value, row.value, rtol=1e-4, atol=0)
    others = others[~(same | others.model.isin(ITSELF.get(row.model, [])))]
    worse = MEASURES[row.key][2] == "worse"
    told = place(row.value, row.low, row.high, others.value, worse=worse)
    return told, f"{len(others)} reference models"


def _t_quantile(degrees: int, confidence: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, degrees))


def _bits(
    raw: Mapping[str, Any], n: int, *, n_resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Return bits per byte of the first n texts, and the ends of an interval over texts."""
    nats, n_bytes = (np.array(raw[c][:n], float) for c in ("log_likelihood", "n_bytes"))
    bits = -nats / np.log(2)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    sample = (drawn @ bits) / (drawn @ n_bytes)
    low, high = np.quantile(sample, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(bits.sum() / n_bytes.sum()), float(low), float(high)


def _right(values: np.ndarray, items: pd.DataFrame) -> list[float]:
    table = items.assign(value=values).pivot(index="item", columns="candidate", values="value")
    return (table[0] > table.drop(columns=0).max(axis=1)).astype(float).tolist()


def follow(
    raw: Mapping[str, Any], facts: pd.DataFrame, *, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return how the log P of answers follows what a corpus says of the facts, by rank.

    One row a count: `signal` ("N(s,o)", "P(o|s)", "SMI"), `rho` within relations, `low`, `high`.
    SMI raises mutual information to a power of the model's size, which leaves the order of facts as
    it is: for one model it is the rank of MI. A count that does not vary is left out. Source:
    `real_model.links`.
    """
    asked = facts.iloc[raw["rows"]]
    columns = {"N(s,o)": "log2 N(s,o)", "P(o|s)": "P(o|s)", "SMI": "MI"}
    table = asked[["relation", "subject"]].assign(answer=raw["log_probability"])
    for name, column in columns.items():
        table[name] = asked[column].to_numpy()
    varied = real_model.ranks(table[list(columns)], table["relation"]).abs().sum() > 0
    names = [name for name in columns if varied[name]]
    if len(table) < 5 or not names:
        return pd.DataFrame(columns=["signal", "rho", "low", "high"])
    return real_model.links(table, names, ["answer"], n_resamples=n_resamples, seed=seed)


def part_of(made: modelmap.ModelMap, keys: Sequence[str]) -> modelmap.ModelMap:
    """Return the map on its first texts; raises `ValueError` where these have other keys."""
    part = placing.first_texts(made, len(keys))
    if list(part.texts) != list(keys):
        raise ValueError("keys are not those of the map's first texts; install the pinned packages")
    return part


def neighbours(raw: Mapping[str, Any], made: modelmap.ModelMap, **options: Any) -> pd.DataFrame:
    """Return `placing.neighbours` of a model measured by `signals.map_texts`."""
    part = part_of(made, raw["keys"])
    return placing.neighbours(part, raw["log_likelihood"], **options)


def nearest(raw: Mapping[str, Any], made: modelmap.ModelMap) -> str:
    """Return the name of the nearest model on the map."""
    return str(neighbours(raw, made, k=1, n_resamples=1).index[0])


def between(
    raws: Mapping[str, Mapping[str, Any]], known: References, **options: Any
) -> pd.DataFrame:
    """Return the distances among the reader's own models, with intervals and what they mean.

    One row a pair: `model`, `other`, `distance`, `low`, `high` (nats² a text), `kinship`.
    """
    rows, names = [], list(raws)
    for i, one in enumerate(names):
        part = part_of(known.made, raws[one]["keys"])
        yards = placing.yardsticks(part, known.models)
        for other in names[i + 1 :]:
            values = np.maximum(np.asarray(raws[other]["log_likelihood"], float), part.threshold)
            alone = replace(part, names=(other,), log_likelihoods=values[None])
            near = placing.neighbours(alone, raws[one]["log_likelihood"], k=1, **options).iloc[0]
            row = {"model": one, "other": other, "distance": near.distance, "low": near.low}
            row |= {"high": near.high, "kinship": placing.kinship(near.distance, yards)}
            rows.append(row)
    return pd.DataFrame(rows, columns=["model", "other", "distance", "low", "high", "kinship"])
