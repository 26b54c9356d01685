"""Parameters -> papermill -> executed notebooks -> html, in parallel; only what has changed."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from helpers import data, provenance, storage
from helpers.book import claims, pages, site
from helpers.book.planning import PlanError, Task, digest, from_here, plan, read_yaml
from helpers.data import ROOT, write_atomically

if TYPE_CHECKING:
    import psutil

# What the system says where nothing can be written: a full or read-only disk, no folder, no right.
_UNWRITABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR
}  # fmt: skip
_BAR = re.compile(rb"(\d+)/(\d+) \[")
# Papermill without what takes longest to import and is not needed for notebooks on a disk: the
# grammars of addresses and durations, the network, and file systems of clusters. It would check
# and write the whole notebook before and after every cell; when code begins, and every five
# seconds, is enough.
_PAPERMILL = """
import sys
for name in ("rfc3987_syntax", "rfc3986_validator", "isoduration", "pyarrow"):
    sys.modules[name] = None
sys.modules["requests"] = type(sys)("requests")
from papermill.cli import papermill
from papermill.engines import NotebookExecutionManager as Manager
save, start = Manager.save, Manager.cell_start
def save_seldom(self):
    if (self.now() - self.last_save_time).total_seconds() >= 5:
        save(self)
def cell_start(self, cell, *place):
    start(self, cell, *place)
    if cell.cell_type == "code":
        save(self)
Manager.save, Manager.cell_start = save_seldom, cell_start
papermill()
"""


def _is_fresh(task: Task, mark: str) -> bool:
    """Tell whether the executed notebook at hand was made from exactly this digest."""
    record = site.read_record(task)
    if not (record and record.get("status") == "ok" and record.get("digest") == mark):
        return False
    return task.executed.is_file() and data.sha256(task.executed) == record.get("executed")


def _command(task: Task) -> list[str]:
    """Return the papermill command of a task, as the page prints it, run from the root."""
    words = ["papermill", f"notebooks/{task.name}.ipynb", f"book/notebooks/{task.name}.ipynb"]
    return words + (["-y", json.dumps(task.overrides)] if task.overrides else [])


def _readers_copy(task: Task, folder: Path) -> Path:
    """Write a page without what it tests about itself, its cells tagged `book_only`."""
    book = nbformat.read(task.source, as_version=4)
    book.cells = [c for c in book.cells if "book_only" not in c.metadata.get("tags", [])]
    copy = folder / task.source.name
    nbformat.write(book, copy)
    return copy


def _failure_of(notebook: Path) -> dict[str, Any]:
    """Return the cell that failed in an executed notebook: its number, first line and error."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError):
        return {"cell": None, "line": "", "error": "papermill wrote no notebook"}
    cells = [c for c in cells if c.cell_type == "code"]
    for i, cell in enumerate(cells, 1):
        for output in cell.outputs:
            if output.output_type == "error":
                text = re.sub(r"\x1b\[[0-9;]*m", "", f"{output.ename}: {output.evalue}")
                return {"cell": i, "line": cell.source.strip().split("\n")[0], "error": text}
    started = [c for c in cells if c.metadata.get("papermill", {}).get("status") == "running"]
    line = started[0].source.split("\n")[0] if started else ""
    return {"cell": None, "line": line, "error": "the kernel died"}


_running: set[subprocess.Popen[bytes]] = set()
_stopping = threading.Event()


