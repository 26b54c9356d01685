"""The Hugging Face hub: whether it may be asked and answers, and the files of a model on it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from helpers import data, model_files
from helpers.model_files import Refusal, first_line

_SUBFOLDERS = ["*/*"]
_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_SUM = re.compile("[0-9a-f]{64}")
_FOLDER = "pass a folder where the model was saved, or try again where the hub can be reached"


class _Listing(NamedTuple):
    """What the hub's index says of a model: file -> bytes, and the number of its weights.

    `parameters` is None where the index does not have it; `sums` has the SHA-256 of large files.
    """

    sizes: dict[str, int]
    parameters: int | None
    sums: dict[str, str]


def is_closed(local: Path | None) -> bool:
    """Tell whether only files at hand are read: a folder's, or any where the hub is out of reach.

    It is out of reach under `BOOK_OFFLINE`, and when it is silent.
    """
    return local is not None or bool(os.environ.get("BOOK_OFFLINE")) or bool(silence())


def silence() -> str:
    """Return why the hub gives no answer, or "" when it does, or HF_HUB_OFFLINE lets nobody ask.

    Any answer within `BOOK_DATA_TIMEOUT` seconds (20) will do, and holds for a minute. The hub's
    own client is not asked: where a server is silent it tries for many minutes.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return ""
    return _silence(constants.ENDPOINT, _timeout(), int(time.monotonic() // 60))


def _timeout() -> float:
    return float(os.environ.get("BOOK_DATA_TIMEOUT", "20"))


@lru_cache(maxsize=1)
def _silence(endpoint: str, timeout: float, minute: int) -> str:
    import requests

    try:
        requests.head(endpoint, timeout=timeout).close()
    except requests.Timeout:
        return f"{endpoint} did not answer within {timeout:g} s, and it was not downloaded before"
    except requests.RequestException:
        return f"no connection to {endpoint}, and it was not downloaded before"
    return ""


def _split(name: str) -> tuple[str, str | None]:
    """Return the name of a model on the hub, and what follows an @ in it: its revision, or None."""
    model, _, revision = name.partition("@")
    return model, revision or None


def pinned(name: str) -> str:
    """Return the name of a model with the commit that it stands for now, as `model@commit`.

    `name` may end in `@revision`: a branch, a tag or a commit; "main" otherwise. Where the hub may
    not or cannot be asked, the commit is that of the last time. Raises `model_files.Refusal` when
    the hub does not have it, or was never asked.
    """
    with _asking(name):
        return f"{_split(name)[0]}@{_pinned(name).resolved}"


def small_files(name: str) -> Path:
    """Return a folder with the configuration and the tokenizer of a model on the hub.

    Raises `model_files.Refusal` when they cannot be had.
    """
    with _asking(name):
        return _snapshot(name, _pinned(name), model_files.SMALL)


def listing(name: str) -> _Listing:
    """Ask the hub's index for the files of a model, and how many weights are in them.

    Raises `model_files.Refusal` when the hub cannot be asked.
    """
    with _asking(name):
        return _listing(name, _pinned(name))


def folder(name: str, *, allow_bin: bool = False, dtype: str = "float32") -> Path:
    """Return a folder with all files of a model that loading needs, downloaded where they are not.

    Before weights are fetched their size, in numbers of type `dtype`, is compared with the memory
    that is free, and that of the files with the disk.
    Only safetensors are fetched, or with `allow_bin` the files of pickles where there are no
    others. A download that was broken off goes on where it stood. What was fetched before is taken
    without asking, where the hub may not or cannot be asked, or `name` ends in `@` and a whole
    commit. Raises `model_files.Refusal` with the cure.
    """
    with _asking(name):
        pinned = _pinned(name)
        place = _snapshot(name, pinned, model_files.SMALL)
        if model_files.complete(place, allow_bin=allow_bin):
            return place
        if is_closed(None):
            raise Refusal("its weights were not, or not all, downloaded before", _away()[1])
        index = _listing(name, pinned)
        wanted = model_files.weights_in(list(index.sizes), place, allow_bin=allow_bin, model=name)
        _check_room(index, wanted, place, dtype)
        for file in wanted:
            if file in index.sums:
                _fetch(name, pinned.resolved, file, index)
        return _snapshot(name, pinned, wanted)


def parameters_of(index: _Listing, wanted: Sequence[str], config: dict[str, Any]) -> int:
    """Return how many weights the files hold: as the index says, or by their bytes and dtype."""
    if index.parameters:
        return index.parameters
    dtype = str(config.get("dtype") or config.get("torch_dtype"))
    return sum(index.sizes.get(file, 0) for file in wanted) // model_files.BYTES.get(dtype, 4)


def _check_room(index: _Listing, wanted: Sequence[str], place: Path, dtype: str) -> None:
    from huggingface_hub import constants

    size = sum(index.sizes[file] for file in wanted)
    parameters = parameters_of(index, wanted, model_files.read_config(place))
    model_files.check_memory(parameters, f", {size / 1e9:.1f} GB to download", dtype=dtype)
    free = shutil.disk_usage(place).free
    if size > free:
        raise Refusal(
            f"its files have {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in "
            f"{constants.HF_HUB_CACHE}",
            "make room there, or set HF_HOME to a larger disk",
        )


def _pinned(name: str) -> Any:
    from huggingface_hub import HfApi

    model, revision = _split(name)
    if not _NAME.fullmatch(model):
        reason = f"{model!r} is no file or folder here, and no name on the hub"
        raise Refusal(reason, _correct(model))
    return HfApi().resolve_revision(model, revision=revision, local_files_only=is_closed(None))


def _listing(name: str, pinned: Any) -> _Listing:
    from huggingface_hub import HfApi

    info = HfApi().model_info(
        _split(name)[0], revision=pinned.resolved, files_metadata=True, timeout=_timeout()
    )
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or ()}
    large = [file for file in info.siblings or () if file.lfs]
    # They become the names of files.
    sums = {f.rfilename: f.lfs.sha256 for f in large if _SUM.fullmatch(f.lfs.sha256)}
    return _Listing(sizes, info.safetensors.total if info.safetensors else None, sums)


def _fetch(name: str, commit: str, file: str, index: _Listing) -> None:
    """Put a large file into the hub's cache, going on from what an earlier run has fetched.

    The hub's client begins again in every run; what it finds in its cache it does not fetch.
    """
    from huggingface_hub import constants, file_download, hf_hub_url
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    model, size, wanted = _split(name)[0], index.sizes[file], index.sums[file]
    kind = file_download.repo_folder_name(repo_id=model, repo_type="model")
    cache = Path(constants.HF_HUB_CACHE)
    whole, lock = cache / kind / "blobs" / wanted, cache / ".locks" / kind / f"{wanted}.lock"
    part = whole.with_name(f"{wanted}.part")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if whole.exists() or (size > constants.MAX_HTTP_DOWNLOAD_SIZE and not part.exists()):
            return
        with part.open("ab") as to:
            start = to.tell() if to.tell() <= size else to.truncate(0)
            file_download.http_get(
                hf_hub_url(model, file, revision=commit),
                to,
                resume_size=start,
                headers=build_hf_headers(),
                expected_size=size,
            )
        if data.sha256(part) != wanted:
            part.unlink()
            raise Refusal(f"{file} came with another SHA-256 sum than the hub's", "run it again")
        part.replace(whole)


def _snapshot(name: str, pinned: Any, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    place = snapshot_download(
        _split(name)[0],
        revision=pinned,
        allow_patterns=patterns,
        ignore_patterns=_SUBFOLDERS,
        local_files_only=is_closed(None),
        max_workers=2,
    )
    return Path(place)


@contextmanager
def _asking(name: str) -> Iterator[None]:
    """Turn what the hub's client raises into the reason and the cure."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:  # the hub's client raises what it likes
        raise Refusal(*_why(error, *_split(name))) from error


def _away() -> tuple[str, str]:
    """Return why nobody may or can ask the hub, and what helps; "" where it can be asked."""
    from huggingface_hub import constants

    for variable in ("BOOK_OFFLINE", "HF_HUB_OFFLINE"):
        closed = constants.HF_HUB_OFFLINE if variable[0] == "H" else os.environ.get(variable)
        if closed:
            reason = f"it was not downloaded before, and {variable} forbids asking the hub"
            return reason, f"pass a folder where the model was saved, or unset {variable}"
    return silence(), _FOLDER


def _why(error: BaseException, model: str, revision: str | None) -> tuple[str, str]:
    """Return the reason and the cure for what the hub's client raised."""
    from huggingface_hub import constants, errors

    reason, cure = _away()
    if reason:
        return reason, cure
    chain = list(_causes(error))
    page = f"{constants.ENDPOINT}/{model}"

    def cause(*kinds: type[BaseException]) -> BaseException | None:
        return next((one for one in chain if isinstance(one, kinds)), None)

    if cause(errors.GatedRepoError):
        return (
            f"its makers give {model} only to those who have accepted their terms",
            f"accept them at {page}, then run `hf auth login` or set HF_TOKEN",
        )
    if cause(errors.RevisionNotFoundError):
        return (
            f"the hub has no revision {revision!r} of {model}",
            f"choose one of {page}/commits/main",
        )
    if cause(errors.RepositoryNotFoundError):
        return (
            f"there is no file or folder {model} here, and no public model {model} on the hub",
            f"{_correct(model)}; for a private model run `hf auth login` or set HF_TOKEN",
        )
    if isinstance(full := cause(OSError), OSError) and full.errno in (errno.ENOSPC, errno.EACCES):
        return (
            f"{constants.HF_HUB_CACHE} cannot be written ({full.strerror})",
            "make room there, or set HF_HOME to another folder",
        )
    if answer := cause(errors.HfHubHTTPError):
        status = answer.response.status_code  # type: ignore[attr-defined]
        return f"the hub answered with the error {status} ({first_line(answer)})", _FOLDER
    said = first_line(chain[-1])
    if any("ConnectError" in type(one).__name__ for one in chain):
        return f"no connection to {constants.ENDPOINT} ({said})", _FOLDER
    return (
        f"the connection to {constants.ENDPOINT} broke ({type(chain[-1]).__name__}: {said})",
        "run it again: what came is kept; or pass a folder where the model was saved",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _correct(name: str) -> str:
    """Return the advice to correct a name, with a file or folder nearby that is spelt alike."""
    import difflib

    path = Path(name).expanduser()
    there = [e.name for e in path.parent.iterdir() if e.exists()] if path.parent.is_dir() else []
    like = difflib.get_close_matches(path.name, there, 1)
    return "correct the name" + (f": {path.parent / like[0]} is there" if like else "")
