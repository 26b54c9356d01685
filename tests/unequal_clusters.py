"""Clusters of unequal size and spread, for tests of what is measured of labelled embeddings."""

import numpy as np


def mixture(n=300, d=5, k=3, radius=2.0, seed=0):
    """Draw N rows of K Gaussians of unequal sizes, stretched and off the origin."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, n, p=np.arange(1, k + 1) / (k * (k + 1) / 2))
    labels[: 20 * k] = np.arange(20 * k) % k
    means = radius * rng.standard_normal((k, d)) / np.sqrt(d)
    spread = rng.uniform(0.5, 1.5, (k, d))
    return 0.3 + means[labels] + spread[labels] * rng.standard_normal((n, d)), labels
