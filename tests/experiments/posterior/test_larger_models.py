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


def test_a_layer_that_knows_stands_above_spelling_and_one_that_does_not_is_at_it(monkeypatch):
    rng = np.random.default_rng(2)
    labels = np.repeat(["x", "y"], 60)
    noise = {name: rng.normal(size=(120, 3)) for name in ("MPNet, layer 0", "spelling")}
    knows = rng.normal(size=(120, 3)) + 4 * (labels == "x")[:, None]
    layers = {"MPNet, layer 0": noise["MPNet, layer 0"], "MPNet, layer 1": knows}
    task = Task(layers | {"spelling": noise["spelling"]}, labels, list(layers), {})
    monkeypatch.setattr(real_models, "named", lambda *_, **__: task)
    table = larger_models.above_spelling(["MPNet"]).set_index("layer")
    first, last = table.loc[list(layers)].itertuples()
    # A right answer that is certain is log 2 above chance.
    assert last.low > 0.5 and last.estimate == pytest.approx(np.log(2), abs=0.1)
    assert first.low <= 0 <= first.high and abs(first.estimate) < 0.05


def test_headlines_are_the_rows_of_the_stored_tables():
    four = larger_models.names_of_four()
    table = larger_models.headlines(four, n_resamples=20)
    assert len(table) == 6 and (table.low <= table.high).all()
    below = pd.read_csv(larger_models.BELOW)
    own = below[(below.model == "Gemma") & (below.block == 32) & (below.ridge == 1e-6)]
    row = table.loc["layers of Gemma below noise"]
    assert row.tolist() == own[["estimate", "low", "high"]].iloc[0].tolist()
    gaps = pd.read_csv(larger_models.SPELLING)
    most = gaps[gaps.model == "MPNet"].estimate.max()
    assert table.estimate["best layer of MPNet above spelling"] == most
    rho = four["ALP calibrated"].corr(four["probe, tuned"], method="spearman")
    assert table.estimate["rank correlation with the probe"] == pytest.approx(rho)
    assert four.groupby("unit").size()[["MPNet", "Gemma", "MiniLM", "SmolLM2"]].tolist() == [4] * 4
