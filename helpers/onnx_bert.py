"""Read the weights of a BERT encoder out of an ONNX file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import BertModel

_PARAMETER = re.compile(r"(?:embeddings|encoder)\..+\.(?:weight|bias)$")
_PRODUCT = re.compile(r"encoder/layer\.\d+/.+(?=/MatMul$)")


def read_bert(file: str | Path, *, heads: int) -> BertModel:
    """Return the BERT encoder whose weights an ONNX file holds: float32, on the CPU, in eval mode.

    PyTorch's exporter keeps the names of biases, embeddings and layer norms. It stores the matrices
    transposed and without a name, but the node that multiplies by one is called by its place in the
    model, so that nothing is guessed by order. The sizes are those of the weights; `heads`, the
    number of attention heads, is in none of them. Exact GELU and a layer-norm epsilon of 1e-12 are
    taken as given, as in BERT; a pooler is left out. Torch's random state is not touched. Raises
    `ValueError` when the `onnx` package is absent or weights are missing, and what torch raises for
    shapes that do not fit.
    """
    import torch
    from transformers import BertConfig, BertModel

    weights = _weights(Path(file))
    words = weights.get("embeddings.word_embeddings.weight")
    inner = weights.get("encoder.layer.0.intermediate.dense.weight")
    if words is None or inner is None:
        raise ValueError(f"{Path(file).name} holds no weights by the names of a BERT encoder")
    vocabulary, width = words.shape
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=1 + max(int(n.split(".")[2]) for n in weights if n.startswith("enc")),
        num_attention_heads=heads,
        intermediate_size=len(inner),
        max_position_embeddings=len(weights.get("embeddings.position_embeddings.weight", ())),
        type_vocab_size=len(weights.get("embeddings.token_type_embeddings.weight", ())),
    )
    with torch.random.fork_rng(devices=[]):
        model = BertModel(config, add_pooling_layer=False)
    wanted = model.state_dict()
    if absent := sorted(set(wanted) - set(weights)):
        raise ValueError(f"{len(absent)} weights are missing from its file, such as {absent[0]}")
    model.load_state_dict({name: weights[name] for name in wanted})
    return model.eval()


def _weights(file: Path) -> dict[str, torch.Tensor]:
    """Return the weights of an exported encoder by the names that transformers has for them."""
    import torch

    try:
        import onnx
    except ImportError as error:
        raise ValueError("an ONNX file wants a reader; run `pip install onnx`") from error
    # Weights in files beside it are not followed.
    graph = onnx.load(file, load_external_data=False).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    places = {name: (_PARAMETER.search(name), False) for name in stored}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            places[node.input[1]] = (_PRODUCT.search(node.name), True)
    weights = {}
    for name, (place, turned) in places.items():
        if place:
            values = torch.tensor(onnx.numpy_helper.to_array(stored[name]), dtype=torch.float32)
            key = place.group().replace("/", ".") + (".weight" if turned else "")
            weights[key] = values.T.contiguous() if turned else values
    return weights
