"""Many models scored on one set of texts: in pieces that are kept, so that a run can resume."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import (
    checks,
    closed_book,
    data,
    devices,
    embeddings,
    keeping,
    likelihood,
    progress,
    results,
)
from helpers import models as loader
from helpers.model_files import sentence
from helpers.models import FAILURES

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 2
COLUMNS = ["log_likelihood", "first_token_log_likelihood", "n_tokens", "n_bytes", "truncated"]


class Scored(NamedTuple):
    """What was scored: one row a model and text, and one row a model on how it went.

    `scores` has `model`, `text` (its number) and the columns of `likelihood.score_texts`; `report`
    has `model`, `digest` (of its files, or the hub's commit), `status` ("scored" or "failed"),
    `error`, `bos`, `n_texts`, `n_truncated`, `dtype`, `device` and `seconds` (of this run; "" and 0
    where all was kept from before).
    """

    scores: pd.DataFrame
    report: pd.DataFrame

    def matrix(self, column: str = "log_likelihood") -> pd.DataFrame:
        """Return one row a scored model and one column a text, as `modelmap.fit_map` takes it."""
        order = list(dict.fromkeys(self.scores.model))
        return self.scores.pivot(index="model", columns="text", values=column).loc[order]


def chunk_texts(documents: Iterable[str], *, most: int = 1024, above: int = 256) -> Iterator[str]:
    """Cut documents into consecutive chunks of at most `most` bytes in UTF-8.

    A cut is moved back so that it splits no character, and chunks of `above` bytes or fewer are
    left out. Raises `ValueError` unless `most` is above `above` and at least 4. Source: arXiv
    2502.16173, released code.
    """
    checks.counts(most=(most, 4), above=(above, 0))
    if most <= above:
        raise ValueError(f"most is {most} and above {above}; give a larger most")
    if isinstance(documents, str):
        raise ValueError("documents is one string; pass an iterable of texts, [text] for one")
    for number, document in enumerate(documents):
        if not isinstance(document, str):
            raise ValueError(f"document {number} of documents is {document!r}; pass a string")
        whole, start = document.encode(), 0
        while start < len(whole):
            end = before_character(whole, min(start + most, len(whole)))
            if end - start > above:
                yield whole[start:end].decode()
            start = end


def before_character(text: bytes, end: int) -> int:
    """Return `end`, moved back so that a cut there splits no character of a text in UTF-8."""
    while end < len(text) and text[end] & 0xC0 == 0x80:
        end -= 1
    return end


def sample_texts(texts: Iterable[str], n: int, *, seed: int = 0) -> list[str]:
    """Draw `n` different texts without keeping the others, in random order, the same by the seed.

    Raises `ValueError` where there are fewer. Source: Vitter (1985), algorithm R.
    """
    checks.counts(n=(n, 1))
    if isinstance(texts, str):
        raise ValueError("texts is one string; pass an iterable of texts")
    rng, kept, seen = checks.generator(seed), [], 0
    for seen, text in enumerate(texts, 1):
        if seen <= n:
            kept.append(text)
        elif (place := int(rng.integers(seen))) < n:
            kept[place] = text
    if seen < n:
        raise ValueError(f"n is {n} but there are {seen} texts; give fewer, or more documents")
    return [kept[i] for i in rng.permutation(n)]


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

    `models` and `allow_bin` are what `closed_book.load_causal` takes; `bos` and `max_tokens` are
    those of `likelihood.score_texts`, and `how` says on which device, in which numbers, and how
    many tokens at a time.

    Pieces lie in `folder` under a name made of the model's files or commit, the texts and the
    settings, whole or not at all: a run that was stopped scores what is missing, and a model whose
    texts are all kept is not loaded. A model that cannot be loaded or scored is a row of the report
    with its error, and the next one follows. With `scheduler`, the address of a Dask scheduler,
    each model is a task of that cluster, whose workers must see `folder`. `progress` gets the
    model, the texts done and their number.

    Raises `ValueError` for no models or one named twice, no texts, and bad settings, and
    `keeping.CannotWrite` where a piece cannot be kept.
    """
    if isinstance(models, str | Path) or not len(models) or len(set(models)) < len(models):
        raise ValueError("models is empty, one string, or names one twice; pass a list, each once")
    if bad := [name for name in models if not isinstance(name, str | Path)]:
        raise ValueError(f"models has {checks.name_some(bad)}; pass folders, files or hub names")
    models, texts = [str(name) for name in models], checks.strings(texts, "texts")
    if not all(texts):
        raise ValueError(f"texts[{texts.index('')}] is an empty text; leave it out")
    checks.choice(bos, likelihood.BOS, "bos")
    checks.counts(piece=(piece, 1))
    if max_tokens is not None:
        checks.counts(max_tokens=(max_tokens, 2))
    settings = {"bos": bos, "max_tokens": max_tokens}
    how = how.checked(here=scheduler is None)
    # Workers run in folders of their own.
    place = str(Path(folder).absolute())
    work = [(name, _place(name), texts, place, settings, piece, allow_bin, how) for name in models]
    if scheduler is None:
        parts = [_score_model(*task, progress=progress) for task in work]
    else:
        checks.address(scheduler)
        from distributed import Client

        with Client(scheduler, set_as_default=False) as client:
            futures = [client.submit(_score_model, *task, pure=False) for task in work]
            parts = client.gather(futures)
    tables, rows = zip(*parts, strict=True)
    scored = [table for table in tables if table is not None]
    empty = pd.DataFrame(columns=["model", "text", *COLUMNS])
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
        identity = row["digest"] = embeddings.identity(name_now)
        loaded, parts = None, []
        for first in range(0, len(texts), piece):
            some = texts[first : first + piece]
            key = json.dumps([VERSION, identity, settings | how.key(), some])
            place = Path(folder) / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
            found = _stored(place, len(some))
            if found is None:
                if loaded is None:
                    options = {"allow_bin": allow_bin, "dtype": how.dtype}
                    loaded = closed_book.load_causal(name_now, **options)
                    how.move(loaded[1])
                tokenizer, model = loaded
                row["device"] = str(model.device)
                table = likelihood.score_texts(
                    model, tokenizer, some, batch_tokens=how.batch_tokens, **settings
                )
                columns = table.to_dict("list")
                keeping.store(place, {"bos": table.attrs["bos"], "columns": columns})
                # As written: a number read again is the same, and so is the table.
                found = _stored(place, len(some))
            row["bos"] = found["bos"]
            parts.append(pd.DataFrame(found["columns"], columns=COLUMNS))
            if progress:
                progress(name, first + len(some), len(texts))
    except keeping.CannotWrite:  # as no other model could be kept, either
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
    found = keeping.stored(place)
    fits = found and all(len(found["columns"][name]) == n for name in COLUMNS)
    return found if fits else None


def read_texts(path: str | Path) -> list[str]:
    """Read texts from a file of `corpora.read_documents`: JSON lines, plain text or a table.

    Raises what it raises, `corpora.CorpusError` at the first text that cannot be read.
    """
    from helpers import corpora

    return [text.decode() for text in corpora.read_documents(path, strict=True)]


def write_texts(texts: Sequence[str], folder: Path, keys: Sequence[str] | None = None) -> None:
    """Write `texts.jsonl`, a key and a text a line, for engines that score them elsewhere."""
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
    whole["texts"] = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
    results.write(folder, whole, {})


def _estimate(models: Sequence[str], texts: Sequence[str]) -> str:
    """Return in words how long models of this machine take on its processor, from their sizes."""
    from helpers import any_model

    sizes: list[int | None] = []
    for name in models:
        # A path to nothing is for the report.
        with suppress(ValueError):
            here = loader.local_source(name) is not None
            sizes.append(any_model.look(name).parameters if here else None)
    known, tokens = [n for n in sizes if n], sum(len(text.encode()) for text in texts) / 4
    seconds = sum(progress.reading(n, tokens) for n in known)
    told = f"estimated time without a GPU: {progress.duration(seconds)}, within a factor of 3"
    return told + (f"; of {len(known)} of {len(models)} models" if len(known) < len(models) else "")


def main(words: Sequence[str] | None = None) -> int:
    """Score texts under causal language models and write a matrix of log-likelihoods.

    Without a file of texts those of `text_sets.load_texts` are scored, the default set. Without
    models the texts alone are written, for another engine. The exit code is 0 when every model was
    scored, 3 when some or all failed (the report says why), 2 when nothing was written, and 130
    when the run was interrupted.
    """
    import argparse

    parser = argparse.ArgumentParser(prog="python -m helpers.likelihood", description=main.__doc__)
    parser.add_argument(
        "--models", nargs="+", help="folders, GGUF files, packages or hub names; none: texts alone"
    )
    parser.add_argument(
        "--texts", help="a text a line: .txt, .jsonl, .parquet, ...; left out: the default set"
    )
    parser.add_argument("--n-texts", type=int, default=128, help="how many of the default set")
    parser.add_argument("--limit", type=int, help="score no more than so many texts")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--bos", default="tokenizer", choices=likelihood.BOS)
    parser.add_argument("--max-tokens", type=int, help="read no more of a text")
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    loader.add_arguments(parser)
    devices.add_arguments(parser)
    given = parser.parse_args(words)
    try:
        if given.limit is not None:
            checks.counts(limit=(given.limit, 1))
        keys = None
        if given.texts:
            texts = read_texts(given.texts)
        else:
            from helpers import text_sets

            default = text_sets.load_texts(given.n_texts)
            texts, keys = list(default["text"]), list(default.index)
        texts, keys = texts[: given.limit], keys and keys[: given.limit]
        if not given.models:
            write_texts(texts, Path(given.out), keys)
            print(f"no models named: {len(texts):,} texts alone: {given.out}/texts.jsonl")
            return 0
        total, log = len(texts) * len(given.models), Path(given.out) / "progress.log"
        done: dict[str, int] = {}
        print(_estimate(given.models, texts), file=sys.stderr)
        with progress.shown(total, "text", log=log) as step:

            def told(name: str, n: int, of: int) -> None:
                step(f"{name}: {n:,} of {of:,} texts", n - done.get(name, 0))
                done[name] = n

            scored = score_models(
                [loader.at_revision(name, given.revision) for name in given.models],
                texts,
                Path(given.out) / "pieces",
                bos=given.bos,
                max_tokens=given.max_tokens,
                scheduler=given.scheduler,
                progress=told,
                allow_bin=given.allow_bin,
                how=devices.How(given.device, given.dtype, given.batch_tokens),
            )
        write(scored, texts, given.out, keys, vars(given))
    except (ValueError, OSError) as error:
        print(f"nothing written: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run again, and the texts scored so far are kept", file=sys.stderr)
        return 130
    failed = scored.report[scored.report.status == "failed"]
    for row in failed.itertuples():
        print(f"{row.model}: {row.error}", file=sys.stderr)
    if len(failed) == len(scored.report):
        print(f"no model could be scored: {given.out}/report.csv says why", file=sys.stderr)
    else:
        print(f"{len(scored.report) - len(failed)} models, {len(texts):,} texts: {given.out}")
    return 3 if len(failed) else 0
