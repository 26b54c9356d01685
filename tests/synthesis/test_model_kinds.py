"""What a name stands for: tiny models of each kind, and everything that is refused."""

import json
import shutil
import struct

import gguf
import numpy as np
import psutil
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from helpers import convert, decoders, devices, encoding, gguf_head, likelihood, models
from helpers.synthesis import example_models, model_kinds


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {kind: example_models.write(kind, folder / kind) for kind in example_models.READ}


KINDS = {"encoder": "encoder", "masked": "masked", "causal": "causal", "gguf": "causal"}


@pytest.mark.parametrize("example", KINDS)
def test_each_kind_is_known_and_loaded(example, made):
    found = model_kinds.look(made[example])
    loaded = model_kinds.load(found)
    assert (found.kind, loaded.kind, loaded.note) == (KINDS[example], KINDS[example], "")
    head = loaded.model.num_parameters()
    assert found.parameters == head and loaded.body.config.hidden_size == 64
    assert loaded.tokenizer.padding_side == "right" and loaded.tokenizer.pad_token is not None
    ids = torch.tensor([loaded.tokenizer("Some rain")["input_ids"]])
    assert torch.isfinite(loaded.body(input_ids=ids).last_hidden_state).all()


def test_the_gguf_file_is_the_folder(made):
    texts = ["The hills in the north.", "It's 12 o'clock, no? Größe"]
    one, other = (
        likelihood.score_texts(x.model, x.tokenizer, texts)
        for x in (model_kinds.load(model_kinds.look(made[k])) for k in ("causal", "gguf"))
    )
    assert one.equals(other)


def test_a_gguf_file_keeps_an_output_layer_of_its_own(tmp_path):
    paths = [example_models.write(k, tmp_path / k, tied=False) for k in ("gguf", "causal")]
    loaded = [model_kinds.load(model_kinds.look(path)) for path in paths]
    assert [found.kind for found in loaded] == ["causal", "causal"] and not loaded[0].note
    ids = torch.tensor([loaded[1].tokenizer("Rain on the hills, then sun.")["input_ids"]])
    with torch.no_grad():
        one, two = (found.model(input_ids=ids).logits for found in loaded)
    np.testing.assert_allclose(one, two, atol=1e-4)
    embeddings = loaded[0].model.get_input_embeddings().weight
    assert not torch.equal(loaded[0].model.get_output_embeddings().weight, embeddings)
    texts = ["The river is long.", "Rain."]
    scores = [likelihood.score_texts(found.model, found.tokenizer, texts) for found in loaded]
    np.testing.assert_allclose(
        *[np.asarray(score["log_likelihood"]) for score in scores], rtol=1e-5
    )
    tokenizer, body = models.load_model(paths[0])
    assert body.get_output_embeddings() is None


def test_the_head_of_a_gguf_file_is_read_as_its_own_library_does(made):
    architecture, parameters, parts = gguf_head.read(made["gguf"])
    reader = gguf.GGUFReader(made["gguf"])
    assert architecture == reader.fields["general.architecture"].contents()
    assert parameters == sum(int(t.n_elements) for t in reader.tensors) and parts == 1


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.05, 0.8])
def test_a_gguf_file_cut_short_is_refused(share, made, tmp_path):
    whole = made["gguf"].read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(len(whole) * share)])
    found = model_kinds.look(cut)
    assert found.kind == "refused" and "cut.gguf" in found.reason


def test_everything_else_is_refused_with_a_cure(tmp_path):
    bad = example_models.write_refused(tmp_path)
    assert len(bad) > 15
    for wrong, path in bad.items():
        found = model_kinds.look(path)
        assert found.kind == "refused", wrong
        assert len(found.reason) > 10 and len(found.cure) > 10, wrong
        with pytest.raises(ValueError, match=";"):
            model_kinds.load(found)
    assert not (tmp_path / "opened").exists()


def test_the_trap_would_have_been_seen(tmp_path):
    import pickle

    bad = example_models.write_refused(tmp_path)
    with open(bad["a file of pickles"], "rb") as file:
        pickle.load(file).close()
    assert (tmp_path / "opened").exists()


