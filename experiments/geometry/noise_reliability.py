"""Noisy models measured again, with other tokens and quantizer seeds: how well measures repeat."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.geometry import noise_sweep
from helpers import data, encoding, factbook, injection, models
from helpers.geometry import reliability

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TABLE = data.PUBLISHED / "geometry_repeats.csv"
# Percent of noise (published rule), and the seeds of tokens and quantizers; 0 is in the sweep.
LEVELS, DRAWS, TOKENS = (1.0, 4.0, 20.0), (1, 2), 3


def drawn_rows(lengths: Sequence[int], tokens: int, seed: int) -> np.ndarray:
    """Return the rows that `encoding.token_vectors` draws, of vectors of all tokens.

    `lengths` has the number of tokens of each sentence, `tokens` are drawn of each. The rows have
    the order of the sentences, then that of the draw.
    """
    rng, starts = np.random.default_rng(seed), np.concatenate([[0], np.cumsum(lengths)])
    drawn = [start + rng.permutation(n)[:tokens] for start, n in zip(starts, lengths, strict=False)]
    return np.concatenate(drawn)


def repeated_rows(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    *,
    size: str = "full",
    draws: Iterable[int] = DRAWS,
) -> pd.DataFrame:
    """Return the geometry of one model, a row per draw of tokens.

    The model is encoded once; each draw takes other tokens of the same sentences, and starts the
    quantizers from another seed. Draw 0 is what the sweep measures on its first replicates.
    Columns: `draw`, then those of `noise_sweep.cloud_row`. Raises as the functions named.
    """
    options = noise_sweep.SIZES[size]
    sentences = factbook.draw_sentences(options["n_sentences"])
    vectors = encoding.token_vectors(model, tokenizer, sentences, tokens_per_sentence=None)
    lengths = [len(ids) for ids in tokenizer(sentences)["input_ids"]]
    if sum(lengths) != len(vectors):
        raise ValueError("sentences are longer than the model takes; draw shorter ones")
    rows = []
    for draw in draws:
        points = vectors[drawn_rows(lengths, TOKENS, draw)]
        row = noise_sweep.cloud_row(points, len(sentences), bits=options["bits"], seed=draw)
        rows.append({"draw": draw, **row})
    return pd.DataFrame(rows)


def within_levels(
    sweep: pd.DataFrame, repeats: pd.DataFrame, measures: Sequence[str]
) -> pd.DataFrame:
    """Return how much of each measure's scatter within noise levels is not measurement error.

    `sweep` has a row per noisy model (`level`, `replicate`, the measures), `repeats` a row per
    further measurement of the first model of a level. Levels in both count, each with its own
    scatter. Columns: `models` and `repeats`, the two standard deviations, `reliability`, `low`,
    `high` (`helpers.geometry.reliability`), a row per measure. Raises `ValueError` without common
    levels.
    """
    common = sorted(set(sweep["level"]) & set(repeats["level"]))
    if not common:
        raise ValueError("sweep and repeats have no level in common; measure the same levels")
    rows, names = {}, ["level", *measures]
    ours = sweep[sweep["level"].isin(common)]
    again = repeats[repeats["level"].isin(common)]
    parts = [ours, pd.concat([ours.loc[ours["replicate"] == 0, names], again[names]])]
    for name in measures:
        observed, error = (
            reliability.pooled_variance(part[name], part["level"].to_numpy()) for part in parts
        )
        found = reliability.reliability(observed, error)
        rows[name] = {"models": observed.value**0.5, "repeats": error.value**0.5, **found._asdict()}
    return pd.DataFrame(rows).T.rename(columns={"share": "reliability"})


def collect(
    levels: Iterable[float] = LEVELS,
    *,
    size: str = "full",
    folder: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Return the rows of all levels, each level computed once and kept, so that it can resume."""
    tokenizer, model = models.load_encoder()

    def measure(level: float) -> dict[str, object]:
        seed = noise_sweep.noise_seed(level, 0)
        noisy, _ = injection.inject_noise(model, level, seed=seed)
        rows = repeated_rows(tokenizer, noisy, size=size, draws=DRAWS)
        return {"rows": rows.to_dict("records")}

    key = {"model": encoding.identity(models.MINILM), "size": noise_sweep.SIZES[size]}
    key |= {"draws": list(DRAWS), "what": "repeats"}
    settings = [{"level": float(level)} for level in levels]
    folder = folder or data.cache_folder() / "geometry"
    kept = noise_sweep.collect_rows(settings, measure, folder, key=key, progress=progress)
    tables = [
        pd.DataFrame(row.rows).assign(size=size, level=row.level) for row in kept.itertuples()
    ]
    whole = pd.concat(tables, ignore_index=True)
    front = ["size", "level", "draw"]
    return whole[front + [name for name in whole if name not in front]]


def main(words: Sequence[str] | None = None) -> int:
    """Measure the noisy models again and write the table; killed, it goes on."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments noise_reliability", description=main.__doc__
    )
    parser.add_argument("--table", type=Path, default=TABLE, help="the CSV file to write")
    parser.add_argument("--levels", type=float, nargs="+", default=list(LEVELS), help="percent")
    given = parser.parse_args(words)
    rows = collect(given.levels, progress=lambda line: print(line, flush=True))
    data.write_atomically(given.table, rows.round(6).to_csv(index=False))
    return 0
