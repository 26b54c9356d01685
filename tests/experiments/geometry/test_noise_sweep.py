"""Rows of geometry and scores: what they hold, that they resume, and how the tables are made."""

import json

import numpy as np
import pandas as pd
import pytest
import transformers

from experiments.geometry import noise_sweep
from experiments.synthesis import glass_box_runs
from helpers import data, encoding, factbook, glue, injection, likelihood, models, probing
from helpers.geometry import quantization, quantizers

SMALL = {**noise_sweep.SIZES["small"], "n_sentences": 60, "bits": 3, "n_train": 60}
SMALL["n_test"] = 40


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(noise_sweep.SIZES, "small", SMALL)


def test_a_row_holds_the_measures_of_the_very_cloud_and_the_mean_of_the_tasks(small, bert):
    tokenizer, model = models.load_model(bert)
    tasks = noise_sweep.tasks_of("small")[:2]
    row = noise_sweep.encoder_row(tokenizer, model, size="small", tasks=tasks, seed=1)
    sentences = factbook.draw_sentences(60)
    points = encoding.token_vectors(model, tokenizer, sentences, tokens_per_sentence=3, seed=1)
    cloud = quantization.measure_cloud(points, bits=3, seed=1, per_cell=True)
    assert {name: row[name] for name in cloud} == pytest.approx(cloud, nan_ok=True)
    assert row["points"] == 180
    flat = quantizers.quantize(points, quantizer="kmeans", bits=3, seed=1)
    counts = quantization.cell_counts(flat[0], 8)
    assert row["km_lloyd_index"] == pytest.approx(quantization.lloyd_index(counts))
    assert row["km_error"] == pytest.approx(flat[1])
    scores = [row[f"task_{task.name}"] for task in tasks]
    assert row["score"] == pytest.approx(np.mean(scores))
    features = probing.probe_features(model, tokenizer, tasks[0], n_train=60, n_test=40)
    assert scores[0] == probing.probe_score(tasks[0], features)
    means = points.reshape(60, 3, -1).mean(axis=1)
    centre = points.mean(axis=0)
    share = 3 * np.square(means - centre).sum() / np.square(points - centre).sum()
    assert row["between_share"] == pytest.approx(share, rel=1e-4)


def test_noise_rows_resume_and_know_the_model_the_level_and_the_replicate(
    small, bert, monkeypatch, tmp_path, caplog
):
    caplog.set_level("INFO", "experiments")
    tasks = noise_sweep.tasks_of("small")[:1]
    monkeypatch.setattr(noise_sweep, "tasks_of", lambda size: tasks)
    settings = noise_sweep.settings_of("published", (0, 5), 1)
    run = {"size": "small", "folder": tmp_path}
    first = noise_sweep.noise_rows(bert, settings, **run)
    assert len(caplog.messages) == 2 and "'level': 5.0" in caplog.messages[1]
    again = noise_sweep.noise_rows(bert, settings, **run)
    pd.testing.assert_frame_equal(first, again)
    assert len(caplog.messages) == 2
    tokenizer, model = models.load_model(bert)
    noisy, ratio = injection.inject_noise(model, 5, seed=noise_sweep.noise_seed(5, 0))
    row = noise_sweep.encoder_row(tokenizer, noisy, size="small", tasks=tasks)
    stored = first.loc[1, list(row)].astype(float).to_dict()
    assert stored == pytest.approx(row, rel=1e-6, nan_ok=True)
    assert first.loc[1, "noise_to_signal"] == pytest.approx(ratio)
    assert first.loc[0, "noise_to_signal"] == 0
    # Other sentences, other rows.
    draw = factbook.draw_sentences
    monkeypatch.setattr(factbook, "draw_sentences", lambda n, seed=1: draw(n, seed))
    other = noise_sweep.noise_rows(bert, settings[:1], **run)
    assert other.loc[0, "lloyd_index"] != first.loc[0, "lloyd_index"]


def test_rows_of_a_causal_model_tell_its_perplexity(small, bert, monkeypatch, tmp_path):
    tokenizer = glass_box_runs.stored_tokenizer()
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": len(tokenizer)}
    transformers.GPT2Model(transformers.GPT2Config(**sizes)).save_pretrained(tmp_path / "gpt")
    tokenizer.save_pretrained(tmp_path / "gpt")
    tasks = noise_sweep.tasks_of("small")[:1]
    monkeypatch.setattr(noise_sweep, "tasks_of", lambda size: tasks)
    settings = noise_sweep.settings_of("relative", (50,), 1)
    options = {"size": "small", "folder": tmp_path / "rows"}
    row = noise_sweep.noise_rows(tmp_path / "gpt", settings, **options).iloc[0]
    tokenizer, model = models.load_model(tmp_path / "gpt")
    seed = noise_sweep.noise_seed(50, 0)
    noisy, _ = injection.inject_noise(model, 50, rule="relative", seed=seed)
    scores = likelihood.score_texts(noisy, tokenizer, factbook.draw_sentences(200, seed=5))
    assert np.exp(row["log_perplexity"]) == pytest.approx(likelihood.perplexity(scores), rel=1e-6)
    assert "log_perplexity" not in noise_sweep.noise_rows(bert, settings, **options)


