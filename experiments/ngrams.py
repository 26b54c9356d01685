"""Language models of bytes by counting: n-grams with Witten-Bell smoothing, and a zoo of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import text_sets

# A context and the byte after it fill one uint64.
MOST = 7
Texts = Sequence[str | bytes]
# Training bytes by genre; the three groups of languages have few.
SIZES = {genre: (3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000) for genre in text_sets.GENRES}
SIZES |= {"romance": SIZES["facts"][:4], "slavic": SIZES["facts"][:2]}
SIZES["east asian"] = SIZES["facts"][:3]


class _Level(NamedTuple):
    """Counts behind contexts of one length: grams sorted, contexts sorted, and their numbers.

    `grams` (G,) uint64, a context and its next byte packed; `ends` (G,), cumulative counts of
    grams; `contexts` (C,) uint64; `first` (C + 1,), where each context's grams begin.
    """

    grams: np.ndarray
    ends: np.ndarray
    contexts: np.ndarray
    first: np.ndarray


@dataclass(frozen=True, eq=False)
class NGram:
    """A model of the next byte from the `order` bytes before it; made by `fit`.

    `levels` has the counts for contexts of 0 to `order` bytes, `n_bytes` how many were counted.
    """

    order: int
    levels: tuple[_Level, ...]
    n_bytes: int

    def restrict(self, order: int) -> NGram:
        """Return the model of a lower order from the same counts: the same as fitting it anew."""
        return NGram(order, self.levels[: order + 1], self.n_bytes)


def fit(documents: Texts, order: int = 3) -> NGram:
    """Count n-grams of bytes in documents, for contexts of 0 to `order` bytes, 7 at most.

    Texts are taken as UTF-8. Before its first byte a document has seven zero bytes, so that the
    beginning of a text is a context like any other and the probabilities of all texts of one
    length add up to one.
    """
    codes = _codes(_as_bytes(documents))
    return NGram(order, tuple(_count(codes, k) for k in range(order + 1)), len(codes))


def log_likelihood(model: NGram, texts: Texts) -> np.ndarray:
    """Return the log-likelihood of each text, shape (n,), float64, nats, first byte included.

    The probability of a byte is that of Witten and Bell (1991): counts of the longest context
    mixed with the next shorter one, T distinct continuations against n occurrences, down to 1/256
    for each byte; a context never seen leaves it all to the shorter one. The first bytes see zero
    bytes before the text. Raises `ValueError` for no texts or an empty one.
    """
    return _by_text(_byte_log_likelihoods(model, texts), texts)


def _by_order(model: NGram, texts: Texts) -> np.ndarray:
    """Return the log-likelihoods for every order from 0 to the model's, shape (order + 1, n)."""
    codes = _codes(_as_bytes(texts))
    levels = _probabilities(model, codes)
    return np.stack([_by_text(np.log(p), texts) for p in levels])


def _byte_log_likelihoods(model: NGram, texts: Texts) -> np.ndarray:
    """Return the log-likelihood of every byte of all texts in a row, shape (bytes,), nats."""
    codes = _codes(_as_bytes(texts))
    *_, last = _probabilities(model, codes)
    return np.log(last)


def conditionals(model: NGram, texts: Texts, rows: int = 20_000) -> list[np.ndarray]:
    """Return the probabilities of each next byte along texts, one array (bytes, 256) a text.

    Row t has what stands at t given the bytes before it; rows add up to one. `rows` bytes are
    worked on at a time. Raises what `log_likelihood` does.
    """
    pieces = _as_bytes(texts)
    contexts, back = np.unique(_codes(pieces) >> np.uint64(8), return_inverse=True)
    found = np.concatenate(
        [_next_bytes(model, contexts[i : i + rows]) for i in range(0, len(contexts), rows)]
    )
    return np.split(found[back], np.cumsum([len(piece) for piece in pieces])[:-1])


def sample(model: NGram, n: int, n_bytes: int, *, seed: int = 0) -> list[bytes]:
    """Draw `n` texts of `n_bytes` bytes from the model, exactly and independently.

    A byte is drawn by the mixture itself: at each context length, from the longest, either one
    of the counted continuations, with probability n / (n + T), or on to the next shorter.
    """
    rng = np.random.default_rng(seed)
    texts = np.empty((n, n_bytes), np.uint8)
    past = np.zeros(n, np.uint64)
    for t in range(n_bytes):
        drawn = rng.integers(256, size=n).astype(np.uint64)
        open_ = np.arange(n)
        for k in range(model.order, -1, -1):
            level = model.levels[k]
            place, seen = _find(level.contexts, past[open_] & _mask(8 * k))
            starts, stops = level.first[place], level.first[place + 1]
            before, total = _before(level, starts), level.ends[stops - 1]
            n_seen, distinct = total - before, stops - starts
            ticket = rng.random(len(open_)) * (n_seen + distinct)
            take = seen & (ticket < n_seen)
            gram = np.searchsorted(level.ends, before[take] + ticket[take], side="right")
            drawn[open_[take]] = level.grams[gram] & np.uint64(255)
            open_ = open_[~take]
        texts[:, t] = drawn
        past = (past << np.uint64(8)) | drawn
    return [row.tobytes() for row in texts]


class _Zoo(NamedTuple):
    """Models by name, and one row a model: `model`, `corpus`, `n_bytes`, `order`."""

    log_likelihoods: pd.DataFrame
    models: pd.DataFrame


