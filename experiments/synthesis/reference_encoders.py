"""What the reference models score on the default entities.

`python -m experiments reference_encoders` writes the table.
The other signals are placed among rows that the pages of the parts keep.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.command import Written, command, option
from helpers import encoding, model_edits, models
from helpers.synthesis import model_kinds, signal_inputs, signal_report, single_signals

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def _reference_models(
    *, decoder: bool = True
) -> Iterator[tuple[str, PreTrainedTokenizerBase, PreTrainedModel]]:
    """Give the encoders of geometry/other_models, and the packaged decoder with its untrained twin.

    Each comes with its name and tokenizer, loaded when it is asked for.
    """
    tokenizer, model = models.load_model()
    yield "MiniLM, 6 layers", tokenizer, model
    yield "MiniLM, 3 layers (trained apart)", tokenizer, models.load_model(models.MINILM_L3)[1]
    yield "first 4 layers", tokenizer, model_edits.truncated(model, 4)
    yield "first 2 layers", tokenizer, model_edits.truncated(model, 2)
    yield "embeddings only", tokenizer, model_edits.words_only(model)
    yield "layers shuffled", tokenizer, model_edits.layers_shuffled(model, 0)
    yield "embeddings permuted", tokenizer, model_edits.embeddings_permuted(model, 0)
    yield "random embeddings", tokenizer, model_edits.random_embeddings(model, 0)
    yield "random body", tokenizer, model_edits.random_body(model, 0)
    yield "untrained", tokenizer, model_edits.untrained(model, 0)
    yield "rounded to 3 bits", tokenizer, model_edits.rounded(model, 3)
    yield "half of the weights pruned", tokenizer, model_edits.pruned(model, 0.5)
    if decoder:
        tokenizer, model = models.load_model(models.SMOLLM)
        yield "SmolLM2", tokenizer, model
        yield "SmolLM2, untrained", tokenizer, encoding.randomised(model, 0)


def _categories(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> float:
    """Return the mean skill on the default entities, nats, as `single_signals.categories`."""
    loaded = model_kinds.Loaded(tokenizer, model, model, "encoder", "")
    table = signal_inputs.read_entities()
    return float(np.mean(single_signals.categories(loaded, table=table, n_shuffles=0)["skill"]))


@command(
    "reference_encoders",
    option("--out", type=Path, default=signal_report.REFERENCES, help="where it goes"),
    option("--no-decoder", action="store_true", help="leave the decoder out"),
)
def main(given: Namespace) -> Written:
    """Measure the reference models and write their table: two minutes."""
    sign = signal_report.digest(signal_inputs.read_entities())
    rows = [
        {"signal": "categories", "measure": "skill", "model": name} | {"value": value}
        for name, tokenizer, model in _reference_models(decoder=not given.no_decoder)
        for value in [_categories(tokenizer, model)]
    ]
    yield given.out, pd.DataFrame(rows).round(6).assign(entities=sign).to_csv(index=False)
