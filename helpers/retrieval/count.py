"""The command `python -m helpers count`: a corpus counted into a table."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Sequence

from helpers.retrieval import corpus_counts, counting
from helpers.retrieval.corpora import MAX_DOCUMENT, RANGE_SIZE, CorpusError

MB = 1 << 20
OUTPUT = """\
columns of the output, one row per pair, in the order of the pairs:
  subject, object    the names, as they stand in the pairs
  n_documents        documents that were counted, the same number in every row
  n_subject          documents that hold the subject
  n_object           documents that hold the object
  n_both             documents that hold both
"""


def main(words: Sequence[str] | None = None) -> int:
    """Count the documents of a corpus that name the facts of a table, and write the counts.

    The exit code is 0 when every document was counted, 3 when some were left out (the summary
    says which), 2 when nothing was written, and 130 when the run was interrupted.
    """
    from tqdm import tqdm

    parser = argparse.ArgumentParser(
        prog="python -m helpers count",
        description=inspect.getdoc(main),
        epilog=OUTPUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", required=True, nargs="+", help="files, globs, folders or URLs")
    parser.add_argument("--pairs", required=True, help="CSV or TSV file with a header")
    parser.add_argument(
        "--columns",
        default="subject,object",
        metavar="SUBJECT,OBJECT",
        help="its columns of subjects and objects; default %(default)s",
    )
    parser.add_argument("--out", required=True, help="Parquet or CSV file to write")
    parser.add_argument("--column", default="text", help="field or column that holds the text")
    parser.add_argument(
        "--unit", default="line", choices=("line", "file"), help="what a document is in .txt files"
    )
    parser.add_argument(
        "--max-document",
        type=int,
        default=MAX_DOCUMENT // MB,
        metavar="MB",
        help="leave larger documents out; a process may take 8 times that; default %(default)s",
    )
    parser.add_argument(
        "--range-size",
        type=int,
        default=RANGE_SIZE // MB,
        metavar="MB",
        help="count larger files range by range; default %(default)s (MB of 2^20 bytes)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, default=1, help="processes on this machine")
    where.add_argument("--scheduler", help="address of a Dask scheduler")
    parser.add_argument("--resume", action="store_true", help="keep what was counted before")
    parser.add_argument("--strict", action="store_true", help="stop at the first bad document")
    parser.add_argument("--prefix", default=" ", help="what stands before a name; default a space")
    parser.add_argument("--right-boundary", action="store_true", help="no word character after it")
    parser.add_argument("--ignore-case", action="store_true")
    given = parser.parse_args(words)
    bar = tqdm(unit="B", unit_scale=True, unit_divisor=1000, dynamic_ncols=True)

    def progress(done: int, total: int) -> None:
        if bar.total is None:
            # What an earlier run has counted says nothing about the speed of this one.
            bar.reset(total)
            bar.initial = bar.n = bar.last_print_n = done
        bar.update(done - bar.n)

    try:
        corpus_counts.check_output(given.out)
        columns = given.columns.split(",")
        if len(columns) != 2 or not all(columns):
            raise ValueError(f"--columns is {given.columns!r}; give two, as subject,object")
        counts = corpus_counts.count_corpus(
            given.corpus,
            counting.read_pairs(given.pairs, columns),
            f"{given.out}.shards",
            prefix=given.prefix,
            right_boundary=given.right_boundary,
            case_sensitive=not given.ignore_case,
            column=given.column,
            unit=given.unit,
            max_document=given.max_document * MB,
            range_size=given.range_size * MB,
            strict=given.strict,
            workers=given.workers,
            scheduler=given.scheduler,
            resume=given.resume,
            progress=progress,
        )
        corpus_counts.write_counts(counts, given.out)
    except (CorpusError, ValueError, OSError, RuntimeError) as error:
        bar.close()
        print(f"no counts written: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        bar.close()
        print("stopped; with --resume what was counted so far is kept", file=sys.stderr)
        return 130
    bar.close()
    print(f"{counts.n_documents:,} documents, {len(counts.table):,} pairs: {given.out}")
    if counts.report.counts:
        print(counts.report, file=sys.stderr)
        return 3
    return 0