def test_levels_and_replicates_have_noise_of_their_own():
    seeds = {noise_sweep.noise_seed(level, i) for level in range(50) for i in range(5)}
    assert len(seeds) == 250
    assert noise_sweep.noise_seed(5, 0) == noise_sweep.noise_seed(5.0, 0)


def test_settings_go_replicate_by_replicate():
    rows = noise_sweep.settings_of("relative", (1, 2), 2)
    assert [(row["level"], row["replicate"]) for row in rows] == [(1, 0), (2, 0), (1, 1), (2, 1)]


def test_a_sweep_that_may_stop_has_every_level_before_any_twice():
    rows = [(row["level"], row["replicate"]) for row in noise_sweep._plan("base")]
    levels = noise_sweep.LEVELS["published"]
    assert sorted(rows[: len(levels)]) == [(level, 0) for level in levels]
    # Healthy, failing and drowned come first.
    assert {0, 4, 20} == {level for level, _ in rows[:3]}
    assert {replicate for _, replicate in rows[len(levels) :]} == {1, 2}
    assert len(set(rows)) == len(rows) and {row["rule"] for row in noise_sweep._plan("base")} == {
        "published"
    }
    assert len(noise_sweep._plan("full")) == 3 * (13 + 6)


def squares(folder, calls, numbers, key=None, stop=None):
    def measure(number):
        if number == stop:
            raise KeyboardInterrupt
        calls.append(number)
        return {"square": number**2}

    settings = [{"number": number} for number in numbers]
    return noise_sweep.collect_rows(settings, measure, folder, key=key or {"a": 1})


def test_a_stopped_sweep_goes_on_where_it_stood(tmp_path):
    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        squares(tmp_path, calls, [1, 2, 3, 4], stop=3)
    table = squares(tmp_path, calls, [1, 2, 3, 4])
    assert calls == [1, 2, 3, 4]
    assert table["square"].tolist() == [1, 4, 9, 16]
    assert not list(tmp_path.glob("*.part"))


def test_the_rows_so_far_are_told_without_computing_any(tmp_path):
    squares(tmp_path, [], [2, 4])
    settings = [{"number": number} for number in (1, 2, 3, 4)]
    table = noise_sweep.collect_rows(settings, None, tmp_path, key={"a": 1})
    assert table[["number", "square"]].to_numpy().tolist() == [[2, 4], [4, 16]]
    assert noise_sweep.collect_rows(settings, None, tmp_path / "none", key={}).empty


def test_rows_of_another_key_or_damaged_ones_are_made_anew(tmp_path):
    calls: list[int] = []
    squares(tmp_path, calls, [1, 2])
    squares(tmp_path, calls, [1, 2], key={"a": 2})
    assert calls == [1, 2, 1, 2]
    for file in tmp_path.glob("*.json"):
        file.write_text(file.read_text()[:-4])
    assert squares(tmp_path, calls, [1])["square"].tolist() == [1]
    assert calls[4:] == [1]
    for file in tmp_path.glob("*.json"):
        file.write_text(json.dumps([1]))
    squares(tmp_path, calls, [1])
    assert calls[5:] == [1]


def test_full_rows_want_the_glue_files():
    if data.available("glue/"):
        names = [task.name for task in noise_sweep.tasks_of("full")]
        assert {"sst2", "mrpc", "rte", "cola", "stsb", "qnli"} <= set(names)
    else:
        with pytest.raises(data.DataError):
            noise_sweep.tasks_of("full")
    assert all(isinstance(task, glue.Task) for task in noise_sweep.tasks_of("small"))


def test_two_parts_make_the_table_of_the_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(noise_sweep, "LEVELS", {"published": (0, 7), "relative": (3,)})
    monkeypatch.setattr(noise_sweep, "REPLICATES", {"small": {"published": 2, "relative": 1}})
    asked: list[list[dict]] = []

    def rows(name, settings, *, size, allow_bin, how, so_far):
        asked.append(settings)
        return pd.DataFrame(settings).assign(size=size, score=1 / 3)

    monkeypatch.setattr(noise_sweep, "noise_rows", rows)
    file = tmp_path / "table.csv"
    noise_sweep.main([str(file), "--sizes", "small", "--part", "2/2"])
    assert [row["level"] for row in asked[0]] == [7, 7]
    table = pd.read_csv(file)
    assert len(table) == 5 and table["score"].unique() == pytest.approx([0.333333], abs=0)
