"""LightGCN against autograd and its own definition, and the clusters of its table."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.posterior import graph_films

TRAINING = [np.array(s) for s in ([0, 1, 2], [1, 0], [3, 4, 5], [4, 3], [2, 5])]


def by_autograd(layers, steps, batch, d=4, learning_rate=0.05, decay=0.01, seed=3):
    """Return item vectors by dense matrices, torch's gradients and torch's Adam."""
    users, items = 5, 6
    edges = sorted({(u, users + i) for u, s in enumerate(TRAINING) for i in s})
    graph = torch.zeros(users + items, users + items)
    for a, b in edges:
        graph[a, b] = graph[b, a] = 1
    degree = graph.sum(dim=1)
    graph = graph / torch.sqrt(torch.outer(degree, degree))
    rng = np.random.default_rng(seed)
    start = (0.1 * rng.standard_normal((users + items, d))).astype(np.float32)
    vectors = torch.tensor(start, requires_grad=True)
    adam = torch.optim.Adam([vectors], lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)

    def spread():
        rounds = [vectors]
        for _ in range(layers):
            rounds.append(graph @ rounds[-1])
        return torch.stack(rounds).mean(dim=0)

    for _ in range(steps):
        rows = rng.integers(len(edges), size=batch)
        user, seen = torch.tensor(np.array(edges)[rows].T)
        other = torch.tensor(users + rng.integers(items, size=batch))
        now = spread()
        lead = ((now[seen] - now[other]) * now[user]).sum(dim=1)
        loss = -torch.nn.functional.logsigmoid(lead).mean()
        loss = loss + decay / 2 / (users + items) * vectors.square().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return spread()[users:].detach().numpy()


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_vectors_are_those_of_autograd_and_adam(layers):
    options = {"d": 4, "layers": layers, "batch": 16, "learning_rate": 0.05, "decay": 0.01}
    ours = graph_films._lightgcn_checkpoints(TRAINING, 6, steps=(3, 12), seed=3, **options)
    for steps, found in ours.items():
        np.testing.assert_allclose(found, by_autograd(layers, steps, 16), atol=2e-4)


def test_training_brings_films_of_one_audience_together():
    rng = np.random.default_rng(0)
    groups = [rng.choice(10, 6, replace=False) + 10 * (u % 2) for u in range(40)]
    X = graph_films._lightgcn_checkpoints(groups, 20, d=8, steps=(150,), batch=512)[150]
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosine, same = unit @ unit.T, np.equal.outer(np.arange(20) // 10, np.arange(20) // 10)
    assert cosine[same].mean() > cosine[~same].mean() + 0.5


def test_trees_have_the_leaves_that_were_asked_for_and_a_crossing_is_of_both():
    rng = np.random.default_rng(0)
    n = 1200
    old, war = rng.random(n) < 0.5, rng.random(n) < 0.5
    binary = pd.DataFrame({f"f{k}": rng.random(n) < 0.5 for k in range(4)} | {"old": old})
    X = rng.normal(size=(n, 20)) + 3 * old[:, None]
    labels = pd.DataFrame({"genre": np.where(war, "War", "Comedy"), "decade": "1990s"})
    models = {"one": X, "random": 50 * rng.normal(size=(n, 3))}
    found = graph_films._clusterings(models, labels, binary)
    assert found["tree"].nunique() == 2
    assert [found[f"tree, {k} leaves"].nunique() for k in graph_films.LEAVES] == [6, 12]
    assert set(found["crossed"]) == {"War, 1990s", "Comedy, 1990s"}


def test_clusterings_are_compared_over_the_same_draws_of_methods():
    hits = pd.Series({f"m{i}, age {k}": i + k / 10 for i in range(5) for k in range(2)})
    rows = [
        {"clusters": by, "model": m, "calibrated": sign * h, "hit@10": h}
        for by, sign in (("good", 1), ("bad", -1))
        for m, h in hits.items()
    ]
    found = graph_films.follows_hits(pd.DataFrame(rows), n_resamples=40)
    assert found.table.estimate.to_dict() == pytest.approx({"good": 1, "bad": -1})
    assert list(found.draws) == ["good", "bad"]
    np.testing.assert_allclose(found.draws["good"], -found.draws["bad"])


def test_the_headlines_name_the_lowest_clustering_and_leave_the_controls_out():
    hits = pd.Series({f"m{i}": float(i) for i in range(6)} | {"random": -1.0, "popularity": 9.0})
    turned = {"decade": hits, "genre": hits.where(hits.index != "random", 99)}
    rows = [
        {"clusters": by, "model": m, "calibrated": value, "published": -value, "hit@10": hits[m]}
        for by, values in turned.items()
        for m, value in values.items()
    ]
    (decade, lowest, published), table = graph_films.headlines(pd.DataFrame(rows), 40)
    assert [decade.estimate, published.estimate] == pytest.approx([1, -1])
    assert lowest.estimate == table.loc["genre", ("all", "estimate")] < 0.5
    assert table["without controls"].estimate.tolist() == pytest.approx([1, 1])
