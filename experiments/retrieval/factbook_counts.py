"""The Factbook's facts counted in corpora: the table `real_counts.csv`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from helpers import data
from helpers.retrieval import factbook_facts, smi


def main(words: Sequence[str] | None = None) -> int:
    """Count the facts of the Factbook in the Factbook and other corpora; write a CSV file."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments factbook_counts", description=main.__doc__
    )
    parser.add_argument("--corpora", nargs="*", default=[], help="files, globs, folders or URLs")
    out = factbook_facts.COUNTED
    parser.add_argument("--out", type=Path, default=out, help="CSV file to write")
    given = parser.parse_args(words)
    documents = factbook_facts.documents(given.corpora, named=True)
    counted = factbook_facts.count_facts(factbook_facts.facts(), documents)
    columns = ["relation", "subject", *smi.COUNTS]
    data.write_atomically(given.out, counted[columns].to_csv(index=False))
    print(f"{counted.n_documents.iloc[0]:,} documents, {len(counted):,} facts: {given.out}")
    return 0
