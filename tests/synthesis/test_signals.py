"""Signals of tiny models against the parts' own functions, the reader's files, and what is kept."""

import inspect
import json

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from helpers import encoding, factbook, text_sets
from helpers.geometry import quantization
from helpers.modelmap import held_out_texts, stored_families
from helpers.posterior import alp
from helpers.retrieval import closed_book, factbook_facts
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
SMALL = {"n_shuffles": 2, "n_sentences": 40, "n_groups": 2, "n_texts": 8}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: example_models.write(kind, folder / kind) for kind in example_models.READ}


@pytest.fixture(scope="module")
def loaded(paths):
    return {kind: model_kinds.load(model_kinds.look(path)) for kind, path in paths.items()}


@pytest.fixture(scope="module")
def inputs():
    found = signal_inputs.read_inputs(corpus="factbook", n_per_label=10, n_facts=40)
    return found._replace(texts=TEXTS, missing={})


@pytest.fixture(scope="module")
def measured(paths, inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    return {
        kind: signals.measure(model_kinds.look(path), inputs, folder=folder, **SMALL)
        for kind, path in paths.items()
    }


def test_functions_refuse_kinds_by_themselves(loaded, inputs):
    read = text_sets.load_texts(8)
    with pytest.raises(ValueError, match="masked models only"):
        single_signals.map_texts(loaded["masked"], table=read)
    for function, options in [
        (single_signals.facts, {"table": inputs.facts}),
        (single_signals.prediction, {}),
        (single_signals.own_texts, {"texts": TEXTS}),
    ]:
        with pytest.raises(ValueError, match="no probabilities"):
            function(loaded["encoder"], **options)


@pytest.mark.parametrize("example", example_models.READ)
def test_each_kind_is_asked_what_it_can_answer(example, measured):
    found = measured[example]
    computed = {name for name in signals.SIGNALS if found[name]["status"] == "computed"}
    assert computed == signals.ANSWERED[found["model"]["kind"]]
    assert all(found[name]["why"] for name in set(signals.SIGNALS) - computed)
    json.dumps(found)


def leaves(value, path=()):
    """Give the values inside dicts and lists, each with its path."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inside:
        if isinstance(part, dict | list | tuple):
            yield from leaves(part, (*path, key))
        else:
            yield (*path, key), part


def test_a_gguf_file_and_its_folder_give_the_same(measured, loaded):
    one, other = (
        {name.removeprefix("model."): weight for name, weight in model.state_dict().items()}
        for model in (loaded["causal"].model, loaded["gguf"].model)
    )
    shared = set(one) & set(other)
    assert set(one) ^ set(other) <= {"lm_head.weight"} and len(shared) > 10
    assert all(torch.equal(one[name], other[name]) for name in shared)
    for name in signals.SIGNALS:
        folder, file = (dict(leaves(measured[kind][name])) for kind in ("causal", "gguf"))
        assert set(folder) == set(file)
        for path, value in folder.items():
            if path[0] == "seconds":
                continue
            # The weights lie elsewhere in memory, so that sums of float32 may be taken in another
            # order. A quantizer may then send a point, and the search after it, another way.
            size = folder["measures", path[1], "value"] if path[0] == "measures" else 0.0
            searched = path[:2] in (("measures", "lloyd_index"), ("measures", "error"))
            near = {"abs": 0.1 * abs(size)} if searched else {"rel": 1e-5, "abs": 1e-7}
            expected = pytest.approx(value, **near) if isinstance(value, float) else value
            assert file[path] == expected, (name, path)


def save(folder, model, tokenizer, damage=None):
    if damage is not None:
        with torch.no_grad():
            next(p for n, p in model.named_parameters() if damage in n).view(-1)[0] = float("nan")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_no_model_stops_the_others_and_each_says_why(paths, inputs, loaded, tmp_path):
    words = loaded["causal"].tokenizer
    size = {"vocab_size": len(words), "d_model": 32, "n_head": 4, "d_inner": 48}
    torch.manual_seed(0)
    opt = transformers.OPTConfig(
        vocab_size=len(words), hidden_size=32, word_embed_proj_dim=16, ffn_dim=48,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=2048,
    )  # fmt: skip
    xlnet = transformers.XLNetConfig(n_layer=2, **size)
    funnel = transformers.FunnelConfig(block_sizes=[1, 1], d_head=8, **size)
    mamba = transformers.MambaConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, state_size=8
    )
    made = {
        "xlnet": transformers.XLNetLMHeadModel(xlnet),
        "funnel": transformers.FunnelForMaskedLM(funnel),
        "opt": transformers.OPTForCausalLM(opt),
        "mamba": transformers.MambaForCausalLM(mamba),
        "damaged": transformers.AutoModelForCausalLM.from_pretrained(paths["causal"]),
    }
    for name, model in made.items():
        save(tmp_path / name, model, words, "up_proj" if name == "damaged" else None)
    known = signal_report.references()
    found, tables = {}, {}
    for name in [*made, "nothing/here"]:
        found[name] = signals.measure(
            model_kinds.look(tmp_path / name), inputs, folder=tmp_path / "kept", **SMALL
        )
        tables[name] = signal_report.tidy(name, found[name], inputs, known, n_resamples=20)
        assert all(raw["status"] == "computed" or raw["why"] for raw in found[name].values())
    statuses = signal_prose.statuses(found)
    assert (statuses.loc[["damaged", "nothing/here"]] == "refused").all(axis=None)
    assert "not finite" in found["damaged"]["map"]["why"]
    assert (statuses.loc["mamba"] == "computed").all()
    assert statuses.loc["xlnet", "categories"] == "computed"
    assert "width is 32" in found["opt"]["categories"]["why"]
    assert "no vector for each token" in found["funnel"]["categories"]["why"]
    assert (statuses.loc["opt"].drop("categories") == "computed").all()
    whole = signal_report.joined(tables.values())
    assert set(whole.model) == {"xlnet", "funnel", "opt", "mamba"}
    assert whole[["value", "low", "high"]].notna().all(axis=None)
    none = signal_report.joined([tables["damaged"]])
    assert list(none.columns) == list(whole.columns) and none.empty


def test_categories_are_those_of_the_posterior_part(measured, paths, inputs):
    name, label = str(paths["encoder"]), inputs.entities["label"]
    layers = encoding.cached_layer_embeddings(
        name, list(inputs.entities["text"]), folder=paths["encoder"] / "kept"
    )
    direct = alp.average_log_posterior(layers[2], label)
    found = measured["encoder"]["categories"]
    assert np.mean(found["skill"]) == pytest.approx(direct.skill, abs=1e-9)
    assert found["middle"] == pytest.approx(
        alp.average_log_posterior(layers[1], label).skill, abs=1e-9
    )
    assert len(found["null"]) == 2 and found["p_value"] >= 1 / 3


def test_the_latent_space_is_that_of_the_geometry_part(measured, loaded):
    one = loaded["encoder"]
    sentences = factbook.draw_sentences(40)
    points = encoding.token_vectors(one.body, one.tokenizer, sentences)
    whole = quantization.measure_cloud(points, bits=5)
    half = np.repeat(np.arange(40) % 2 == 0, 3)
    parts = [quantization.measure_cloud(points[half == side], bits=5) for side in (True, False)]
    for name, row in measured["encoder"]["latent space"]["measures"].items():
        if name != "between_share":
            a, b = (part[name] for part in parts)
            assert row["value"] == pytest.approx(whole[name], rel=1e-6)
            # Two halves: the sum of squares about their mean, times 1/2.
            assert row["error"] == pytest.approx(abs(a - b) / 2, rel=1e-4, abs=1e-7)


def test_answers_are_those_of_closed_book(measured, loaded, inputs):
    one, row = loaded["causal"], inputs.facts.iloc[0]
    answers = [f" {factbook_facts._spoken(c)}" for c in row["choices"]]
    direct = closed_book.answer_log_probability(one.model, one.tokenizer, [row.prompt], [answers])
    found = measured["causal"]["facts"]
    assert found["answers"][0] == pytest.approx(direct.log_probability.to_list(), abs=1e-3)
    assert found["rows"] == list(range(len(inputs.facts)))


def test_a_masked_model_fills_one_place(measured, loaded, inputs):
    one, found = loaded["masked"], measured["masked"]["facts"]
    fact = inputs.facts.iloc[found["rows"][0]]
    text = f"{fact.prompt} {one.tokenizer.mask_token}."
    ids = torch.tensor([one.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        logits = one.model(input_ids=ids).logits[0]
    place = ids[0].tolist().index(one.tokenizer.mask_token_id)
    (answer,) = one.tokenizer(f" {fact.object}", add_special_tokens=False)["input_ids"]
    expected = logits[place].double().log_softmax(dim=0)[answer].item()
    assert found["answers"][0][0] == pytest.approx(expected, abs=1e-4)
    assert 3 <= len(found["rows"]) < len(inputs.facts)


def test_map_texts_are_those_of_the_default_set(measured):
    found, texts = measured["causal"]["map"], text_sets.load_texts(8)
    assert found["keys"] == list(texts.index) and found["n_bytes"] == list(texts.n_bytes)
    assert "masked models only" in measured["masked"]["map"]["why"]
    assert measured["masked"]["my texts"]["pseudo"] and not measured["causal"]["my texts"]["pseudo"]


def test_a_model_that_cuts_texts_has_no_place(loaded, inputs):
    one = loaded["causal"]
    room = one.model.config.max_position_embeddings
    one.model.config.max_position_embeddings = 60
    try:
        with pytest.raises(ValueError, match="longer than what it reads at once"):
            single_signals.prediction(one)
        found = single_signals.own_texts(one, texts=["short", "long " * 40, "also short"])
    finally:
        one.model.config.max_position_embeddings = room
    assert found["left_out"] == 1 and found["n_bytes"] == [5, 10]


def test_what_was_measured_is_kept(paths, inputs, tmp_path, monkeypatch):
    look = model_kinds.look(paths["encoder"])
    first = signals.measure(look, inputs, folder=tmp_path, **SMALL)
    monkeypatch.setattr(model_kinds, "load", lambda found: pytest.fail("loaded again"))
    again = signals.measure(look, inputs._replace(missing={"facts": "a", "map": "b"}),
                            folder=tmp_path, **{**SMALL})  # fmt: skip
    assert again["categories"] == first["categories"]
    assert again["latent space"] == first["latent space"]


def test_other_settings_are_measured_anew(paths, inputs, tmp_path):
    look = model_kinds.look(paths["encoder"])
    first = signals.measure(look, inputs, folder=tmp_path, **SMALL)
    again = signals.measure(look, inputs, folder=tmp_path, **{**SMALL, "n_sentences": 50})
    assert again["latent space"]["n_sentences"] == 50
    assert again["latent space"]["measures"] != first["latent space"]["measures"]


def test_other_held_out_texts_and_cells_are_measured_anew(paths, inputs, tmp_path, monkeypatch):
    look = model_kinds.look(paths["causal"])
    first = signals.measure(look, inputs, folder=tmp_path, **SMALL)
    asked = held_out_texts.load()
    other = asked._replace(texts=asked.texts[::-1])
    monkeypatch.setattr(held_out_texts, "load", lambda: other)
    monkeypatch.setattr(single_signals, "BITS", 3)
    again = signals.measure(look, inputs, folder=tmp_path, **SMALL)
    n = len(asked.texts)
    assert again["prediction"]["n_bytes"][:n] == first["prediction"]["n_bytes"][:n][::-1]
    assert again["latent space"]["measures"] != first["latent space"]["measures"]


def test_a_refused_model_has_the_reason_everywhere(inputs, tmp_path):
    found = signals.measure(model_kinds.look(tmp_path / "none"), inputs, folder=tmp_path, **SMALL)
    assert {part["status"] for part in found.values()} == {"refused"}
    assert set(found) == {"model", *signals.SIGNALS}


def test_a_model_that_fails_while_loading_is_refused(paths, inputs, tmp_path, monkeypatch):
    def broken(found):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(model_kinds, "load", broken)
    look = model_kinds.look(paths["causal"])
    found = signals.measure(look, inputs, folder=tmp_path, **SMALL)
    assert all(part == {"status": "refused", "why": "shapes do not fit", "seconds": 0.0}
               for part in found.values())  # fmt: skip


def test_texts_that_cannot_be_had_are_no_fault_of_the_model(paths, inputs, tmp_path):
    options = {**SMALL, "n_texts": 9}
    found = signals.measure(model_kinds.look(paths["causal"]), inputs, folder=tmp_path, **options)
    assert "multiple of 8" in found["map"]["why"]


def test_controls_know_spelling_and_nothing():
    words = [f"{'northern' if i % 2 else 'southland'} {i}" for i in range(300)]
    table = pd.DataFrame({"text": words, "label": ["n" if i % 2 else "s" for i in range(300)]})
    found = single_signals.controls(table)
    assert np.mean(found["spelling alone"]["skill"]) > 0.5
    assert abs(np.mean(found["noise"]["skill"])) < 0.2


def test_a_model_reads_the_texts_of_the_saved_map():
    made, _ = stored_families.load()
    default = inspect.signature(signals.plan).parameters["n_texts"].default
    assert list(text_sets.load_texts(default).index) == list(made.texts)
