"""Two scores of a language model on texts that its map does not use, from log-likelihoods alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import text_sets, validation

SCORES = ("bits_per_byte", "accuracy")


class HeldOut(NamedTuple):
    """What is asked: whole texts, and items with candidates.

    `texts` is a frame of `text_sets.load_texts`; `items` has one row per candidate: `item`,
    `candidate` (0 is the real one), `genre`, and `text`, the beginning with the candidate after it.
    """

    texts: pd.DataFrame
    items: pd.DataFrame

    @property
    def every_text(self) -> list[str]:
        """Return all that must be scored: the texts, then those of the items."""
        return [*self.texts["text"], *self.items["text"]]


def load(
    n_map: int = 128, n_texts: int = 16, n_items: int = 40, *, most_bytes: int = 256
) -> HeldOut:
    """Return texts and items of the default set beyond its first `n_map` texts.

    All are cut from texts that a map of `load_texts(n_map)` has not, and the items from others
    than `texts`, of which the first `most_bytes` bytes are taken. The numbers are multiples of the
    number of genres. Raises `ValueError` as `text_sets.load_texts` does.
    """
    genres = len(text_sets.GENRES)
    validation.counts(
        n_texts=(n_texts, genres), n_items=(n_items, genres), most_bytes=(most_bytes, 4)
    )
    more = text_sets.load_texts(n_map + n_texts + max(n_items, 4 * genres)).iloc[n_map:]
    items = _make_items(more["text"][n_texts:], more["genre"][n_texts:], n_items // genres)
    texts = more[:n_texts].copy()
    texts["text"] = [text.encode()[:most_bytes].decode(errors="ignore") for text in texts["text"]]
    texts["n_bytes"] = [len(text.encode()) for text in texts["text"]]
    return HeldOut(texts, items)


def _make_items(
    texts: Sequence[str],
    genres: Sequence[str],
    per_genre: int,
    *,
    n_candidates: int = 4,
    context: int = 32,
    length: int = 32,
) -> pd.DataFrame:
    """Make items that ask which of several passages goes on after a beginning.

    An item's beginning is the first `context` bytes of a text, candidate 0 its next `length`
    bytes, and the others are the same part of the texts that follow it in its genre, in a circle.
    Cuts are moved back to whole characters. One row per candidate, see `HeldOut`. Raises
    `ValueError`
    for unequal lengths, a genre with fewer texts than items or candidates, and texts below
    `context + length` bytes.
    """
    validation.counts(per_genre=(per_genre, 1), n_candidates=(n_candidates, 2))
    validation.counts(context=(context, 1), length=(length, 1))
    frame = pd.DataFrame({"text": list(texts), "genre": list(genres)})
    rows, item = [], 0
    for genre, part in frame.groupby("genre", sort=False):
        cut = [_cut(text, context, length) for text in part["text"]]
        least = max(per_genre, n_candidates)
        if len(cut) < least:
            raise ValueError(f"texts has {len(cut)} of genre {genre!r}; give {least} or more")
        for i in range(per_genre):
            for k in range(n_candidates):
                text = cut[i][0] + cut[(i + k) % len(cut)][1]
                rows.append({"item": item, "candidate": k, "genre": genre, "text": text})
            item += 1
    return pd.DataFrame(rows)


def _cut(text: str, context: int, length: int) -> tuple[str, str]:
    whole, ends = text.encode(), [context, context + length]
    if len(whole) < ends[1]:
        raise ValueError(f"texts has one of {len(whole)} bytes; {ends[1]} are needed")
    first, last = (text_sets.before_character(whole, end) for end in ends)
    return whole[:first].decode(), whole[first:last].decode()


def scores(log_likelihoods: ArrayLike, asked: HeldOut) -> dict[str, float]:
    """Return both scores from the log-likelihoods (nats) of `HeldOut.every_text`, in its order.

    `bits_per_byte` over the texts: the lower, the better. `accuracy`: the share of items whose real
    candidate is the likeliest, after the same beginning; chance is one over the candidates. A tie
    counts as wrong. Raises `ValueError` for another number of values.
    """
    values = np.asarray(log_likelihoods, float)
    n = len(asked.texts)
    if values.shape != (n + len(asked.items),):
        raise ValueError(
            f"log_likelihoods has shape {values.shape}; pass {n + len(asked.items)} values, "
            "one per text of asked.every_text"
        )
    items = asked.items.assign(value=values[n:])
    table = items.pivot(index="item", columns="candidate", values="value")
    right = table[0] > table.drop(columns=0).max(axis=1)
    bits = -values[:n].sum() / np.log(2) / asked.texts["n_bytes"].sum()
    return {"bits_per_byte": float(bits), "accuracy": float(right.mean())}


def measure(score: Callable[[Sequence[str]], ArrayLike], asked: HeldOut) -> dict[str, float]:
    """Return `scores` of whatever gives the log-likelihoods (nats) of a list of texts."""
    return scores(score(asked.every_text), asked)
