"""Kernels and papermill that start with their libraries already imported, for the smoke runs.

Importing torch, transformers, scikit-learn and the rest costs each of forty notebooks four seconds
of CPU, and papermill half a second. `Nursery` imports them once and forks a process for every
kernel that Jupyter starts and every papermill that the runner starts; each has its own environment,
folder, memory and end, and kernels import the helpers themselves. Where a process cannot be forked
safely (macOS), both start as always.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

# Not matplotlib's inline backend: it must be imported where the shell is, or no figure is shown.
LIBRARIES = (
    "ipykernel.kernelapp", "ipykernel.debugger", "IPython.core.history", "matplotlib.pyplot",
    "pandas.io.formats.style", "pooch", "requests",
    "seaborn", "scipy.optimize", "scipy.stats",
    "sklearn.discriminant_analysis", "sklearn.ensemble", "sklearn.linear_model",
    "sklearn.manifold", "sklearn.model_selection", "sklearn.neural_network", "sklearn.pipeline",
    "statsmodels.formula.api", "faiss", "torch", "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama",
    "transformers.generation.utils", "transformer_ranker", "pyarrow.parquet", "gguf",
)  # fmt: skip


class Nursery:
    """Start kernels named `python3` warm, for processes that get `environment`; then end it.

    `papermill` is what a runner starts instead of the script given, which begins as that ends.
    """

    def __init__(self, folder: Path, papermill: str) -> None:
        self.environment: dict[str, str] = {}
        self.papermill = papermill
        self._processes: list[subprocess.Popen[bytes]] = []
        if sys.platform != "linux":
            return
        place = folder / "socket"
        spec = folder / "kernels" / "python3"
        spec.mkdir(parents=True)
        argv = [sys.executable, "-I", "-S", __file__, "kernel", str(place), "-f"]
        argv.append("{connection_file}")
        text = {"argv": argv, "display_name": "Python 3 (ipykernel)", "language": "python"}
        (spec / "kernel.json").write_text(json.dumps(text))
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        inline = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONHASHSEED": "0"}
        inline["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
        self._begin(str(place), environment={**os.environ, **one, **inline})
        desk = str(folder / "papermill")
        self._begin(desk, papermill, environment=dict(os.environ))
        self.environment = {"JUPYTER_PATH": str(folder)}
        self.papermill = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import warm_kernel; "
            f"sys.exit(warm_kernel.ask({desk!r}, *sys.argv[1:]))"
        )

    def _begin(self, *words: str, environment: dict[str, str]) -> None:
        words = (sys.executable, "-P", __file__, "nursery", *words)
        self._processes.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE))
        if self._processes[-1].stdout.readline() != b"ready\n":
            raise RuntimeError("the nursery did not start")

    def end(self) -> None:
        """End the nursery; its kernels have ended with their notebooks."""
        for process in self._processes:
            process.terminate()
            process.wait()
            process.stdout.close()


def nursery(place: str, script: str = "") -> None:
    """Import the libraries and fork a keeper, with its process, for every connection.

    Processes are kernels; with a script they run its last line, the others having been run once.
    """
    import importlib

    action = launch
    if script:
        start, last = script.strip().rsplit("\n", 1)
        names: dict[str, object] = {"__name__": "__main__"}
        exec(start, names)
        action = partial(exec, last, names)
    else:
        for name in LIBRARIES:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # Collections in the kernels leave the libraries' objects alone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        print("ready", flush=True)
        while True:
            if select.select([server], [], [], 0.5)[0]:
                connection, _ = server.accept()
                if not os.fork():
                    server.close()
                    keep(connection, action)
                connection.close()
            # Waiting for them adds their CPU time to ours, and so to that of the tests.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def keep(connection: socket.socket, action: Callable[[], None]) -> None:
    """Fork the process asked for, tell its number and its end; kill it if nobody waits."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    text, files, _, _ = socket.recv_fds(connection, 2**20, 3)
    asked = json.loads(text)
    child = os.fork()
    if not child:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        tempfile.tempdir = None
        sys.argv = ["launcher", *asked["words"]]
        leave(action)
    connection.sendall(f"{child}\n".encode())
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        if select.select([connection], [], [], 0.1)[0] and not connection.recv(1):
            import psutil

            from helpers.book import pipeline

            pipeline._kill(psutil.Process(child))


def leave(action: Callable[[], None]) -> None:
    """Do what a forked process is for, and end it as Python ends one, but for what is not ours."""
    status = 0
    try:
        action()
    except SystemExit as asked:
        status = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def launch() -> None:
    """Be a kernel."""
    from ipykernel import kernelapp

    if "BOOK_LEDGER" in os.environ:
        listen(Path(os.environ["BOOK_LEDGER"]).with_suffix(".seen"))
    kernelapp.launch_new_instance()


def listen(place: Path) -> None:
    """Write every module that is imported, and every file that is opened, as a line of a file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hear(event: str, words: tuple) -> None:
        if event in ("import", "open") and isinstance(words[0], str | os.PathLike):
            os.write(file, f"{event} {os.fspath(words[0])}\n".encode())

    sys.addaudithook(hear)


def ask(place: str, *words: str) -> int:
    """Ask the nursery for a process, pass signals on to it, and return its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        environment = {k: v for k, v in os.environ.items() if k != "JPY_PARENT_PID"}
        asked = {"environment": environment, "folder": os.getcwd(), "words": words}
        socket.send_fds(connection, [json.dumps(asked).encode()], [0, 1, 2])
        number = b""
        while not number.endswith(b"\n"):
            number += connection.recv(1)
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, lambda sign, _: os.kill(int(number), sign))
        return abs(int(connection.recv(16) or b"1"))


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    sys.exit({"nursery": nursery, "kernel": ask}[kind](*words))
