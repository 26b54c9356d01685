"""Invented embeddings whose true posterior is known: heavy tails, and features that interact."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from sklearn.decomposition import PCA

from experiments.posterior.rival_scores import normal
from helpers import validation
from helpers.posterior import average_log_posterior, embedding_tree

FORMS = ("published", "leave_one_out", "calibrated")
CLUSTERINGS = ("first feature", "second feature", "all features crossed", "tree", "true cells")


def heavy_tailed(
    freedom: float,
    *,
    n: int = 4000,
    d: int = 8,
    n_clusters: int = 10,
    radius: float = 0.75,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return t-distributed clusters (n, d), their labels (n,), and the skill of the truth, in nats.

    Every cluster is a multivariate t cloud of unit scale with `freedom` degrees of freedom; the
    fewer, the heavier its tails, and a large number is a Gaussian. The means are drawn with
    standard deviation `radius`. The skill is that of the true posterior, above chance. Source:
    Kotz and Nadarajah (2004) for the t.
    """
    rng = validation.generator(seed)
    labels = np.arange(n) % n_clusters
    stretch = np.sqrt(freedom / rng.chisquare(freedom, (n, 1)))
    means = radius * rng.standard_normal((n_clusters, d))
    X = means[labels] + stretch * rng.standard_normal((n, d))
    distance = ((X[:, None] - means) ** 2).sum(axis=2)
    truth = log_softmax(-(freedom + d) / 2 * np.log1p(distance / freedom), axis=1)
    return X, labels, float(truth[np.arange(n), labels].mean() + np.log(n_clusters))


def tail_table(
    freedoms: list[float], n_seeds: int = 5, seed: int = 0, **options: float
) -> pd.DataFrame:
    """Return what share of the true skill each form regains, by degrees of freedom and draw.

    The columns are `freedom`, `draw`, the `skill` of the truth, the shares of the three forms and
    of `normal`, calibrated after each dimension was mapped to a normal distribution, and the
    `temperature` (inverse temperature) of the calibrated form. `options` go to `heavy_tailed`.
    """
    rows = []
    for freedom in freedoms:
        for draw in range(n_seeds):
            X, labels, skill = heavy_tailed(freedom, seed=seed + draw, **options)  # type: ignore[arg-type]
            found = {form: average_log_posterior(X, labels, form=form) for form in FORMS}
            found["normal"] = average_log_posterior(normal(X), labels)
            row = {"freedom": freedom, "draw": draw, "skill": skill}
            row |= {form: result.skill / skill for form, result in found.items()}
            rows.append(row | {"temperature": found["calibrated"].temperature})
    return pd.DataFrame(rows)


def tree_case(seed: int = 0, *, n: int = 2000, n_features: int = 6) -> pd.DataFrame:
    """Return how clusterings rank models that know features which interact, in one draw.

    Of `n_features` yes-or-no features three matter: the second where the first is true, the third
    where it is false. This makes four true cells. A model places the entities by the first feature
    and by the cell, each with a strength of its own, and adds noise. One row per clustering of
    `CLUSTERINGS` and form: the rank correlation over eight models of the skill with that of
    the true posterior of the cells, and the number of clusters. The tree is grown on the principal
    components of all models together.
    """
    rng, d = validation.generator(seed), 16
    binary = rng.random((n, n_features)) < 0.5
    first, second, third = binary[:, :3].T
    cell = np.where(first, 2 + second, third).astype(int)
    by_first, by_cell = rng.standard_normal((2, d)), rng.standard_normal((4, d))
    models, truth = [], []
    for strengths in rng.uniform(0, 0.5, (8, 2)):
        centres = strengths[0] * by_first[[0, 0, 1, 1]] + strengths[1] * by_cell
        X = centres[cell] + rng.standard_normal((n, d))
        distance = ((X[:, None] - centres) ** 2).sum(axis=2)
        truth.append(log_softmax(-distance / 2, axis=1)[np.arange(n), cell].mean())
        models.append(X)
    frame = pd.DataFrame(binary, columns=[f"feature {i + 1}" for i in range(n_features)])
    pooled = PCA(d, random_state=0).fit_transform(np.hstack(models))
    every = binary @ (1 << np.arange(n_features))
    clusterings = dict(
        zip(CLUSTERINGS, [first, second, every, embedding_tree(pooled, frame).leaf, cell],
            strict=True)
    )  # fmt: skip
    rows = []
    for name, labels in clusterings.items():
        for form in ("published", "calibrated"):
            skill = [average_log_posterior(X, labels, form=form).skill for X in models]
            rank = pd.Series(skill).round(9).corr(pd.Series(truth), method="spearman")
            row = {"clusters": name, "form": form, "n_clusters": len(np.unique(labels))}
            rows.append({**row, "seed": seed, "rank correlation": rank})
    return pd.DataFrame(rows)
