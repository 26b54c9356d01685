"""Log-likelihoods of texts read off every layer of a causal language model: the logit lens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import decoders, likelihood, reading

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def layer_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
) -> pd.DataFrame:
    """Return log-likelihoods of texts as if the model ended after each layer, nats.

    A row a layer, from 0, the embeddings, to the model's last, and a column per text. States of a
    layer go through the model's last normalisation and its output head; the last row is that of
    `likelihood.score_texts`, tokens after the first of each text. One text is read at a time, and
    the model's last normalisation is named as in Llama or GPT-2. Source: arXiv 2505.15353; the
    lens is that of nostalgebraist (2020).
    """
    import torch

    decoder = decoders.prove(model)
    body = decoder.model.base_model
    norm = getattr(body, "norm", getattr(body, "ln_f", None))
    start, columns = likelihood.start_tokens(tokenizer, "tokenizer"), []

    def score(states: Tensor, ids: Tensor) -> float:
        values = likelihood.head_scores(decoder.logits, states[0, :-1], ids[0, 1:])
        return values[len(start) :].sum()

    with reading.inference(model):
        for row in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            ids = torch.tensor([[*start, *row]], device=model.device)
            states = body(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
            # The states of the last layer have gone through the normalisation.
            columns.append([score(layer, ids) for layer in [*map(norm, states[:-1]), states[-1]]])
    return pd.DataFrame(np.transpose(columns)).rename_axis("layer")
