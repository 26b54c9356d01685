"""How far two ordinary decoders are from each other on natural prose, by samples of their own.

`python -m experiments two_decoders` continues texts with SmolLM2-135M and with Gemma 3 270M, and
scores what each wrote with both; killed, it goes on.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.command import Written, command, digest, kept, option
from experiments.modelmap import smollm2_family
from helpers import data, decoders, factbook, likelihood, models
from helpers.modelmap import divergence

TABLE = data.PUBLISHED / "map_two_decoders.csv"
# Part of every key: raise it when the same settings would give other numbers.
VERSION = 1
NAMES = {"smollm2": smollm2_family.PARENT, "gemma": models.GEMMA}
# Texts are continued after so many words, and have at least so many.
N_WORDS, LEAST = 32, 120
# Each model writes so many continuations of a text, of so many of its tokens.
N_DRAWN, N_TOKENS = 8, 64


@cache
def _loaded(name: str) -> tuple[Any, Any]:
    tokenizer, model = decoders.load_causal(NAMES[name])
    return tokenizer, smollm2_family.with_head(model).eval()


def _whole_words(text: str, n_words: int | None = None) -> str:
    """Return the first words of a text, without its last, which may be half a one, by default."""
    ends = [found.end() for found in re.finditer(r"\S+", text)]
    return text[: ends[n_words - 1 if n_words else -2]] if len(ends) > 1 else ""


def drawn(name: str, prompt: str, n: int, n_tokens: int, seed: int = 0) -> list[str]:
    """Return what a model writes after a prompt, `n` times: whole words, up to its own end.

    Of `n_tokens` tokens the last word goes, as it may be cut; so does what follows a token that
    ends a text. Empty continuations are left out.
    """
    tokenizer, model = _loaded(name)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    start = [*likelihood.start_tokens(tokenizer, "add"), *ids]
    rows = likelihood.draw_tokens(model, start, n, n_tokens, seed=seed)
    ends = set(tokenizer.all_special_ids)
    cut = (next((i for i, t in enumerate(row) if t in ends), n_tokens) for row in rows)
    texts = (tokenizer.decode(row[:k]) for row, k in zip(rows, cut, strict=True))
    return [text for text in map(_whole_words, texts) if text.strip()]


def log_likelihoods(prompt: str, continuations: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the log-likelihood of each continuation of a prompt under both models, nats.

    Of a model it is that of the whole string, in the tokens of its own tokenizer, minus that of the
    prompt, so that models with other tokens are asked about the same string.
    """
    found = {}
    for name in NAMES:
        tokenizer, model = _loaded(name)
        texts = [prompt, *(prompt + text for text in continuations)]
        told = likelihood.score_texts(model, tokenizer, texts, bos="add").log_likelihood.to_numpy()
        found[name] = told[1:] - told[0]
    return found


def compare_prompt(text: str, n: int, n_tokens: int) -> list[dict[str, Any]]:
    """Return a row for each continuation of the first words of a text: both models' and its own.

    `writer` is a model, or "text"; the text's own continuation is cut to the mean length of the
    models'. `number` counts a writer's continuations, `n_bytes` is the length of one; `smollm2` and
    `gemma` are its log-likelihoods, nats.
    """
    prompt = _whole_words(text, N_WORDS)
    written = {name: drawn(name, prompt, n, n_tokens) for name in NAMES}
    size = int(np.mean([len(t.encode()) for texts in written.values() for t in texts]))
    written["text"] = [_whole_words(text[len(prompt) :].encode()[:size].decode(errors="ignore"))]
    rows = []
    for writer, texts in written.items():
        scores = pd.DataFrame(log_likelihoods(prompt, texts)).round(4)
        for number, (words, pair) in enumerate(zip(texts, scores.to_dict("records"), strict=True)):
            about = {"writer": writer, "number": number, "n_bytes": len(words.encode())}
            rows.append(about | pair)
    return rows


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """Return how far the two models are from each other, bits per byte, from rows of all writers.

    `smollm2` and `gemma` are the divergences from the model of that name to the other, `both` is
    their mean, `own` half the variance of the log-ratio over what the two wrote, and `texts` the
    same over the texts' own continuations, as on a map; `ratio` is `texts` over `both`.
    """
    found, halves = {}, []
    ratio = (rows["smollm2"] - rows["gemma"]).to_numpy()
    for writer, sign in (("smollm2", 1), ("gemma", -1), ("text", 0)):
        mask = (rows["writer"] == writer).to_numpy()
        size = rows["n_bytes"].to_numpy()[mask].mean()
        half = divergence.half_variance_kl(ratio[mask]).value
        halves.append(float(divergence.bits_per_byte(half, size)))
        if sign:
            mean = divergence.by_sampling(sign * ratio[mask]).value
            found[writer] = float(divergence.bits_per_byte(mean, size))
    found["both"] = (found["smollm2"] + found["gemma"]) / 2
    found |= {"own": (halves[0] + halves[1]) / 2, "texts": halves[2]}
    return found | {"ratio": found["texts"] / found["both"]}


def prose(n: int, *, seed: int = 0) -> list[str]:
    """Return `n` paragraphs of the World Factbook with at least `LEAST` words, in drawn order."""
    lines = dict.fromkeys(line.strip() for d in factbook.documents() for line in d.split("\n"))
    found = [
        line
        for line in lines
        if len(line.split()) >= LEAST and line[0].isupper() and line[-1] == "." and ";" not in line
    ]
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:n]]


@command(
    "two_decoders",
    option("--folder", type=Path, default="build/two_decoders", help="pieces"),
    option("--texts", type=int, default=24),
    one_thread=True,
)
def main(given: Namespace) -> Written:
    """Continue texts with two decoders, score what they wrote with both, and write the table."""
    out = []
    for i, text in enumerate(prose(given.texts)):
        name = digest(VERSION, text, N_WORDS, N_DRAWN, N_TOKENS)
        make = partial(compare_prompt, text, N_DRAWN, N_TOKENS)
        rows = kept(given.folder / f"{name}.json", make, f"text {i}")
        out.append(pd.DataFrame(rows).assign(text=i))
    return [(TABLE, pd.concat(out).to_csv(index=False))]
