"""The files of a saved model: which hold its weights, whether all are there and fit in memory."""

from __future__ import annotations

import json
import math
import re
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.escaping import printable

_SAFE, _SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_BIN, _BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
WHOLE = (_SAFE, _SAFE_INDEX, _BIN, _BIN_INDEX)
# The configuration, the tokenizer and the lists of weight files.
SMALL = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja"]
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_OTHERS = (".h5", ".msgpack", ".onnx", ".gguf")
BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
AGAIN = "download or save it again"
WANTED = "pass a folder made by save_pretrained, a .gguf file, a package or a name on the hub"
# These tokenizers read characters or bytes, and are saved without a vocabulary.
_BARE_TOKENIZERS = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.tiktoken")
# What reading a damaged file may raise.
DAMAGE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    struct.error,
)
# What a configuration may count: of layers, blocks and experts no model has as many.
_PARTS = re.compile(
    "(layers?|blocks|groups|experts|depths?|block_count|expert_count|block_sizes|inner_group_num)$"
)
_MOST = 2048
_BUILT_IN = (None, "eager", "sdpa", "batched_mm", "grouped_mm")


class Refusal(ValueError):
    """A model that is not read here, with the reason and the cure."""

    def __init__(self, reason: str, cure: str) -> None:
        # Both may hold what somebody else's files say.
        self.reason, self.cure = printable(reason), printable(cure)
        super().__init__(f"{self.reason}; {self.cure}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its name where it has none."""
    if "custom code" in str(error):
        return "it wants code of its author to be run, which never happens here"
    if "ignore_mismatched_sizes" in str(error):
        return "its weights have other shapes than its config.json says"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, KeyError):
        lines[0] = f"{type(error).__name__}: {lines[0]}"
    # Some say in their first line only that the next has the reason.
    return printable(" ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")]))


def sentence(error: BaseException) -> str:
    """Return what an error says, on one line, or its name where it says nothing."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def read_config(folder: Path) -> dict[str, Any]:
    """Return the configuration in a folder; empty where there is none or it is no mapping.

    Raises `Refusal` where it is damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, *DAMAGE) as error:
        raise Refusal(f"config.json is damaged ({first_line(error)})", AGAIN) from error
    return config if isinstance(config, dict) else {}


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse a configuration with more parts than can be built, or a program to be fetched.

    Called before anything is made of it, for a number in it costs nothing and each layer does.
    """
    for key, value in config.items():
        if isinstance(value, list):
            for each in value:
                check_config({key: each})
        elif isinstance(value, Mapping) and not key.endswith("_implementation"):
            check_config(value)
        elif isinstance(value, int | float) and _PARTS.search(key) and value > _MOST:
            reason = f"its configuration asks for {value:,} parts ({key}), which nothing could hold"
            raise Refusal(reason, AGAIN)
        elif key.endswith("_implementation") and value not in _BUILT_IN:
            reason = f"its configuration names a program to run ({key} is {value!r}), and none is"
            raise Refusal(reason, f"take {key} out of its config.json")


def refuse_file(path: Path) -> None:
    """Refuse a single file that is no GGUF file, with what to pass in its place."""
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        cure = f"pass its folder. {_pickled_cure(path.parent)}"
        raise Refusal(f"{path.name} is a file of pickles, which can run any program", cure)
    cure = "pass the folder that holds it, with config.json and the tokenizer"
    raise Refusal(f"{path.name} is a single file of the kind {suffix or 'unknown'}", cure)


def saved_config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a saved model; refuse a folder without, or without a type.

    Raises `Refusal`, as `read_config` and `check_config` do.
    """
    config, files = read_config(folder), [f.name for f in folder.iterdir() if f.is_file()]
    if "config.json" not in files:
        inner = next((f.parent.name for f in sorted(folder.glob("*/config.json"))), None)
        ggufs = sorted(file for file in files if file.endswith(".gguf"))
        if ggufs:
            raise Refusal("the folder holds a GGUF file", f"pass the file: {folder / ggufs[0]}")
        if inner:
            raise Refusal("the model is one folder further down", f"pass {folder / inner}")
        raise Refusal("the folder has no config.json" if files else "the folder is empty", WANTED)
    check_config(config)
    if not isinstance(config.get("model_type"), str):
        if _BIN in files:
            # Old models lack it, and converting them finds it out.
            weights_in(files, folder)
        cure = "save the model again by save_pretrained of a present version of transformers"
        raise Refusal("config.json does not say of what type the model is", cure)
    return config


def check_tokenizer(folder: Path) -> None:
    """Refuse a folder without a tokenizer, for which transformers would make one up."""
    try:
        kind = json.loads((folder / "tokenizer_config.json").read_text()).get("tokenizer_class")
    except (OSError, *DAMAGE):
        kind = ""
    if kind in _BARE_TOKENIZERS or any(next(folder.glob(each), None) for each in _TOKENIZERS):
        return
    cure = (
        "save that of its makers there too, tokenizer.save_pretrained(folder); of a model on the "
        "hub download the folder first"
    )
    raise Refusal("it is a model but has no tokenizer", cure)


