"""Counts over a corpus of many files: in several processes or on a cluster, and able to resume."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from helpers import storage
from helpers.retrieval.corpora import (
    MAX_DOCUMENT,
    RANGE_SIZE,
    Problem,
    Report,
    check_reading,
    lines_before,
    read_range,
)
from helpers.retrieval.corpus_files import Range, list_files, split
from helpers.retrieval.counting import Counts, NameIndex, Rule, Tally

# Part of every key: raise it when the same files and settings would give other counts.
_VERSION = 2


class _Shard(NamedTuple):
    """A range of a file, with the size of the file in bytes and the mark of its last change."""

    range: Range
    file_size: int
    mark: str

    @property
    def size(self) -> int:
        """Number of bytes of the range."""
        _, start, stop = self.range
        return (self.file_size if stop is None else stop) - start


def count_corpus(
    files: str | Path | Iterable[str | Path],
    pairs: Sequence[tuple[str, str]],
    out_folder: str | Path,
    *,
    prefix: str = " ",
    right_boundary: bool = False,
    case_sensitive: bool = True,
    column: str = "text",
    unit: str = "line",
    max_document: int = MAX_DOCUMENT,
    range_size: int = RANGE_SIZE,
    strict: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    resume: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Counts:
    """Return `counting.count_documents` of a corpus, counted range by range, so that it can resume.

    `files`, `column`, `unit`, `max_document` and `strict` are those of `corpora.read_documents`. A
    file on this machine of more than `range_size` bytes is counted in ranges, where
    `corpus_files.split` can cut it. The counts of each range are stored in `out_folder`, under a
    name made of the pairs, the rule, the way of reading, the range and the file's path, size and
    time of change, and only once they are complete. A run that was stopped at any moment and is
    started again counts the missing ranges, and none twice; a file that has changed is counted
    again, as is one for which `range_size` gives other ranges. `resume=False` counts all again.

    `workers` processes count a range each. `scheduler`, the address of a Dask scheduler, has the
    workers of that cluster do it, which must see the files under the same paths; when one dies, its
    ranges go to others. The counts are the same in every way, and line numbers are those of
    the file; only of a damaged archive the ranges after the damage are counted too, and their line
    numbers are too low. `progress` gets the bytes counted so far and those of all files, as on
    disk: first of the ranges stored before, then as files are read (on a cluster, as ranges are
    done).

    Raises what `list_files`, `read_documents` and `NameIndex` raise, also for problems that a
    stored range has when `strict`; `RuntimeError` when a process dies or a file changes while it is
    counted. What was finished before stays. Source: the rule of arXiv:2502.04066, released code.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from helpers.retrieval import count_corpus
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("They met in Rome, Italy.")
    ...     _ = Path(folder, "b.txt").write_text("All of Rome slept.")
    ...     found = count_corpus(f"{folder}/*.txt", [("Rome", "Italy")], f"{folder}/counts")
    >>> found.table
      subject object  n_subject  n_object  n_both
    0    Rome  Italy          2         1       1
    """
    # Not for the workers: it imports pandas.
    from helpers import validation

    validation.counts(workers=(workers, 1), range_size=(range_size, 1))
    if not isinstance(out_folder, str | Path):
        raise ValueError(f"out_folder is {out_folder!r}; pass the folder to keep counts in")
    if scheduler is not None:
        validation.address(scheduler)
    check_reading(unit, max_document)
    index = NameIndex(pairs, Rule(prefix, right_boundary, case_sensitive))
    reading = {"column": column, "unit": unit, "max_document": max_document}
    shards = [
        _Shard(one, *identity)
        for file in list_files(files)
        for identity in [_identify(file)]
        for one in split(file, range_size, unit)
    ]
    mark = storage.digest([_VERSION, index.pairs, index.rule, reading])
    places = {s: Path(out_folder) / f"{storage.digest([mark, *s])}.json" for s in shards}
    total, missing = _Total(index, shards, strict), []
    done, every = 0, sum(shard.size for shard in shards)

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if progress:
            progress(done, every)

    for shard, place in places.items():
        result = _stored(place, index) if resume else None
        if result is None:
            missing.append(shard)
        else:
            total.add(shard, result)
            done += shard.size
    advance(0)
    # The largest first, so that the last of them does not keep one process busy alone.
    missing.sort(key=lambda shard: shard.size, reverse=True)
    task = {"reading": reading, "strict": strict}
    if scheduler is not None:
        results = _on_cluster(missing, index, task, advance, scheduler)
    elif workers == 1 or len(missing) < 2:
        results = (
            (shard, _count_shard(shard, index, **task, advance=advance)) for shard in missing
        )
    else:
        results = _in_processes(missing, index, task, advance, min(workers, len(missing)))
    with closing(results):
        for shard, result in results:
            file = shard.range.file
            if _identify(file) != shard[1:]:
                raise RuntimeError(f"{file} changed while it was counted; run again")
            storage.store(places[shard], result)
            total.add(shard, result)
    return total.counts()


def _identify(file: str) -> tuple[int, str]:
    """Return the size of a file, and its time of change or what a server reports."""
    if "://" not in file:
        status = os.stat(file)
        return status.st_size, str(status.st_mtime_ns)
    from fsspec.core import url_to_fs

    system, path = url_to_fs(file)
    return int(system.info(path).get("size") or 0), str(system.ukey(path))


def _count_shard(
    shard: _Shard,
    index: NameIndex,
    reading: dict[str, Any],
    strict: bool,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Return the counts and the problems of one range as plain lists and numbers.

    `n_documents`, `names` and `both` are those of `counting.Tally`; `counts`, `first` and `lines`
    those of `corpora.Report`. `advance` gets numbers of bytes that add up to the size of the range.
    Raises what `read_range` raises.
    """
    left = shard.size

    def some(n: int) -> None:
        nonlocal left
        n = min(n, left)
        left -= n
        advance(n)

    report = Report(strict=strict)
    documents = read_range(shard.range, **reading, report=report, advance=some if advance else None)
    tally = index.tally(documents)
    if advance:
        some(left)
    problems = {name: asdict(report)[name] for name in ("counts", "first", "lines")}
    return {**tally._asdict(), **problems}


