"""Many models scored on one set of texts: in pieces that are kept, so that a run can resume."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import data, decoders, devices, encoding, likelihood, results, storage, validation
from helpers import models as loader
from helpers.model_files import sentence
from helpers.models import FAILURES

# Part of every key: raise it when the same settings would give other numbers.
_VERSION = 2
_COLUMNS = ["log_likelihood", "first_token_log_likelihood", "n_tokens", "n_bytes", "truncated"]


class Scored(NamedTuple):
    """What was scored: one row per model and text, and one row per model on how it went.

    `scores` has `model`, `text` (its number) and the columns of `likelihood.score_texts`; `report`
    has `model`, `digest` (of its files, or the hub's commit), `status` ("scored" or "failed"),
    `error`, `bos`, `n_texts`, `n_truncated`, `dtype`, `device` and `seconds` (of this run; "" and 0
    where all was kept from before).
    """

    scores: pd.DataFrame
    report: pd.DataFrame

    def matrix(self, column: str = "log_likelihood") -> pd.DataFrame:
        """Return a row per scored model and a column per text, as `model_map.fit_map` takes it."""
        order = list(dict.fromkeys(self.scores.model))
        return self.scores.pivot(index="model", columns="text", values=column).loc[order]


def score_models(
    models: Sequence[str],
    texts: Sequence[str],
    folder: str | Path,
    *,
    bos: str = "tokenizer",
    max_tokens: int | None = None,
    piece: int = 100,
    scheduler: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    allow_bin: bool = False,
    how: devices.How = devices.DEFAULT,
) -> Scored:
    """Score texts under each of several causal models, and keep every piece of `piece` texts.

    `models` and `allow_bin` are what `decoders.load_causal` takes; `bos` and `max_tokens` are
    those of `likelihood.score_texts`, and `how` says on which device, in which numbers, and how
    many tokens at a time.

    Pieces lie in `folder` under a name made of the model's files or commit, the texts and the
    settings, whole or not at all: a run that was stopped scores what is missing, and a model whose
    texts are all kept is not loaded. A model that cannot be loaded or scored is a row of the report
    with its error, and the next one follows. With `scheduler`, the address of a Dask scheduler,
    each model is a task of that cluster, whose workers must see `folder`. `progress` gets the
    model, the texts done and their number.

    Raises `ValueError` for no models or one named twice, no texts, and bad settings, and
    `storage.CannotWrite` where a piece cannot be kept. Source: that of `likelihood.score_texts`.

    >>> from tempfile import TemporaryDirectory
    >>> from helpers.modelmap import score_models
    >>> with TemporaryDirectory() as folder:
    ...     report = score_models(["./nowhere"], ["A text."], folder).report
    >>> report[["model", "status", "n_texts"]]
           model  status  n_texts
    0  ./nowhere  failed        0
    """
    if isinstance(models, str | Path) or not len(models) or len(set(models)) < len(models):
        raise ValueError("models is empty, one string, or names one twice; pass a list, each once")
    if bad := [name for name in models if not isinstance(name, str | Path)]:
        raise ValueError(
            f"models has {validation.name_some(bad)}; pass folders, files or hub names"
        )
    models, texts = [str(name) for name in models], validation.strings(texts, "texts")
    if not all(texts):
        raise ValueError(f"texts[{texts.index('')}] is an empty text; leave it out")
    validation.choice(bos, likelihood.BOS, "bos")
    validation.counts(piece=(piece, 1))
    if max_tokens is not None:
        validation.counts(max_tokens=(max_tokens, 2))
    settings = {"bos": bos, "max_tokens": max_tokens}
    how = how.checked(here=scheduler is None)
    # Workers run in folders of their own.
    place = str(Path(folder).absolute())
    work = [(name, _place(name), texts, place, settings, piece, allow_bin, how) for name in models]
    if scheduler is None:
        parts = [_score_model(*task, progress=progress) for task in work]
    else:
        validation.address(scheduler)
        from distributed import Client

        with Client(scheduler, set_as_default=False) as client:
            futures = [client.submit(_score_model, *task, pure=False) for task in work]
            parts = client.gather(futures)
    tables, rows = zip(*parts, strict=True)
    scored = [table for table in tables if table is not None]
    empty = pd.DataFrame(columns=["model", "text", *_COLUMNS])
    scores = pd.concat(scored, ignore_index=True) if scored else empty
    return Scored(scores, pd.DataFrame(rows))


def _score_model(
    name: str,
    source: str,
    texts: list[str],
    folder: str,
    settings: dict[str, Any],
    piece: int,
    allow_bin: bool,
    how: devices.How,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    start = time.perf_counter()
    row: dict[str, Any] = {"model": name, "digest": "", "status": "scored", "error": ""}
    row |= {"bos": None, "n_texts": 0, "n_truncated": 0, "dtype": how.dtype}
    row |= {"device": "", "seconds": 0.0}
    try:
        name_now = loader.pinned(source)
        identity = row["digest"] = encoding.identity(name_now)
        loaded, parts = None, []
        for first in range(0, len(texts), piece):
            some = texts[first : first + piece]
            key = storage.digest([_VERSION, identity, settings | how.key(), some])
            place = Path(folder) / f"{key}.json"
            found = _stored(place, len(some))
            if found is None:
                if loaded is None:
                    loaded = how.load(decoders.load_causal, name_now, allow_bin=allow_bin)
                tokenizer, model = loaded
                row["device"] = str(model.device)
                table = likelihood.score_texts(
                    model, tokenizer, some, batch_tokens=how.batch_tokens, **settings
                )
                columns = table.to_dict("list")
                storage.store(place, {"bos": table.attrs["bos"], "columns": columns})
                # As written: a number read again is the same, and so is the table.
                found = _stored(place, len(some))
            row["bos"] = found["bos"]
            parts.append(pd.DataFrame(found["columns"], columns=_COLUMNS))
            if progress:
                progress(name, first + len(some), len(texts))
    except storage.CannotWrite:  # as no other model could be kept, either
        raise
    except FAILURES as error:
        return None, row | {"status": "failed", "error": sentence(error)}
    table = pd.concat(parts, ignore_index=True)
    table["first_token_log_likelihood"] = table.first_token_log_likelihood.astype(float)
    row |= {"n_texts": len(table), "n_truncated": int(table.truncated.sum())}
    if loaded:
        row["seconds"] = round(time.perf_counter() - start, 1)
    table.insert(0, "model", name)
    table.insert(1, "text", np.arange(len(table)))
    return table, row


def _place(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def _stored(place: Path, n: int) -> dict[str, Any] | None:
    """Read a piece, or None when there is none or it is damaged."""
    found = storage.stored(place)
    fits = found and all(len(found["columns"][name]) == n for name in _COLUMNS)
    return found if fits else None


def write_texts(texts: Sequence[str], folder: Path, keys: Sequence[str] | None = None) -> None:
    """Write `texts.jsonl`, a key and a text per line, for engines that score them elsewhere."""
    names = range(len(texts)) if keys is None else keys
    rows = ({"key": key, "text": text} for key, text in zip(names, texts, strict=True))
    data.write_atomically(folder / "texts.jsonl", "".join(json.dumps(r) + "\n" for r in rows))


def write(
    scored: Scored,
    texts: Sequence[str],
    folder: str | Path,
    keys: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write `scores.csv`, `report.csv`, `matrix.csv`, `texts.jsonl` and `results.json`.

    Each is written whole or not at all. `keys` name the texts, in the columns of the matrix too;
    their numbers do otherwise. `results.json` has the report with each model's bits per byte and
    their 95 % interval over the texts that it read whole, the versions, a digest of the texts, and
    `settings`.
    """
    folder, names = Path(folder), range(len(texts)) if keys is None else keys
    write_texts(texts, folder, keys)
    data.write_atomically(folder / "scores.csv", scored.scores.to_csv(index=False))
    matrix = scored.matrix().rename(columns=dict(enumerate(names)))
    data.write_atomically(folder / "matrix.csv", matrix.to_csv())
    data.write_atomically(folder / "report.csv", scored.report.to_csv(index=False))
    made, parts = scored.report.to_dict("records"), dict(list(scored.scores.groupby("model")))
    for row in made:
        # The likelihood of a beginning cannot be set against the bytes of the whole text.
        part = parts.get(row["model"], scored.scores[:0]).query("not truncated")
        if len(part):
            ends = likelihood.bits_per_byte(part.log_likelihood, part.n_bytes)
            row |= dict(zip(("value", "low", "high"), ends, strict=True))
            row |= {"measure": "bits per byte", "unit": "bits", "by": "texts"}
    whole = results.head(settings or {}) | {"n_texts": len(texts), "models": made}
    whole["texts"] = storage.digest(list(texts))
    results.write(folder, whole, {})
