"""The command `before-ft score`: texts under causal language models, in files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from helpers import devices, model_sources
from helpers.commands import shell

_EXAMPLES = """
MODEL --out scored
MODEL hub/other@v1.0 --out scored --texts mine.jsonl
--out texts --n-texts 128        # the texts alone, for another engine
"""


def _estimate(models: Sequence[str], texts: Sequence[str]) -> str:
    """Return in words how long models of this machine take on its processor, from their sizes.

    "" if the size of none is known.
    """
    from helpers import progress
    from helpers.synthesis import model_kinds

    sizes: list[int | None] = []
    for name in models:
        # A path to nothing is for the report.
        with suppress(ValueError):
            here = model_sources.local_source(name) is not None
            sizes.append(model_kinds.look(name).parameters if here else None)
    known, tokens = [n for n in sizes if n], sum(len(text.encode()) for text in texts) / 4
    if not known:
        return ""
    seconds = sum(progress.reading(n, tokens) for n in known)
    told = f"estimated time without a GPU: {progress.duration(seconds)}, within a factor of 3"
    return told + (
        f", for {len(known)} of {len(models)} models" if len(known) < len(models) else ""
    )


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "score",
        "Score texts under causal language models and write matrix.csv (log-likelihoods in nats, "
        "a row per model), scores.csv, report.csv, texts.jsonl and results.json. Without --texts "
        "the book's default texts are scored; without models the texts alone are written.",
        _EXAMPLES,
    )
    add = made.add_argument
    add("model", nargs="*", help="folders, GGUF files, packages or hub names")
    add("--models", nargs="+", default=[], metavar="MODEL", help="the same, by name")
    add("--texts", help="one text per line: .txt, .jsonl, .parquet, ...; default: the book's texts")
    add("--n-texts", type=int, default=128, help="how many of the default set; default 128")
    add("--limit", type=int, help="score at most so many texts")
    add("--out", required=True, help="folder to write")
    add("--bos", default="tokenizer", choices=("tokenizer", "add", "none"),
        help="put a start token first as the tokenizer does, always, or never")  # fmt: skip
    add("--max-tokens", type=int, help="cut a text after so many tokens")
    add("--scheduler", help="address of a Dask scheduler")
    model_sources.add_arguments(made)
    devices.add_arguments(made)
    return made


def _work(given: argparse.Namespace) -> int:
    from helpers import progress, text_sets, validation
    from helpers.modelmap import scoring
    from helpers.retrieval import corpora

    models, keys = [*given.model, *given.models], None
    if given.limit is not None:
        validation.counts(limit=(given.limit, 1))
    if given.texts:
        texts = corpora.read_texts(given.texts)
    else:
        default = text_sets.load_texts(given.n_texts)
        texts, keys = list(default["text"]), list(default.index)
    texts, keys = texts[: given.limit], keys and keys[: given.limit]
    out = Path(given.out)
    if not models:
        scoring.write_texts(texts, out, keys)
        told = f"no models named: {len(texts):,} texts alone: {given.out}/texts.jsonl"
        shell.emit(given, told, {"n_texts": len(texts), "texts": str(out / "texts.jsonl")})
        return shell.OK
    if estimate := _estimate(models, texts):
        shell.note(given, estimate)
    total = len(texts) * len(models)
    stream, log = shell.progress_to(given), out / "progress.log"
    with progress.shown(total, "text", stream=stream, log=log) as step:
        scored = scoring.score_models(
            [model_sources.at_revision(name, given.revision) for name in models],
            texts,
            out / "pieces",
            bos=given.bos,
            max_tokens=given.max_tokens,
            scheduler=given.scheduler,
            progress=progress.by_texts(step),
            allow_bin=given.allow_bin,
            how=devices.given(given, here=given.scheduler is None),
        )
    settings = {k: v for k, v in vars(given).items() if k not in ("model", "json", "quiet")}
    scoring.write(scored, texts, given.out, keys, settings | {"models": models})
    failed = scored.report[scored.report.status == "failed"]
    for row in failed.itertuples():
        print(f"{row.model}: {row.error}", file=sys.stderr)
    n = len(scored.report) - len(failed)
    if not n:
        told = f"no model could be scored: {given.out}/report.csv says why"
        print(told, file=sys.stderr)
    told = shell.models_done(n, texts, given.out)
    report = scored.report.to_dict("records")
    value = {"out": str(out), "n_texts": len(texts), "models": report}
    if n or given.json:
        shell.emit(given, told, value)
    return shell.FAILED if len(failed) else shell.OK


main = shell.Command(
    _parser,
    _work,
    nothing="nothing written",
    kept="run again, and the texts scored so far are kept",
)
