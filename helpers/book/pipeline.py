"""Parameters -> papermill -> executed notebooks -> html, in parallel; only what has changed."""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import re
import shlex
import shutil
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
from helpers.book import claims, pages
from helpers.book.planning import PlanError, Task, book_source, digest, from_here, plan, read_yaml
from helpers.data import ROOT, write_atomically

if TYPE_CHECKING:
    import psutil

# What the system says where nothing can be written: a full or read-only disk, no folder, no right.
UNWRITABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR
}  # fmt: skip
BAR = re.compile(rb"(\d+)/(\d+) \[")
# Papermill without the grammar of international addresses, whose import takes a second of CPU for
# each notebook; jsonschema does without it.
PAPERMILL = """
import sys
sys.modules["rfc3987_syntax"] = None
from papermill.cli import papermill
papermill()
"""


def _read_record(task: Task) -> dict[str, Any] | None:
    """Return the record of the last run of a notebook, or None if there is none to read."""
    try:
        return json.loads(task.record.read_text())
    except (OSError, json.JSONDecodeError):
        return None


def _is_fresh(task: Task, mark: str) -> bool:
    """Tell whether the executed notebook at hand was made from exactly this digest."""
    record = _read_record(task)
    if not (record and record.get("status") == "ok" and record.get("digest") == mark):
        return False
    return task.executed.is_file() and data.sha256(task.executed) == record.get("executed")


