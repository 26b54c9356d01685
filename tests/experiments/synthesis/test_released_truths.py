"""The loaders of released truths, on small files of the same form."""

import json

import pandas as pd
import pytest

from experiments.synthesis import released_truths
from helpers import data

MODELS = tuple(pd.read_csv(released_truths.TUNED).model)


def write(folder, key, text):
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def encoder_files(tmp_path):
    for number, key in enumerate(data.keys(released_truths.ENCODERS)):
        runs = 5 if "EarlyStop" in key else 1
        lines = []
        for i, model in enumerate(MODELS):
            scores = [number + i + 0.1 * run for run in range(runs)]
            times = [1.0 + run for run in range(runs)]
            lines.append(json.dumps({"model": model, "all_scores": scores, "all_times": times}))
        write(tmp_path, key, "\n".join(lines))
    return tmp_path


def test_encoders_have_a_row_per_model_and_task_and_more_is_better(encoder_files):
    runs = released_truths.encoder_runs(encoder_files)
    assert len(runs) == 8 * 6 * (15 + 3 * 5)
    assert set(runs[runs.scorer == "EarlyStop-50"].run) == {0, 1, 2, 3, 4}
    table = released_truths.encoders(runs)
    assert len(table) == 8 * 6 and table.notna().all(axis=None)
    one = table[table.task == "cola"].set_index("model")
    # Later models have larger scores in every file; of PACTran less is better.
    assert one.loc[list(MODELS), "LogME"].is_monotonic_increasing
    assert one.loc[list(MODELS), "PACTran-1-10"].is_monotonic_decreasing
    five = runs[(runs.scorer == "EarlyStop-50") & (runs.task == "cola")]
    mean = five[five.model == MODELS[0]].score.mean()
    assert one.loc[MODELS[0], "EarlyStop-50"] == pytest.approx(mean)


def test_tuned_scores_are_those_of_the_note():
    table = released_truths.tuned_encoders()
    assert set(table.task) == set(released_truths.GLUE) and table.truth.between(40, 100).all()
    best = table.loc[table.groupby("task").truth.idxmax()]
    assert (best.model == "roberta-base").all()


@pytest.fixture
def curves(tmp_path):
    models = [("gpt2", "GPT2"), ("google/mt5-base", "T5"), ("t5-small", "T5")]
    models += [("ai-forever/mGPT", "GPT2"), ("facebook/bart-base", "BART")]
    rows = [
        {"config name": m, "0": 5.0, "200": 4.0 - i, "1600": 1.0 + i, "size": 10 * i, "family": f}
        for i, (m, f) in enumerate(models)
    ]
    for corpus in released_truths.CORPORA:
        text = pd.DataFrame(rows).to_csv(index=False)
        write(tmp_path, f"{released_truths.CURVES}{corpus}.csv", text)
    return released_truths.tuning_curves(tmp_path)


def test_tuning_curves_have_a_row_per_point(curves):
    assert len(curves) == 3 * 5 * 3 and set(curves.examples) == {0, 200, 1600}
    one = curves.drop_duplicates("model").set_index("model")
    assert one.tokenizer.to_dict() == {
        "gpt2": "GPT-2 BPE",
        "google/mt5-base": "mt5",
        "t5-small": "T5",
        "ai-forever/mGPT": "mGPT",
        "facebook/bart-base": "GPT-2 BPE",
    }
    assert one.decoder.to_dict()["gpt2"] and not one.decoder.to_dict()["facebook/bart-base"]


def test_language_models_turn_losses_and_know_nothing_of_later_ones(curves):
    table = released_truths.language_models(curves).set_index(["task", "model"])
    assert table.truth["flan", "gpt2"] == -1.0
    assert {c for c in table if c.startswith("after")} == {"after 0", "after 200"}
    early = released_truths.language_models(curves, 200).set_index(["task", "model"])
    assert early.truth["flan", "gpt2"] == -4.0 and "after 200" not in early


def test_image_models_leave_out_the_task_that_failed(tmp_path):
    tasks = ["pets", "food101", "dtd", "pets"]
    records = {"model": list("aaab"), "finetuned_dataset": tasks, "test_accuracy": [0.5] * 4}
    config = {
        "model": ["a"],
        "architectures": ["['ViTForImageClassification']"],
        "output_shape": [768.0],
        "dataset": [None],
        "#labels": [10],
    }
    for name, columns in {"records": records, "model_config": config}.items():
        write(tmp_path, f"{released_truths.IMAGES}{name}.csv", pd.DataFrame(columns).to_csv())
    table = released_truths.image_models(tmp_path).set_index(["task", "model"])
    assert len(table) == 3 and (table.truth == 50).all()
    assert table.family["pets", "a"] == "ViT" and table.family["pets", "b"] == "unknown"
    assert table.source["dtd", "a"] == "unknown" and pd.isna(table.width["pets", "b"])
