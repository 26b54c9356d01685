"""Processes that tests start; where they can be forked, the libraries are imported already."""

import multiprocessing
import os
import sys

from helpers.data import ROOT

# A forked process has none of the threads of OpenMP, and would wait for them for ever.
ALONE = os.environ.get("OMP_NUM_THREADS") == "1"
START = "fork" if sys.platform == "linux" and ALONE else "spawn"
PROCESSES = multiprocessing.get_context(START)


def _act(action, words):
    sys.exit(action(*words))


def begin(action, *words):
    """Start a process that calls a function of a module and exits with what it returns."""
    process = PROCESSES.Process(target=_act, args=(action, words))
    process.start()
    return process


def end(process, timeout=600):
    """Wait for a process, and return its exit status: None where it is still at work."""
    process.join(timeout)
    return process.exitcode


def page(name, given):
    """Run the code of a page as a kernel of Jupyter does, with parameters of one's own."""
    import nbformat
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def enable_gui(self, gui=None):
            """Show figures inline: there are no windows."""

    os.chdir(ROOT)
    shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_line_magic("matplotlib", "inline")
    for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            shell.run_cell(cell.source).raise_error()
            if "parameters" in cell.metadata.get("tags", []):
                shell.user_ns.update(given)