def _command(task: Task) -> list[str]:
    """Return the papermill command of a task, as the page prints it, run from the root."""
    words = ["papermill", f"notebooks/{task.name}.ipynb", f"book/notebooks/{task.name}.ipynb"]
    return words + (["-y", json.dumps(task.overrides)] if task.overrides else [])


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
    words = [os.path.relpath(task.source, ROOT), str(part), *_command(task)[3:]]
    started = time.time()
    process = subprocess.Popen(
        [sys.executable, "-c", PAPERMILL, *words, "--progress-bar", "--kernel", "python3"],
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
            if found := BAR.findall(chunk):
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
        if PAPERMILL in words and any(str(folder) in w and ".part." in w for w in words):
            _kill(process)
    for part in folder.rglob(".*.part.ipynb"):
        part.unlink(missing_ok=True)


def _prefetch(tasks: list[Task]) -> dict[str, bool]:
    """Fetch the registry files that the notebooks ask for, and tell which prefixes are at hand."""
    at_hand = {}
    for prefix in sorted({p for task in tasks for p in task.prefixes}):
        at_hand[prefix] = data.available(prefix)
        if not at_hand[prefix]:
            print(f"  data: {prefix}* cannot be had; pages work from data/published and say so")
    return at_hand


def run(
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
                done[task.name] = {**(_read_record(task) or {}), "skipped": True}
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


def publish(tasks: list[Task], build: Path) -> list[dict[str, Any]]:
    """Put the executed notebooks, each with its box, and the generated pages into the book.

    Returns the records of all notebooks that have an executed copy under `build`.
    """
    source = book_source(build)
    if source != ROOT / "book":
        hide = shutil.ignore_patterns("notebooks", "_generated", "__pycache__")
        shutil.copytree(ROOT / "book", source, ignore=hide, dirs_exist_ok=True)
    records, pictures, leads = [], {}, {}
    for task in tasks:
        record = _read_record(task)
        if record is None or record["status"] != "ok" or not task.executed.is_file():
            continue
        nb = nbformat.read(task.executed, as_version=4)
        if task.name in pages.COVER and not record.get("own"):
            pictures[task.name] = pages.picture(task.name, nb, pages.COVER[task.name])
        lead = nb.cells[1]
        if "in-short" in lead.metadata.get("tags", []):
            leads[task.name] = pages.picture(task.name, nb, lead.metadata["figure"])
            nb.cells[1] = pages.in_short(lead, leads[task.name])
        nb.cells.insert(2, pages.box(record))
        pages.fold(nb)
        nb.metadata["before_fine_tuning"] = {"digest": record["digest"]}
        nb.metadata.get("papermill", {}).pop("output_path", None)
        _write_if_changed(task.page, nbformat.writes(nb))
        records.append(record)
    outside = {n: (ROOT / n).read_text() for n in ("CONTRIBUTING.md", "CHANGELOG.md")}
    shown = [pictures[name] for name in pages.COVER if pictures.get(name)]
    outside["cover.md"] = pages.cover(shown)
    for name, text in {**pages.generated(records), **outside}.items():
        _write_if_changed(source / "_generated" / name, text)
    for found in filter(None, [*shown, *leads.values()]):
        _write_if_changed(source / "_generated" / f"{found.name}.png", found.png)
    return records


def _write_if_changed(path: Path, content: str | bytes) -> None:
    new = content.encode() if isinstance(content, str) else content
    if not path.is_file() or path.read_bytes() != new:
        with storage.whole(path) as part:
            part.write_bytes(new)


def _build_site(build: Path, *, whole: bool = True) -> Path:
    """Build the html with Jupyter Book unless nothing changed, and return its folder.

    Warnings are errors in the `whole` book. Where pages have not been run, links to them are dead.
    """
    source, html = book_source(build), build / "html"
    skip = {"__pycache__", ".ipynb_checkpoints"}
    files = [p for p in source.rglob("*") if p.is_file() and not skip & set(p.parts)]
    files += [ROOT / "_config.yml", ROOT / "requirements.txt"]
    files += (ROOT / "helpers").rglob("*.py")  # their docstrings are the reference
    text = "".join(f"{p}{data.sha256(p)}" for p in sorted(files))
    mark, stamp = hashlib.sha256(text.encode()).hexdigest(), build / "html.digest"
    if html.is_dir() and stamp.is_file() and stamp.read_text() == mark:
        print(f"  html: unchanged, {html / 'index.html'}")
        return html
    stamp.unlink(missing_ok=True)
    words = [str(Path(sys.executable).parent / "jupyter-book"), "build", str(source)]
    words += ["--config", "_config.yml", "--path-output", str(build / "site")]
    words += ["-W", "-n", "--keep-going"] if whole else ["--keep-going"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        told = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).split("\n")
        named = [line for line in told if re.search("WARNING|ERROR|Error", line)]
        print("\n".join(dict.fromkeys(named or told[-40:])))
        raise SystemExit("The book did not build; the warnings above name file and line.")
    shutil.rmtree(html, ignore_errors=True)
    shutil.copytree(build / "site" / "_build" / "html", html)
    write_atomically(stamp, mark)
    print(f"  html: {html / 'index.html'}{'' if whole else ', without pages that were not run'}")
    return html


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m helpers run", description=__doc__)
    parser.add_argument(
        "notebook", nargs="*", help="such as retrieval/published_tables; all if none"
    )
    parser.add_argument("--profile", default="laptop", help="smoke, laptop, paper, or a YAML file")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (default 2)")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="set a parameter of the notebooks named")  # fmt: skip
    parser.add_argument("--book", action="store_true", help="build the html afterwards")
    parser.add_argument("--force", action="store_true", help="run what has not changed, too")
    parser.add_argument("--list", action="store_true", help="say what is stale, and run nothing")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds a notebook may take")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where results go")
    parser.add_argument("--store", action="store_true",
                        help="keep the ledger of this run in data/results")  # fmt: skip
    arguments = parser.parse_args(words)
    if arguments.jobs < 1:
        parser.error("--jobs must be 1 or more")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Command line of the runner; returns 0, or 1 if a notebook failed, or 2 for a bad request."""
    from filelock import FileLock, Timeout

    arguments = _arguments(words)
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
            records = run(tasks, arguments.jobs, force=arguments.force, limit=arguments.timeout)
            pages.closing_table(records)
            kept = publish(every, build)
            failed = [r for r in records if r.get("status") != "ok"]
            if arguments.store and not failed:
                print(f"  ledger: {claims.store(kept)}")
            if arguments.book and failed:
                print("  html: not built, because a notebook failed")
            elif arguments.book:
                _build_site(build, whole=len(kept) == len(every))
    except Timeout:
        print(f"Nothing was run: another run is at work in {build}", file=sys.stderr)
        return 2
    except OSError as error:
        if not isinstance(error, storage.CannotWrite) and error.errno not in UNWRITABLE:
            raise
        cure = "make room there, or choose another folder by --build"
        print(f"Stopped, and what was finished is kept: {error}; {cure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept; the same command goes on from there.")
        return 130
    return 1 if failed else 0
