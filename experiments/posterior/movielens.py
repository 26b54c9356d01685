"""Embeddings of items from what users rated, and how often they name the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.linalg import svds
from scipy.special import expit

from helpers import validation


class _Checkpoint(NamedTuple):
    """A transformer's item embedding (n_items, d) after some epochs, and its own hits (users,)."""

    embedding: np.ndarray
    hits: np.ndarray


def _factors(matrix: sparse.spmatrix, d: int, seed: int) -> np.ndarray:
    """Return V sqrt(S) of a matrix: its first right singular vectors, scaled, as columns."""
    start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
    _, values, right = svds(matrix.astype(float), k=d, v0=start)
    return right[::-1].T.copy() * np.sqrt(values[::-1])


def svd_embedding(
    training: Sequence[np.ndarray], n_items: int, *, d: int = 64, seed: int = 0
) -> np.ndarray:
    """Return items (n_items, d) from the user by item table of zeros and ones: V sqrt(S)."""
    rows = np.repeat(np.arange(len(training)), [len(s) for s in training])
    cells = (np.ones(len(rows)), (rows, np.concatenate(training)))
    table = sparse.csr_matrix(cells, (len(training), n_items)).minimum(1)
    return _factors(table, d, seed)


def _pairs(training: Sequence[np.ndarray], n_items: int, window: int) -> np.ndarray:
    """Return all ordered pairs of items at most `window` places apart in one sequence, (2, P)."""
    codes = np.concatenate(training)
    user = np.repeat(np.arange(len(training)), [len(s) for s in training])
    parts = []
    for step in range(1, window + 1):
        same = user[step:] == user[:-step]
        a, b = codes[:-step][same], codes[step:][same]
        parts += [[a, b], [b, a]]
    return np.concatenate(parts, axis=1)


def _ppmi(training: Sequence[np.ndarray], n_items: int, *, window: int = 5) -> sparse.csr_matrix:
    """Return the positive pointwise mutual information of items within `window` places, in nats.

    The result (n_items, n_items) is symmetric: max(0, log(n_ab n / (n_a n_b))) for the n pairs of
    items that stand at most `window` places apart in one user's sequence, counted both ways.
    """
    a, b = _pairs(training, n_items, window)
    table = sparse.csr_matrix((np.ones(len(a)), (a, b)), (n_items, n_items)).tocoo()
    sums = np.bincount(a, minlength=n_items)
    value = np.log(table.data * len(a) / (sums[table.row] * sums[table.col]))
    out = sparse.csr_matrix((np.maximum(value, 0), (table.row, table.col)), table.shape)
    out.eliminate_zeros()
    return out


def ppmi_svd_embedding(
    training: Sequence[np.ndarray], n_items: int, *, d: int = 64, window: int = 5, seed: int = 0
) -> np.ndarray:
    """Return items (n_items, d) from the `_ppmi` matrix: singular vectors times sqrt(S)."""
    return _factors(_ppmi(training, n_items, window=window), d, seed)


def adam(vectors: np.ndarray, learning_rate: float, tiny: float) -> Callable[[np.ndarray], None]:
    """Return what takes a step of Adam on float32 vectors, in place, given their gradient.

    Source: Kingma and Ba (2015), with momenta of 0.9 and 0.999.
    """
    first, second, numbers = np.zeros_like(vectors), np.zeros_like(vectors), count(1)

    def step(gradient: np.ndarray) -> None:
        n = next(numbers)
        first[:] += np.float32(0.1) * (gradient - first)
        second[:] += np.float32(0.001) * (gradient**2 - second)
        size = np.sqrt(second / np.float32(1 - 0.999**n)) + np.float32(tiny)
        vectors[:] -= np.float32(learning_rate / (1 - 0.9**n)) * first / size

    return step


