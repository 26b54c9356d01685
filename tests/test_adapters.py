"""LoRA adapters: the model with one in its weights gives what the sum written out gives."""

import json

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file
from test_hub import PYTHIA, folders, server  # noqa: F401

from helpers import data, decoders, encoding, models
from helpers.synthesis import example_models, model_kinds

TEXT = "The river is long."
RANK, ALPHA = 3, 8
LLAMA = [f"model.layers.{i}.self_attn.{which}_proj" for i in (0, 1) for which in "qo"]
BERT = ["encoder.layer.1.attention.self.value", "encoder.layer.0.attention.output.dense"]


def write(folder, base, names, *, width=64, config=None, extra=None):
    """Write an adapter of random numbers as peft saves one, and return its matrices by layer."""
    drawn = torch.Generator().manual_seed(0)
    pairs = {
        name: [torch.randn(s, generator=drawn) / 4 for s in ((RANK, width), (width, RANK))]
        for name in names
    }
    folder.mkdir()
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    told |= {"base_model_name_or_path": str(base), "init_lora_weights": True, "revision": None}
    (folder / "adapter_config.json").write_text(json.dumps(told | (config or {})))
    weights = {
        f"base_model.model.{name}.lora_{which}.weight": value
        for name, pair in pairs.items()
        for which, value in zip("AB", pair, strict=True)
    }
    save_file(weights | (extra or {}), folder / "adapter_model.safetensors")
    return pairs


def write_out(model, pairs):
    """Let the layers of a model add (alpha / r) B A x to what they give."""
    for name, (a, b) in pairs.items():
        model.get_submodule(name).register_forward_hook(
            lambda _, x, y, a=a, b=b: y + ALPHA / RANK * x[0] @ a.T @ b.T
        )


def test_the_sum_is_that_written_out(server, folders, tmp_path):  # noqa: F811
    base, adapter = folders["causal"], tmp_path / "adapter"
    pairs = write(adapter, base, LLAMA)
    tokenizer, model = decoders.load_causal(base)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        before = model(ids).logits
        write_out(model, pairs)
        wanted = model(ids).logits
    write(tmp_path / "there", PYTHIA, LLAMA)
    server.add("someone/lora", tmp_path / "there")
    for name in (adapter, "someone/lora"):
        seen = model_kinds.look(name)
        assert (seen.kind, seen.reason) == ("causal", "")
        with torch.inference_mode():
            logits = model_kinds.load(seen).model(ids).logits
        np.testing.assert_allclose(logits, wanted, atol=1e-4)
        assert not np.allclose(logits, before, atol=0.1)
    assert len(list((data.cache_folder() / "merged").iterdir())) == 2
    assert encoding.identity(adapter) != encoding.identity(base)


def test_an_adapter_of_a_body_is_added_to_it(folders, tmp_path, clean_data):  # noqa: F811
    pairs = write(tmp_path / "adapter", folders["masked"], BERT)
    _, model = models.load_model(folders["masked"])
    tokenizer, added = models.load_model(tmp_path / "adapter")
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    write_out(model, pairs)
    with torch.inference_mode():
        states, wanted = (each(ids).last_hidden_state for each in (added, model))
    np.testing.assert_allclose(states, wanted, atol=1e-4)
    assert model_kinds.look(tmp_path / "adapter").kind == "masked"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": {"peft_type": "IA3"}}, "no plain LoRA adapter .IA3."),
        ({"config": {"use_rslora": True}}, "no plain LoRA adapter .use_rslora."),
        ({"config": {"alpha_pattern": {"q_proj": 2}}}, "alpha_pattern"),
        ({"config": {"init_lora_weights": "pissa"}}, "init_lora_weights"),
        ({"config": {"r": 5}}, "have not the rank r"),
        ({"config": {"r": 0}}, "does not say what it is added to"),
        ({"config": {"base_model_name_or_path": None}}, "does not say what it is added to"),
        ({"config": {"base_model_name_or_path": "./at/all"}}, "no file or folder here"),
        ({"names": ["model.layers.7.self_attn.q_proj"]}, "no linear layer"),
        ({"names": ["model.embed_tokens"]}, "no linear layer"),
        ({"names": ["lm_head"]}, "no linear layer by itself"),
        ({"width": 32}, "does not fit its base model"),
        ({"names": []}, "is empty"),
        ({"extra": {"base_model.model.lm_head.weight": torch.ones(2, 2)}}, "beside those of plain"),
    ],
)
def test_others_are_refused(change, reason, folders, tmp_path, clean_data):  # noqa: F811
    options = {"names": LLAMA[:1]} | change
    write(tmp_path / "adapter", folders["causal"], options.pop("names"), **options)
    seen = model_kinds.look(tmp_path / "adapter")
    assert seen.kind == "refused" and seen.cure
    with pytest.raises(ValueError, match=reason):
        decoders.load_causal(tmp_path / "adapter")
    assert not list((data.cache_folder() / "merged").glob("*"))


def test_memory_is_weighed_before_anything_is_merged(folders, tmp_path, clean_data, monkeypatch):  # noqa: F811
    write(tmp_path / "adapter", folders["causal"], LLAMA)
    free = type("Memory", (), {"available": 4 * model_kinds.look(folders["causal"]).parameters - 1})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    loads, load = [], models.read_pretrained
    monkeypatch.setattr(models, "read_pretrained", lambda *a, **o: loads.append(a) or load(*a, **o))
    assert "GB of memory are free" in model_kinds.look(tmp_path / "adapter").reason
    assert not loads and not list((data.cache_folder() / "merged").glob("*"))
    free.available += 1
    assert model_kinds.look(tmp_path / "adapter").kind == "causal" and loads


def test_one_of_itself_or_cut_short_is_refused(folders, tmp_path, clean_data):  # noqa: F811
    own, cut = tmp_path / "own", tmp_path / "cut"
    write(own, own, LLAMA)
    assert "is an adapter itself" in model_kinds.look(own).reason
    write(cut, folders["causal"], LLAMA)
    weights = cut / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert "is damaged" in model_kinds.look(cut).reason
    weights.unlink()
    assert "are missing" in model_kinds.look(cut).reason
    # A whole model with the configuration of an adapter beside it is that model.
    example_models.write("causal", cut)
    assert model_kinds.look(cut).kind == "causal"
