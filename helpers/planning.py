"""What a run will do: notebooks, parameters, profiles, and the digest that tells what is stale."""

from __future__ import annotations

import ast
import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import nbformat
import yaml

from helpers import claims, data
from helpers.data import ROOT

LOCKS = (ROOT / "requirements.txt", ROOT / "requirements-models.txt")
# The module that reads the stored weights of data/glass_box.
GLASS_BOX = ROOT / "helpers" / "glass_box_runs.py"
NOTEBOOKS = ROOT / "notebooks"
PROFILES = NOTEBOOKS / "parameters"
KINDS = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict}


class PlanError(ValueError):
    """The run cannot start: an unknown notebook or parameter, or a profile that is not right."""


@dataclass(frozen=True)
class Task:
    """One notebook to run: its name, overrides and all parameters, and what it depends on."""

    name: str
    profile: str
    overrides: dict[str, Any]
    parameters: dict[str, Any]
    modules: tuple[Path, ...]
    prefixes: tuple[str, ...]
    build: Path
    # The book's own runs read nothing but what was fetched before; others may ask the model hub.
    online: bool = False
    # With parameters of the reader's own, whose results are no results of the book.
    own: bool = False

    @property
    def source(self) -> Path:
        """The notebook without outputs."""
        return NOTEBOOKS / f"{self.name}.ipynb"

    @property
    def executed(self) -> Path:
        """What papermill wrote."""
        return self.build / "executed" / f"{self.name}.ipynb"

    @property
    def record(self) -> Path:
        """The record of its last run."""
        return self.build / "records" / f"{self.name}.json"

    @property
    def page(self) -> Path:
        """The executed copy, with its box, that the book shows."""
        return book_source(self.build) / "notebooks" / f"{self.name}.ipynb"


def book_source(build: Path) -> Path:
    """Return the folder that Jupyter Book reads: `book/`, or a staged copy for another build."""
    return ROOT / "book" if build == ROOT / "build" else build / "book"


def discover() -> list[str]:
    """Return the names of all notebooks, such as `retrieval/published_tables`, sorted."""
    found = NOTEBOOKS.glob("*/*.ipynb")
    return sorted(str(p.relative_to(NOTEBOOKS).with_suffix("")) for p in found)


