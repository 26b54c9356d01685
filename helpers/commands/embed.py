"""The command `before-ft embed`: vectors of texts by models, in the file that `rank` takes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from helpers import devices, model_sources
from helpers.commands import shell

_EXAMPLES = """
MODEL hub/other --texts entities.csv --out mine.npz
MODEL --texts lines.txt --layers all --pooling last --out mine.npz
"""


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "embed",
        "Embed texts by models and write one array per model to an .npz file: (texts, width), or "
        "(layers, texts, width) with --layers all. before-ft rank takes it, and so do the pages "
        "posterior/rivals and posterior/language_models. Vectors are stored in the cache.",
        _EXAMPLES,
    )
    add = made.add_argument
    add("model", nargs="+", help="folders, GGUF files, packages or hub names")
    add("--texts", required=True, help="CSV with a column text, or a file with one text per line")
    add("--out", required=True, help=".npz file to write")
    add("--layers", default="last", choices=("last", "all"), help="default %(default)s")
    add("--pooling", default="mean", choices=("mean", "last"),
        help="average over tokens, or the last one; default %(default)s")  # fmt: skip
    add("--max-tokens", type=int, default=256, help="cut a text there; default %(default)s")
    model_sources.add_arguments(made)
    devices.add_arguments(made, tokens=False)
    return made


def _texts(path: str) -> list[str]:
    import pandas as pd

    from helpers.posterior import entities
    from helpers.retrieval import corpora

    if Path(path).suffix.lower() != ".csv":
        return corpora.read_texts(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise ValueError(f"--texts {path!r} could not be read ({error}); pass a CSV") from error
    column = "text" if "text" in table else table.columns[0]
    return list(entities.labels_of(table, column, "--texts, column"))


def _work(given: argparse.Namespace) -> int:
    import numpy as np

    from helpers import each_model, encoding, progress, storage
    from helpers.synthesis import model_kinds

    if Path(given.out).suffix != ".npz":
        raise ValueError(f"--out is {given.out!r}; give a name that ends in .npz")
    texts, how = _texts(given.texts), devices.given(given)
    names = [model_sources.at_revision(name, given.revision) for name in given.model]
    titles = model_kinds.short_names(names)
    with progress.shown(len(names), "model", stream=shell.progress_to(given)) as step:

        def embedded(name: str) -> np.ndarray:
            layers = encoding.cached_layer_embeddings(
                name,
                texts,
                pooling=given.pooling,
                max_tokens=given.max_tokens,
                allow_bin=given.allow_bin,
                how=how,
            )
            step(f"{titles[name]}: {len(texts):,} texts", 1)
            return layers[max(layers)] if given.layers == "last" else np.stack([*layers.values()])

        vectors, report = each_model.read(names, embedded)
    with storage.whole(given.out) as part, open(part, "wb") as file:
        np.savez_compressed(file, **{titles[name]: array for name, array in vectors.items()})
    rows: list[dict[str, Any]] = []
    for name, row in report.iterrows():
        shape = list(vectors[name].shape) if name in vectors else None
        rows.append({"model": titles[name], "status": row.status, "why": row.why, "shape": shape})
        if row.why:
            print(f"{name}: {row.why}", file=sys.stderr)
    n = len(vectors)
    told = shell.models_done(n, texts, given.out)
    shell.emit(given, told, {"out": given.out, "n_texts": len(texts), "models": rows})
    return shell.OK if n == len(names) else shell.FAILED


main = shell.Command(
    _parser,
    _work,
    nothing="nothing written",
    kept="run again, and what was embedded so far is kept",
)
