"""Plain data and numeric arrays out of a pickle file, without executing anything that it says."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class _Kind:
    """A type of numbers or bools, from a code such as "f8" and its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, *_: Any) -> None:
        if code[0] not in "fiub" or not code[1:].isdigit():
            raise ValueError(f"it has an array of {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array that is filled after it is made, with numbers only."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, raw = state
        filled = _filled(raw, kind, shape, "F" if fortran else "C")
        super().__setstate__((1, filled.shape, filled.dtype, bool(fortran), bytes(raw)))


class _Reader(pickle.Unpickler):
    """Finds the names that pickles of arrays by NumPy 1 and 2 call, and imports none of them."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        # Made anew for each file, which could set attributes of them.
        calls: dict[str, Callable[..., Any] | str] = {
            "numpy dtype": lambda *given: _Kind(*given),
            "numpy ndarray": "ndarray",
            "_codecs encode": lambda *given: _encoded(*given),
            # No bytes at all, in old protocols.
            "__builtin__ bytes": lambda: b"",
        }
        for module in ("numpy.core", "numpy._core"):
            calls[f"{module}.multiarray _reconstruct"] = lambda *_: _Array(0)
            calls[f"{module}.multiarray scalar"] = lambda kind, raw: _filled(raw, kind, (), "C")[()]
            calls[f"{module}.numeric _frombuffer"] = lambda *given: _filled(*given)
        self._calls = calls

    def find_class(self, module: str, name: str) -> Any:
        if (found := self._calls.get(f"{module} {name}")) is None:
            raise ValueError(f"it calls '{module} {name}'")
        return found


def read(path: str | Path) -> Any:
    """Return what a pickle file holds: dicts, lists, tuples, texts, numbers and numeric arrays.

    Every name that it calls is replaced by a function of this module, or refused: nothing is
    imported. Arrays of objects, and all else, raise `ValueError`, which tells what was met. Pickles
    of protocols 0 to 5 by NumPy 1 and 2. Source: "Restricting globals" in Python's documentation.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            return _Reader(file).load()
        # A damaged file fails in any of many ways; none of them may pass for data.
        except Exception as error:
            raise ValueError(
                f"path {path.name!r} cannot be read as plain arrays: {error}; save its values as "
                ".npz or .csv"
            ) from error


def _filled(raw: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(raw, kind.dtype).reshape(shape, order=order)


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"it has bytes written as {encoding!r}")
    return text.encode("latin1")