def head_of(tensors=b"", *, n_tensors=0, fields=b"", n_fields=0):
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_fields) + fields + tensors


def text(value):
    return struct.pack("<Q", len(value)) + value


HOSTILE_GGUF = {
    "many dimensions": head_of(text(b"w") + struct.pack("<I", 2**32 - 1), n_tensors=1),
    "nested arrays": head_of(
        fields=text(b"k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000, n_fields=1
    ),
    "endless parts": head_of(
        fields=text(b"split.count") + struct.pack("<If", 6, float("inf")), n_fields=1
    ),
}


@pytest.mark.parametrize("wrong", HOSTILE_GGUF)
def test_hostile_gguf_heads_are_refused(wrong, tmp_path):
    (tmp_path / "a.gguf").write_bytes(HOSTILE_GGUF[wrong] + bytes(40))
    found = model_kinds.look(tmp_path / "a.gguf")
    assert found.kind == "refused" and "a.gguf is damaged" in found.reason
    assert "download" in found.cure


def safetensors(**entry):
    head = json.dumps({"w": entry}).encode()
    return struct.pack("<Q", len(head)) + head


HOSTILE_FILES = {
    "deep configuration": ("config.json", "[" * 200_000),
    "quantisation in a word": ("config.json", {"quantization_config": "x"}),
    "architectures in a number": ("config.json", {"architectures": 5}),
    "a list of files in a list": ("model.safetensors.index.json", {"weight_map": {"w": ["a"]}}),
    "a deep list of files": ("model.safetensors.index.json", "[" * 200_000),
    "no shape": ("model.safetensors", safetensors(data_offsets=[0, 0])),
    "a shape in words": ("model.safetensors", safetensors(data_offsets=[0, 0], shape=["a"])),
    "a shape without end": (
        "model.safetensors", safetensors(data_offsets=[0, 0], shape=[10**4000])
    ),
    "a deep head": ("model.safetensors", struct.pack("<Q", 200_000) + b"[" * 200_000),
}  # fmt: skip


@pytest.mark.parametrize("wrong", HOSTILE_FILES)
def test_hostile_folders_are_refused(wrong, made, tmp_path):
    folder, (name, content) = copy(made, "masked", tmp_path), HOSTILE_FILES[wrong]
    if isinstance(content, dict):
        known = json.loads((folder / name).read_text()) if name == "config.json" else {}
        content = json.dumps(known | content)
    content = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(content)
    found = model_kinds.look(folder)
    assert found.kind == "refused" and "damaged" in found.reason
    assert found.cure == "download or save it again"


CONFIGS = {
    "num_hidden_layers": (10_000_000, "asks for 10,000,000 parts"),
    "text_config": ({"num_local_experts": 3000}, "asks for 3,000 parts"),
    "block_sizes": ([4, 10_000_000], "asks for 10,000,000 parts"),
    "parts": ([{"n_layers": 3000}], "asks for 3,000 parts"),
    "_attn_implementation": ("kernels-community/flash-attn", "names a program to run"),
    "attn_implementation": ({"": "someone/kernel"}, "names a program to run"),
    "experts_implementation": ("someone/kernel:1", "names a program to run"),
}


@pytest.mark.parametrize("key", CONFIGS)
def test_a_configuration_is_refused_before_anything_is_built(key, made, tmp_path):
    value, reason = CONFIGS[key]
    folder = copy(made, "masked", tmp_path, **{key: value})
    found = model_kinds.look(folder)
    assert found.kind == "refused" and reason in found.reason and found.cure
    for kind in ("AutoModel", "AutoModelForMaskedLM"):
        with pytest.raises(ValueError, match=reason):
            models.read_pretrained(kind, folder, "")
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=reason):
        convert.convert(folder, tmp_path / "new")