def _code(name: str) -> list[str]:
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def parameters_of(name: str) -> dict[str, tuple[str, Any]]:
    """Return the parameters of a notebook: annotation and default, from its `parameters` cell."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise PlanError(f"{name} has {len(tagged)} cells tagged `parameters`; give it one")
    found = {}
    for node in ast.parse(tagged[0].source).body:
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            raise PlanError(f"{name}, line {node.lineno} of the parameters cell: annotate it")
        found[node.target.id] = (ast.unparse(node.annotation), ast.literal_eval(node.value))
    return found


def read_profile(profile: str) -> dict[str, dict[str, Any]]:
    """Return the overrides of a profile by notebook: a name, or the path of a YAML file."""
    if profile == "laptop":
        return {}
    path = PROFILES / f"{profile}.yml"
    if profile.endswith((".yml", ".yaml")):
        path = Path(profile)
    if not path.is_file():
        names = ["laptop", *sorted(p.stem for p in PROFILES.glob("*.yml"))]
        raise PlanError(f"no profile {profile!r}; there are {names}, or give the path of a file")
    try:
        table = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise PlanError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(v, dict) for v in table.values()):
        raise PlanError(f"{path.name} must map notebooks to parameters, as `part/name: {{n: 3}}`")
    if unknown := set(table) - set(discover()):
        raise PlanError(f"{path.name} names notebooks that are not there: {sorted(unknown)}")
    return table


def _check(name: str, overrides: dict[str, Any], where: str) -> None:
    known = parameters_of(name)
    for key, value in overrides.items():
        if key not in known:
            raise PlanError(f"{where}: {name} has no parameter {key!r}; it has {sorted(known)}")
        kind = known[key][0].split("[")[0]
        wanted = KINDS.get(kind, object)
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
            raise PlanError(f"{where}: {name}: {key} wants {known[key][0]}, but got {value!r}")


def from_here(value: Any) -> Any:
    """Return a parameter with the paths in it made absolute: notebooks run in another folder.

    A text is a path where a file or folder of this name, or of this glob, is below the present
    folder, and it does not look like a plain word: it has a slash, a suffix or a config.json.
    """
    if Path.cwd() == ROOT:
        return value
    if isinstance(value, list):
        return [from_here(each) for each in value]
    if not isinstance(value, str) or not value.strip():
        return value
    path = Path(value).expanduser()
    named = "/" in value or os.sep in value or path.suffix or (path / "config.json").is_file()
    there = path.exists() or ("*" in value and bool(glob.glob(str(path), recursive=True)))
    return str(path.absolute()) if named and there else value


def plan(
    profile: str = "laptop",
    names: Iterable[str] = (),
    extra: dict[str, Any] | None = None,
    build: Path = ROOT / "build",
) -> list[Task]:
    """Return the tasks of a run, or raise `PlanError` before anything runs.

    `names` are notebooks (none means all), as `part/name` or as the path of the source; `extra`
    are parameters set for every one of them, over those of the profile.
    """
    table, every = read_profile(profile), discover()
    chosen = [re.sub(r"^(\./)?notebooks/|\.ipynb$", "", name) for name in names] or every
    if unknown := [name for name in chosen if name not in every]:
        raise PlanError(f"no notebook {unknown}; there are {every}")
    for name, overrides in table.items():
        _check(name, overrides, f"profile {profile}")
    tasks = []
    for name in dict.fromkeys(chosen):
        _check(name, extra or {}, "-p")
        settings = table.get(name, {})
        if profile.endswith((".yml", ".yaml")):
            settings = {key: from_here(value) for key, value in settings.items()}
        overrides = {**settings, **(extra or {})}
        defaults = {key: value for key, (_, value) in parameters_of(name).items()}
        changed = {**defaults, **overrides} != {**defaults, **settings}
        code = "\n".join(c for c in _code(name) if not c.startswith(("%", "!")))
        tasks.append(
            Task(
                name=name,
                profile=Path(profile).stem,
                overrides=overrides,
                parameters={**defaults, **overrides},
                modules=tuple(sorted(_modules(code))),
                prefixes=tuple(_prefixes(code)),
                build=build,
                online=bool(extra) or Path(profile).stem not in ("laptop", "smoke"),
                own=changed or profile.endswith((".yml", ".yaml")),
            )
        )
    return tasks


@cache
def _imported(code: str) -> tuple[str, ...]:
    """Return the names of the helper modules that a piece of code imports itself."""
    wanted: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            wanted.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            wanted |= {a.name.split(".")[1] for a in node.names if a.name.startswith("helpers.")}
    return tuple(sorted(wanted))


def _modules(code: str, seen: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """Return the helper modules that a piece of code imports, directly or through another."""
    for path in (ROOT / "helpers" / f"{name}.py" for name in _imported(code)):
        if path.is_file() and path not in seen:
            seen = _modules(path.read_text(), seen | {path})
    return seen


def _prefixes(code: str) -> list[str]:
    """Return the registry prefixes that a notebook asks for in `data.available("...")`."""
    calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
    asked = [n for n in calls if ast.unparse(n.func) == "data.available"]
    return sorted({a.value for n in asked for a in n.args if isinstance(a, ast.Constant)})


@lru_cache
def _file_digest(path: Path) -> str:
    return data.sha256(path)


def digest(task: Task, at_hand: dict[str, bool]) -> str:
    """Return the SHA-256 over all that determines a page: cells, parameters, helpers, data."""
    nb = nbformat.read(task.source, as_version=4)
    kept = ("tags", "mystnb")
    cells = [(c.cell_type, c.source, *(c.metadata.get(k) for k in kept)) for c in nb.cells]
    entries = [c for c in claims.load().values() if c["notebook"] == task.name]
    folders = [data.PUBLISHED]
    # Stored weights matter to those pages alone that can read them.
    if GLASS_BOX in task.modules:
        folders.append(ROOT / "data" / "glass_box")
    stored = sorted(p for folder in folders for p in folder.rglob("*") if p.is_file())
    rows = {p: data.registry().loc[data.keys(p), "sha256"].tolist() for p in task.prefixes}
    parts = {
        "cells": cells,
        "parameters": task.parameters,
        "files": {
            str(p.relative_to(ROOT)): _file_digest(p) for p in (*task.modules, *stored, *LOCKS)
        },
        "claims": entries,
        "data": [[p, at_hand.get(p, False), rows[p]] for p in task.prefixes],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
