"""Two scores of a language model on texts that its map does not use, from log-likelihoods alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import text_sets

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


def load(n_map: int = 128, n_texts: int = 16, n_items: int = 40) -> HeldOut:
    """Return texts and items of the default set beyond its first `n_map` texts.

    All are cut from texts that a map of `load_texts(n_map)` has not, and the items from others
    than `texts`, of which the first 256 bytes are taken. The numbers are multiples of the number of
    genres. Raises `ValueError` as `text_sets.load_texts` does.
    """
    genres = len(text_sets.GENRES)
    more = text_sets.load_texts(n_map + n_texts + max(n_items, 4 * genres)).iloc[n_map:]
    items = _make_items(more["text"][n_texts:], more["genre"][n_texts:], n_items // genres)
    texts = more[:n_texts].copy()
    texts["text"] = [text.encode()[:256].decode(errors="ignore") for text in texts["text"]]
    texts["n_bytes"] = [len(text.encode()) for text in texts["text"]]
    return HeldOut(texts, items)


def _make_items(texts: Sequence[str], genres: Sequence[str], per_genre: int) -> pd.DataFrame:
    """Make items that ask which of four passages goes on after a beginning.

    An item's beginning is the first 32 bytes of a text, candidate 0 its next 32 bytes, and the
    others are the same part of the texts that follow it in its genre, in a circle. Cuts are moved
    back to whole characters. One row per candidate, see `HeldOut`.
    """
    frame = pd.DataFrame({"text": list(texts), "genre": list(genres)})
    rows, item = [], 0
    for genre, part in frame.groupby("genre", sort=False):
        cut = [_cut(text) for text in part["text"]]
        for i in range(per_genre):
            for k in range(4):
                text = cut[i][0] + cut[(i + k) % len(cut)][1]
                rows.append({"item": item, "candidate": k, "genre": genre, "text": text})
            item += 1
    return pd.DataFrame(rows)


def _cut(text: str) -> tuple[str, str]:
    whole = text.encode()
    first, last = (text_sets.before_character(whole, end) for end in (32, 64))
    return whole[:first].decode(), whole[first:last].decode()


def scores(log_likelihoods: ArrayLike, asked: HeldOut) -> dict[str, float]:
    """Return both scores from the log-likelihoods (nats) of `HeldOut.every_text`, in its order.

    `bits_per_byte` over the texts: the lower, the better. `accuracy`: the share of items whose real
    candidate is the likeliest, after the same beginning; chance is one over the candidates. A tie
    counts as wrong. Raises `ValueError` for another number of values.
    """
    values, n = np.asarray(log_likelihoods, float), len(asked.texts)
    items = asked.items.assign(value=values[n:])
    table = items.pivot(index="item", columns="candidate", values="value")
    right = table[0] > table.drop(columns=0).max(axis=1)
    bits = -values[:n].sum() / np.log(2) / asked.texts["n_bytes"].sum()
    return {"bits_per_byte": float(bits), "accuracy": float(right.mean())}