def zoo(
    texts: pd.DataFrame,
    *,
    corpora: Sequence[str] = tuple(SIZES),
    sizes: Sequence[int] | None = None,
    orders: Sequence[int] = tuple(range(MOST + 1)),
) -> _Zoo:
    """Train a zoo of n-gram models on the genres and score a set of texts by all of them.

    `texts` is a table of `text_sets.load_texts`; its texts are in no training set. Every genre
    of `corpora` is a corpus, with training sets of `SIZES` bytes, of which `sizes` keeps some,
    each the beginning of the next, and all `orders`: 312 models by default. `log_likelihoods`
    (nats) has a row a model and a column a text, as `model_map.fit_map` takes it; names tell
    what is known, as `ngram-python-30k-o4`.
    """
    rows, found = [], []
    for corpus in corpora:
        chosen = [n for n in SIZES[corpus] if sizes is None or n in sizes]
        documents = text_sets.training_texts(corpus, max(chosen), without=texts["text"])
        for size in chosen:
            model = fit(cut(documents, size), max(orders))
            found.append(_by_order(model, list(texts["text"]))[list(orders)])
            name = f"ngram-{corpus.replace(' ', '-')}-{size // 1000}k-o"
            rows += [(f"{name}{order}", corpus, size, order) for order in orders]
    models = pd.DataFrame(rows, columns=["model", "corpus", "n_bytes", "order"])
    values = pd.DataFrame(np.concatenate(found), models["model"], texts.index)
    return _Zoo(values, models)


def cut(documents: Texts, n_bytes: int) -> list[bytes]:
    """Return the first `n_bytes` bytes of documents; the last one may be cut.

    Raises `ValueError` where there are fewer.
    """
    kept, left = [], n_bytes
    for piece in _as_bytes(documents):
        kept.append(piece[:left])
        left -= len(kept[-1])
        if not left:
            return kept
    raise ValueError(f"n_bytes is {n_bytes} but documents has {n_bytes - left} bytes; give fewer")


def _as_bytes(texts: Texts) -> list[bytes]:
    return [text.encode() if isinstance(text, str) else bytes(text) for text in texts]


def _by_text(values: np.ndarray, texts: Texts) -> np.ndarray:
    lengths = [len(piece) for piece in _as_bytes(texts)]
    return np.add.reduceat(values, np.cumsum([0, *lengths[:-1]]))


def _codes(pieces: Sequence[bytes]) -> np.ndarray:
    """Return for every byte of all texts the seven before it and itself, packed into a uint64."""
    gap = bytes(MOST)
    joined = np.frombuffer(gap + gap.join(pieces), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(joined, MOST + 1)
    inside = np.ones(len(windows), bool)
    # After each text but the last come seven zero bytes that belong to no text.
    ends = np.cumsum([len(piece) + MOST for piece in pieces])[:-1]
    inside[(ends[:, None] - MOST + np.arange(MOST)).ravel()] = False
    codes = np.zeros(len(windows), np.uint64)
    for i in range(MOST + 1):
        codes |= windows[:, i].astype(np.uint64) << np.uint64(8 * (MOST - i))
    return codes[inside]


def _mask(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _count(codes: np.ndarray, k: int) -> _Level:
    grams, counts = np.unique(codes & _mask(8 * (k + 1)), return_counts=True)
    contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
    return _Level(grams, np.cumsum(counts), contexts, np.append(first, len(grams)))


def _find(table: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of each wanted code in a sorted table, and whether it is there."""
    place = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return place, table[place] == wanted


def _before(level: _Level, gram: np.ndarray) -> np.ndarray:
    """Return how much was counted before each gram of the table."""
    return np.where(gram > 0, level.ends[gram - 1], 0)


def _probabilities(model: NGram, codes: np.ndarray) -> list[np.ndarray]:
    """Return the probability of each byte after its context, one array an order."""
    found, p = [], np.full(len(codes), 1 / 256)
    for k, level in enumerate(model.levels):
        wanted, back = np.unique(codes & _mask(8 * (k + 1)), return_inverse=True)
        place, seen = _find(level.contexts, wanted >> np.uint64(8))
        starts, stops = level.first[place], level.first[place + 1]
        n_seen = level.ends[stops - 1] - _before(level, starts)
        gram, there = _find(level.grams, wanted)
        count = np.where(there, level.ends[gram] - _before(level, gram), 0)
        distinct = stops - starts
        share = np.where(seen, count / (n_seen + distinct), 0.0)
        rest = np.where(seen, distinct / (n_seen + distinct), 1.0)
        p = share[back] + rest[back] * p
        found.append(p)
    return found


def _next_bytes(model: NGram, contexts: np.ndarray) -> np.ndarray:
    """Return the probabilities of all 256 next bytes after packed contexts, shape (n, 256)."""
    p = np.full((len(contexts), 256), 1 / 256)
    for k, level in enumerate(model.levels):
        place, seen = _find(level.contexts, contexts & _mask(8 * k))
        rows = np.flatnonzero(seen)
        starts, stops = level.first[place[rows]], level.first[place[rows] + 1]
        distinct = stops - starts
        total = level.ends[stops - 1] - _before(level, starts) + distinct
        p[rows] *= (distinct / total)[:, None]
        grams = np.arange(distinct.sum()) - np.repeat(np.cumsum(distinct) - distinct, distinct)
        grams += np.repeat(starts, distinct)
        counts = level.ends[grams] - _before(level, grams)
        bytes_ = (level.grams[grams] & np.uint64(255)).astype(np.int64)
        p[np.repeat(rows, distinct), bytes_] += counts / np.repeat(total, distinct)
    return p
