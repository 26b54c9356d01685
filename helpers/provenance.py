"""Where a number comes from: commit, versions, hardware, seed, data."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

import pandas as pd
from pandas.io.formats.style import Styler

from helpers import escaping
from helpers.data import ROOT

_PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn", "statsmodels", "torch", "faiss-cpu")
# What a result on a reader's model depends on, too.
MODELS = (*_PACKAGES, "transformers", "tokenizers", "gguf")


@lru_cache
def commit() -> str:
    """Return the commit of the working tree, with `+changes` when it is not clean."""
    try:
        run = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], **run).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], **run
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return head + ("+changes" if dirty else "")


@lru_cache
def hardware() -> str:
    """Return processor, cores, memory and accelerator in one line."""
    import psutil

    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next((x.split(":")[1].strip() for x in file if x.startswith("model name")), name)
    except OSError:
        pass
    memory = psutil.virtual_memory().total / 2**30
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {_accelerator()}"


def _accelerator() -> str:
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return "no GPU"
    return ", ".join(sorted({name for name in names if name})) or "no GPU"


def versions(packages: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Return the installed version of each package; one that is absent reads `not installed`."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def facts(seed: int | None = None) -> dict[str, str]:
    """Return what a ledger row and a page's box say about the run they come from."""
    return {
        "commit": commit(),
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
        "hardware": hardware(),
        "system": f"{platform.system()} {platform.machine()}",
        "seed": "none drawn" if seed is None else str(seed),
    }


def table(seed: int | None = None, data: list[str] | None = None) -> Styler:
    """Return the closing table of a notebook: commit, versions, hardware, seed and data used.

    `data` lists registry prefixes; each row tells how many files there are and one digest over
    their SHA-256 sums, so that two pages can be seen to rest on the same bytes.
    """
    import hashlib

    from helpers import data as store

    rows = dict(facts(seed))
    for prefix in data or []:
        names = store.keys(prefix)
        if store.available(prefix):
            sums = "".join(store.registry().loc[names, "sha256"])
            state = f"{len(names)} files, digest {hashlib.sha256(sums.encode()).hexdigest()[:12]}"
        else:
            state = "unavailable: used data/published instead"
        rows[f"data {prefix}"] = state
    frame = pd.DataFrame({"value": rows}).rename_axis("item")
    return escaping.styled(frame).set_properties(**{"text-align": "left", "white-space": "normal"})
