"""Fine-tuning to the end: the order of its runs, one run, what stands beside it, the table."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments.geometry import full_tuning
from helpers import data, glue

SWEEP = pd.DataFrame(
    [
        {"size": "full", "rule": "published", "level": level, "replicate": copy}
        | {"task_rte": 0.9 - level / 10 - copy / 100, "task_sst2": 0.5}
        for level in (0.0, 2.0)
        for copy in (0, 1)
    ]
    # Rows of another rule and size must not be taken for these.
    + [{"size": "small", "rule": "published", "level": 2.0, "replicate": 0, "task_rte": 9.0}]
    + [{"size": "full", "rule": "relative", "level": 2.0, "replicate": 0, "task_rte": 9.0}]
)


def test_a_stop_at_any_time_leaves_no_noisy_copy_alone():
    plan = full_tuning.plan()
    cells = [(one["task"], one["level"], one["replicate"]) for one in plan]
    assert len(set(cells)) == len(cells)
    assert len(cells) == 5 * len(full_tuning.LEVELS) * len(full_tuning.REPLICATES)
    for n in range(1, len(cells) + 1):
        done = pd.DataFrame(cells[:n], columns=["task", "level", "replicate"])
        noisy = done[done.level > 0]
        healthy = done[done.level == 0].set_index(["task", "replicate"]).index
        assert pd.MultiIndex.from_frame(noisy[["task", "replicate"]]).isin(healthy).all()


def test_losses_are_those_of_the_same_copy():
    rows = pd.DataFrame({"task": "rte", "level": [2.0, 0.0, 2.0, 0.0], "replicate": [0, 0, 1, 1]})
    found = full_tuning.beside_probes(rows.assign(score=[0.6, 0.8, 0.5, 0.9]), SWEEP)
    np.testing.assert_allclose(found["tuned_lost"], [0.2, 0, 0.4, 0], atol=1e-12)
    np.testing.assert_allclose(found["frozen"], [0.7, 0.9, 0.69, 0.89], atol=1e-12)
    np.testing.assert_allclose(found["frozen_lost"], [0.2, 0, 0.2, 0], atol=1e-12)


def test_a_loss_without_its_healthy_copy_is_missing():
    rows = pd.DataFrame({"task": ["rte"], "level": [2.0], "replicate": [0], "score": [0.6]})
    found = full_tuning.beside_probes(rows, SWEEP)
    assert found["tuned_lost"].isna().all() and found["frozen"].item() == pytest.approx(0.7)


def test_what_noise_takes_is_the_mean_over_tasks_of_the_mean_over_copies(monkeypatch, tmp_path):
    rows = [("a", 0.0, 0, 0.9), ("a", 2.0, 0, 0.8), ("a", 0.0, 1, 0.9), ("a", 2.0, 1, 0.6)]
    rows += [("b", 0.0, 0, 0.5), ("b", 2.0, 0, 0.4)]
    table = pd.DataFrame(rows, columns=["task", "level", "replicate", "score"])
    monkeypatch.setattr(full_tuning, "FILE", tmp_path / "table.csv")
    table.to_csv(full_tuning.FILE, index=False)
    assert full_tuning.lost_to_noise(["a"]) == pytest.approx(0.2)
    assert full_tuning.lost_to_noise(["a", "b"]) == pytest.approx(0.15)
    with pytest.raises(KeyError):
        full_tuning.lost_to_noise(["c"])


def test_runs_are_kept_and_only_the_missing_ones_are_made(monkeypatch, tmp_path):
    made = []

    def row(task, level, replicate):
        made.append((task, level, replicate))
        return {"score": level + replicate, "loss": 0.0}

    monkeypatch.setattr(full_tuning, "tuned_row", row)
    monkeypatch.setattr(full_tuning, "FILE", tmp_path / "table.csv")
    monkeypatch.setattr(data, "cache_folder", lambda: tmp_path)
    assert full_tuning.main(["--stored"]) == 0 and not made
    assert full_tuning.main(["--part", "1/4"]) == 0
    some = list(made)
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(some) == 10
    assert full_tuning.main([]) == 0
    table = pd.read_csv(tmp_path / "table.csv")
    assert made[: len(some)] == some and len(made) == len(set(made)) == len(table) == 40
    assert (table.score == table.level + table.replicate).all()


def test_the_stored_table_is_of_this_plan():
    table = pd.read_csv(full_tuning.FILE)
    cells = [json.dumps(one) for one in table[["task", "level", "replicate"]].to_dict("records")]
    plan = [json.dumps(one) for one in full_tuning.plan()]
    assert cells == [one for one in plan if one in cells] and not table.isna().any().any()
    scores = table.set_index(["task", "level"])["score"].groupby(level=[0, 1]).mean()
    assert set(scores.index.get_level_values("task")) <= set(glue._GLUE)
    assert (scores.xs(0.0, level="level") > 0.2).all()
