"""The optional set beside the smaller models: tables joined, followed and resumed."""

import numpy as np
import pandas as pd
import pytest

from experiments.posterior import larger_models, real_models, rival_scores
from experiments.posterior.real_models import Task
from helpers import encoding

FORMS = rival_scores.FORMS


def planted(seed=0):
    """Five networks of three layers; one form follows the probe, LogME is its reverse."""
    rng = np.random.default_rng(seed)
    probe = rng.normal(size=15)
    table = pd.DataFrame({"unit": np.repeat(list("abcde"), 3), "probe, tuned": probe})
    table["downstream"] = -probe
    for name in FORMS:
        table[name] = np.exp(probe)
    return table.assign(LogME=-probe)


def test_following_is_the_rank_correlation_and_leads_keep_their_pairs():
    found = larger_models.follows(planted(), n_resamples=50).set_index(["yardstick", "score"])
    for name in FORMS:
        row = found.loc[("probe, tuned", name)]
        assert row[["estimate", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
        assert row[["ahead", "ahead low", "ahead high"]].tolist() == pytest.approx([2, 2, 2])
        assert found.loc[("downstream", name), "estimate"] == pytest.approx(-1)
    assert found.loc[("probe, tuned", "LogME"), "estimate"] == pytest.approx(-1)


def test_layers_are_scored_once_and_a_changed_model_anew(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    labels = np.repeat(["x", "y"], 30)
    layers = {f"MPNet, layer {k}": rng.normal(size=(60, 3)) + k for k in range(2)}
    task = Task(layers | {"noise": rng.normal(size=(60, 3))}, labels, list(layers), {})
    version, calls = ["one"], []
    monkeypatch.setattr(real_models, "named", lambda *_, **__: task)
    monkeypatch.setattr(encoding, "identity", lambda name: version[0])
    few = {"LogME": lambda X, y: calls.append(1) or float(X.mean())}
    monkeypatch.setattr(rival_scores, "methods", lambda: few)
    monkeypatch.setattr(rival_scores, "yardsticks", dict)
    table = larger_models.larger_scores(tmp_path, ["MPNet"])
    assert len(calls) == 2 and set(table.model) == set(layers)
    assert table.value.tolist() == pytest.approx([X.mean() for X in layers.values()])
    again = larger_models.larger_scores(tmp_path, ["MPNet"])
    assert len(calls) == 2
    pd.testing.assert_frame_equal(again, table)
    version[0] = "two"
    larger_models.larger_scores(tmp_path, ["MPNet"])
    assert len(calls) == 4
