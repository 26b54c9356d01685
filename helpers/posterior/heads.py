"""Heads of an embedding: the dimensions, or the directions, on which each small Gaussian stands."""

from __future__ import annotations

import numpy as np

from helpers import validation

HEAD_KINDS = ("blocks", "subsets", "rotations")


def blocks(
    n_dims: int,
    head_dim: int | None,
    *,
    kind: str = "blocks",
    n_permutations: int = 1,
    seed: int = 0,
) -> list[np.ndarray]:
    """Return the dimensions of each head: disjoint blocks of seeded permutations of `n_dims`.

    Every permutation gives ceil(n_dims / head_dim) blocks whose sizes differ by at most one and
    never exceed `head_dim`; together they hold every dimension once. kind="subsets" draws as many
    heads of exactly `head_dim` dimensions, each on its own, so that some dimensions come twice and
    others never. None gives one head.
    """
    validation.counts(n_dims=(n_dims, 1), n_permutations=(n_permutations, 1))
    validation.choice(kind, HEAD_KINDS[:2], "kind")
    if head_dim is None:
        return [np.arange(n_dims)]
    validation.counts(head_dim=(head_dim, 1))
    rng, n_blocks = validation.generator(seed), -(-n_dims // head_dim)
    if kind == "subsets":
        size = min(head_dim, n_dims)
        draws = range(n_blocks * n_permutations)
        return [rng.choice(n_dims, size, replace=False) for _ in draws]
    shuffled = (rng.permutation(n_dims) for _ in range(n_permutations))
    return [block for dims in shuffled for block in np.array_split(dims, n_blocks)]


def directions(
    dims: np.ndarray, head_dim: int | None, kind: str, n_permutations: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Return the columns of each head, and the directions in them that it takes (None: itself)."""
    if kind != "rotations" or head_dim is None:
        options = {"kind": "blocks" if head_dim is None else kind, "seed": seed}
        parts = blocks(len(dims), head_dim, n_permutations=n_permutations, **options)
        return [(dims[block], None) for block in parts]
    rng, parts = validation.generator(seed), []
    for _ in range(n_permutations):
        turn = _random_rotation(len(dims), rng)
        parts += [(dims, turn[:, b]) for b in blocks(len(dims), head_dim, seed=seed)]
    return parts


def _random_rotation(n_dims: int, rng: np.random.Generator) -> np.ndarray:
    """Return a rotation drawn uniformly: Q of a Gaussian matrix, signs made unique."""
    q, r = np.linalg.qr(rng.standard_normal((n_dims, n_dims)))
    return q * np.sign(np.diag(r))


def width(block: tuple[np.ndarray, np.ndarray | None]) -> int:
    """Return how many dimensions a head of `directions` has."""
    columns, rotation = block
    return len(columns) if rotation is None else rotation.shape[1]
