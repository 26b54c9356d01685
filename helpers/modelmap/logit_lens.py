"""Log-likelihoods of texts read off every layer of a causal language model: the logit lens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers import decoders, likelihood, reading, validation

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def layer_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    bos: str = "tokenizer",
    head_rows: int = 512,
) -> pd.DataFrame:
    """Return log-likelihoods of texts as if the model ended after each layer, nats.

    A row a layer, from 0, the embeddings, to the model's last, and a column per text. States of a
    layer go through the model's last normalisation and its output head; the last row is that of
    `likelihood.score_texts`, tokens after the first of each text. One text is read at a time, and
    `head_rows` of its tokens go through the head together. Raises `ValueError` for no texts, a text
    without tokens or longer than the model reads, and a model whose last normalisation is not named
    as in Llama or GPT-2. Source: arXiv 2505.15353; the lens is that of nostalgebraist (2020).
    """
    import torch

    texts = validation.strings(texts, "texts")
    decoder = decoders.prove(model)
    body = decoder.model.base_model
    norm, start = _last_norm(body), likelihood.start_tokens(tokenizer, bos)
    if decoder.body is not body:
        raise ValueError(
            f"model is a {type(model).__name__}, whose logits are not made of its last states; "
            "pass a decoder like Llama or GPT-2"
        )
    limit = reading.room(model)
    columns = []
    with reading.inference(model):
        for number, ids in enumerate(tokenizer(texts, add_special_tokens=False)["input_ids"]):
            row = [*start, *ids]
            if not ids or (limit and len(row) > limit):
                raise ValueError(
                    f"texts[{number}] has {len(ids)} tokens; give 1 to {limit or 'any number'}"
                )
            read = torch.tensor([row], device=model.device)
            states = body(input_ids=read, use_cache=False, output_hidden_states=True).hidden_states
            # The states of the last layer have gone through the normalisation.
            layers = [*map(norm, states[:-1]), states[-1]]
            columns.append(
                [
                    likelihood.head_scores(decoder.logits, layer[0, :-1], read[0, 1:], head_rows)[
                        len(start) :
                    ].sum()
                    for layer in layers
                ]
            )
    return pd.DataFrame(np.transpose(columns)).rename_axis("layer")


def _last_norm(body: PreTrainedModel) -> nn.Module:
    norm = getattr(body, "norm", getattr(body, "ln_f", None))
    if norm is None:
        raise ValueError(
            f"model is a {type(body).__name__}, without norm or ln_f after its layers; pass a "
            "decoder that names its parts like Llama or GPT-2"
        )
    return norm
