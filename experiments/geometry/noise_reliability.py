"""Noisy models measured again, with other tokens and quantizer seeds: how well measures repeat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.geometry import noise_sweep
from helpers import encoding, factbook
from helpers.geometry import reliability

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tokens drawn from each sentence, as in the sweep.
TOKENS = 3
# Lloyd's index by the additive quantizer, the product quantizer and flat k-means.
QUANTIZERS = ["lloyd_index", "pq_lloyd_index", "km_lloyd_index"]


def _drawn_rows(lengths: Sequence[int], tokens: int, seed: int) -> np.ndarray:
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
    draws: Iterable[int] = (0, 1),
    sentences: Sequence[str] | None = None,
    tokens: int = TOKENS,
    bits: int | None = None,
) -> pd.DataFrame:
    """Return the geometry of one model, a row per draw of tokens.

    The model is encoded once; each draw takes other tokens of the same sentences, and starts the
    quantizers from another seed. Draw 0 is what the sweep measures on its first replicates.
    `sentences`, `tokens` of each and `bits` replace those of the size where they are given.
    Columns: `draw`, then those of `noise_sweep.cloud_row`. Raises as the functions named.
    """
    options = noise_sweep.SIZES[size]
    sentences = factbook.draw_sentences(options["n_sentences"]) if sentences is None else sentences
    vectors = encoding.token_vectors(model, tokenizer, sentences, tokens_per_sentence=None)
    lengths = [len(ids) for ids in tokenizer(sentences)["input_ids"]]
    if sum(lengths) != len(vectors):
        raise ValueError("sentences are longer than the model takes; draw shorter ones")
    rows = []
    for draw in draws:
        points = vectors[_drawn_rows(lengths, tokens, draw)]
        row = noise_sweep.cloud_row(points, len(sentences), bits=bits or options["bits"], seed=draw)
        rows.append({"draw": draw, **row})
    return pd.DataFrame(rows)


def within_levels(
    sweep: pd.DataFrame, again: pd.DataFrame, measures: Sequence[str], *, above: float = 0.0
) -> pd.DataFrame:
    """Return how much of each measure's scatter within noise levels is not measurement error.

    `sweep` has a row per noisy model with its `level`, `again` a row per measurement of one
    model of a level; without noise, the replicates of a level are one model. Logarithms of
    the excess over `above` are compared, so that levels count alike. Columns: the standard
    deviations of `models` within levels and of `repeats`, `reliability`, `low`, `high`
    (`helpers.geometry.reliability`), a row per measure; a measure that is not `above` throughout
    is left out.
    """
    rows = {}
    for name in measures:
        if not ((sweep[name] > above).all() and (again[name] > above).all()):
            continue
        observed, error = (
            reliability.pooled_variance(np.log(part[name] - above), part["level"].to_numpy())
            for part in (sweep, again)
        )
        found = reliability.reliability(observed, error)
        rows[name] = {"models": observed.value**0.5, "repeats": error.value**0.5, **found._asdict()}
    return pd.DataFrame(rows).T.rename(columns={"share": "reliability"})


def by_scale(sweep: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Return `within_levels` of Lloyd's index by each quantizer, on two scales.

    `sweep` and `again` are as there. One row per `scale` (the logarithm of the index, or of its
    excess over 1, which is 0 for points at random) and `measure`; a row is NaN where the index
    does not stay above 1.
    """
    scales = {"log of index": 0.0, "log of index - 1": 1.0}
    parts = {
        name: within_levels(sweep, again, QUANTIZERS, above=above).reindex(QUANTIZERS)
        for name, above in scales.items()
    }
    return pd.concat(parts, names=["scale", "measure"])