class _Total:
    """The sum of the results of shards."""

    def __init__(self, index: NameIndex, shards: list[_Shard], strict: bool) -> None:
        import numpy as np

        self.index, self.strict, self.n_documents = index, strict, 0
        self.names = np.zeros(index.n_names, dtype=np.int64)
        self.both = np.zeros(index.n_both, dtype=np.int64)
        self.reports = dict.fromkeys(shards)

    def add(self, shard: _Shard, result: dict[str, Any]) -> None:
        first = [Problem(*problem) for problem in result["first"]]
        report = Report(result["counts"], first, lines=result["lines"])
        if self.strict and first:
            Report(strict=True).add(first[0].behind(lines_before(shard.range)))
        self.reports[shard] = report
        self.n_documents += result["n_documents"]
        self.names += result["names"]
        self.both += result["both"]

    def report(self) -> Report:
        """Merge the reports in the order of the files, with lines counted from the first."""
        merged, before = Report(), 0
        for shard, report in self.reports.items():
            before = before if shard.range.start else 0
            report.first = [problem.behind(before) for problem in report.first]
            merged.merge(report)
            before += report.lines
        return merged

    def counts(self) -> Counts:
        tally = Tally(self.n_documents, self.names, self.both)
        return Counts(self.n_documents, self.index.table(tally), self.report())


def _stored(place: Path, index: NameIndex) -> dict[str, Any] | None:
    """Read the result of a shard, or None when there is none or it is damaged."""
    result = storage.stored(place)
    fits = result and len(result["names"]) == index.n_names and len(result["both"]) == index.n_both
    return result if fits else None


def _in_processes(
    shards: list[_Shard],
    index: NameIndex,
    task: dict[str, Any],
    advance: Callable[[int], None],
    workers: int,
) -> Iterator[tuple[_Shard, dict[str, Any]]]:
    # Fresh processes, for a fork would copy the memory and the threads of this one. A server of
    # forks, where there is one, imports this module only once for all of them.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(["__main__", __name__])
    read, reported = context.Value("q", 0), 0
    given = index.for_tally(), read
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=given)
    try:
        futures = {pool.submit(_count_in_process, shard, task): shard for shard in shards}
        while futures:
            finished, _ = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
            now = read.value
            advance(now - reported)
            reported = now
            for future in finished:
                yield futures.pop(future), future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker process died, killed or out of memory; run again with fewer workers, and "
            "what was counted so far is kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_index: NameIndex
_read: Any


def _begin(index: NameIndex, read: Any) -> None:
    """Prepare a worker process: make the search ready once, and end when the parent is gone."""
    global _index, _read
    _index, _read = index, read
    # Arrow's own way to keep memory keeps a fifth more of it.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _count_in_process(shard: _Shard, task: dict[str, Any]) -> dict[str, Any]:
    def advance(n: int) -> None:
        with _read.get_lock():
            _read.value += n

    return _count_shard(shard, _index, **task, advance=advance)


def _on_cluster(
    shards: list[_Shard],
    index: NameIndex,
    task: dict[str, Any],
    advance: Callable[[int], None],
    address: str,
) -> Iterator[tuple[_Shard, dict[str, Any]]]:
    from distributed import Client, KilledWorker, as_completed

    with Client(address, set_as_default=False) as client:
        # A task, not scattered data: the cluster can make it again when the worker that holds it
        # dies. Keys are new in every run, so that no run takes up the results of another.
        shared = client.submit(NameIndex, index.pairs, index.rule, pure=False)
        futures = {
            client.submit(_count_shard, shard, shared, **task, pure=False): shard
            for shard in shards
        }
        for future in as_completed(futures, loop=client.loop):
            shard = futures.pop(future)
            try:
                result = future.result()
            except KilledWorker:
                raise RuntimeError(
                    f"several workers died while they counted {shard.range.file}, killed or out of "
                    "memory; run again, and what was counted so far is kept"
                ) from None
            yield shard, result
            future.release()
            advance(shard.size)


def check_output(path: str | Path) -> None:
    """Raise `ValueError` unless counts can be written under this name: `.parquet` or `.csv`."""
    if Path(path).suffix not in (".parquet", ".csv"):
        raise ValueError(f"the output is named {path}; end its name in .parquet or .csv")


def write_counts(counts: Counts, path: str | Path) -> None:
    """Write the table of counts with `n_documents` as its third column, whole or not at all.

    The columns are those of `release.load_facts`. Raises as `check_output`.
    """
    check_output(path)
    path = Path(path)
    table = counts.table.copy()
    table.insert(2, "n_documents", counts.n_documents)
    with storage.whole(path) as part:
        if path.suffix == ".csv":
            table.to_csv(part, index=False)
        else:
            table.to_parquet(part, index=False)
