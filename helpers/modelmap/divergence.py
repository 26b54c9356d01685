"""How far apart two models with known probabilities are: exactly, and by what stands in for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

# From texts to the probabilities of each next byte along them, an array (bytes, 256) a text.
_Conditionals = Callable[[Sequence[bytes]], list[np.ndarray]]


class _Estimate(NamedTuple):
    """An estimate and its standard error, in one unit."""

    value: float
    error: float


def by_sampling(ratios: ArrayLike) -> _Estimate:
    """Return KL(p||q), nats per text, from log(p/q) of texts drawn from p, shape (n,).

    The plain mean: no approximation, and unbiased. Between near models the mean is small against
    the spread; there `compare` wants far fewer texts.
    """
    return _mean(ratios)


def _by_conditionals(p: Sequence[np.ndarray], q: Sequence[np.ndarray]) -> _Estimate:
    """Return KL(p||q) from the conditionals of both along texts drawn from p, nats per text.

    By the chain rule a text's divergence is the expected sum, over its bytes, of the divergence of
    the two models' next bytes. The next byte is averaged over and not drawn, so that the error is
    smaller than that of `by_sampling`. On texts that are not p's own it is the same sum along
    other contexts.
    """
    return _mean([values.sum() for values in _along(p, q)])


def _along(p: Sequence[np.ndarray], q: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the divergence of the next byte at every byte of texts, an array a text, nats."""
    # 0 log 0 = 0; a byte that q rules out and p does not makes it infinite.
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(a > 0, a * np.log(a / b), 0.0) for a, b in zip(p, q, strict=True)]
    return [term.sum(axis=1) for term in terms]


def half_variance_kl(ratios: ArrayLike) -> _Estimate:
    """Return half the variance of log-ratios over texts, shape (n,): the map's distance, nats.

    The variance is over n, as in the released code. Its standard error is that of a variance, from
    the fourth moment. Source: arXiv 2502.16173; the expansion is to second order in the log-ratio.
    """
    r = np.asarray(ratios, float)
    squares = (r - r.mean()) ** 2 / 2
    return _Estimate(float(squares.mean()), float(squares.std() / np.sqrt(len(r))))


def chunk_ratios(ratios: Sequence[ArrayLike], n_bytes: int) -> np.ndarray:
    """Return the log-ratios of consecutive chunks of `n_bytes` bytes, each given all before it.

    `ratios` has the log-ratios of bytes, an array a text; what is left at the end of a text is
    dropped.
    """
    rows = [np.asarray(row)[: len(row) // n_bytes * n_bytes] for row in ratios]
    return np.concatenate([row.reshape(-1, n_bytes).sum(axis=1) for row in rows])


def bits_per_byte(value: ArrayLike, n_bytes: float) -> np.ndarray | float:
    """Turn nats per text into bits per byte, for texts of `n_bytes` bytes on average."""
    return np.asarray(value, float)[()] / (n_bytes * np.log(2))


def compare(
    p: _Conditionals,
    q: _Conditionals,
    own: Sequence[bytes],
    texts: Sequence[bytes],
    *,
    lengths: Sequence[int] = (8, 32, 128),
    shares: Sequence[float] = (1.0,),
) -> pd.DataFrame:
    """Compare the divergence of two models with its estimates, bits per byte; a row per share.

    `own` are texts drawn from p, and `texts` those of a map, all of one length B: it is the last of
    the chunk lengths, after those of `lengths`. Columns: `share`, `true` (KL(p||q), by conditionals
    along `own`) and `error`, its standard error; `texts_true`, the same sum along `texts`, the mean
    of both directions; for each length n, `own_n` and `texts_n`, half the variance of the chunks'
    log-ratios over n; `sd_own` and `sd_texts`, the standard deviation of the log-ratio of a text of
    B bytes, nats. With a share s below 1 the second model is p^(1-s) q^s at every byte, made to add
    up to one: a step of any size in the direction of q.
    """
    (size,) = {len(text) for text in [*own, *texts]}
    tables = {"own": (p(own), q(own)), "texts": (p(texts), q(texts))}
    rows = []
    for share in shares:
        row: dict[str, float] = {"share": share}
        for place, drawn in (("own", own), ("texts", texts)):
            before, other = tables[place]
            after = [_towards(a, b, share) for a, b in zip(before, other, strict=True)]
            if place == "own":
                true = _by_conditionals(before, after)
                row |= {"true": true.value, "error": true.error}
            else:
                there, back = _by_conditionals(before, after), _by_conditionals(after, before)
                row["texts_true"] = (there.value + back.value) / 2
            ratios = [
                np.log(_picked(a, text) / _picked(b, text))
                for a, b, text in zip(before, after, drawn, strict=True)
            ]
            for n in [*(n for n in lengths if n < size), size]:
                row[f"{place}_{n}"] = half_variance_kl(chunk_ratios(ratios, n)).value * size / n
            row[f"sd_{place}"] = float(np.std([r.sum() for r in ratios]))
        rows.append(row)
    found = pd.DataFrame(rows)
    nats = [name for name in found if name != "share" and not name.startswith("sd_")]
    found[nats] = bits_per_byte(found[nats], size)
    return found


def _towards(p: np.ndarray, q: np.ndarray, share: float) -> np.ndarray:
    """Return p^(1-s) q^s with rows that add up to one, for conditionals (bytes, 256), share s."""
    if share == 1:
        return q
    found = p ** (1 - share) * q**share
    return found / found.sum(axis=1, keepdims=True)


def _picked(table: np.ndarray, text: bytes) -> np.ndarray:
    values = np.frombuffer(text, np.uint8)
    return table[np.arange(len(values)), values]


def _mean(values: ArrayLike) -> _Estimate:
    values = np.asarray(values, float)
    return _Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))
