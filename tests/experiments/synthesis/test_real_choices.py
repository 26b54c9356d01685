"""The analyses of released truths, on drawn tables of the same form, and the stored table."""

import numpy as np
import pandas as pd
import pytest

from experiments.synthesis import class_fits, glass_box_table, real_choices, released_truths
from helpers import figures
from helpers.synthesis import gate


@pytest.fixture
def encoders():
    rng, table = np.random.default_rng(0), released_truths.tuned_encoders()
    for name in [*real_choices.STEPS, *real_choices.SCORERS]:
        table[name] = rng.normal(size=len(table))
    table["LogME"] = table.truth
    return table


@pytest.fixture
def curves():
    rng, rows = np.random.default_rng(1), []
    names = [f"gpt2-{i}" for i in range(5)] + [f"t5-{i}" for i in range(4)]
    for task in released_truths.CORPORA:
        for i, model in enumerate(names):
            family = "GPT2" if model.startswith("gpt2") else "T5"
            about = {"task": task, "model": model, "family": family, "parameters": 10**i}
            about |= {"tokenizer": released_truths.TOKENIZERS[family], "decoder": i < 5}
            for examples in (0, 200, 1600, 12800, 102400, 204800):
                loss = 5 - i / 10 - np.log1p(examples) / 10 + 0.01 * rng.normal()
                rows.append({**about, "examples": examples, "loss": loss})
    return pd.DataFrame(rows)


@pytest.fixture
def images():
    rng, rows = np.random.default_rng(2), []
    for model in range(12):
        about = {"model": f"m{model}", "family": "ViT" if model < 8 else "Swin", "source": "x"}
        about |= {"width": 768.0 if model < 7 else 1024.0, "n_labels": 10.0 * model}
        rows += [{**about, "task": t, "truth": model + rng.normal()} for t in "abc"]
    return pd.DataFrame(rows)


def test_encoders_of_like_size_stand_in_tasks_of_three(encoders):
    found = real_choices.encoder_analyses(encoders)
    assert {len(a.table) for a in found.values()} == {48, 42}
    like = found["encoders, like size"].table
    assert (like.groupby("task").size() == 3).all() and like.task.nunique() == 16
    spread = like.groupby("task").parameters.agg(lambda p: p.max() / p.min())
    assert spread.max() < 1.3
    assert "wnli" not in set(found["encoders, seven tasks"].table.task)


def test_judged_has_a_row_per_measure_and_a_lead_over_each_bar(encoders):
    table = real_choices.judged(real_choices.encoder_analyses(encoders), n_resamples=4)
    assert list(table) == real_choices.COLUMNS
    rows = table[(table.analysis == "encoders") & (table.measure == "rank correlation")]
    values = rows[rows.rival == ""].set_index("signal").value
    assert values["LogME"] == 1 and values["any"] == 0
    lead = rows[(rows.rival == "parameters") & (rows.signal == "LogME")].value.item()
    assert lead == pytest.approx(1 - values["parameters"])
    assert set(rows.signal) <= set(real_choices.LABELS)


def test_one_vocabulary_holds_decoders_only_and_tasks_are_not_drawn(curves):
    found = real_choices._language_analyses(curves)
    assert found["one vocabulary"].table.model.nunique() == 5
    assert found["language models"].table.model.nunique() == 9
    assert not any(a.draw_tasks for a in found.values())


def test_by_examples_ranks_by_the_loss_at_each_size(curves):
    found = real_choices._by_examples(curves, ["after 0", "parameters"])
    assert set(found.examples) == {200, 1600, 12800, 102400, 204800}
    assert len(found) == 2 * 3 * 5 * 2 and (found.value > 0.5).all()


def test_image_models_have_only_rivals(images):
    found = real_choices.image_analyses(images)
    assert found["one architecture"].table.model.nunique() == 7
    table = real_choices.judged(found, n_resamples=4)
    assert set(table.signal) <= set(real_choices.RIVALS)


def test_ablated_leaves_each_model_out(encoders):
    analyses = {"encoders": real_choices.encoder_analyses(encoders)["encoders"]}
    table = real_choices._ablated(analyses)
    assert table.left_out.nunique() == 6
    assert set(table.measure) == {"rank correlation", "regret"}


def test_single_runs_are_judged_one_by_one():
    truth, rows = released_truths.tuned_encoders(), []
    for row in truth.itertuples():
        for scorer in real_choices.STEPS:
            for run in (0, 1):
                score = row.truth if run else -row.truth
                key = {"task": row.task, "model": row.model, "scorer": scorer}
                rows.append({**key, "run": run, "score": score, "seconds": 1.0})
    table = real_choices._single_runs(pd.DataFrame(rows)).set_index(["analysis", "measure"])
    assert (table.value["encoders, run 1", "rank correlation"] == 1).all()
    assert (table.value["encoders, run 0", "rank correlation"] == -1).all()


def test_a_value_a_lead_and_a_figure_are_taken_from_the_table():
    table = real_choices.load()
    value, (low, high) = real_choices.pick(table, "encoders", "parameters")
    assert low < value < high
    lead, _ = real_choices.pick(table, "encoders", "LogME", rival="parameters")
    log_me, _ = real_choices.pick(table, "encoders", "LogME")
    assert lead == pytest.approx(log_me - value, abs=2e-4)
    with pytest.raises(KeyError):
        real_choices.pick(table, "encoders", "no such signal")
    fig, axs = figures.axes(1, 2)
    real_choices.draw(axs, table, "language models", "nats per token")
    assert len(axs[0].get_yticklabels()) == 9
    assert axs[0].get_legend_handles_labels()[1] == list(real_choices.KINDS)


def test_the_stored_table_has_all_that_the_page_shows():
    table = real_choices.load()
    assert list(table) == real_choices.COLUMNS
    whole = table[(table.rival == "") & (table.left_out == "")]
    for name in real_choices.TITLES:
        part = whole[whole.analysis == name]
        assert set(part.measure) == set(gate.MEASURES) and part.value.notna().all()
        assert ((part.low <= part.value) & (part.value <= part.high)).all()
    assert not whole.duplicated(["analysis", "signal", "measure"]).any()


def test_the_stored_fits_are_of_the_suites_last_checkpoints():
    table, suite = class_fits.load(), glass_box_table.load().table
    assert table.groupby("model").task.apply(set).map(len).eq(2).all()
    assert (suite.loc[table.model.unique()].step.isin([2048, 8192])).all()
    row = table.iloc[0]
    assert row.truth == pytest.approx(100 * suite.loc[row.model, f"fine_tuned_{row.task}"])
    assert table[list(class_fits.SCORERS)].notna().all(axis=None)
    found = class_fits.analyses(table)
    assert set(found) == {f"{k}, {w}" for k in ("gpt", "bert") for w in ("all widths", "one width")}
    one = found["gpt, one width"].table
    assert one.groupby("task").parameters.nunique().eq(1).all()
    assert set(class_fits.SCORERS) == set(real_choices.OWN)
