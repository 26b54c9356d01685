"""How far changed copies of SmolLM2 are from it: exactly, by samples of its own, and by the map."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.command import Written, command, kept, option
from experiments.modelmap import smollm2_family
from helpers import data, decoders, likelihood, text_sets
from helpers.modelmap import divergence, logit_lens

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TABLE = data.PUBLISHED / "map_smollm2_divergence.csv"
BOS = data.PUBLISHED / "map_smollm2_bos.csv"
LAYERS = data.PUBLISHED / "map_smollm2_layers.csv"
# Part of every key: raise it when the same settings would give other numbers.
VERSION = 1
NAMES = (
    "smollm2-8-bits",
    "smollm2-4-bits",
    "smollm2-3-bits",
    "smollm2-2-layers-dropped",
    "smollm2-noise-10",
    "smollm2-tuned-python",
    "smollm2-6-bits",
    "smollm2-5-bits",
)
N_TEXTS = 16


def _token_table(
    p: PreTrainedModel, q: PreTrainedModel, start: Sequence[int], ids: np.ndarray
) -> dict[str, np.ndarray]:
    """Return for each token of texts, arrays (n, T) in nats, how two models differ there.

    `there` is the divergence of the next token from p to q, `back` from q to p, and `ratio` the
    log-ratio log(p/q) of the token that stands there. `ids` (n, T) are texts of one length, each
    after `start`.
    """
    there, back, ratio = (np.empty(ids.shape) for _ in range(3))
    for i, row in enumerate(ids):
        a, b = (_log_probabilities(model, [*start, *row], len(start)) for model in (p, q))
        gap = a - b
        there[i] = (a.exp() * gap).sum(dim=1).double().numpy()
        back[i] = -(b.exp() * gap).sum(dim=1).double().numpy()
        ratio[i] = gap.numpy()[np.arange(len(row)), row]
    return {"there": there, "back": back, "ratio": ratio}


def _log_probabilities(model: PreTrainedModel, ids: Sequence[int], first: int) -> Tensor:
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return logits[first - 1 : -1].float().log_softmax(dim=-1)


def summary(
    own: dict[str, np.ndarray],
    texts: dict[str, np.ndarray],
    own_bytes: float,
    text_bytes: float,
    *,
    lengths: Sequence[int] = (1, 4, 16),
) -> dict[str, float]:
    """Return what `divergence.compare` does, in bits per byte, from two tables of `_token_table`.

    Lengths are in tokens; the last is the whole text. `own_bytes` and `text_bytes` are the mean
    lengths of texts in bytes.
    """
    true = divergence.by_sampling(own["there"].sum(axis=1))
    found = {
        "true": divergence.bits_per_byte(true.value, own_bytes),
        "error": divergence.bits_per_byte(true.error, own_bytes),
        "texts_true": divergence.bits_per_byte(
            (texts["there"] + texts["back"]).sum(axis=1).mean() / 2, text_bytes
        ),
    }
    for place, table, size in (("own", own, own_bytes), ("texts", texts, text_bytes)):
        width = table["ratio"].shape[1]
        for n in [*(n for n in lengths if n < width), width]:
            half = divergence.half_variance_kl(divergence.chunk_ratios(table["ratio"], n)).value
            found[f"{place}_{n}"] = divergence.bits_per_byte(half * width / n, size)
        found[f"sd_{place}"] = float(table["ratio"].sum(axis=1).std())
    return found


def family(
    folder: str | Path, *, names: Sequence[str] = NAMES, n: int = 12, n_tokens: int = 64,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Compare SmolLM2 with changed copies of it; a row a copy, `summary` and what was changed.

    `n` texts are drawn from SmolLM2, after its BOS, and the same number of the default texts are
    cut to `n_tokens` tokens. What was compared before is read again from `folder`.
    """

    @cache
    def parent() -> tuple[Any, ...]:
        tokenizer, model = decoders.load_causal(smollm2_family.PARENT)
        model = smollm2_family.with_head(model).eval()
        start = likelihood.start_tokens(tokenizer, "add")
        own = likelihood.draw_tokens(model, start, n, n_tokens, seed=seed)
        texts = text_sets.load_texts(32)["text"]
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        both = own, np.array([row[:n_tokens] for row in ids if len(row) >= n_tokens][:n])
        sizes = [np.mean([len(tokenizer.decode(row).encode()) for row in ids]) for ids in both]
        return tokenizer, model, start, both, [float(size) for size in sizes]

    def compared(spec: dict[str, Any]) -> dict[str, float]:
        tokenizer, model, start, both, sizes = parent()
        copy = smollm2_family.make(model, tokenizer, **spec).eval()
        return summary(*(_token_table(model, copy, start, ids) for ids in both), *sizes)

    rows = []
    for name in names:
        spec = smollm2_family.FAMILY[name]
        key = json.dumps([VERSION, name, spec, n, n_tokens, seed])
        place = Path(folder) / f"{hashlib.sha256(key.encode()).hexdigest()}.kept.json"
        about = {"model": name, "kind": spec["kind"], "level": spec["level"]}
        rows.append(about | kept(place, partial(compared, spec), name))
    return pd.DataFrame(rows)


def both_ways(n_texts: int = N_TEXTS) -> pd.DataFrame:
    """Score the first default texts under SmolLM2 with its BOS and without; a row a text.

    `with_bos` and `without` leave the first token out, as the map does; `first` is that of the
    first token after the BOS; nats. The index has the keys of the texts, `N_TEXTS` at most.
    """
    texts = text_sets.load_texts(N_TEXTS)[:n_texts]
    tokenizer, model = decoders.load_causal(smollm2_family.PARENT)
    scored = {
        bos: likelihood.score_texts(model, tokenizer, list(texts["text"]), bos=bos)
        for bos in ("add", "none")
    }
    columns = {"with_bos": scored["add"].log_likelihood, "without": scored["none"].log_likelihood}
    columns |= {"first": scored["add"].first_token_log_likelihood, "n_bytes": texts["n_bytes"]}
    return pd.DataFrame({name: x.to_numpy() for name, x in columns.items()}, texts.index)


def _by_layer(n_texts: int = N_TEXTS) -> pd.DataFrame:
    """Score the first default texts after every layer of SmolLM2, a row a layer, nats.

    The columns have the keys of the texts, `N_TEXTS` at most (`logit_lens.layer_scores`).
    """
    texts = text_sets.load_texts(N_TEXTS)[:n_texts]
    tokenizer, model = decoders.load_causal(smollm2_family.PARENT)
    found = logit_lens.layer_scores(model, tokenizer, list(texts["text"]))
    return found.set_axis(list(texts.index), axis=1)


@command(
    "smollm2_divergence",
    option("--folder", default="build/smollm2_divergence", help="pieces"),
    one_thread=True,
)
def main(given: Namespace) -> Written:
    """Compare SmolLM2 with changed copies, with and without BOS, by layer; write three tables."""
    yield TABLE, family(given.folder).round(6).to_csv(index=False)
    yield BOS, both_ways().round(3).to_csv()
    yield LAYERS, _by_layer().round(3).to_csv()
