"""Checkpoints of a run: one safetensors file that knows its run, its notes and its checksum."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import storage

if TYPE_CHECKING:
    from torch import Tensor


def digest(tensors: dict[str, Tensor], *more: Any) -> str:
    """Return the SHA-256 of named tensors, bit by bit, and of what else JSON can write."""
    import torch

    found = hashlib.sha256(json.dumps(more, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def write(path: Path, run: str, tensors: dict[str, Tensor], notes: Any) -> None:
    """Write tensors and notes under a name of their own first: no reader sees half of them.

    `run` is any text that tells this run from others; `notes` what JSON can write.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Storage of their own, for the format refuses tensors that share it.
    tensors = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    told = json.dumps(notes)
    header = {"run": run, "notes": told, "sum": digest(tensors, run, told)}
    with storage.whole(path) as part:
        try:
            save_file(tensors, part, header)
        except SafetensorError as error:  # what the format raises for a full disk, too
            raise OSError(str(error)) from error


def read(path: Path, run: str) -> tuple[dict[str, Tensor], Any] | None:
    """Return the tensors and notes of a checkpoint, or None where there is none or it is damaged.

    Raises `ValueError` for a sound file of another run, which is left as it is.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except SafetensorError:
        return None
    if header.get("run") != run:
        raise ValueError(
            f"checkpoint {str(path)!r} is of another run: model, task or options differ; pass "
            "another path, or delete it"
        )
    told = header.get("notes", "")
    return (tensors, json.loads(told)) if header.get("sum") == digest(tensors, run, told) else None
