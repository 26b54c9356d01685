"""What long work will take, and how far it is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from helpers import storage

# The share of the speed of products of matrices at which models read, from the packaged ones.
_READING = 0.4
# Lines of a log are at least so many seconds apart, but for the last.
_EVERY = 5.0


@lru_cache
def speed() -> float:
    """Return this machine's floating point operations per second in a product of matrices."""
    import torch

    x, best = torch.ones(512, 512), float("inf")
    for _ in range(3):
        start = time.perf_counter()
        x @ x
        best = min(best, time.perf_counter() - start)
    return 2 * 512**3 / best


def reading(n_weights: int, n_tokens: float) -> float:
    """Return about how many seconds a model of so many weights takes to read so many tokens."""
    return 2 * n_weights * n_tokens / (_READING * speed())


def duration(seconds: float) -> str:
    """Return seconds in words, as roughly as an estimate is good for."""
    if seconds < 1:
        return "less than a second"
    for size, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{int(seconds < 10 * size)}f} {unit}"
    return f"{seconds:.0f} seconds"


@contextmanager
def shown(
    total: float,
    unit: str,
    *,
    stream: TextIO | None = None,
    log: Path | None = None,
    every: float = _EVERY,
) -> Iterator[Callable[[str, float], None]]:
    """Give `step(what, amount)`, to be called when a part of the work is done.

    `total` and `amount` are in any unit that takes about equally long, such as texts or estimated
    seconds. On a terminal `stream` (standard error by default) gets a bar; elsewhere it gets lines
    with what was done, the share and the time left, `every` seconds at most. `log`, a file, gets
    every line; raises `storage.CannotWrite` where it cannot be begun.
    """
    from tqdm import tqdm

    stream = stream or sys.stderr
    start, done, last = time.perf_counter(), 0.0, -every
    bar = None
    if stream.isatty():
        bar = tqdm(total=total, unit=unit, file=stream, bar_format=_BAR)
    if log:
        storage.write_text(log, "")

    def step(what: str, amount: float) -> None:
        nonlocal done, last
        done = min(total, done + amount)
        spent = time.perf_counter() - start
        share = done / total if total else 1.0
        all_done = share > 1 - 1e-9
        left = "done" if all_done else f"left: {duration(spent / share * (1 - share))}"
        line = f"{time.strftime('%H:%M:%S')}  {share:4.0%}  {what}; {left}"
        if log:
            # A disk that is full by now is met by what writes results.
            with suppress(OSError), log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        if bar is not None:
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)
        elif all_done or spent - last >= every:
            last = spent
            print(line, file=stream, flush=True)

    try:
        yield step
    finally:
        if bar is not None:
            bar.close()


def by_texts(step: Callable[[str, float], None]) -> Callable[[str, int, int], None]:
    """Return the `progress` of `scoring.score_models` that steps by the texts that are new."""
    done: Counter[str] = Counter()

    def told(name: str, n: int, of: int) -> None:
        step(f"{name}: {n:,} of {of:,} texts", n - done[name])
        done[name] = n

    return told


_BAR = "{percentage:3.0f} % |{bar}| {elapsed}, {remaining} left{postfix}"
