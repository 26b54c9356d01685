"""Places, intervals and sentences made of measured signals."""

import numpy as np
import pandas as pd
import pytest

from helpers import models, text_sets
from helpers.modelmap import held_out_texts, model_map
from helpers.synthesis import (
    example_models,
    model_kinds,
    signal_inputs,
    signal_prose,
    signal_report,
    signals,
    single_signals,
)

TEXTS = ["The hills lie in the north of the country.", "Rain falls.", "A coast without harbours."]
SMALL = {"n_shuffles": 2, "n_sentences": 40, "n_groups": 3, "n_texts": 8}
FEW = {"n_resamples": 100}


@pytest.fixture(scope="module")
def known():
    return signal_report.references()


@pytest.fixture(scope="module")
def inputs():
    found = signal_inputs.read_inputs(corpus="factbook", n_per_label=10, n_facts=40)
    return found._replace(texts=TEXTS, missing={})


@pytest.fixture(scope="module")
def measured(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = {kind: example_models.write(kind, folder / kind) for kind in example_models.READ}
    paths["none"] = folder / "none"
    return {
        kind: signals.measure(model_kinds.look(path), inputs, folder=folder / "kept", **SMALL)
        for kind, path in paths.items()
    }


@pytest.fixture(scope="module")
def tables(measured, inputs, known):
    return {
        kind: signal_report.tidy(kind, found, inputs, known, **FEW)
        for kind, found in measured.items()
    }


def test_a_place_counts_the_references_below():
    assert signal_report._among(2.5, 0, 3.5, [1, 2, 3, 4]) == "above 2 of 4 (0 to 3)"
    assert signal_report._among(2.5, 2.1, 2.9, [1, 2, 3, 4]) == "above 2 of 4"
    worse = signal_report._among(1.5, 0, 3.5, [1, 2, 3, 4], worse=True)
    assert worse == "below 3 of 4 (1 to 4)"


def test_every_value_lies_in_its_interval(tables):
    for kind, table in tables.items():
        assert (table.low <= table.value).all() and (table.value <= table.high).all(), kind
    assert set(tables["causal"].signal) == set(signals.SIGNALS)
    assert not len(tables["none"])


def test_bits_are_nats_over_bytes(measured, tables):
    raw = measured["causal"]["my texts"]
    bits = -sum(raw["log_likelihood"]) / np.log(2) / sum(len(t.encode()) for t in TEXTS)
    row = tables["causal"].set_index("key").loc["own_bits"]
    assert row.value == pytest.approx(bits) and row.place == ""


def test_predictions_are_those_of_the_held_out_scores(measured, tables):
    values = measured["causal"]["prediction"]["log_likelihood"]
    direct = held_out_texts.scores(values, held_out_texts.load())
    rows = tables["causal"].set_index("key")
    for key, value in direct.items():
        assert rows.loc[key].value == pytest.approx(value)
    known = signal_report.references().models
    row, worse = rows.loc["bits_per_byte"], known.bits_per_byte > direct["bits_per_byte"]
    assert row.place.startswith(f"below {worse.sum()} of {known.bits_per_byte.count()}")


def test_what_was_measured_otherwise_has_no_place(tables):
    rows = tables["encoder"].set_index("key")
    assert rows.loc["skill"].place == "" and "controls only" in rows.loc["skill"].among
    assert rows.loc["rankme"].place == "" and "500" in rows.loc["rankme"].among
    masked = tables["masked"].set_index("key")
    assert masked.loc["pseudo_bits"].place == "" and "bits_per_byte" not in masked.index


def test_a_reference_model_is_not_below_itself(known, inputs):
    value = known.values.query("measure == 'rankme' and model == 'MiniLM, 6 layers'").value.iloc[0]
    part = {name: {"value": value, "error": 0.0} for name in single_signals.SPREAD}
    found = {"latent space": {"status": "computed", "measures": part, "n_sentences": 500}}
    found["latent space"]["n_groups"] = 5
    n = known.values.query("measure == 'rankme'").model.nunique()
    for name, shift in (("m", 1.0), (models.MINILM, 1.01)):
        part["rankme"] = {"value": shift * value, "error": 0.0}
        rows = signal_report.tidy(name, found, inputs, known, **FEW).set_index("key")
        assert f"of {n - 1}" in rows.loc["rankme"].place


def test_the_default_entities_are_those_of_the_references(known):
    assert signal_report.digest(signal_inputs.read_entities()) == known.entities
    assert signal_report.digest(signal_inputs.read_entities("", 20)) != known.entities


def test_the_map_is_cut_to_the_texts_that_were_read(measured, known):
    raw = measured["causal"]["map"]
    part = signal_report.part_of(known.made, raw["keys"])
    assert list(part.texts) == raw["keys"]
    near = signal_report.neighbours(raw, known.made, k=1, n_resamples=5).iloc[0]
    rows = np.vstack([part.log_likelihoods, np.maximum(raw["log_likelihood"], part.threshold)])
    apart = rows - rows.mean(axis=1, keepdims=True)
    expected = ((apart[:-1] - apart[-1]) ** 2).mean(axis=1).min()
    assert near.distance == pytest.approx(expected)
    with pytest.raises(ValueError, match="keys are not those"):
        signal_report.part_of(known.made, raw["keys"][::-1])


def test_a_copy_is_a_copy_and_another_is_not(measured, known, tmp_path):
    other = model_kinds.load(model_kinds.look(example_models.write("causal", tmp_path, seed=1)))
    read = text_sets.load_texts(8)
    raws = {kind: measured[kind]["map"] for kind in ("causal", "gguf")}
    raws["other"] = single_signals.map_texts(other, table=read)
    pairs = signal_report.between(raws, known, **FEW).set_index(["model", "other"])
    assert pairs.loc[("causal", "gguf"), "distance"] == pytest.approx(0, abs=1e-4)
    same = pairs.kinship.str.startswith("the same weights")
    assert same.tolist() == [True, False, False]
    one, two = (np.array(raws[k]["log_likelihood"]) for k in ("causal", "other"))
    made = model_map.fit_map(np.stack([one, two]), ["a", "b"], 0)
    assert pairs.loc[("causal", "other"), "distance"] == pytest.approx(made.distances()[0, 1])


def test_every_model_gets_its_paragraph(measured, tables, inputs, known):
    told = {
        kind: signal_prose.paragraph(kind, found, tables[kind], inputs, known, **FEW)
        for kind, found in measured.items()
    }
    assert told["none"].startswith("**none** was not read") and "correct the name" in told["none"]
    assert "an encoder model" in told["encoder"] and "Not computed: facts" in told["encoder"]
    assert "pseudo" in told["masked"] and "map" in told["masked"]
    assert "more than the" in told["causal"] and "says nothing about what" in told["causal"]
    assert "Whether" in told["masked"] and "Not computed" not in told["causal"]
    assert told["gguf"] == told["causal"].replace("**causal**", "**gguf**")


def test_statuses_reasons_and_costs_name_every_signal(measured):
    table = signal_prose.statuses(measured)
    assert list(table) == list(signals.SIGNALS) and (table.loc["none"] == "refused").all()
    reasons = signal_prose.reasons(measured)
    assert (reasons.why != "").all() and set(reasons.model) == {"encoder", "masked", "none"}
    said = reasons[reasons.model == "encoder"].signal.str.split(", ").explode()
    assert set(said) == set(signals.SIGNALS) - signals.ANSWERED["encoder"]
    costs = signal_prose.costs(measured)
    assert (costs.loc["causal"] >= 0).all() and costs.loc["none"].isna().all()


def test_the_summary_says_what_is_asked(inputs):
    words = signal_prose.summary(inputs)
    assert "proxy" in words and "3 of yours" in words
    empty = signal_inputs.Inputs(
        pd.DataFrame(), pd.DataFrame(), [], frozenset(), {"facts": "no file"}
    )
    assert "left out, facts: no file" in signal_prose.summary(empty)
