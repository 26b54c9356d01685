"""The command `python -m helpers score`: texts under causal language models, in files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from helpers import devices, likelihood, model_sources, progress, text_sets, validation
from helpers.modelmap import scoring
from helpers.retrieval import corpora
from helpers.synthesis import model_kinds


def _estimate(models: Sequence[str], texts: Sequence[str]) -> str:
    """Return in words how long models of this machine take on its processor, from their sizes."""
    sizes: list[int | None] = []
    for name in models:
        # A path to nothing is for the report.
        with suppress(ValueError):
            here = model_sources.local_source(name) is not None
            sizes.append(model_kinds.look(name).parameters if here else None)
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
    parser = argparse.ArgumentParser(prog="python -m helpers score", description=main.__doc__)
    parser.add_argument(
        "--models", nargs="+", help="folders, GGUF files, packages or hub names; none: texts alone"
    )
    parser.add_argument(
        "--texts", help="one text per line: .txt, .jsonl, .parquet, ...; left out: the default set"
    )
    parser.add_argument("--n-texts", type=int, default=128, help="how many of the default set")
    parser.add_argument("--limit", type=int, help="score no more than so many texts")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--bos", default="tokenizer", choices=likelihood.BOS)
    parser.add_argument("--max-tokens", type=int, help="read no more of a text")
    parser.add_argument("--scheduler", help="address of a Dask scheduler")
    model_sources.add_arguments(parser)
    devices.add_arguments(parser)
    given = parser.parse_args(words)
    try:
        if given.limit is not None:
            validation.counts(limit=(given.limit, 1))
        keys = None
        if given.texts:
            texts = corpora.read_texts(given.texts)
        else:
            default = text_sets.load_texts(given.n_texts)
            texts, keys = list(default["text"]), list(default.index)
        texts, keys = texts[: given.limit], keys and keys[: given.limit]
        if not given.models:
            scoring.write_texts(texts, Path(given.out), keys)
            print(f"no models named: {len(texts):,} texts alone: {given.out}/texts.jsonl")
            return 0
        total, log = len(texts) * len(given.models), Path(given.out) / "progress.log"
        done: dict[str, int] = {}
        print(_estimate(given.models, texts), file=sys.stderr)
        with progress.shown(total, "text", log=log) as step:

            def told(name: str, n: int, of: int) -> None:
                step(f"{name}: {n:,} of {of:,} texts", n - done.get(name, 0))
                done[name] = n

            scored = scoring.score_models(
                [model_sources.at_revision(name, given.revision) for name in given.models],
                texts,
                Path(given.out) / "pieces",
                bos=given.bos,
                max_tokens=given.max_tokens,
                scheduler=given.scheduler,
                progress=told,
                allow_bin=given.allow_bin,
                how=devices.How(given.device, given.dtype, given.batch_tokens),
            )
        scoring.write(scored, texts, given.out, keys, vars(given))
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
