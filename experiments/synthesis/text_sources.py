"""The glass box on texts of twenty packages, none of which it was trained on.

`python -m experiments text_sources` scores the stored models and writes the table.
"""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.command import Written, command
from experiments.synthesis import glass_box_measures, glass_box_runs, glass_box_world
from helpers import data, storage, text_sets
from helpers.synthesis import paired_tests

TABLE = data.PUBLISHED / "glass_box_sources.npz"
# None of them is among the packages on which the models are trained.
PACKAGES = (
    "pandas", "matplotlib", "seaborn", "dask", "distributed", "sphinx", "docutils", "nbconvert",
    "pygments", "hypothesis", "jinja2", "IPython", "jupyter_client", "fsspec", "sqlalchemy",
    "datasets", "huggingface_hub", "sympy", "tornado", "traitlets",
)  # fmt: skip
PARTS = ("code", "docstrings")
# Files looked at in each package, and texts taken of each part.
N_FILES, N_TEXTS = 60, 8


class _Sources(NamedTuple):
    """Texts, a row each (`key`, `package`, `part`), and log-likelihoods (models, texts), nats."""

    texts: pd.DataFrame
    log_likelihoods: pd.DataFrame


def package_texts(package: str, *, n: int = N_TEXTS) -> pd.DataFrame:
    """Return `n` beginnings of texts of each of `PARTS` from one installed package.

    Columns `key`, `package`, `part`, `text`. Files, and then their chunks, stand in the order of a
    hash, so that another version of the package gives most of the same texts. Raises `ValueError`
    for a package with fewer.
    """
    files = sorted(text_sets.package_files(package, "*.py"), key=lambda file: _digest(file.name))[
        :N_FILES
    ]
    rows = []
    for part in PARTS:
        chunks = sorted(set(text_sets.chunk_texts(_documents(files, part))), key=_digest)
        if len(chunks) < n:
            raise ValueError(f"package {package!r} has {len(chunks)} texts of {part}, not {n}")
        for chunk in chunks[:n]:
            text = chunk.encode()[: glass_box_world.TEXT_BYTES].decode(errors="ignore")
            rows.append({"key": _digest(text)[:12], "package": package, "part": part, "text": text})
    return pd.DataFrame(rows)


def _documents(files: Sequence[Path], part: str) -> Iterator[str]:
    for file in files:
        if part == "code":
            yield text_sets.read_file(file)
        else:
            yield from text_sets.docstrings(file)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def score(texts: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """Return the log-likelihood of each text under stored models, (models, texts), nats."""
    tokenizer = glass_box_runs.stored_tokenizer()
    rows = {}
    for name in names:
        model = glass_box_runs.load_named(name, tokenizer)
        rows[name], _ = glass_box_measures.text_log_likelihoods(model, tokenizer, list(texts))
    return pd.DataFrame.from_dict(rows, orient="index")


def _save(sources: _Sources) -> None:
    """Write `TABLE`, without pickles and without the texts."""
    arrays = {name: sources.texts[name].to_numpy(str) for name in ("key", "package", "part")}
    arrays["model"] = sources.log_likelihoods.index.to_numpy(str)
    arrays["log_likelihoods"] = sources.log_likelihoods.to_numpy(np.float32)
    with storage.whole(TABLE) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load() -> _Sources:
    """Return what is stored in `TABLE`."""
    with np.load(TABLE, allow_pickle=False) as arrays:
        texts = pd.DataFrame({name: arrays[name] for name in ("key", "package", "part")})
        values = pd.DataFrame(arrays["log_likelihoods"].astype(float), arrays["model"])
    return _Sources(texts, values)


def seed_tests(sources: _Sources, table: pd.DataFrame) -> pd.DataFrame:
    """Return tests of the two seeds of each setting, one row per setting that has both.

    `table` is the suite's. Columns: `kind`, `width`, `mix`, `step`, `plain` (p-value with texts as
    the unit), `clustered` (with packages as the unit), `difference` (nats per text), and `icc`,
    `design_effect`, `effective` of the differences.
    """
    known = table.loc[sources.log_likelihoods.index]
    rows = []
    for about, part in known.groupby(["kind", "width", "mix", "step"], sort=False):
        if len(part) != 2:
            continue
        names = part.sort_values("seed", kind="stable").index
        pair = [sources.log_likelihoods.loc[name] for name in names]
        whole = paired_tests.clustered_test(*pair, sources.texts.package)
        row = dict(zip(("kind", "width", "mix", "step"), about, strict=True))
        row |= {"plain": paired_tests.paired_test(*pair).p_value, "clustered": whole.p_value}
        rows.append(row | whole[["difference", "icc", "design_effect", "effective"]].to_dict())
    return pd.DataFrame(rows)


@command("text_sources", one_thread=True)
def main(_: Namespace) -> Written:
    """Score the stored models on texts of the packages, and write the table."""
    texts = pd.concat([package_texts(name) for name in PACKAGES], ignore_index=True)
    values = score(list(texts.text), glass_box_runs.last_names())
    _save(_Sources(texts, values))
    print(f"{len(values)} models, {len(texts)} texts of {len(PACKAGES)} packages")