def _kill(process: subprocess.Popen[bytes] | psutil.Process) -> None:
    """End papermill and the kernel that it started, which is in a session of its own."""
    import psutil

    try:
        parent = psutil.Process(process.pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()


def _execute(
    task: Task,
    mark: str,
    *,
    threads: int,
    limit: float,
    at_hand: dict[str, bool],
    tick: Callable[[int, int], None],
) -> dict[str, Any]:
    """Run one notebook with papermill in a process of its own, and write its record.

    `tick(done, total)` is called as cells finish; `limit` is the time limit in seconds. The
    executed copy and the record take their names only when complete; `at_hand` tells which data
    could be had. Returns the record, whose `status` is `ok` or `failed`.
    """
    part = task.executed.with_name(f".{task.executed.stem}.{os.getpid()}.part.ipynb")
    book_ledger = task.build / "ledger" / f"{task.name}.json"
    part.parent.mkdir(parents=True, exist_ok=True)
    book_ledger.unlink(missing_ok=True)
    numbers = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # What a notebook leaves behind in temporary folders goes with it, however it ends.
    scratch = tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True)
    env = {
        **os.environ,
        "TMPDIR": scratch.name,
        **{name: str(threads) for name in numbers},
        "BOOK_LEDGER": str(book_ledger),
        # Files of a reader's own run go to where it was called, those of the book's to its build.
        "BOOK_CALLER": str(Path.cwd() if task.own else task.build),
        "BOOK_OFFLINE": os.environ.get("BOOK_OFFLINE", "") if task.online else "1",
        "BOOK_SCRIPTS": "shared",
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    source = _readers_copy(task, Path(scratch.name)) if task.own else task.source
    words = [os.path.relpath(source, ROOT), str(part), *_command(task)[3:]]
    started = time.time()
    process = subprocess.Popen(
        [sys.executable, "-c", _PAPERMILL, *words, "--progress-bar", "--kernel", "python3"],
        cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    _running.add(process)
    late = threading.Event()
    timer = threading.Timer(limit, lambda: (late.set(), _kill(process)))
    timer.start()
    log = b""
    try:
        while chunk := os.read(process.stderr.fileno(), 65536):
            log = (log + chunk)[-20000:]
            if found := _BAR.findall(chunk):
                tick(int(found[-1][0]), int(found[-1][1]))
        _, code, usage = os.wait4(process.pid, 0)
    finally:
        timer.cancel()
        _running.discard(process)
        process.stderr.close()
        scratch.cleanup()
    process.returncode = os.waitstatus_to_exitcode(code)
    unit = 1 if sys.platform == "darwin" else 1024
    record = {
        "notebook": task.name,
        "profile": task.profile,
        "own": task.own,
        "digest": mark,
        "status": "ok" if process.returncode == 0 else "failed",
        "command": shlex.join(_command(task)),
        "parameters": task.parameters,
        "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss * unit / 2**20),
        "threads": threads,
        "facts": provenance.facts(task.parameters.get("seed")),
        "data": {p: at_hand[p] for p in task.prefixes},
        "claims": json.loads(book_ledger.read_text()) if book_ledger.is_file() else [],
    }
    if process.returncode == 0:
        record["executed"] = data.sha256(part)
        part.replace(task.executed)
    else:
        failed = task.build / "failed" / f"{task.name}.ipynb"
        failed.parent.mkdir(parents=True, exist_ok=True)
        record["failure"] = _failure_of(part)
        if part.is_file():
            part.replace(failed)
            record["failure"]["notebook"] = os.path.relpath(failed, ROOT)
        else:
            record["failure"]["error"] = log.decode(errors="replace").strip()[-600:]
        if late.is_set():
            told = f"it hung, or takes longer than the time limit, {limit:g} s; raise --timeout"
            record["failure"]["error"] = told
    write_atomically(task.record, json.dumps(record, indent=1, ensure_ascii=False))
    return record


def _clear(build: Path) -> None:
    """End notebooks that a killed runner left at work in a build folder, and what they wrote."""
    import psutil

    folder = build / "executed"
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if _PAPERMILL in words and any(str(folder) in w and ".part." in w for w in words):
            _kill(process)
    for part in folder.rglob(".*.part.ipynb"):
        part.unlink(missing_ok=True)


def _prefetch(tasks: list[Task]) -> dict[str, bool]:
    """Fetch the registry files that the notebooks ask for, and tell which prefixes are at hand."""
    at_hand = {}
    for prefix in sorted({p for task in tasks for p in task.prefixes}):
        at_hand[prefix] = data.available(prefix)
        if not at_hand[prefix]:
            print(f"  data: {prefix}* is unavailable; pages use data/published and say so")
    return at_hand


def _run(
    tasks: list[Task], jobs: int, *, force: bool = False, limit: float = 3600
) -> list[dict[str, Any]]:
    """Run the stale notebooks, `jobs` at a time, and return one record a task, in order.

    A failure does not stop the others. A fresh task's record has `skipped`. The cores are shared
    out among the notebooks that run at once: one alone has them all.
    """
    at_hand = _prefetch(tasks)
    marks = {task.name: digest(task, at_hand) for task in tasks}
    stale = [task for task in tasks if force or not _is_fresh(task, marks[task.name])]
    done: dict[str, dict[str, Any]] = {}
    threads = max(1, (os.cpu_count() or 1) // max(1, min(jobs, len(stale))))
    with pages.progress([task.name for task in tasks]) as show:

        def action(task: Task) -> None:
            if _stopping.is_set():
                return
            show(task.name, 0, 1, "running")
            try:
                record = _execute(
                    task, marks[task.name], threads=threads, limit=limit, at_hand=at_hand,
                    tick=lambda n, total: show(task.name, n, total, "running"),
                )  # fmt: skip
            except OSError as error:
                record = {
                    "notebook": task.name, "status": "failed", "seconds": 0.0, "peak_mib": 0,
                    "failure": {"cell": None, "line": "", "error": f"could not write: {error}"},
                }  # fmt: skip
            done[task.name] = record
            show(task.name, None, None, record["status"])

        with _interruptible(), ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(action, task) for task in stale]
            for future in futures:
                future.result()
        for task in tasks:
            if task.name not in done:
                done[task.name] = {**(site.read_record(task) or {}), "skipped": True}
                show(task.name, None, None, "unchanged")
    return [done[task.name] for task in tasks]


@contextmanager
def _interruptible() -> Any:
    """Let Ctrl-C and SIGTERM end the notebooks too: each runs in a process group of its own."""

    def stop(signum: int, frame: Any) -> None:
        _stopping.set()
        for process in list(_running):
            _kill(process)
        raise KeyboardInterrupt

    _stopping.clear()
    main = threading.current_thread() is threading.main_thread()
    old = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command `before-ft run`."""
    about = "Run the notebooks whose cells, parameters, code or data changed, in parallel."
    made = argparse.ArgumentParser(prog="before-ft run", description=about)
    made.add_argument("notebook", nargs="*", help="such as retrieval/published_tables; all if none")
    made.add_argument("--profile", default="laptop", help="smoke, laptop, paper, or a YAML file")
    made.add_argument("--jobs", type=int, default=2, help="notebooks at a time (default 2)")
    made.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="set a parameter of the notebooks named")  # fmt: skip
    made.add_argument("--book", action="store_true", help="build the html afterwards")
    made.add_argument("--force", action="store_true", help="run what has not changed, too")
    made.add_argument("--list", action="store_true", help="say what is stale, and run nothing")
    made.add_argument("--timeout", type=float, default=3600, help="seconds a notebook may take")
    made.add_argument("--build", type=Path, default=ROOT / "build", help="where results go")
    made.add_argument("--store", action="store_true",
                        help="keep the ledger of this run in data/results")  # fmt: skip
    return made


def main(words: list[str] | None = None) -> int:
    """Command line of the runner; returns 0, or 1 if a notebook failed, or 2 for a bad request."""
    from filelock import FileLock, Timeout

    options = parser()
    arguments = options.parse_args(words)
    if arguments.jobs < 1:
        options.error("--jobs must be 1 or more")
    build = arguments.build.resolve()
    try:
        extra = {name: from_here(read_yaml(value, f"-p {name}")) for name, value in arguments.p}
        every = plan(arguments.profile, (), None, build)
        tasks = plan(arguments.profile, arguments.notebook, extra, build)
    except (PlanError, data.DataError, ValueError) as error:
        print(f"Nothing was run: {error}", file=sys.stderr)
        return 2
    if arguments.list:
        at_hand = _prefetch(tasks)
        for task in tasks:
            state = "fresh" if _is_fresh(task, digest(task, at_hand)) else "stale"
            print(f"{state}  {task.name}")
        return 0
    try:
        build.mkdir(parents=True, exist_ok=True)
        with FileLock(build / "pipeline.lock", timeout=0):
            _clear(build)
            records = _run(tasks, arguments.jobs, force=arguments.force, limit=arguments.timeout)
            pages.closing_table(records)
            kept = site.publish(every, build)
            failed = [r for r in records if r.get("status") != "ok"]
            if arguments.store and not failed:
                print(f"  ledger: {claims.store(kept)}")
            if arguments.book and failed:
                print("  html: not built, because a notebook failed")
            elif arguments.book:
                site.build_html(build, whole=len(kept) == len(every))
    except Timeout:
        print(f"Nothing was run: another run is at work in {build}", file=sys.stderr)
        return 2
    except OSError as error:
        if not isinstance(error, storage.CannotWrite) and error.errno not in _UNWRITABLE:
            raise
        cure = "make room there, or choose another folder by --build"
        print(f"Stopped, and what was finished is kept: {error}; {cure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept; the same command goes on from there.")
        return 130
    return 1 if failed else 0