def test_a_gguf_file_of_too_many_layers_is_refused(made, tmp_path):
    file, key = tmp_path / "deep.gguf", b"llama.block_count"
    head, _, rest = made["gguf"].read_bytes().partition(key)
    file.write_bytes(head + key + rest[:4] + struct.pack("<I", 10_000_000) + rest[8:])
    assert "asks for 10,000,000 parts" in model_kinds.look(file).reason
    with pytest.raises(ValueError, match="asks for 10,000,000 parts"):
        models.load_model(file)


def test_weights_of_other_shapes_are_told(made, tmp_path):
    folder = copy(made, "masked", tmp_path, vocab_size=10**12)
    with pytest.raises(ValueError, match="other shapes than its config.json says"):
        models.load_model(folder)


def test_loading_says_what_looking_says(tmp_path):
    # These it could read as another kind of model, or not for their type: they lack weights, too.
    other = {"an encoder and a decoder", "a model of images", "a model of images and text"}
    refused = example_models.write_refused(tmp_path)
    for wrong, path in refused.items():
        seen = model_kinds.look(path)
        for load in (models.load_model, decoders.load_causal):
            with pytest.raises(ValueError, match="could not be loaded") as caught:
                load(path)
            assert ("no weights" if wrong in other else seen.reason) in str(caught.value), wrong
            assert wrong in other or seen.cure in str(caught.value), wrong


def test_a_token_without_a_vector_is_found_before_a_text_has_it(made, tmp_path):
    folder = copy(made, "causal", tmp_path)
    file = folder / "tokenizer.json"
    known = json.loads(file.read_text())
    known["model"]["vocab"]["z"] += 10_000
    file.write_text(json.dumps(known))
    for load in (decoders.load_causal, lambda path: model_kinds.load(model_kinds.look(path))):
        with pytest.raises(ValueError, match=r"has 10,\d+ tokens, the model vectors for \d+"):
            load(folder)


REASONS = {
    "program code of its own": "trust_remote_code",
    "pickled weights": "pickle can run any program",
    "an encoder and a decoder": "decoder in one",
    "a model of images": "no language model",
    "an adapter of no model": "does not say what it is added to",
    "no tokenizer": "no tokenizer",
    "an empty folder": "empty",
}


@pytest.mark.parametrize("wrong", REASONS)
def test_the_reason_is_the_right_one(wrong, tmp_path):
    assert REASONS[wrong] in model_kinds.look(example_models.write_refused(tmp_path)[wrong]).reason


def copy(made, kind, tmp_path, **changes):
    """Copy an example and change its configuration."""
    folder = tmp_path / "copy"
    shutil.copytree(made[kind], folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_type_that_is_known_is_read_without_its_code(made, tmp_path):
    folder = copy(made, "encoder", tmp_path, auto_map={"AutoModel": "mine.Mine"})
    (folder / "mine.py").write_text("raise SystemExit('this was run')")
    assert model_kinds.load(model_kinds.look(folder)).kind == "encoder"


def test_a_masked_model_without_its_output_is_an_encoder(made, tmp_path):
    folder = copy(made, "encoder", tmp_path, architectures=["BertForMaskedLM"])
    assert model_kinds.look(folder).kind == "masked"
    loaded = model_kinds.load(model_kinds.look(folder))
    assert loaded.kind == "encoder" and "missing" in loaded.note


def test_a_causal_model_without_its_output_is_an_encoder(made, tmp_path):
    folder = copy(made, "causal", tmp_path, tie_word_embeddings=False)
    loaded = model_kinds.load(model_kinds.look(folder))
    assert loaded.kind == "encoder" and loaded.note


def test_gpt2_and_left_padding_are_made_ready(made, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made["causal"])
    tokenizer.padding_side = "left"
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=len(tokenizer), **size)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = model_kinds.load(model_kinds.look(tmp_path))
    assert loaded.kind == "causal"
    texts = ["Rain.", "The river has its source in the hills."]
    both = encoding.token_vectors(loaded.body, loaded.tokenizer, texts, tokens_per_sentence=None)
    alone = [
        encoding.token_vectors(loaded.body, loaded.tokenizer, [text], tokens_per_sentence=None)
        for text in texts
    ]
    np.testing.assert_allclose(both, np.concatenate(alone), atol=1e-5)


