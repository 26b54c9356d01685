"""The Factbook's facts counted in corpora: the table `real_counts.csv`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from experiments.command import Written, command, option
from helpers.retrieval import factbook_facts, smi


@command(
    "factbook_counts",
    option("--corpora", nargs="*", default=[], help="files, globs, folders or URLs"),
    option("--out", type=Path, default=factbook_facts.COUNTED, help="CSV file to write"),
)
def main(given: Namespace) -> Written:
    """Count the facts of the Factbook in the Factbook and other corpora; write a CSV file."""
    documents = factbook_facts.documents(given.corpora, named=True)
    counted = factbook_facts.count_facts(factbook_facts.facts(), documents)
    print(f"{counted.n_documents.iloc[0]:,} documents, {len(counted):,} facts")
    yield given.out, counted[["relation", "subject", *smi.COUNTS]].to_csv(index=False)
