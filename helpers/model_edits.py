"""Non-standard models made from one encoder: layers, embeddings or weights changed on purpose."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from helpers import encoding, validation

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    Model = TypeVar("Model", bound=PreTrainedModel)

# Every function returns a new model with the dtype, device and mode of the old one, which stays as
# it is, and leaves the global random states alone. A head that shares the word embeddings goes on
# sharing them.


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the encoder's layers, from the bottom up."""
    base = getattr(model, "base_model", None)
    layers = getattr(getattr(base, "encoder", None), "layer", None)
    if layers is None:
        raise ValueError(
            f"model is a {type(model).__name__}, without encoder.layer; pass an encoder of the "
            "BERT or RoBERTa family"
        )
    return layers


def _with_layers(model: Model, order: Sequence[int]) -> Model:
    """Return a copy whose layers are those of the model in another order."""
    new = copy.deepcopy(model)
    for layer, number in zip(_layers(new), order, strict=True):
        layer.load_state_dict(_layers(model)[number].state_dict())
    return new


def layers_shuffled(model: Model, seed: int = 0) -> Model:
    """Return a copy with the encoder's layers in another order, drawn at random.

    Every order but the present one is as likely. Raises `ValueError` for fewer than 2 layers.
    """
    n = len(_layers(model))
    if n < 2:
        raise ValueError(f"model has {n} layers; nothing can be shuffled below 2")
    rng = validation.generator(seed)
    while (order := rng.permutation(n).tolist()) == list(range(n)):
        pass
    return _with_layers(model, order)


def truncated(model: Model, n_layers: int) -> Model:
    """Return a copy with the first `n_layers` layers of the encoder only, 0 for its embeddings.

    The configuration tells the new number, so that the copy can be saved and loaded.
    """
    new = copy.deepcopy(model)
    new.base_model.encoder.layer = _layers(new)[:n_layers]
    new.config.num_hidden_layers = int(n_layers)
    return new


def words_only(model: Model) -> Model:
    """Return a copy without layers: a token's vector knows its word and position, no context."""
    return truncated(model, 0)


def embeddings_permuted(model: Model, seed: int = 0) -> Model:
    """Return a copy whose words have swapped their embeddings: every row survives exactly once.

    The rows of the word-embedding matrix are permuted at random, those of special tokens too, as
    the published experiment means to. Source: the model "shuffle index" of Marbut et al. (2024).
    """
    import torch

    new = copy.deepcopy(model)
    weight = new.get_input_embeddings().weight
    drawn = validation.generator(seed).permutation(len(weight))
    with torch.no_grad():
        weight.copy_(weight[torch.from_numpy(drawn)])
    return new


def embeddings_permuted_as_released(model: Model, seed: int = 0) -> Model:
    """Return a copy whose word embeddings went through `random.shuffle`, as in the released code.

    On a matrix its swap of two rows is a swap of views: the upper row is overwritten, the lower one
    stays. Row i ends as a row drawn from 0 to i, so that row k of V survives with the chance
    1 - k / V and about half of all rows do; `embeddings_permuted` does what was meant.
    Source: Marbut et al. (2024), released code.
    """
    import torch

    new = copy.deepcopy(model)
    weight = new.get_input_embeddings().weight
    # NumPy has no bfloat16, and the rows' places tell all.
    places = np.arange(len(weight))[:, None]
    random.Random(int(seed)).shuffle(places)
    with torch.no_grad():
        weight.copy_(weight[torch.from_numpy(places[:, 0])])
    return new


def random_body(model: Model, seed: int = 0) -> Model:
    """Return a copy with the trained embeddings and everything above them newly initialised.

    Word, position and type embeddings and their layer norm stay; the rest is drawn as
    transformers initialises it (`encoding.randomised`). Raises `ValueError` for a model without
    encoder layers. Source: the model "untrained with embeddings" of Marbut et al. (2024).
    """
    return _redrawn(model, seed, embedding=False, body=True)


def random_embeddings(model: Model, seed: int = 0) -> Model:
    """Return a copy with new embeddings below the trained body, the reverse of `random_body`.

    A head that shares the word embeddings changes with them. Raises as `random_body` does.
    """
    return _redrawn(model, seed, embedding=True, body=False)


def untrained(model: Model, seed: int = 0) -> Model:
    """Return a copy with all weights newly initialised, the same draws as the two above."""
    return _redrawn(model, seed, embedding=True, body=True)


def _redrawn(model: Model, seed: int, *, embedding: bool, body: bool) -> Model:
    import torch

    _layers(model)
    new, fresh = copy.deepcopy(model), encoding.randomised(model, int(seed))
    inner = {id(parameter) for parameter in new.base_model.embeddings.parameters()}
    # By name: the fresh model may have a pooler that this one was loaded without.
    drawn = dict(fresh.named_parameters())
    with torch.no_grad():
        for name, old in new.named_parameters():
            if embedding if id(old) in inner else body:
                old.copy_(drawn[name])
    return new


def rounded(model: Model, bits: int, *, by_row: bool = False) -> Model:
    """Return a copy whose weight matrices are rounded to 2**bits - 1 values each.

    The values of a matrix lie evenly from -m to m, with m its largest absolute entry; 0 is one of
    them. With `by_row` every row has an m of its own, since a single large weight can ruin a whole
    matrix; the rows of embeddings are tokens. Embeddings are matrices too; biases and layer norms
    stay. `bits` runs from 2 to 16. This is symmetric rounding to nearest, one scale a tensor or
    row.
    """
    import torch

    new, most = copy.deepcopy(model), 2 ** (int(bits) - 1) - 1
    with torch.no_grad():
        for weight in _matrices(new):
            exact = weight.double()
            step = (exact.abs().amax(-1, keepdim=True) if by_row else exact.abs().max()) / most
            step[step == 0] = 1
            weight.copy_((exact / step).round() * step)
    return new


def pruned(model: Model, share: float) -> Model:
    """Return a copy in which a share of each weight matrix, the smallest entries, is set to 0.

    Of a matrix with m entries the floor(share * m) smallest in absolute value go, the first ones
    among equals. Embeddings are matrices too; biases and layer norms stay. This is magnitude
    pruning, layer by layer and without re-training.
    """
    import torch

    new = copy.deepcopy(model)
    with torch.no_grad():
        for weight in _matrices(new):
            order = weight.abs().flatten().sort(stable=True).indices
            # The product falls just short of whole numbers, as in 0.29 * 100.
            gone = order[: int(share * len(order) + 1e-9)]
            flat = weight.flatten()
            flat[gone] = 0
            weight.copy_(flat.view_as(weight))
    return new


def _matrices(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.ndim > 1]