def weights_in(
    names: Sequence[str], folder: Path, *, allow_bin: bool = False, model: str = ""
) -> list[str]:
    """Return those of the names of a model's files that hold its weights.

    Safetensors go before files of pickles, which are named with `allow_bin` alone. A list of files
    is read from `folder`. Raises `Refusal` where there are none, or the list is damaged; its cure
    calls the model by the name `model`, or by the folder.
    """
    forms = ((_SAFE, _SAFE_INDEX), (_BIN, _BIN_INDEX))
    for whole, index in forms[: 2 if allow_bin else 1]:
        if index in names:
            return _indexed(folder / index)
        if whole in names:
            return [whole]
    if ADAPTER in names:
        return [ADAPTER]
    top = [name for name in names if "/" not in name]
    if pickles := [name for name in top if name.endswith(_PICKLES)]:
        named = _BIN if _BIN in pickles or _BIN_INDEX in names else pickles[0]
        reason = f"its weights are pickled ({named}), and a pickle can run any program"
        raise Refusal(reason, _pickled_cure(model or folder) if named == _BIN else OTHER_CURE)
    if other := [name for name in top if name.endswith(_OTHERS)]:
        raise Refusal(f"its weights are of another kind ({other[0]})", OTHER_CURE)
    raise Refusal("it has a configuration but no weights", "put model.safetensors in")


OTHER_CURE = (
    "look for the model as safetensors or as a GGUF file, and pass the folder or the file; or save "
    "it again by save_pretrained where it was made"
)


def _pickled_cure(model: str | Path) -> str:
    """Return how weights in files of pickles are read without running what is in them."""
    return (
        "read the weights alone, by a loader that runs no program: set allow_bin (--allow-bin), or "
        f"convert it once, `before-ft convert --model {model} --out new-folder`"
    )


def _indexed(index: Path) -> list[str]:
    """Return the files that a list of weights names; they lie beside it."""
    try:
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        if not files or any("/" in file or "\\" in file for file in files):
            raise ValueError("it names no files, or files elsewhere")
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Refusal(f"{index.name} is damaged ({first_line(error)})", AGAIN) from error
    return files


def parameters_in(folder: Path) -> int:
    """Return the number of weights in a folder's safetensors, or say why they cannot be read."""
    files = [file.name for file in folder.iterdir() if file.is_file()]
    tensors = weights_in(files, folder)
    if absent := sorted(set(tensors) - set(files)):
        cure = "download the rest of the model"
        raise Refusal(f"{len(absent)} of its files are missing, such as {absent[0]}", cure)
    return sum(_count(folder / file) for file in tensors)


def _count(path: Path) -> int:
    """Return the number of weights that the head of a safetensors file names."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    except (SafetensorError, OSError) as error:
        raise Refusal(f"{path.name} is damaged ({first_line(error)})", AGAIN) from error


def copy_small(folder: Path, out: Path) -> None:
    """Copy the tokenizer, and what cuts images, as they are, where `out` has no such file."""
    for file in {file for kind in SMALL for file in folder.glob(kind)}:
        if not (out / file.name).exists() and not file.name.endswith(".index.json"):
            shutil.copy(file, out / file.name)


def absent_weights(report: Mapping[str, Any]) -> list[str]:
    """Return the weights that a loading report of transformers names as missing.

    A pooler is not counted: many encoders are saved without it, and nothing here uses it.
    """
    poolers = re.compile(r"(\w+\.)?pooler\.")
    return sorted(key for key in report["missing_keys"] if not poolers.match(key))


def complete(folder: Path, *, allow_bin: bool = False) -> bool:
    """Tell whether a folder holds all files of its weights."""
    try:
        names = [file.name for file in folder.iterdir()]
        return set(weights_in(names, folder, allow_bin=allow_bin)) <= set(names)
    except (Refusal, OSError):
        return False


def check_memory(parameters: int, beside: str = "", *, dtype: str = "float32") -> None:
    """Refuse a model that does not fit, in a type of numbers, into the memory that is free."""
    import psutil

    need, free = BYTES[dtype] * parameters, psutil.virtual_memory().available
    if need > free:
        cure = "use a larger machine, or a smaller model of the same family"
        if BYTES["bfloat16"] * parameters <= free:
            cure += ", or read it in bfloat16 (--dtype bfloat16)"
        raise Refusal(
            f"it has {parameters / 1e9:.1f} billion weights, {need / 1e9:.0f} GB in {dtype}"
            f"{beside}, and {free / 1e9:.0f} GB of memory are free",
            cure,
        )
