"""What the benchmarks share: the CPU time of a function."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def timed(function: Callable[[], Value], repeats: int) -> tuple[Value, float]:
    """Return the value of a function and the least CPU seconds it took."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        value = function()
        seconds.append(time.process_time() - start)
    return value, min(seconds)
