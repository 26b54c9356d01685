"""Pickled weights, read by a loader that runs no program, and saved as safetensors."""

from __future__ import annotations

import pickle
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import data, hub, model_files, model_sources, storage
from helpers.model_files import Refusal

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def convert(folder: str | Path, out: str | Path) -> Path:
    """Save a model with `pytorch_model.bin` as safetensors, with its tokenizer and output layer.

    `folder` holds config.json, the tokenizer and the weights, in one file or several; `out` is
    made, whole or not at all; weights keep their numbers and dtype. They are read by torch's loader
    of weights alone, which makes tensors and runs nothing; the class is that of `architectures` in
    config.json. Raises `Refusal` when `out` is there, a file holds more than weights or not all
    weights, or the type is not known.
    """
    folder, out = Path(folder), Path(out)
    if out.exists():
        raise Refusal(f"{out} is already there", "give a new folder to write")
    names = [file.name for file in folder.iterdir()]
    missing = set(model_files.weights_in(names, folder, allow_bin=True)) - set(names)
    if missing:
        raise Refusal(f"{min(missing)} is missing in {folder}", model_files.AGAIN)
    try:
        model, absent = _model(folder)
    except (Refusal, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        reason = "its files hold more than weights, which is not opened here"
        raise Refusal(reason, model_files.OTHER_CURE) from error
    except Exception as error:  # damaged files raise what they like
        reason = f"its weights could not be read ({model_files.first_line(error)})"
        raise Refusal(reason, model_files.AGAIN) from error
    with storage.whole_folder(out) as part:
        state = model.state_dict()
        # An absent pooler was drawn at random: it is no weight of this model.
        kept = {key: state[key] for key in state if key not in absent} if absent else None
        model.save_pretrained(part, state_dict=kept)
        model_files.copy_small(folder, part)
    return out


def _model(folder: Path) -> tuple[PreTrainedModel, set[str]]:
    """Return the model of a folder, and the names of what its files do not have."""
    config, kinds = _kinds(folder)
    for kind in kinds:
        model, report = kind.from_pretrained(
            folder, config=config, use_safetensors=False, weights_only=True,
            output_loading_info=True, local_files_only=True, trust_remote_code=False,
        )  # fmt: skip
        if not (absent := model_files.absent_weights(report)):
            return model, set(report["missing_keys"])
    reason = f"{len(absent)} weights are missing from its file, such as {absent[0]}"
    raise Refusal(reason, model_files.AGAIN)


def converted(folder: Path, key: str) -> Path:
    """Return the converted copy of a folder, made in the cache unless it is there under its key."""
    place = data.cache_folder() / "converted" / storage.digest(["converted", 1, key])[:32]
    return place if place.is_dir() else convert(folder, place)


def _kinds(folder: Path) -> tuple[PretrainedConfig, list[Any]]:
    """Return the configuration, and the classes that its model may be of, the likeliest first."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    told = model_files.read_config(folder)
    model_files.check_config(told)
    model_type = told.get("model_type") or _type_of_weights(folder)
    if model_type not in auto.CONFIG_MAPPING_NAMES:
        cure = "add its model_type to config.json, such as bert, where its makers say it"
        raise Refusal(f"config.json does not say of what type the model is ({model_type!r})", cure)
    config = transformers.AutoConfig.for_model(
        model_type, **{key: value for key, value in told.items() if key != "model_type"}
    )
    names = [str(name) for name in told.get("architectures") or []]
    if kinds := [kind for name in names if (kind := getattr(transformers, name, None))]:
        return config, kinds
    if model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return config, [transformers.AutoModelForMaskedLM, transformers.AutoModel]
    if model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return config, [transformers.AutoModelForCausalLM, transformers.AutoModel]
    return config, [transformers.AutoModel]


def _type_of_weights(folder: Path) -> str | None:
    """Return the type that the names of weights begin with, as in bert.embeddings, or None.

    Models of 2019 and 2020 were saved without their type.
    """
    import torch
    from transformers.models.auto import modeling_auto as auto

    names = [file.name for file in folder.iterdir()]
    first = folder / model_files.weights_in(names, folder, allow_bin=True)[0]
    weights = torch.load(first, map_location="meta", weights_only=True)
    begins = {str(name).partition(".")[0] for name in weights}
    types = sorted(begins & set(auto.CONFIG_MAPPING_NAMES))
    return types[0] if len(types) == 1 else None


def parser() -> ArgumentParser:
    """Return the parser of the command `before-ft convert`."""
    made = ArgumentParser(prog="before-ft convert", description=main.__doc__)
    made.add_argument("--model", required=True, help="folder, or name on the hub")
    made.add_argument("--revision", help="branch, tag or commit of a model on the hub")
    made.add_argument("--out", required=True, help="folder to write; it must not be there")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """Convert a model with pytorch_model.bin to a folder with safetensors, running none of it.

    The exit code is 0 when the folder was written, and 2 when nothing was.
    """
    given = parser().parse_args(words)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        name = model_sources.at_revision(given.model, given.revision)
        local = model_sources.local_source(name)
        out = convert(local or hub.folder(name, allow_bin=True), given.out)
    except Exception as error:  # other people's files raise what they like
        cure = "" if isinstance(error, ValueError) else f"; {model_files.AGAIN}"
        print(f"{given.model}: {model_files.first_line(error)}{cure}", file=sys.stderr)
        return 2
    print(f"written: {out}")
    return 0
