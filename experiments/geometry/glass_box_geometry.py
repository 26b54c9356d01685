"""Geometry of the glass box: measured twice, without structure, and with other numbers of cells."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.command import Written, command, option
from experiments.geometry import noise_sweep, noise_tables
from experiments.synthesis import glass_box_measures, glass_box_runs
from helpers import data, encoding, factbook_tasks
from helpers.geometry import quantization, quantizers, reliability, spread

TABLE = data.PUBLISHED / "geometry_glass_box.csv"
MEASURES = {
    "lloyd_index": "patchiness (AQ)",
    "error": "reconstruction error (AQ)",
    "eee": "EEE",
    "vrm": "VRM",
    "isoscore": "IsoScore",
    "mean_cosine": "mean cosine",
    "rankme": "RankMe",
}
# What is held fixed, and what is correlated with the truth.
FORMS = {
    "plain": ("", []),
    "given width": ("", ["width"]),
    "minus its null": ("free_", []),
    "minus its null, given width": ("free_", ["width"]),
}
# Numbers of cells, by quantizer. The glass box itself is measured with 32 of the additive one,
# which is too slow on a laptop for many more.
CELLS = {"lsq": (16, 32), "pq": (16, 32, 64, 256), "kmeans": (16, 32, 64, 256)}
STORED = ("lsq", 2**glass_box_measures.BITS)


def sentences() -> list[str]:
    """Return the sentences on which the glass box is measured; no model has read them."""
    unread = factbook_tasks.sentences(test=True)
    order = np.random.default_rng(0).permutation(len(unread))[: glass_box_measures.N_SENTENCES]
    return [unread[i] for i in order]


def _cloud(name: str, texts: Sequence[str], *, seed: int = 0) -> np.ndarray:
    """Return token vectors of a stored model by its name; `seed` draws the tokens."""
    tokenizer = glass_box_runs.stored_tokenizer()
    model = glass_box_runs.load_named(name, tokenizer)
    options = {"tokens_per_sentence": glass_box_measures.TOKENS, "seed": seed}
    return encoding.token_vectors(model.base_model, tokenizer, texts, **options)


def _measured(points: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Return the measures of one cloud, with the settings of the glass box."""
    codes, restored = quantizers.quantize_and_restore(
        points, bits=glass_box_measures.BITS, seed=seed
    )
    n_cells = 2**glass_box_measures.BITS
    found = quantization.quantized_measures(points, codes, restored, n_cells=n_cells)
    found |= spread.spread_measures(points, seed=seed)
    return {name: found[name] for name in MEASURES}


def _model_row(name: str, texts: Sequence[str]) -> dict[str, float]:
    """Return one model's measures again, its null values, and its index with other cells.

    `again_NAME` comes from other tokens and another seed of the quantizer, `null_NAME` from the
    cloud of the stored table with its columns shuffled (`reliability.permuted_columns`).
    `lsq_K`, `pq_K`, `kmeans_K` are Lloyd's index with K cells per codebook.
    """
    points = _cloud(name, texts)
    row = {f"again_{k}": v for k, v in _measured(_cloud(name, texts, seed=1), seed=1).items()}
    null = reliability.permuted_columns(points, seed=0)
    row |= {f"null_{k}": v for k, v in _measured(null).items()}
    for tool, cells in CELLS.items():
        for n_cells in cells:
            if (tool, n_cells) == STORED:
                continue
            codes, _ = quantizers.quantize(points, quantizer=tool, bits=n_cells.bit_length() - 1)
            counts = quantization.cell_counts(codes, n_cells)
            row[f"{tool}_{n_cells}"] = quantization.lloyd_index(counts)
    return row


def _collect(names: Iterable[str]) -> pd.DataFrame:
    """Return the rows of models, each computed once and kept, so that it can resume."""
    texts, folder = sentences(), data.cache_folder() / "geometry_glass_box"
    key = {"what": "glass box geometry", "version": glass_box_measures.VERSION}
    settings = [{"model": name} for name in names]
    rows = noise_sweep.collect_rows(
        settings, lambda model: _model_row(model, texts), folder, key=key
    )
    return rows.set_index("model").drop(columns="cpu_seconds")


def joined(table: pd.DataFrame, extra: pd.DataFrame) -> pd.DataFrame:
    """Return the models that were measured again: the glass box's table, joined with `_model_row`.

    Added: `free_NAME`, each measure minus its null value.
    """
    both = table.join(extra, how="inner")
    both["{}_{}".format(*STORED)] = both["lloyd_index"]
    return both.assign(**{f"free_{m}": both[m] - both[f"null_{m}"] for m in MEASURES})


def live_gap(names: Sequence[str], table: pd.DataFrame) -> float:
    """Return the largest relative difference of rows measured now from the stored ones.

    Relative to the stored size plus 0.01, since a mean cosine may be near 0.
    """
    again = pd.DataFrame({name: _model_row(name, sentences()) for name in names}).T
    stored = table.loc[list(names), list(again)]
    return float(((again - stored).abs() / (stored.abs() + 0.01)).max(axis=None))


def width_table(models: pd.DataFrame, truth: str, **options: int) -> pd.DataFrame:
    """Return what each measure says of a truth, before and after a correction for width.

    One row per kind of model, measure and form (`FORMS`): the measure or the measure minus its
    null, its rank correlation with the truth, plain or with width held fixed. `with width` is the
    rank correlation of the same quantity with width; `reliability` the rank correlation of the
    measure's two measurements, given what the form holds fixed; `corrected` divides by its root.
    Intervals come from models drawn again, with the fit made again in every draw. All models have
    two layers: there is nothing to correct for depth.
    """
    rows = []
    for kind, part in models.groupby("kind", sort=False):
        for name, label in MEASURES.items():
            for form, (prefix, given) in FORMS.items():
                x = f"{prefix}{name}"

                def rank(rows: pd.DataFrame, x: str = x, given: list[str] = given) -> float:
                    return noise_tables.partial_rank(rows, x, truth, given)

                used = part[list(dict.fromkeys([x, truth, *given]))]
                found = noise_tables.resampled(used, rank, None, **{"n_resamples": 300, **options})
                repeat = noise_tables.partial_rank(part, name, f"again_{name}", given)
                width = noise_tables.partial_rank(part, x, "width")
                row = {"kind": kind, "measure": label, "form": form, **found._asdict()}
                row |= {"with width": width, "reliability": repeat}
                rows.append(row | {"corrected": reliability.disattenuated(found.r, repeat)})
    return pd.DataFrame(rows)


def cell_table(models: pd.DataFrame, truth: str) -> pd.DataFrame:
    """Return how patchiness follows a truth with other quantizers and numbers of cells.

    One row per kind, quantizer and number of cells: the rank correlation `r`, and `given_width`,
    the partial one.
    """
    rows = []
    for kind, part in models.groupby("kind", sort=False):
        for tool, numbers in CELLS.items():
            for cells in numbers:
                x = f"{tool}_{cells}"
                r = noise_tables.partial_rank(part, x, truth)
                given = noise_tables.partial_rank(part, x, truth, ["width"])
                row = {"kind": kind, "quantizer": tool, "cells": cells, "r": r}
                rows.append(row | {"given_width": given, "n": len(part)})
    return pd.DataFrame(rows)


@command(
    "glass_box_geometry", option("--table", type=Path, default=TABLE, help="the CSV file to write")
)
def main(given: Namespace) -> Written:
    """Measure the glass box at the end of training again; killed, it goes on."""
    yield given.table, _collect(glass_box_runs.last_names()).round(6).to_csv()
