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


def test_near_copies_do_not_count_as_neighbours():
    made, families = blobs()
    apart = made.distances()
    # Two copies in each family: the other three are still found, and the copies find them.
    twins = np.zeros((30, 30), bool)
    for first in range(0, 30, 5):
        twins[first, first + 1] = twins[first + 1, first] = True
    found = lineage.recovered(apart, families, copies=twins, n_shuffles=50)
    assert found.rate == 1 and found.n == 30
    # In a line where each model is beside its copy, only strangers are left beside it.
    line = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    labels, pairs = list("aabbab"), np.zeros((6, 6), bool)
    pairs[[0, 1, 2, 3], [1, 0, 3, 2]] = True
    assert lineage.recovered(line, labels, n_shuffles=5).rate == pytest.approx(3 / 6)
    assert lineage.recovered(line, labels, copies=pairs, n_shuffles=5).rate == 0


def test_the_interval_is_over_families_and_families_may_count_alike():
    # Family a of eight is found, b and c of two are not.
    line = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 10, 11, 10.2, 11.2])
    apart, labels = np.abs(np.subtract.outer(line, line)), list("aaaaaaaabbcc")
    found = lineage.recovered(apart, labels, n_shuffles=20)
    assert found.rate == pytest.approx(8 / 12) and (found.low, found.high) == (0, 1)
    by_family = lineage.recovered(apart, labels, by="families", n_shuffles=20)
    assert by_family.rate == pytest.approx(1 / 3)
    gain, low, high = found.gain
    assert gain == found.rate - found.chance and low < gain < high


def test_the_share_of_marked_neighbours_is_counted_across_families():
    line = np.array([0.0, 1, 2, 3, 10, 11, 12, 13])
    apart, families = np.abs(np.subtract.outer(line, line)), list("aabbccdd")
    mark = [True] * 4 + [False] * 4
    table = lineage.neighbour_share(apart, families, mark, n_resamples=50)
    assert table.share.tolist() == [1, 0, 1] and (table.low <= table.high).all()
    other = [True, False] * 4
    # Neighbours of another family: b's first for both of a, a's second for both of b, and so on.
    assert lineage.neighbour_share(apart, families, other).share["difference"] == 0


def test_of_copies_the_one_of_highest_priority_stays():
    copies = np.zeros((5, 5), bool)
    copies[0, 1] = copies[1, 0] = copies[1, 2] = copies[2, 1] = True
    assert lineage.one_of_each(copies, [1, 3, 2, 0, 0]).tolist() == [0, 1, 0, 1, 1]
    assert lineage.one_of_each(copies, [1, 1, 1, 0, 0]).tolist() == [1, 0, 0, 1, 1]


def test_the_rank_of_a_parent_is_its_place_among_all_neighbours():
    made, _ = blobs(n=2, k=3)
    table = lineage.parent_ranks(made, {"a0": "a1", "b2": "a0"})
    for name, row in table.iterrows():
        order = list(made.nearest(name, 5).index)
        assert row["rank"] == 1 + order.index(row.parent) and row["of"] == 5
    assert table.loc["b2", "rank"] > 2 and table.loc["b2", "nearest"][0] == "b"


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


def test_the_slope_of_a_known_cost(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.process_time", lambda: clock[0])
    calls = []

    def task(n):
        calls.append(n)
        # The first round is slower, as with other work on the machine.
        clock[0] += n**1.5 * (1 if len(calls) > 3 else 5)

    slope, low, high, seconds = lineage.cost_slope(task, [2, 4, 8], repeats=2)
    assert slope == pytest.approx(1.5) and seconds[4] == pytest.approx(8)
    assert low == pytest.approx(1.5) and high == pytest.approx(1.5)
    assert calls == [2, 4, 8, 2, 4, 8]


def test_kin_are_first_where_families_lie_apart():
    made, families = blobs()
    assert lineage.kin_first(made, families, "b", n_resamples=50) == (1, 1, 1)
    # A model called by another family's name has strangers beside it, whatever the texts.
    wrong = families.mask(families.index == "b0", "a")
    share, low, high = lineage.kin_first(made, wrong, "a", n_resamples=50)
    assert share == low == high == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="family is 'z', of 0 models beside 30 others"):
        lineage.kin_first(made, families, "z")


def test_kin_may_be_farther_than_a_stranger_on_some_texts():
    rng = np.random.default_rng(1)
    child, apart = rng.normal(size=(2, 200))
    rows = np.array([child + apart, child, child + 1.001 * rng.permutation(apart)])
    families = pd.Series(["x", "x", "y"], ["parent", "child", "stranger"])
    made = model_map.fit_map(rows, list(families.index), 0)
    # The parent has its child nearest on all texts; the child has a stranger as near.
    assert lineage.kin_first(made, families, "x") == (1, 0.5, 1)
    far = model_map.fit_map(np.vstack([rows[:2], 100 * rows[2]]), made.names, 0)
    assert lineage.kin_first(far, families, "x") == (1, 1, 1)
