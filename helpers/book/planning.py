"""What a run will do: notebooks, parameters, profiles, and the digest that tells what is stale."""

from __future__ import annotations

import ast
import fnmatch
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

from helpers import data
from helpers.book import claims
from helpers.data import ROOT
from helpers.model_files import sentence

_LOCKS = (ROOT / "requirements.txt", ROOT / "requirements-models.txt")
# The stored weights of small models.
_WEIGHTS = ROOT / "data" / "glass_box"
_NOTEBOOKS = ROOT / "notebooks"
# The packages of ours that a page can import.
_CODE = ("helpers", "experiments")
_PROFILES = _NOTEBOOKS / "parameters"
_KINDS = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict}


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
        return _NOTEBOOKS / f"{self.name}.ipynb"

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


def _discover() -> list[str]:
    """Return the names of all notebooks, such as `retrieval/published_tables`, sorted."""
    found = _NOTEBOOKS.glob("*/*.ipynb")
    return sorted(str(p.relative_to(_NOTEBOOKS).with_suffix("")) for p in found)


def _code(name: str) -> list[str]:
    cells = nbformat.read(_NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def _plain(cells: Iterable[str]) -> str:
    """Return the code of cells without those that speak to the shell or to IPython."""
    return "\n".join(code for code in cells if not code.startswith(("%", "!")))


def _parameters_of(name: str) -> dict[str, tuple[str, Any]]:
    """Return the parameters of a notebook: annotation and default, from its `parameters` cell."""
    cells = nbformat.read(_NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise PlanError(f"{name} has {len(tagged)} cells tagged `parameters`; give it one")
    found = {}
    for node in ast.parse(tagged[0].source).body:
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            raise PlanError(f"{name}, line {node.lineno} of the parameters cell: annotate it")
        found[node.target.id] = (ast.unparse(node.annotation), ast.literal_eval(node.value))
    return found


def _read_profile(profile: str) -> dict[str, dict[str, Any]]:
    """Return the overrides of a profile by notebook: a name, or the path of a YAML file."""
    if profile == "laptop":
        return {}
    path = _PROFILES / f"{profile}.yml"
    if profile.endswith((".yml", ".yaml")):
        path = Path(profile)
    if not path.is_file():
        names = ["laptop", *sorted(p.stem for p in _PROFILES.glob("*.yml"))]
        raise PlanError(f"no profile {profile!r}; there are {names}, or give the path of a file")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path.name} cannot be read ({sentence(error)})") from error
    table = read_yaml(text, path.name) or {}
    if not isinstance(table, dict) or not all(isinstance(v, dict) for v in table.values()):
        raise PlanError(f"{path.name} must map notebooks to parameters, as `part/name: {{n: 3}}`")
    if unknown := set(table) - set(_discover()):
        names = sorted(map(str, unknown))
        raise PlanError(f"{path.name} names notebooks that are not there: {names}")
    return table


def read_yaml(text: str, where: str) -> Any:
    """Return what a text of YAML says: plain values, as JSON has them too.

    Raises `PlanError` in one line, which begins with `where`, for anything else: tags, which name
    programs, aliases, which can make a short text large, dates, and what is no YAML.
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise PlanError(f"{where} has aliases (*name); write the values out")
        value = yaml.safe_load(text)
        json.dumps(value, allow_nan=False)
    except PlanError:
        raise
    except yaml.YAMLError as error:
        raise PlanError(f"{where} is not YAML that is read here: {sentence(error)}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise PlanError(
            f"{where} has values that are no text, number, list or mapping ({sentence(error)}); "
            "put them in quotes"
        ) from error
    return value


def _check(name: str, overrides: dict[str, Any], where: str) -> None:
    known = _parameters_of(name)
    for key, value in overrides.items():
        if key not in known:
            raise PlanError(f"{where}: {name} has no parameter {key!r}; it has {sorted(known)}")
        kind = known[key][0].split("[")[0]
        wanted = _KINDS.get(kind, object)
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
            raise PlanError(f"{where}: {name}: {key} wants {known[key][0]}, but got {value!r}")


def from_here(value: Any) -> Any:
    """Return a parameter with the paths in it made absolute: notebooks run in another folder.

    A text is a path where a file or folder of this name, or of this glob, is below the present
    folder, and it does not look like a plain word: it has a slash or a suffix, or holds a model or
    results.
    """
    if Path.cwd() == ROOT:
        return value
    if isinstance(value, list):
        return [from_here(each) for each in value]
    if not isinstance(value, str) or not value.strip():
        return value
    path = Path(value).expanduser()
    inside = any((path / name).is_file() for name in ("config.json", "results.json"))
    named = "/" in value or os.sep in value or path.suffix or inside
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
    table, every = _read_profile(profile), _discover()
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
        defaults = {key: value for key, (_, value) in _parameters_of(name).items()}
        changed = {**defaults, **overrides} != {**defaults, **settings}
        code = _plain(_code(name))
        tasks.append(
            Task(
                name=name,
                profile=Path(profile).stem,
                overrides=overrides,
                parameters={**defaults, **overrides},
                modules=tuple(sorted(_modules(code))),
                prefixes=_prefixes(code),
                build=build,
                online=bool(extra) or Path(profile).stem not in ("laptop", "smoke"),
                own=changed or profile.endswith((".yml", ".yaml")),
            )
        )
    return tasks


def _file(module: str) -> Path | None:
    """Return the source of a module or package of ours, or None."""
    stem = ROOT.joinpath(*module.split("."))
    return next((p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()), None)


@cache
def _exports(package: Path) -> dict[str, str]:
    """Return what a package exports lazily: name -> its module, from `lazy_loader.attach`."""
    found = {}
    for node in ast.walk(ast.parse(package.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attach"):
            given = {k.arg: ast.literal_eval(k.value) for k in node.keywords}
            inside = ".".join(package.parent.relative_to(ROOT).parts)
            for module, names in (given.get("submod_attrs") or {}).items():
                found |= dict.fromkeys(names, f"{inside}.{module}")
            found |= {name: f"{inside}.{name}" for name in given.get("submodules") or ()}
    return found


def _within(package: str, names: Iterable[str]) -> set[str]:
    """Return the modules that names taken from a package, or from a module, come from."""
    path, found = _file(package), {package}
    exports = _exports(path) if path and path.name == "__init__.py" else {}
    for name in exports if "*" in names else names:
        found.add(f"{package}.{name}" if _file(f"{package}.{name}") else exports.get(name, package))
    return found


@cache
def _imported(code: str, package: str) -> tuple[str, ...]:
    """Return the modules of ours that code inside of a package imports itself, by full name."""
    tree, found, whole = ast.parse(code), set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            inside = package.split(".")[: len(package.split(".")) + 1 - node.level]
            source = ".".join([*(inside if node.level else ()), *filter(None, [node.module])])
            if source.split(".")[0] in _CODE:
                found |= _within(source, {alias.name for alias in node.names})
                whole |= {a.asname or a.name: f"{source}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            ours = [alias for alias in node.names if alias.name.split(".")[0] in _CODE]
            found |= {alias.name for alias in ours}
            whole |= {alias.asname or alias.name: alias.name for alias in ours}
    # Of a package that is imported as a whole, what is taken by attribute counts.
    for alias, module in whole.items():
        path = _file(module)
        if path and path.name == "__init__.py":
            nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
            found |= _within(module, {n.attr for n in nodes if ast.unparse(n.value) == alias})
    parents = {m.rsplit(".", i)[0] for m in found for i in range(1, m.count(".") + 1)}
    return tuple(sorted(found | parents))


def _modules(code: str, package: str = "", seen: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """Return the files of ours that a piece of code imports, directly or through another."""
    for module in _imported(code, package):
        path = _file(module)
        if path and path not in seen:
            inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
            seen = _modules(path.read_text(), inside, seen | {path})
    return seen


def _texts(code: str) -> tuple[set[str], set[str]]:
    """Return the texts in code, and those with gaps as patterns: `f"map_{name}.csv"`, map_*.csv."""
    nodes = list(ast.walk(ast.parse(code)))
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    gaps = [[v.value if isinstance(v, ast.Constant) else "*" for v in n.values]
            for n in nodes if isinstance(n, ast.JoinedStr)]  # fmt: skip
    return texts, {"".join(parts) for parts in gaps if parts[0] != "*"}


def _code_of(task: Task) -> list[str]:
    """Return the code of a page, and of every module of ours that it hangs on."""
    return [_plain(_code(task.name)), *(path.read_text() for path in task.modules)]


def _stored_files(codes: Iterable[str]) -> list[Path]:
    """Return the stored files that pieces of code read: those that a text in them names.

    A text names a table by its name, its stem, the stem up to an underscore, or a pattern that
    begins with something fixed; and all weights by the name of their folder.
    """
    folders = tuple(tuple(sorted(folder.glob("*"))) for folder in (data.PUBLISHED, _WEIGHTS))
    return sorted({path for code in codes for path in _named(code, *folders)})


@cache
def _named(code: str, tables: tuple[Path, ...], weights: tuple[Path, ...]) -> tuple[Path, ...]:
    texts, patterns = _texts(code)
    found = list(weights) if _WEIGHTS.name in texts else []
    for path in tables:
        parts = path.stem.split("_")
        names = {path.name, path.stem, *("_".join(parts[:i]) for i in range(2, len(parts)))}
        if names & texts or any(fnmatch.fnmatchcase(path.name, p) for p in patterns):
            found.append(path)
    return tuple(found)


@cache
def _prefixes(code: str) -> tuple[str, ...]:
    """Return the registry prefixes that a notebook asks for in `data.available("...")`."""
    calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
    asked = [n for n in calls if ast.unparse(n.func) == "data.available"]
    return tuple(sorted({a.value for n in asked for a in n.args if isinstance(a, ast.Constant)}))


@lru_cache
def _file_digest(path: Path) -> str:
    return data.sha256(path)


def digest(task: Task, at_hand: dict[str, bool]) -> str:
    """Return the SHA-256 over all that determines a page: cells, parameters, helpers, data."""
    nb = nbformat.read(task.source, as_version=4)
    kept = ("tags", "mystnb")
    cells = [(c.cell_type, c.source, *(c.metadata.get(k) for k in kept)) for c in nb.cells]
    entries = [c for c in claims.load().values() if c["notebook"] == task.name]
    stored = _stored_files(_code_of(task))
    rows = {p: data.registry().loc[data.keys(p), "sha256"].tolist() for p in task.prefixes}
    parts = {
        "cells": cells,
        "parameters": task.parameters,
        "files": {
            str(p.relative_to(ROOT)): _file_digest(p) for p in (*task.modules, *stored, *_LOCKS)
        },
        "claims": entries,
        "data": [[p, at_hand.get(p, False), rows[p]] for p in task.prefixes],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
