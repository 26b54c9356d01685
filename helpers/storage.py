"""Files that are written whole or not at all, and results kept with a sum by which damage shows."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class CannotWrite(OSError):
    """A file could not be written; the message has its path, the reason and the cure."""


_CURE = "make room there or choose another folder"


@contextmanager
def whole(path: str | Path, cure: str = _CURE) -> Iterator[Path]:
    """Give a name of its own to write to, which becomes `path` when all went well.

    No reader ever meets half of a file, and two writers of one path do not meet: the later one
    wins. When writing fails nothing is left, and what stood at `path` stays. Raises `CannotWrite`
    with the path, the reason and the cure.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or error
            told = CannotWrite(f"{path} could not be written ({reason}); {cure}")
            told.errno = error.errno
            raise told from error
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write to, which becomes `path`, not there yet, when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield part
        part.chmod(0o755)
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; raises as `whole`."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Return strict JSON, where numbers that are not finite are null, and NumPy's are Python's."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digest(value: Any) -> str:
    """Return the SHA-256 of what JSON can hold, which names what is kept for it."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def store(path: str | Path, value: Any) -> None:
    """Write what JSON can hold, with its SHA-256 sum; raises as `whole`."""
    kept = json.dumps(value, separators=(",", ":"))
    write_text(path, f"{_head(kept)}{kept}}}")


def stored(path: str | Path) -> Any | None:
    """Return what `store` wrote, or None where there is nothing or a single byte of it differs."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        kept = text[len(_head("")) : -1]
        return json.loads(kept) if text == f"{_head(kept)}{kept}}}" else None
    except (OSError, ValueError, RecursionError):
        return None


def _head(kept: str) -> str:
    return f'{{"sum": "{hashlib.sha256(kept.encode()).hexdigest()}", "kept": '
