"""Time the counting of the published facts against the authors' procedure and pyahocorasick.

Run `python benchmarks/counting.py`; needs the released files of SMI and pyahocorasick. The text is
made of sentences of the World Factbook that hold none of the names, with names put in so often as
the authors found them in the Pile. Times are CPU seconds of one process, the least of several
runs; two processes and the cost of starting them are timed by the clock.

`--surface` measures the counter and four scanners over numbers of names and rates of matches; it
needs daachorse as well.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

import ahocorasick
import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _timing import keep, note, parser, timed

from helpers.retrieval import corpora, corpus_counts, counting, name_matching

# The two processes that are timed import this file: what they do not need is imported below.
if TYPE_CHECKING:
    import pandas as pd

SENTENCES = 52
Pairs = list[tuple[str, str]]


def fresh_index(pairs: Pairs) -> counting.NameIndex:
    name_matching._compiled.cache_clear()
    return counting.NameIndex(pairs)


def write_documents(n: int, facts: pd.DataFrame, index: counting.NameIndex) -> list[str]:
    """Return n documents of about 4.4 kB with names at the rates of the Pile."""
    import pandas as pd

    from helpers import factbook

    rng = np.random.default_rng(0)
    every = factbook.draw_sentences(17_000)
    found = [index.tally([f" {sentence} "]).names for sentence in every]
    clean = [sentence for sentence, names in zip(every, found, strict=True) if not any(names)]
    alone: dict[str, int] = {}
    for kind in ("subject", "object"):
        alone |= facts.groupby(kind)[f"n_{kind}"].max().to_dict()
    for kind in ("subject", "object"):
        for name, both in facts.groupby(kind).n_both.sum().items():
            alone[name] = max(alone[name] - both, 0)
    both = facts.n_both / facts.n_documents
    rates = pd.Series(alone) / facts.n_documents.iloc[0]
    pairs = list(zip(facts.subject, facts.object, strict=True))
    documents = []
    for _ in range(n):
        pieces = [clean[i] for i in rng.integers(len(clean), size=SENTENCES)]
        for i in rng.choice(len(pairs), rng.poisson(both.sum()), p=both / both.sum()):
            pieces += pairs[i]
        pieces += list(rng.choice(rates.index, rng.poisson(rates.sum()), p=rates / rates.sum()))
        rng.shuffle(pieces)
        documents.append(" ".join(pieces))
    return documents


def released_procedure(documents: list[str], pairs: Pairs) -> list[tuple[int, int, int]]:
    """Return the counts as the authors make them: every fact is looked for in every document."""
    keys = ["time_seqs", "time_subj", "time_obj"]
    keys += ["time_s1j1", "time_s1j0", "time_s0j1", "time_s0j0"]
    facts = [{"subj": s, "obj": o, **dict.fromkeys(keys, 0)} for s, o in pairs]
    for document in documents:
        for fact in facts:
            subject, obj = " " + fact["subj"] in document, " " + fact["obj"] in document
            fact["time_seqs"] += 1
            fact["time_subj"] += subject
            fact["time_obj"] += obj
            fact["time_s1j1"] += subject and obj
            fact["time_s1j0"] += subject and not obj
            fact["time_s0j1"] += not subject and obj
            fact["time_s0j0"] += not subject and not obj
    return [(f["time_subj"], f["time_obj"], f["time_s1j1"]) for f in facts]


class Pyahocorasick:
    """Counts by pyahocorasick, with the pairs taken from the names that a document has."""

    def __init__(self, pairs: Pairs) -> None:
        names = {name: i for i, name in enumerate(dict.fromkeys(n for pair in pairs for n in pair))}
        self.pairs = [(names[subject], names[obj]) for subject, obj in pairs]
        self.objects: list[list[int]] = [[] for _ in names]
        for subject, obj in self.pairs:
            self.objects[subject].append(obj)
        self.automaton = ahocorasick.Automaton()
        for name, i in names.items():
            self.automaton.add_word(" " + name, i)
        self.automaton.make_automaton()

    def count(self, documents: list[str]) -> list[tuple[int, int, int]]:
        """Return the three counts of every pair."""
        single, both = [0] * len(self.objects), dict.fromkeys(self.pairs, 0)
        for document in documents:
            present = {i for _, i in self.automaton.iter(document)}
            for i in present:
                single[i] += 1
                for obj in self.objects[i]:
                    if obj in present:
                        both[i, obj] += 1
        return [(single[s], single[o], both[s, o]) for s, o in self.pairs]


def rows(table: pd.DataFrame) -> list[tuple[int, int, int]]:
    """Return the three counts of every pair."""
    columns = ["n_subject", "n_object", "n_both"]
    return list(table[columns].itertuples(index=False, name=None))


def in_memory(documents: list[str], pairs: Pairs, few: int, repeats: int) -> float:
    """Print the rates of all ways from documents in memory; return the seconds of ours."""
    encoded = [document.encode() for document in documents]
    size = sum(map(len, encoded)) / 1e6
    some = sum(map(len, encoded[:few])) / 1e6
    slow, procedure = timed(lambda: released_procedure(documents[:few], pairs), 1)
    other, build_other = timed(lambda: Pyahocorasick(pairs), repeats)
    peer, seconds = timed(lambda: other.count(documents), repeats)
    index, build = timed(lambda: fresh_index(pairs), repeats)
    tally, own = timed(lambda: index.tally(encoded), repeats)
    _, own_str = timed(lambda: index.tally(documents), repeats)
    others = [counting.Rule(right_boundary=True), counting.Rule(case_sensitive=False)]
    indices = [counting.NameIndex(pairs, rule) for rule in others]
    bounded, folded = (timed(lambda i=i: i.tally(encoded), repeats)[1] for i in indices)
    assert rows(index.table(tally)) == peer, "the counts are not those of pyahocorasick"
    first = rows(index.table(index.tally(documents[:few])))
    assert first == slow, "the counts are not those of the released procedure"
    print(f"identical counts: {few} documents by the procedure, {len(documents):,} by the others")
    print(f"{'':34}{'documents/s':>12}{'MB/s':>9}{'x':>8}")
    for name, (n, mb, spent) in {
        f"released procedure ({few} documents)": (few, some, procedure),
        "pyahocorasick, str": (len(documents), size, seconds),
        "ours, bytes": (len(documents), size, own),
        "ours, str": (len(documents), size, own_str),
        "ours, bytes, right boundary": (len(documents), size, bounded),
        "ours, bytes, case ignored": (len(documents), size, folded),
    }.items():
        print(f"{name:34}{n / spent:12,.0f}{mb / spent:9.2f}{mb / spent * procedure / some:8.0f}")
    print(f"ours over pyahocorasick {seconds / own:.2f} (on str {seconds / own_str:.2f})")
    whole = procedure * size / some
    note("counting facts", "the released procedure", own, whole, whole / own, aim=2500)
    note("counting facts", "pyahocorasick", own, seconds, seconds / own, aim=2)
    print(f"built before: pyahocorasick in {build_other:.2f} s, ours in {build:.2f} s\n")
    return own


def from_files(
    documents: list[str], pairs: Pairs, folder: Path, repeats: int, in_memory: float, copies: int
) -> None:
    """Print the rates from files of one process, and the gain of two on so many copies of all."""
    import pandas as pd

    size = sum(len(document.encode()) for document in documents) / 1e6
    records = [json.dumps({"id": i, "text": text}) for i, text in enumerate(documents)]
    lines = ("\n".join(records) + "\n").encode()
    (folder / "c.jsonl").write_bytes(lines)
    (folder / "c.jsonl.zst").write_bytes(zstandard.compress(lines))
    table = pd.DataFrame({"text": documents})
    table.to_parquet(folder / "c.parquet", row_group_size=2000, compression="zstd")
    print(f"{'from a file, reading included':34}{'MB/s':>9}{'of memory':>11}")
    index = counting.NameIndex(pairs)
    expected = rows(index.table(index.tally(documents)))
    for name in ("c.jsonl", "c.jsonl.zst", "c.parquet"):
        tally, seconds = timed(
            lambda name=name: index.tally(corpora.read_documents(folder / name)), repeats
        )
        assert rows(index.table(tally)) == expected, f"the counts from {name} are others"
        print(f"{name:34}{size / seconds:9.2f}{in_memory / seconds:11.0%}")
        ratio, kind = in_memory / seconds, name.removeprefix("c")
        note(f"counting from {kind}", "from memory", seconds, in_memory, ratio, unit="%", aim=0.5)
    times, spent = {}, {}
    parts = folder / "parts"
    parts.mkdir()
    for i in range(8):
        text = "\n".join(records[i::8]) + "\n"
        (parts / f"{i}.jsonl.zst").write_bytes(zstandard.compress(text.encode() * copies))
    for workers in (1, 2):
        clock = []
        for _ in range(repeats):
            before, began = sum(os.times()[:4]), time.perf_counter()
            out = tempfile.mkdtemp(dir=folder)
            counts = corpus_counts.count_corpus(parts / "*.zst", pairs, out, workers=workers)
            clock.append(time.perf_counter() - began)
            # Only what has ended is in the children's times, the server of forks among them.
            forkserver._forkserver._stop()
            cpu = sum(os.times()[:4]) - before
            spent[workers] = min(cpu, spent.get(workers, cpu))
        times[workers] = min(clock)
        assert rows(counts.table) == [tuple(copies * n for n in row) for row in expected]
    print(f"\n8 files, {copies * size:,.0f} MB: one process {times[1]:.1f} s,", end=" ")
    print(f"two {times[2]:.1f} s by\nthe clock, {times[1] / times[2]:.2f} x;", end=" ")
    print(f"load average {os.getloadavg()[0]:.1f}, ", end="")
    print(f"{os.cpu_count()} cores;\nCPU seconds {spent[1]:.1f} and {spent[2]:.1f}, ", end="")
    gain = times[1] / times[2]
    note("two processes, wall-clock time", "one process", times[2], times[1], gain, aim=1.8)
    gain = 2 * spent[1] / spent[2]
    note("two processes, by CPU time", "one process", spent[2], spent[1], gain, aim=1.8)
    print(f"by which two idle cores give {2 * spent[1] / spent[2]:.2f} x")


def memory(documents: list[str], pairs: Pairs, folder: Path) -> None:
    """Print the memory of two processes that count a file each, and one eight times as large.

    A worker's share is its part of what the workers and their server take of the machine together:
    a page that several processes hold, as those of program files, counts once.
    """
    import pandas as pd
    from pyarrow import parquet

    lines = "".join(json.dumps({"text": text}) + "\n" for text in documents).encode()
    table = pd.DataFrame({"text": documents})
    print(f"\n{'most memory of a worker, MB':34}{'share, 1 x':>11}{'share, 8 x':>11}", end="")
    print(f"{'resident':>10}{'its own':>9}")
    for kind in ("jsonl.zst", "parquet"):
        shares = []
        for times in (1, 8):
            corpus = folder / f"{kind}-{times}"
            corpus.mkdir()
            for number in range(2):
                file = corpus / f"{number}.{kind}"
                if kind == "parquet":
                    # One row group of the whole: the hardest case.
                    whole = pd.concat([table] * times)
                    whole.to_parquet(file, row_group_size=len(whole), compression="zstd")
                    assert parquet.ParquetFile(file).num_row_groups == 1
                else:
                    file.write_bytes(zstandard.compress(lines * times))
            share, resident, own = most_memory(
                lambda corpus=corpus: corpus_counts.count_corpus(
                    corpus / "*", pairs, corpus / "out", workers=2
                )
            )
            shares.append(share)
        told = (
            f"proportional set size; {resident:.0f} MB are resident and {own:.0f} of them private, "
            "the rest are program files that all processes share."
        )
        limits = {"unit": "MB", "aim": 100, "most": True, "remark": told}
        note(f"memory of a worker on .{kind}", "-", None, None, share, **limits)
        print(f"{kind:34}{shares[0]:11.0f}{shares[1]:11.0f}{resident:10.0f}{own:9.0f}")


def most_memory(run: Callable[[], object]) -> tuple[float, float, float]:
    """Return the most MB that two processes which a function starts take, each of them.

    The first number is half of what all that it starts take of the machine; then come the largest
    process' resident pages and those of them that it shares with no other.
    """
    import psutil

    most, done = np.zeros(3), threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            try:
                now = [child.memory_full_info() for child in psutil.Process().children(True)]
            except psutil.Error:  # one of them has just ended
                continue
            sizes = [[getattr(one, "pss", one.rss), one.rss, one.uss] for one in now]
            share, resident, own = zip(*sizes, strict=True) if sizes else ((0,),) * 3
            most[:] = np.maximum(most, [sum(share) / 2, max(resident), max(own)])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
        forkserver._forkserver._stop()
    return tuple(most / 1e6)


def main() -> None:
    """Print the rates in memory, from files and of two processes, and the memory of a worker."""
    options = parser(__doc__, quick="smaller sizes, half a minute")
    options.add_argument("--surface", action="store_true", help="only speed over names and rates")
    options = options.parse_args()
    if options.surface:
        import _surface

        _surface.run(options.quick, options.repeats)
        keep(options)
        return
    from helpers.retrieval import release

    n, few, copies = (2_000, 10, 8) if options.quick else (8_000, 60, 32)
    facts = release.load_facts("pythia-12b")
    pairs = list(zip(facts.subject, facts.object, strict=True))
    index = counting.NameIndex(pairs)
    documents = write_documents(n, facts, index)
    tally = index.tally(documents)
    size = sum(len(document.encode()) for document in documents)
    print(f"{len(pairs):,} pairs of {index.n_names:,} names; {n:,} documents, {size / 1e6:.1f} MB")
    print(f"a document has {sum(tally.names) / n:.2f} names and {sum(tally.both) / n:.2f} pairs\n")
    own = in_memory(documents, pairs, few, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        from_files(documents, pairs, Path(folder), options.repeats, own, copies)
        memory(documents, pairs, Path(folder))
    keep(options)


if __name__ == "__main__":
    main()
