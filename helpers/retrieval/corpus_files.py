"""The files of a corpus: what a path, a pattern or a URL means, and where a file can be cut."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from helpers.retrieval.packed import PACKED, cuts

LINES = (".jsonl", ".ndjson", ".json")
TABLES = (".parquet", ".arrow")
TEXTS = (".txt", ".text")


class Range(NamedTuple):
    """The documents of a file that begin in some of its bytes; no `stop` is the end of it."""

    file: str
    start: int = 0
    stop: int | None = None


def list_files(source: str | Path | Iterable[str | Path]) -> list[str]:
    """Return the files that a path, a glob, a folder of a dataset or an fsspec URL stands for.

    `source` may also be several of them; a file named twice is listed once. A folder must be a
    Hugging Face dataset saved to disk, of which the files of all splits are listed. Paths are
    absolute, without links. Raises `FileNotFoundError` when nothing is found and `ValueError` for
    another folder, a file of an unknown kind and a URL that cannot be opened.
    """
    one = isinstance(source, str | Path)
    if not one and (not isinstance(source, Iterable) or not (source := list(source))):
        raise ValueError(f"source is {source!r}; pass a path, a pattern, or a list of them")
    sources = [source] if one else source
    files: dict[str, None] = {}
    for one in sources:
        found = _remote_files(str(one)) if "://" in str(one) else _local_files(str(one))
        if not found:
            raise FileNotFoundError(f"no file {one}; correct the path or the pattern")
        files |= dict.fromkeys(found)
    for file in files:
        kind(file)
    return list(files)


def _local_files(pattern: str) -> list[str]:
    pattern = os.path.expanduser(pattern)
    if os.path.isdir(pattern):
        return _dataset_files(pattern)
    if os.path.exists(pattern):
        return [os.path.realpath(pattern)]
    found = []
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isfile(path):
            found.append(os.path.realpath(path))
        elif _is_dataset(path):
            found += _dataset_files(path)
    return found


def _remote_files(url: str) -> list[str]:
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
        if glob.has_magic(path):
            return [system.unstrip_protocol(name) for name in sorted(system.glob(path))]
        return [url] if system.exists(path) else []
    except Exception as error:  # systems of files raise what they like, and ask for packages
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{url} cannot be opened ({said}); pass a file on this machine") from error


def _is_dataset(folder: str) -> bool:
    return any(os.path.exists(f"{folder}/{name}.json") for name in ("dataset_dict", "state"))


def _dataset_files(folder: str) -> list[str]:
    folder = os.path.realpath(folder)
    if not _is_dataset(folder):
        raise ValueError(
            f"{folder} is a folder but no dataset saved to disk; pass a pattern such as "
            f"{folder}/*.jsonl"
        )
    if os.path.exists(f"{folder}/dataset_dict.json"):
        splits = _inside(folder, "dataset_dict.json", lambda found: found["splits"])
        return [file for split in splits for file in _dataset_files(split)]
    return _inside(
        folder, "state.json", lambda found: [file["filename"] for file in found["_data_files"]]
    )


def _inside(folder: str, name: str, names: Callable[[Any], Any]) -> list[str]:
    """Return the paths that a file of a dataset names; refuse all but those below its folder."""
    place, cure = os.path.join(folder, name), "save the dataset to disk again"
    try:
        named = names(json.loads(Path(place).read_text()))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{place} is damaged ({type(error).__name__}: {error}); {cure}") from error
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise ValueError(f"{place} does not name files as a list of texts; {cure}")
    paths = []
    for one in named:
        path = os.path.normpath(os.path.join(folder, one))
        # The file itself may be a link, as those of the hub's cache are; its folder may not.
        real = os.path.realpath(os.path.dirname(path.replace("\0", "")))
        if path == folder or "\0" in one or os.path.commonpath([folder, real]) != folder:
            raise ValueError(
                f"{place} names {one!r}, which is not inside of its folder; put the file in there, "
                "or pass its own path"
            )
        paths.append(path)
    return paths


def kind(file: str) -> str:
    """Return the ending that tells how a file is read; `ValueError` where none does."""
    name = file.lower()
    packed = next((end for end in PACKED if name.endswith(end)), "")
    ending = os.path.splitext(name.removesuffix(packed))[1]
    if ending not in (LINES + TEXTS if packed else LINES + TEXTS + TABLES):
        raise ValueError(
            f"{file} is of no kind that can be read; name it "
            f"{', '.join(LINES + TEXTS)} (also with {' or '.join(PACKED)}) or {', '.join(TABLES)}"
        )
    return ending


def split(file: str, range_size: int, unit: str) -> list[Range]:
    """Return the ranges of a file: of about `range_size` bytes or less where it can be cut.

    Cut are files on this machine: lines of JSON and of text, zstd archives of several frames, and
    Parquet by row groups.
    """
    ending = kind(file)
    whole = ending == ".arrow" or (ending in TEXTS and unit == "file")
    starts = [0] if whole else cuts(file, range_size)
    return [Range(file, *ends) for ends in zip(starts, [*starts[1:], None], strict=True)]
