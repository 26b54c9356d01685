"""LoRA adapters: their low-rank products added to the weights of the model under them, once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import data, hub, model_files, model_sources, storage
from helpers.model_files import ADAPTER, ADAPTER_CONFIG, AGAIN, WHOLE, Refusal

if TYPE_CHECKING:
    from torch import Tensor

_CURE = "merge it where it was made (peft: merge_and_unload), and save the result"
# What makes the sum another one than the plain one, or the weights under it others.
_OTHER = "use_rslora alpha_pattern layer_replication use_qalora alora_invocation_tokens".split()
_BEGINS = (None, True, False, "gaussian")


def is_alone(folder: Path) -> bool:
    """Tell whether a folder holds an adapter, and no weights of a model."""
    there = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    alone = ADAPTER in there or "config.json" not in there
    return ADAPTER_CONFIG in there and alone and not there & set(WHOLE)


def merged(
    folder: Path, *, allow_bin: bool, source: Callable[..., Path], read: Callable[..., tuple]
) -> Path:
    """Return a folder with an adapter's model and the adapter in it, made in the cache once.

    The base model is the folder or hub name in adapter_config.json, found by `source` and loaded by
    `read` as any other (those of `models`). Raises `ValueError` with the reason and the cure.
    """
    config = _config(folder)
    name = model_sources.at_revision(config["base_model_name_or_path"], config.get("revision"))
    base = model_sources.local_source(name) or hub.folder(name, allow_bin=allow_bin)
    if is_alone(base):
        raise Refusal(f"its base model {name} is an adapter itself", _CURE)
    base = source(base, allow_bin=allow_bin)
    files = [folder / ADAPTER, *sorted(base.glob("*.safetensors"))]
    files += [file for at in (folder, base) for file in sorted(at.glob("*.json"))]
    sums = [(file.name, data.sha256(file)) for file in files if file.is_file()]
    place = data.cache_folder() / "merged" / storage.digest(["merged", 1, json.dumps(sums)])[:32]
    return place if place.is_dir() else _merge(folder, base, place, read)


def _merge(folder: Path, base: Path, out: Path, read: Callable[..., tuple]) -> Path:
    """Save a base model with a LoRA adapter added to its weights, float32, and return `out`.

    To the weight W of each linear layer that the adapter names, lora_alpha / r * B @ A is added.
    The tokenizer is the adapter's where it has one. `out` is written whole or not at all. Raises
    `Refusal` for any other kind of adapter, and one that does not fit. Source: Hu et al. (2021).
    """
    import torch
    from safetensors.torch import load_file

    config = _config(folder)
    if not (folder / ADAPTER).is_file():
        raise Refusal(f"its weights, {ADAPTER}, are missing", AGAIN)
    if base.is_dir():
        model_files.check_memory(model_files.parameters_in(base))
    try:
        weights = load_file(folder / ADAPTER)
    except Exception as error:  # damaged files raise what they like
        raise Refusal(f"{ADAPTER} is damaged ({model_files.first_line(error)})", AGAIN) from error
    kinds = model_files.read_config(base).get("architectures") or ["AutoModel"]
    _, model = read(str(kinds[0]), base, "pass its base model by itself first")
    # An adapter of a body alone names layers without the name of the body.
    layers = dict(model.base_model.named_modules()) | dict(model.named_modules())
    for name, (a, b) in _pairs(weights, config).items():
        layer, words = layers.get(name), model.get_input_embeddings()
        if not isinstance(layer, torch.nn.Linear) or layer.weight is words.weight:
            reason = f"it changes {name}, which is no linear layer by itself in its base model"
            raise Refusal(reason, _CURE)
        if layer.weight.shape != (len(b), a.shape[1]):
            cure = f"correct the base model in {ADAPTER_CONFIG}"
            raise Refusal(f"it does not fit its base model, as in {name}", cure)
        layer.weight.data += float(config["lora_alpha"]) / int(config["r"]) * b.float() @ a.float()
    with storage.whole_folder(out) as part:
        model.save_pretrained(part)
        for source in (folder, base):
            model_files.copy_small(source, part)
        (part / ADAPTER_CONFIG).unlink(missing_ok=True)
    return out


def _pairs(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return layer -> its two matrices, (r, width) and (width, r); refuse other weights."""
    begin, ends = "base_model.model.", (".lora_A.weight", ".lora_B.weight")
    pairs: dict[str, dict[str, Any]] = {}
    for key, value in weights.items():
        end = next((end for end in ends if key.endswith(end)), None)
        if not key.startswith(begin) or end is None or value.ndim != 2:
            raise Refusal(f"it has weights beside those of plain LoRA, such as {key}", _CURE)
        pairs.setdefault(key[len(begin) : -len(end)], {})[end] = value
    for layer, pair in pairs.items():
        a, b = (pair.get(end) for end in ends)
        if a is None or b is None or not len(a) == b.shape[1] == int(config["r"]):
            raise Refusal(f"its matrices of {layer} have not the rank r of {ADAPTER_CONFIG}", AGAIN)
    if not pairs:
        raise Refusal(f"{ADAPTER} is empty", AGAIN)
    return {layer: tuple(pair[end] for end in ends) for layer, pair in pairs.items()}


def _config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a plain LoRA adapter, or refuse it."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text())
        name, kind = config["base_model_name_or_path"], config["peft_type"]
        numbers = [float(config["lora_alpha"]), int(config["r"])]
        if not isinstance(name, str) or not name or not all(n > 0 for n in numbers):
            raise ValueError("it names no base model, or no rank")
    except model_files.DAMAGE as error:
        reason = f"{ADAPTER_CONFIG} does not say what it is added to ({type(error).__name__})"
        raise Refusal(reason, _CURE) from error
    odd = [key for key in _OTHER if config.get(key)]
    if config.get("init_lora_weights") not in _BEGINS:
        odd.append("init_lora_weights")
    if kind != "LORA" or odd:
        raise Refusal(f"it is no plain LoRA adapter ({', '.join(odd) or kind})", _CURE)
    return config