def item2vec_embedding(
    training: Sequence[np.ndarray],
    n_items: int,
    *,
    d: int = 64,
    window: int = 5,
    n_steps: int = 150,
    n_negative: int = 5,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return items by skip-gram with negative sampling: `single` and `combined`, each (n_items, d).

    `single` is the input vector of an item, `combined` the mean of its input and output vectors.
    Each pair weighs as much against `n_negative` items drawn in proportion to their count to the
    power 0.75. Over so few items nothing need be drawn: every step of Adam, of `n_steps`, takes
    all pairs and the expectation over the draws. Memory is a few arrays of n_items² float32.
    Source: Barkan and Koenigstein (2016), after Mikolov et al. (2013).
    """
    a, b = _pairs(training, n_items, window)
    seen = np.bincount(a * n_items + b, minlength=n_items**2).reshape(n_items, n_items)
    draw = np.bincount(np.concatenate(training), minlength=n_items) ** 0.75
    unseen = n_negative * np.outer(seen.sum(axis=1), draw / draw.sum())
    total, seen = ((part / len(a)).astype(np.float32) for part in (seen + unseen, seen))
    # Input and output vectors; the output starts at 0, as in word2vec.
    vectors = np.zeros((2, n_items, d), dtype=np.float32)
    vectors[0] = np.random.default_rng(seed).standard_normal((n_items, d)) / np.sqrt(d)
    step = adam(vectors, learning_rate, 1e-12)
    for _ in range(n_steps):
        slope = expit(vectors[0] @ vectors[1].T)
        slope *= total
        slope -= seen
        step(np.stack([slope @ vectors[1], slope.T @ vectors[0]]))
    single, output = vectors.astype(float)
    return {"single": single, "combined": (single + output) / 2}


def sasrec_checkpoints(
    training: Sequence[np.ndarray],
    held_out: ArrayLike,
    n_items: int,
    *,
    epochs: Sequence[int] = (1, 15, 40),
    d: int = 64,
    length: int = 50,
    n_layers: int = 2,
    n_heads: int = 2,
    dropout: float = 0.2,
    batch_size: int = 64,
    learning_rate: float = 0.001,
    k: int = 10,
    seed: int = 0,
) -> dict[int, _Checkpoint]:
    """Return a causal transformer over the sequences after each number of `epochs`, in one run.

    It reads stretches of at most `length` items, cut again in every epoch, and learns to tell the
    next item from one drawn at random. Its scores are inner products with the item embeddings,
    which are also its input. `hits` tells for each user whether the sequence model itself puts
    the item of `held_out` among its first `k`, the items of `training` aside. Torch's global
    random state is left as it was. Source: Kang and McAuley (2018); sizes and pre-normalisation
    are ours.
    """
    import torch
    from torch import nn

    rng, found = np.random.default_rng(seed), {}
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed a GPU.
        torch.default_generator.manual_seed(seed)
        item, place = nn.Embedding(n_items + 1, d), nn.Embedding(length, d)
        nn.init.normal_(item.weight, std=d**-0.5)
        nn.init.normal_(place.weight, std=d**-0.5)
        layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d, n_heads, d, 0.0, batch_first=True, norm_first=True)
            for _ in range(n_layers)
        )
        model = nn.ModuleList([item, place, layers, nn.LayerNorm(d), nn.Dropout(dropout)])
        hidden = ~torch.tril(torch.ones(length, length, dtype=torch.bool))

        def states(codes: torch.Tensor) -> torch.Tensor:
            n = codes.shape[1]
            x = model[4](item(codes) * d**0.5 + place(torch.arange(n)))
            for layer in layers:
                x = layer(x, src_mask=hidden[:n, :n])
            return model[3](x)

        optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.98))
        for epoch in range(1, max(epochs) + 1):
            model.train()
            rows = torch.from_numpy(_stretches(training, length, n_items, rng))
            for batch in rows.split(batch_size):
                target, other = batch[:, 1:], torch.randint(n_items, batch[:, 1:].shape)
                state, real = states(batch[:, :-1]), target < n_items
                gain = (state * item(target)).sum(-1)[real]
                cost = (state * item(other)).sum(-1)[real]
                optimiser.zero_grad()
                (nn.functional.softplus(-gain) + nn.functional.softplus(cost)).mean().backward()
                optimiser.step()
            if epoch in epochs:
                model.eval()
                with torch.no_grad():
                    queries = [states(torch.from_numpy(s[None, -length:]))[0, -1] for s in training]
                    vectors = item.weight.detach()[:n_items]
                    scores = (torch.stack(queries) @ vectors.T).numpy()
                if not np.isfinite(scores).all():
                    raise ValueError(f"learning_rate is {learning_rate}; it diverges: lower it")
                hits = _hits(scores, training, held_out, k)
                found[epoch] = _Checkpoint(vectors.numpy().astype(float), hits)
    return found


def _stretches(
    training: Sequence[np.ndarray], length: int, padding: int, rng: np.random.Generator
) -> np.ndarray:
    """Cut the sequences into stretches of length + 1 items that share their ends, shuffled.

    The first cut falls at random; short stretches are filled up at their end.
    """
    rows = []
    for codes in training:
        first = int(rng.integers(1, length + 1))
        starts = [0, *range(first, len(codes) - 1, length)]
        stops = [s + length + 1 for s in starts]
        stops[0] = first + 1
        rows += [codes[a:b] for a, b in zip(starts, stops, strict=True) if len(codes[a:b]) > 1]
    out = np.full((len(rows), length + 1), padding)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out[rng.permutation(len(out))]


def popularity_embedding(
    training: Sequence[np.ndarray], n_items: int, *, d: int = 64, seed: int = 0
) -> np.ndarray:
    """Return noise (n_items, d) plus one direction along which items lie by log popularity."""
    rng = np.random.default_rng(seed)
    noise, direction = rng.standard_normal((n_items, d)), rng.standard_normal(d)
    count = np.log1p(np.bincount(np.concatenate(training), minlength=n_items))
    scaled = (count - count.mean()) / max(count.std(), 1e-12)
    return noise + np.sqrt(d) * scaled[:, None] * direction / np.linalg.norm(direction)


def random_embedding(n_items: int, *, d: int = 64, seed: int = 0) -> np.ndarray:
    """Return standard normal noise (n_items, d)."""
    return np.random.default_rng(seed).standard_normal((n_items, d))


def hits(
    embedding: ArrayLike,
    training: Sequence[np.ndarray],
    held_out: ArrayLike,
    *,
    k: int = 10,
    last: int = 10,
) -> np.ndarray:
    """Return for each user whether the held-out item is among the first `k` neighbours.

    The query is the mean of the unit vectors of the user's `last` training items; candidates
    are all items that the user's training part lacks, and the held-out one, ranked by cosine.
    Equal cosines count against the held-out item.
    """
    X = validation.matrix(embedding, "embedding").astype(float)
    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
    query = np.stack([unit[s[-last:]].mean(axis=0) for s in training])
    return _hits(query @ unit.T, training, held_out, k)


def _hits(
    scores: np.ndarray, training: Sequence[np.ndarray], held_out: ArrayLike, k: int
) -> np.ndarray:
    wanted = np.asarray(held_out)
    own = scores[np.arange(len(wanted)), wanted]
    ahead, user = scores >= own[:, None], np.repeat(np.arange(len(wanted)), [*map(len, training)])
    ahead[user, np.concatenate(training)] = False
    ahead[np.arange(len(wanted)), wanted] = True
    return ahead.sum(axis=1) <= k


def hit_rate(
    embedding: ArrayLike, training: Sequence[np.ndarray], held_out: ArrayLike, *, k: int = 10
) -> float:
    """Return the share of users whose held-out item is among the first `k`, as `hits` counts it."""
    return float(hits(embedding, training, held_out, k=k).mean())
