"""Plain data and numeric arrays out of a pickle file, without executing anything that it says."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Names that a pickle of arrays calls, for NumPy 1 and 2. None is imported: each stands for a
# function below, and every other name is refused.
_MODULES = ("numpy.core", "numpy._core")
_OPEN = object()


class _Name(str):
    """A global name of the pickle, such as "numpy dtype"; never looked up."""


class _Type:
    """A number's type while its parts are read."""

    def __init__(self, code: object) -> None:
        self.dtype = _numeric(code)

    def build(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"it has a type in the byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array while its parts are read."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        self.value = _filled(raw, kind, shape, "F" if fortran else "C")


def read(path: str | Path) -> Any:
    """Return what a pickle file holds: dicts, lists, tuples, texts, numbers and numeric arrays.

    The file's instructions are read one by one and followed only where they put such values
    together; nothing is imported or called by name. Arrays of objects, and all else, raise
    `ValueError`, which tells what was met and where. Pickles of protocols 0 to 5 by NumPy 1 and 2.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    path = Path(path)
    place: int | None = 0
    try:
        with path.open("rb") as file:
            for opcode, argument, position in pickletools.genops(file):
                place = position
                if opcode.name == "STOP":
                    return _resolved(stack[-1], {})
                _follow(opcode.name, argument, stack, marks, memo)
    except OSError:
        raise
    # A damaged file fails in any of many ways; none of them may pass for data.
    except Exception as error:
        raise ValueError(
            f"path {path.name!r} cannot be read as plain arrays: {error} (byte {place}); save its "
            "values as .npz or .csv"
        ) from error
    raise ValueError(f"path {path.name!r} ends too early; get the file again")


def _follow(
    name: str, argument: Any, stack: list[Any], marks: list[int], memo: dict[int, Any]
) -> None:
    """Change stack and memory as one instruction of a pickle says."""
    if name in _CONSTANTS:
        stack.append(_CONSTANTS[name]())
    elif name in _LITERALS:
        stack.append(argument)
    elif name in ("PROTO", "FRAME"):
        pass
    elif name == "MARK":
        marks.append(len(stack))
    elif name in ("POP", "POP_MARK"):
        _popped(stack, marks) if name == "POP_MARK" else stack.pop()
    elif name == "DUP":
        stack.append(stack[-1])
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name.endswith("PUT"):
        memo[int(argument)] = stack[-1]
    elif name.endswith("GET"):
        stack.append(memo[int(argument)])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        n = int(name[-1])
        stack[-n:] = [tuple(stack[-n:])]
    elif name in ("TUPLE", "LIST"):
        made = _popped(stack, marks)
        stack.append(tuple(made) if name == "TUPLE" else made)
    elif name == "DICT":
        stack.append(_pairs(_popped(stack, marks)))
    elif name in ("APPEND", "APPENDS"):
        more = [stack.pop()] if name == "APPEND" else _popped(stack, marks)
        _expect(stack[-1], list).extend(more)
    elif name in ("SETITEM", "SETITEMS"):
        more = _pairs(_last(stack, 2) if name == "SETITEM" else _popped(stack, marks))
        _expect(stack[-1], dict).update(more)
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        stack.append(_Name(argument if name == "GLOBAL" else " ".join(_last(stack, 2))))
    elif name == "REDUCE":
        function, given = _last(stack, 2)
        stack.append(_called(function, given))
    elif name == "BUILD":
        state = stack.pop()
        _expect(stack[-1], (_Array, _Type)).build(state)
    else:
        raise ValueError(f"it has the instruction {name}")


def _popped(stack: list[Any], marks: list[int]) -> list[Any]:
    start = marks.pop()
    found = stack[start:]
    del stack[start:]
    return found


def _last(stack: list[Any], n: int) -> list[Any]:
    found = stack[-n:]
    del stack[-n:]
    return found


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _expect(value: Any, kinds: Any) -> Any:
    if not isinstance(value, kinds):
        raise ValueError(f"it changes a {type(value).__name__}")
    return value


def _called(function: Any, given: tuple[Any, ...]) -> Any:
    if not isinstance(function, _Name) or function not in _CALLS:
        raise ValueError(f"it calls {str(function)!r}")
    return _CALLS[function](*given)


def _numeric(code: object) -> np.dtype:
    """Return the type of numbers or bools that a code such as 'f8' names."""
    if not isinstance(code, str) or code[:1] not in "fiub" or not code[1:].isdigit():
        raise ValueError(f"it has an array of {code!r}")
    return np.dtype(code)


def _filled(raw: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    dtype = _expect(kind, _Type).dtype
    return np.frombuffer(_expect(raw, (bytes, bytearray)), dtype).reshape(shape, order=order)


def _array_of(kind: Any, *_: Any) -> _Array:
    if kind != "numpy ndarray":
        raise ValueError(f"it makes a {kind!r}")
    return _Array()


def _array_from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.value = _filled(raw, kind, shape, "F" if order == "F" else "C")
    return made


def _scalar(kind: Any, raw: Any) -> Any:
    return _filled(raw, kind, (), "C")[()]


def _encoded(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"it has bytes written as {encoding!r}")
    return _expect(text, str).encode("latin1")


_CALLS: dict[str, Callable[..., Any]] = {
    "numpy dtype": lambda code, *_: _Type(code),
    "_codecs encode": _encoded,
    # No bytes at all, in old protocols.
    "__builtin__ bytes": lambda: b"",
}
for _module in _MODULES:
    _CALLS[f"{_module}.multiarray _reconstruct"] = _array_of
    _CALLS[f"{_module}.multiarray scalar"] = _scalar
    _CALLS[f"{_module}.numeric _frombuffer"] = _array_from_buffer

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


def _resolved(value: Any, seen: dict[int, Any]) -> Any:
    """Return the value with its arrays; what stands in many places is made once."""
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("it has an array without values")
        return value.value
    if isinstance(value, (_Name, _Type)):
        raise ValueError(f"it holds {str(value)!r} as a value")
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) not in seen:
        seen[id(value)] = _OPEN
        if isinstance(value, dict):
            made: Any = {key: _resolved(item, seen) for key, item in value.items()}
        else:
            made = type(value)(_resolved(item, seen) for item in value)
        seen[id(value)] = made
    if seen[id(value)] is _OPEN:
        raise ValueError("it holds itself")
    return seen[id(value)]
