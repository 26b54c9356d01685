"""Files that are not in the repository: registry, cache, mirror, download, checksums."""

from __future__ import annotations

import hashlib
import html
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from helpers import storage

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = ROOT / "data" / "registry.tsv"
PUBLISHED = ROOT / "data" / "published"

# A text file that no reader and no kill meets half of.
write_atomically = storage.write_text

_verified: dict[Path, tuple[int, int, str]] = {}
_unreachable: dict[str, str] = {}


class DataError(RuntimeError):
    """A registry file cannot be had; the message names the key, the URL, the size and the cure."""


@lru_cache
def registry(path: Path | None = None) -> pd.DataFrame:
    """Return the registry as a frame indexed by key: `bytes`, `sha256`, `url`, `licence`."""
    return pd.read_csv(path or REGISTRY, sep="\t", dtype={"bytes": "int64"}).set_index("key")


def cache_folder() -> Path:
    """Return the folder of downloaded files: `BOOK_DATA_CACHE`, or the system's cache folder."""
    import pooch

    return Path(os.environ.get("BOOK_DATA_CACHE") or pooch.os_cache("before-fine-tuning"))


def kept(name: str, made_of: Sequence[Any], make: Callable[[], Any]) -> Any:
    """Return what `make` returns, which JSON can hold, from the cache if it was made before.

    `made_of` is all that determines it: paths stand for their contents, such as the code that makes
    it, other values for themselves. A damaged file is made anew, and where the cache cannot be
    written nothing is kept.
    """
    parts = [sha256(each) if isinstance(each, Path) else each for each in made_of]
    path = cache_folder() / "made" / f"{name}-{storage.digest(parts)[:16]}.json"
    found = storage.stored(path)
    if found is None:
        found = make()
        with suppress(storage.CannotWrite):
            storage.store(path, found)
    return found


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, reading it in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fault(path: Path, size: int, digest: str) -> str | None:
    """Say what is wrong with a file, or None; a file seen before is not read twice."""
    stat = path.stat()
    if stat.st_size != size:
        return f"it has {stat.st_size:,} bytes, not {size:,}"
    mark = (stat.st_mtime_ns, stat.st_size, digest)
    if _verified.get(path) != mark:
        found = sha256(path)
        if found != digest:
            return f"its sha256 is {found}, not {digest}"
        _verified[path] = mark
    return None


def _error(key: str, row: pd.Series, reason: str) -> DataError:
    return DataError(
        f"{key}: {reason}.\n"
        f"  URL     {row.url}\n"
        f"  size    {row.bytes:,} bytes, sha256 {row.sha256}\n"
        f"  by hand save that URL as {cache_folder() / key},\n"
        f"          or set BOOK_DATA_MIRROR to a folder that holds it at {key}"
    )


def _download(key: str, row: pd.Series, target: Path, progress: bool) -> None:
    """Fetch one URL into the cache; pooch verifies it before the file takes its name."""
    import pooch
    import requests

    host = urlsplit(row.url).netloc
    if os.environ.get("BOOK_OFFLINE"):
        raise _error(key, row, "not in the cache, and BOOK_OFFLINE forbids the network")
    if host in _unreachable:
        raise _error(key, row, _unreachable[host])
    pooch.get_logger().setLevel("WARNING")
    target.parent.mkdir(parents=True, exist_ok=True)
    timeout = float(os.environ.get("BOOK_DATA_TIMEOUT", "20"))
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=timeout)
    try:
        known = f"sha256:{row.sha256}"
        pooch.retrieve(row.url, known, target.name, target.parent, downloader=downloader)
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else "an error"
        raise _error(key, row, f"the server answered {code}") from None
    except (requests.ConnectionError, requests.ConnectTimeout):
        _unreachable[host] = f"no connection to {host}"
        raise _error(key, row, _unreachable[host]) from None
    except requests.RequestException as error:
        raise _error(key, row, f"the download broke off ({type(error).__name__})") from error
    except ValueError as error:
        raise _error(key, row, "the file that the URL serves has another sha256") from error
    except OSError as error:
        raise _error(key, row, f"it could not be written ({error})") from error


def fetch(key: str, *, progress: bool | None = None, table: pd.DataFrame | None = None) -> Path:
    """Return the verified local path of a registry file: cache, then mirror, then download.

    `key` is a line of `data/registry.tsv`. The mirror is the folder in `BOOK_DATA_MIRROR`;
    `BOOK_OFFLINE=1` forbids the network. A file in the cache that fails its checksum is fetched
    anew; one in the mirror is an error, for somebody put it there. `progress` shows a bar on
    stderr, by default in a terminal and in a notebook that is run by hand. Two processes may
    fetch one key at once. Raises `DataError`, naming the key, the URL, the size and the cure.

    >>> from helpers.data import fetch
    >>> fetch("nowhere.csv")
    Traceback (most recent call last):
        ...
    helpers.data.DataError: 'nowhere.csv' is no key of data/registry.tsv; add a line for it there
    """
    from filelock import FileLock

    rows = registry() if table is None else table
    if key not in rows.index:
        raise DataError(f"{key!r} is no key of data/registry.tsv; add a line for it there")
    row = rows.loc[key]
    target = cache_folder() / key
    if target.is_file() and _fault(target, row.bytes, row.sha256) is None:
        return target
    if mirror := os.environ.get("BOOK_DATA_MIRROR"):
        source = Path(mirror).expanduser() / key
        if source.is_file():
            if fault := _fault(source, row.bytes, row.sha256):
                raise _error(key, row, f"the mirror's file {source} is not the one meant: {fault}")
            return source
    if progress is None:
        by_hand = "ipykernel" in sys.modules and "BOOK_LEDGER" not in os.environ
        progress = sys.stderr.isatty() or by_hand
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock")
        with lock:
            if not (target.is_file() and _fault(target, row.bytes, row.sha256) is None):
                _download(key, row, target, progress)
    except OSError as error:
        raise _error(key, row, f"the cache {target.parent} cannot be written ({error})") from error
    return target


def keys(*prefixes: str) -> list[str]:
    """Return the registry keys that begin with one of the prefixes; an unknown one is an error."""
    names = registry().index
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise DataError(f"no key of data/registry.tsv begins with {prefix!r}")
    return [name for name in names if name.startswith(prefixes)]


def available(*prefixes: str) -> bool:
    """Tell whether every registry file whose key begins with a prefix can be had, fetching it."""
    try:
        for key in keys(*prefixes):
            fetch(key)
    except DataError:
        return False
    return True


def unavailable_note(what: str, consequence: str) -> None:
    """Show a visible warning on the page: which files are missing, and what that leaves out."""
    from IPython.display import HTML, display

    display(
        HTML(
            '<div class="admonition warning"><p class="admonition-title">Not recomputed here</p>'
            f"<p>Unavailable when this page was made: {html.escape(what[:1].lower() + what[1:])}. "
            f"{html.escape(consequence)}</p></div>"
        )
    )
