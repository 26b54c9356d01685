import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import scale

from experiments.posterior import real_models, rival_scores, specifications
from experiments.posterior.real_models import Films, Task
from helpers import data
from helpers.posterior import average_log_posterior, log_me


@pytest.fixture(scope="module")
def task():
    """Three models of rising strength and noise, over three clusters."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 60)
    centres = rng.standard_normal((3, 8))[np.repeat([0, 1, 2], 60)]
    models = {
        f"net, layer {i}": 0.5 * i * centres + rng.standard_normal((180, 8)) for i in (1, 2, 3)
    }
    models["noise"] = rng.standard_normal((180, 8))
    return Task(models, labels, list(models)[:3], {})


def test_models_that_know_stand_above_noise_and_noise_below_none(task):
    models = {name: task.models[name] for name in task.trained}
    noise = task.models["noise"]
    found = specifications.layers_below_noise(models, task.labels, noise, block=8)
    assert found["estimate"] == 0 and found["low"] <= found["estimate"] <= found["high"]
    worse = {"silent": np.random.default_rng(1).standard_normal((180, 2))}
    # Two dimensions of noise gain less than eight.
    assert specifications.layers_below_noise(worse, task.labels, noise, block=8)["estimate"] == 1


def test_the_table_has_a_row_per_specification(task):
    choices = {"ridge": [1e-6, 1.0], "clip": ["none", 1e-4], "block": [4], "seed": [0, 1]}
    table = specifications.noise_table(task, choices)
    assert len(table) == 8 and {*choices, "estimate", "low", "high"} == set(table)


def test_corrupted_labels_change_the_share_asked_for_and_never_to_themselves():
    rng, labels = np.random.default_rng(0), np.repeat(["a", "b", "c"], [500, 300, 200])
    given = specifications._corrupted(labels, 0.3, rng)
    assert (given != labels).mean() == pytest.approx(0.3, abs=0.05)
    assert (specifications._corrupted(labels, 1.0, rng) != labels).all()
    assert (specifications._corrupted(labels, 0.0, rng) == labels).all()


def test_wrong_labels_cost_skill(task):
    truth = pd.Series({name: float(i) for i, name in enumerate(["noise", *task.trained])})
    table = specifications._wrong_labels(task, truth, [0.0, 0.5], n_draws=2, block=4)
    skill = table[table.form == "calibrated"].groupby("share").skill.mean()
    assert skill[0.5] < 0.5 * skill[0.0]
    clean = table[(table.form == "calibrated") & (table.share == 0)]
    assert (clean["rank correlation"] > 0.9).all()


def test_a_small_ridge_wins_in_sample_and_a_larger_one_held_out():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "d"], 30)
    X = rng.standard_normal((120, 20)) + rng.standard_normal((4, 20))[np.repeat(range(4), 30)]
    path = specifications._regularisation_path({"x": (X, labels)}).set_index("ridge")
    ridges = path.drop(index="OAS")
    assert ridges["in-sample"].idxmax() == 1e-6 and ridges["held-out"].idxmax() >= 0.1
    assert path.loc["OAS", "held-out"] > ridges["held-out"].max() - 0.2


def test_the_number_of_clusters_is_what_was_asked_for(task):
    table = specifications._by_number_of_clusters(task, [2, 3], block=4)
    assert list(table.clusters) == [2, 3] and (table["noise, published"] > 0).all()


def test_the_ablation_has_every_clustering_space_and_fit(task):
    films = Films(
        {("random" if name == "noise" else name): X for name, X in task.models.items()},
        {"one": pd.Series(task.labels), "other": pd.Series(task.labels).where(task.labels != "a")},
        {name: float(i) for i, name in enumerate([*task.trained, "random"])},
    )
    table = specifications._ablation(films, block=4)
    assert len(table) == 2 * 2 * (len(specifications.RIDGES) + 1)
    assert set(table.n_clusters) == {2, 3} and table.noise.between(1, 4).all()


def test_scores_are_those_of_their_functions_and_keep_their_time(task):
    scores = rival_scores.methods(block=4)
    chosen = {name: scores[name] for name in ("ALP published", "ALP calibrated", "LogME")}
    table = rival_scores.measured(task, chosen)
    wide = rival_scores.wide(table)
    X = task.models["net, layer 2"]
    assert wide.loc["net, layer 2", "LogME"] == log_me(X, task.labels)
    published = average_log_posterior(X, task.labels, form="published", head_dim=4).score
    assert wide.loc["net, layer 2", "ALP published"] == published
    assert set(wide.unit) == {"net", "noise"} and wide.trained.sum() == 3
    assert wide.loc["net, layer 2", "width"] == X.shape[1] and (table.seconds >= 0).all()


def test_a_downstream_result_of_the_task_stands_in_place_of_the_network(task):
    task = task._replace(downstream=dict.fromkeys(task.models, 0.25))
    table = rival_scores.measured(task, {"downstream": rival_scores.yardsticks()["downstream"]})
    assert (table.value == 0.25).all()
    assert (
        0.5 < rival_scores._network_accuracy(scale(task.models["net, layer 3"]), task.labels) <= 1
    )


def test_the_rival_table_has_all_its_specifications():
    rng = np.random.default_rng(0)
    names = [*rival_scores.FORMS, "LogME", *rival_scores.PROBES, rival_scores.DOWNSTREAM]
    tables = {}
    for task in ("x", "y"):
        table = pd.DataFrame(rng.standard_normal((8, len(names))), columns=names)
        tables[task] = table.assign(unit=range(8), trained=[True] * 6 + [False] * 2)
    table = rival_scores.rival_table(tables, n_resamples=20)
    assert len(table) == 4 * 4 * 3 and (table.low <= table.high).all()


def test_noise_fools_a_score_that_puts_it_above_a_model_which_knows():
    table = pd.DataFrame(
        {"probe, tuned": [-0.1, -0.5, -1.0, -0.98], "x": [0.1, 0.9, 0.5, 0.2]},
        index=["good", "fair", "noise", "poor"],
    )
    assert rival_scores.fooled_by_noise({"t": table}, ["x"])["x"] == 1


def test_crossed_features_keep_gaps_and_units_join_the_layers_of_a_network():
    first, second = pd.Series(["a", None, "b"]), pd.Series(["x", "x", None])
    assert list(real_models.crossed(first, second).fillna("-")) == ["a, x", "-", "-"]
    names = ["MiniLM, layer 3", "item2vec single", "SASRec, epoch 1", "noise"]
    assert [real_models.unit(n) for n in names] == ["MiniLM", "item2vec", "SASRec", "noise"]


@pytest.mark.parametrize("name", list(specifications.TABLES))
def test_every_table_is_stored(name):
    assert len(pd.read_csv(data.PUBLISHED / f"{name}.csv")) > 3


def test_alp_follows_hits_that_rise_with_what_films_know(task):
    names = ["random", *task.trained, "SASRec, epoch 1", "SASRec, epoch 9"]
    X = [task.models["noise"], *(task.models[name] for name in task.trained)]
    films = Films(
        dict(zip(names, [*X, X[1], X[3]], strict=True)),
        {"genre": pd.Series(task.labels)},
        dict(zip(names, [0, 1, 2, 3, 1, 3], strict=True)),
    )
    choices = specifications.FILM_CHOICES | {"clusters": ["genre"], "space": ["whole"]}
    table = specifications.film_rows(films, choices, n_resamples=5)
    assert len(table) == 12 and (table.estimate > 0.8).all()
    assert ((table.low - 1e-9 <= table.estimate) & (table.estimate <= table.high + 1e-9)).all()


def test_a_signal_that_is_the_truth_saves_all_error_and_a_constant_none():
    rng = np.random.default_rng(0)
    rows = [(w, m, s) for w in (16, 32, 64) for m in "abc" for s in (10, 100) for _ in range(2)]
    models = pd.DataFrame(rows, columns=["width", "mix", "step"])
    models["parameters"] = models.width**2
    models["closed_book"] = rng.random(len(models))
    for row in ({"scale": "values"}, {"checkpoints": "last", "left_out": "width"}):
        known = models.assign(alp=models.closed_book)
        found = specifications.glass_box_gain(known, **row, n_resamples=20)
        assert found == pytest.approx([1, 1, 1])
        silent = specifications.glass_box_gain(models.assign(alp=0.0), **row, n_resamples=20)
        assert silent == pytest.approx([0, 0, 0], abs=1e-9)
