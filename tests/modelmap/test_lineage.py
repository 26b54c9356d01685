import numpy as np
import pandas as pd
import pytest

from helpers.modelmap import lineage, model_map


def blobs(n=6, k=5, spread=0.2, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n, 30)) * 10
    rows = np.repeat(centres, k, axis=0) + spread * rng.normal(size=(n * k, 30))
    names = [f"{g}{i}" for g in "abcdef"[:n] for i in range(k)]
    return model_map.fit_map(rows, names, 0), pd.Series([name[0] for name in names], names)


def test_families_apart_are_found_and_shuffled_names_are_not():
    made, families = blobs()
    found = lineage.recovered(made.distances(), families, n_shuffles=200)
    assert found.rate == 1
    # A neighbour drawn by chance is one of the 4 relatives among 29.
    assert found.chance == pytest.approx(4 / 29, abs=0.02) and found.chance < found.most < 1
    assert found == lineage.recovered(made.distances(), families, n_shuffles=200)


def test_truths_are_the_single_recoveries():
    made, families = blobs()
    known = pd.DataFrame({"family": families, "number": [name[1] for name in made.names]})
    ways = {"Q": made.distances()} | lineage.simpler(made)
    table = lineage.truths(ways, known, n_shuffles=20)
    assert list(table) == ["Q", "raw", "mean", "chance"] and list(table.index) == list(known)
    assert table.loc["family", "Q"] == 1 and table.loc["number", "Q"] == 0
    level = made.log_likelihoods
    assert np.allclose(ways["raw"], ((level[:, None] - level) ** 2).mean(axis=2))
    assert np.allclose(ways["mean"], (level.mean(1)[:, None] - level.mean(1)) ** 2)


def test_children_are_measured_against_parent_and_strangers():
    made, families = blobs(n=3)
    table = lineage.children(made, families, "b0")
    apart = made.distances()
    assert (
        sorted(table.index) == ["b1", "b2", "b3", "b4"] and table.distance.is_monotonic_increasing
    )
    strangers = [i for i, f in enumerate(families) if f != "b"]
    for name, row in table.iterrows():
        i = made.names.index(name)
        assert row.distance == apart[i, made.names.index("b0")]
        assert row.stranger == apart[i, strangers].min()
        assert row.ratio == row.stranger / row.distance
        assert row.nearest == made.nearest(name, 1).index[0]
    with pytest.raises(ValueError, match="parent 'q' is not on the map"):
        lineage.children(made, families, "q")
    with pytest.raises(ValueError, match="other rows than the map"):
        lineage.children(made, families[::-1], "b0")


def test_the_slope_of_a_known_cost(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.process_time", lambda: clock[0])
    calls = []

    def task(n):
        calls.append(n)
        # The first round is slower, as with other work on the machine.
        clock[0] += n**1.5 * (1 if len(calls) > 3 else 5)

    slope, seconds = lineage.cost_slope(task, [2, 4, 8], repeats=2)
    assert slope == pytest.approx(1.5) and seconds[4] == pytest.approx(8)
    assert calls == [2, 4, 8, 2, 4, 8]
    with pytest.raises(ValueError, match="two different ones"):
        lineage.cost_slope(task, [2, 2])