def test_a_model_that_sees_ahead_gives_no_probabilities(made, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made["causal"])
    size = {"hidden_size": 32, "num_attention_heads": 4, "dim_head": 8, "dim_ff": 48}
    torch.manual_seed(0)
    config = transformers.CpmAntConfig(vocab_size=len(tokenizer), num_hidden_layers=2, **size)
    transformers.CpmAntForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = model_kinds.look(tmp_path)
    loaded = model_kinds.load(found)
    assert (found.kind, loaded.kind) == ("causal", "encoder") and "later words" in loaded.note


@pytest.mark.parametrize("kind", ["causal", "masked", "encoder"])
def test_damaged_weights_are_refused_whatever_the_kind(kind, made, tmp_path):
    shutil.copytree(made[kind], tmp_path / kind)
    file = tmp_path / kind / "model.safetensors"
    weights = load_file(file)
    name = next(n for n in weights if "layers.0" in n or "layer.0" in n)
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, file, {"format": "pt"})
    cures = {"float32": "damaged weights; download", "bfloat16": "read it in float32"}
    for dtype, cure in cures.items():
        with pytest.raises(model_kinds.Refusal, match=f"not finite.*{cure}"):
            model_kinds.load(model_kinds.look(tmp_path / kind, how=devices.How("cpu", dtype)))


def test_a_table_of_no_models_has_its_columns():
    some = model_kinds.table([model_kinds.look("")])
    assert list(model_kinds.table([]).columns) == list(some.columns)


def test_a_model_beyond_the_memory_is_refused(made, monkeypatch):
    free = type("Memory", (), {"available": 1000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    for kind in ("encoder", "gguf"):
        assert "GB in float32" in model_kinds.look(made[kind]).reason


def test_folders_with_a_model_elsewhere_say_where(made, tmp_path):
    shutil.copy(made["gguf"], tmp_path / "m.gguf")
    assert "m.gguf" in model_kinds.look(tmp_path).cure
    outer = tmp_path / "outer"
    shutil.copytree(made["encoder"], outer / "0_Transformer")
    assert "0_Transformer" in model_kinds.look(outer).cure


def test_missing_parts_of_a_model_are_named(made, tmp_path):
    folder = copy(made, "encoder", tmp_path)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-2.safetensors" in model_kinds.look(folder).reason
    (folder / "model.safetensors.index.json").write_text("{")
    assert "damaged" in model_kinds.look(folder).reason


def test_packages_are_found_by_name():
    found = model_kinds.look(models.MINILM)
    assert (found.kind, found.form, found.architecture) == ("encoder", "package", "bert")
    assert model_kinds.look(models.MINILM_L3).kind == "encoder"
    smollm = model_kinds.look(models.SMOLLM)
    assert (smollm.kind, smollm.architecture, smollm.parameters) == ("causal", "llama", 134_515_008)


def test_a_hub_name_is_not_asked_for_offline(monkeypatch):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    found = model_kinds.look("nobody-has/this-model-0")
    assert found.kind == "refused" and "BOOK_OFFLINE" in found.reason


def test_the_table_and_titles():
    names = ["a/b", "c/b", "d/e", "x.gguf", "/p/q/"]
    titles = model_kinds.short_names(names)
    assert titles == {"a/b": "a/b", "c/b": "c/b", "d/e": "e", "x.gguf": "x.gguf", "/p/q/": "q"}
    # A control of the pages has the name of no model.
    controls = {"a/noise": "a/noise", "GloVe": "the model GloVe", "b/spelling": "b/spelling"}
    assert model_kinds.short_names(list(controls)) == controls
    table = model_kinds.table([model_kinds.look(""), model_kinds.look(models.MINILM)])
    assert table.kind.tolist() == ["refused", "encoder"]
    assert "empty" in table.iloc[0, -1]
