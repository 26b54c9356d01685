"""The command `before-ft count`: a corpus counted into a table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from helpers.commands import shell

_MB = 1 << 20
_EXAMPLES = """
--corpus "corpus/*.jsonl.zst" --pairs facts.csv --out counts.parquet --workers 4
--corpus corpus.parquet --pairs facts.csv --columns country,capital --out counts.csv --resume
"""
_OUTPUT = (
    """\
columns of the output, one row per pair, in the order of the pairs:
  subject, object    the names, as they stand in the pairs
  n_documents        documents that were counted, the same number in every row
  n_subject          documents that contain the subject
  n_object           documents that contain the object
  n_both             documents that contain both

"""
    + shell.CODES
)


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    from helpers.retrieval.corpora import MAX_DOCUMENT, RANGE_SIZE

    made = shell.Parser(
        "count",
        "Count the documents of a corpus that name the facts of a table, and write the counts.",
        _EXAMPLES,
        _OUTPUT,
    )
    add = made.add_argument
    add("--corpus", required=True, nargs="+", help="files, globs, folders or URLs")
    add("--pairs", required=True, help="CSV or TSV file with a header, or a pipe")
    add(
        "--columns",
        default="subject,object",
        metavar="SUBJECT,OBJECT",
        help="its columns of subjects and objects; default %(default)s",
    )
    add("--out", required=True, help="Parquet or CSV file to write")
    add("--column", default="text", help="field or column that holds the text")
    add("--unit", default="line", choices=("line", "file"), help="what a document is in .txt files")
    add(
        "--max-document",
        type=int,
        default=MAX_DOCUMENT // _MB,
        metavar="MB",
        help="leave larger documents out; a process may take 8 times that; default %(default)s",
    )
    add(
        "--range-size",
        type=int,
        default=RANGE_SIZE // _MB,
        metavar="MB",
        help="count larger files range by range; default %(default)s (MB of 2^20 bytes)",
    )
    where = made.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=int, default=1, help="processes on this machine; default %(default)s"
    )
    where.add_argument("--scheduler", help="address of a Dask scheduler")
    add("--resume", action="store_true", help="continue a stopped run")
    add("--strict", action="store_true", help="stop at the first bad document")
    add("--prefix", default=" ", help="what stands before a name; default a space")
    add("--right-boundary", action="store_true", help="no word character after it")
    add("--ignore-case", action="store_true", help="upper and lower case are the same")
    return made


def _work(given: argparse.Namespace) -> int:
    from tqdm import tqdm

    from helpers.retrieval import corpus_counts, counting

    if pipes := [name for name in given.corpus if Path(name).is_fifo()]:
        cure = "write what comes out of it into a file, and pass that"
        raise ValueError(f"--corpus {pipes[0]!r} is a pipe, which has no size; {cure}")
    corpus_counts.check_output(given.out)
    columns = given.columns.split(",")
    if len(columns) != 2 or not all(columns):
        raise ValueError(f"--columns is {given.columns!r}; give two, as subject,object")
    pairs = counting.read_pairs(given.pairs, columns)
    bar = tqdm(
        unit="B", unit_scale=True, unit_divisor=1000, dynamic_ncols=True, disable=given.quiet
    )

    def progress(done: int, total: int) -> None:
        if bar.total is None:
            # What an earlier run has counted says nothing about the speed of this one.
            bar.reset(total)
            bar.initial = bar.n = bar.last_print_n = done
        bar.update(done - bar.n)

    try:
        counts = corpus_counts.count_corpus(
            given.corpus,
            pairs,
            f"{given.out}.shards",
            prefix=given.prefix,
            right_boundary=given.right_boundary,
            case_sensitive=not given.ignore_case,
            column=given.column,
            unit=given.unit,
            max_document=given.max_document * _MB,
            range_size=given.range_size * _MB,
            strict=given.strict,
            workers=given.workers,
            scheduler=given.scheduler,
            resume=given.resume,
            progress=progress,
        )
        corpus_counts.write_counts(counts, given.out)
    finally:
        bar.close()
    told = f"{counts.n_documents:,} documents, {len(counts.table):,} pairs: {given.out}"
    left_out = dict(counts.report.counts)
    value = {"out": given.out, "n_documents": counts.n_documents, "n_pairs": len(counts.table)}
    shell.emit(given, told, value | {"left_out": left_out})
    if left_out:
        print(counts.report, file=sys.stderr)
    return shell.FAILED if left_out else shell.OK


main = shell.Command(
    _parser,
    _work,
    nothing="no counts written",
    kept="with --resume what was counted so far is kept",
)
