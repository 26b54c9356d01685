"""The head of a GGUF file: what it holds, without its weights."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from helpers.model_files import DAMAGE, Refusal, check_config, first_line

# The codes of numbers in the head of a GGUF file; 8 is a string and 9 an array.
_MOST = 8  # dimensions of a tensor, and arrays in one another; the format's own tools take 4
_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))


def read(path: Path) -> tuple[str, int, int]:
    """Return the architecture, the number of weights and of parts of a GGUF file, from its head.

    Raises `Refusal` for a file that is damaged, or asks for more layers than can be built.
    """
    cure = "download or convert it again, and compare its check sum"
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise Refusal(f"{path.name} is empty, cut or no GGUF file", cure)
        try:
            (version,) = _unpack(file, "<I")
            if version not in (2, 3):
                raise ValueError(f"its version is {version}, not 2 or 3")
            n_tensors, n_fields = _unpack(file, "<QQ")
            fields = {}
            for _ in range(n_fields):
                key = _string(file)
                fields[key] = _gguf_value(file, *_unpack(file, "<I"))
            total, last = 0, 0
            for _ in range(n_tensors):
                _string(file)
                (n_dims,) = _unpack(file, "<I")
                if n_dims > _MOST:
                    raise ValueError(f"a tensor has {n_dims} dimensions")
                total += math.prod(_unpack(file, f"<{n_dims}Q"))
                _, offset = _unpack(file, "<IQ")
                last = max(last, offset)
            if file.tell() + last >= path.stat().st_size:
                raise ValueError("it is cut short")
            parts = int(fields.get("split.count") or 1)
        except DAMAGE as error:
            reason = f"{path.name} is damaged ({first_line(error)})"
            raise Refusal(reason, cure) from error
    check_config(fields)
    return str(fields.get("general.architecture")), total, parts


def _unpack(file: BinaryIO, form: str) -> tuple:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<Q")
    text = file.read(min(length, 1 << 24))
    if len(text) < length:
        raise ValueError("it ends in the middle of a text")
    return text.decode(errors="replace")


def _gguf_value(file: BinaryIO, code: int, depth: int = 0) -> Any:
    """Read one value of the head; of an array, which nothing here needs, the length."""
    if code == 8:
        return _string(file)
    if code != 9:
        return _unpack(file, "<" + _NUMBERS[code])[0]
    if depth > _MOST:
        raise ValueError("its arrays lie too deep in one another")
    inner, length = _unpack(file, "<IQ")
    if inner in _NUMBERS:
        file.seek(length * struct.calcsize(_NUMBERS[inner]), 1)
    else:
        for _ in range(length):
            _gguf_value(file, inner, depth + 1)
    return length
