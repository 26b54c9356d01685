"""The speed of scanners over the number of names and the rate of their matches, on real text.

The text is code and manuals of installed packages, and the World Factbook. Names are word by word
taken from it, so that they are matched at about the rate that is asked for, and filled up with
pairs of its words that do not stand in it.
"""

from __future__ import annotations

import csv
import io
import random
import re
import sysconfig
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

import numpy as np
from _timing import machine, note

from helpers import factbook, storage
from helpers.data import PUBLISHED
from helpers.retrieval import counting

PACKAGES = ("numpy", "pandas", "scipy", "sklearn", "sphinx", "statsmodels")
LENGTH, RATES = 4096, (0, 1, 5, 20)
WORD = re.compile(r" (\w{3,})")


def load_documents(n_bytes: int) -> list[str]:
    """Return documents of at most 4 kB: files of packages, cut, and parts of the Factbook."""
    root = Path(sysconfig.get_paths()["purelib"])
    files = (sorted((root / name).rglob("*")) for name in PACKAGES)
    texts = [p for some in files for p in some if p.suffix in (".py", ".rst", ".txt", ".pyi")]
    documents = factbook.documents()
    for path in random.Random(0).sample(texts, len(texts)):
        text = path.read_text(errors="ignore")
        documents += [text[at : at + LENGTH] for at in range(0, len(text), LENGTH)]
    random.Random(0).shuffle(documents)
    ends = list(accumulate(map(len, documents)))
    return documents[: sum(end <= n_bytes for end in ends)]


def n_matches(documents: list[str], names: list[str]) -> int:
    """Return how often the names stand in the documents, each after a space."""
    scanner = counting.scanner([f" {name}".encode() for name in names])
    return sum(len(ends) for _, ends in scanner.matches("\n".join(documents).encode()))


def choose_names(documents: list[str], n: int, rate: float) -> list[str]:
    """Return n names that are matched about `rate` times in a kB of the documents."""
    counts = Counter(word for text in documents for word in WORD.findall(text))
    words, often = zip(*counts.most_common(), strict=True)
    sums = np.concatenate([[0], np.cumsum(often)])
    many = min(n, 2000)
    at = np.arange(len(words) - many + 1)
    there = sums[at + many] - sums[at]
    size, chosen = sum(len(text.encode()) for text in documents) / 1e3, ()
    wanted = rate * size
    for _ in range(4 if rate else 0):
        first = int(np.argmin(np.abs(there - wanted)))
        chosen = words[first : first + many]
        # A name is matched within longer words too.
        wanted *= rate * size / n_matches(documents, chosen)
    names = dict.fromkeys(chosen)
    draw, text = random.Random(n), "\n".join(documents)
    heads = {text[m.start() : m.start() + 12] for m in re.finditer(" ", text)}
    while len(names) < n:
        name = " ".join(draw.choices(words, k=2))
        # No match for certain, as its beginning nowhere follows a space.
        if f" {name}"[:12] not in heads and len(name) > 11:
            names[name] = None
    return list(names)


def ways(names: list[str], documents: list[str]) -> dict[str, Callable[[], int]]:
    """Return searches of the documents that keep the matches and tell how many there are.

    Ours is the whole counter, documents and pairs included; all others only find the matches. Of
    Hyperscan "joined" has the documents put together within its time, which "by MiB" has before,
    and "first" finds a name once a document, as ours does where names repeat.
    """
    import ahocorasick
    import ahocorasick_rs
    import daachorse
    import hyperscan

    encoded = [text.encode() for text in documents]
    some = range(0, len(encoded), 280)
    blocks = [b"\xff".join(encoded[at : at + 280]) for at in some]
    patterns = [f" {name}".encode() for name in names]
    index = counting.NameIndex(list(zip(names[::2], names[1::2], strict=True)))
    every = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    every.compile(expressions=patterns, flags=0, literal=True)
    first = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    first.compile(expressions=patterns, flags=hyperscan.HS_FLAG_SINGLEMATCH, literal=True)
    rust = ahocorasick_rs.BytesAhoCorasick(
        patterns, implementation=ahocorasick_rs.Implementation.ContiguousNFA
    )
    double = daachorse.DoubleArrayAhoCorasick(patterns)
    trie = ahocorasick.Automaton()
    for i, name in enumerate(names):
        trie.add_word(f" {name}", i)
    trie.make_automaton()

    def keep(i: int, begin: int, end: int, flags: int, append: Callable[[int], None]) -> None:
        append(i)
        append(end)

    def bare(texts: Iterable[bytes], database: hyperscan.Database = every) -> int:
        n = 0
        for text in texts:
            found = array("I")
            database.scan(text, keep, 0, found.append)
            n += len(found) // 2
        return n

    return {
        "ours": lambda: sum(index.tally(encoded).names),
        "hyperscan, by MiB": lambda: bare(blocks),
        "hyperscan, by document": lambda: bare(encoded),
        "hyperscan, joined": lambda: bare(b"\xff".join(encoded[at : at + 280]) for at in some),
        "hyperscan, first": lambda: bare(encoded, first),
        "ahocorasick_rs": lambda: sum(
            len(rust.find_matches_as_indexes(text, overlapping=True)) for text in blocks
        ),
        "pyahocorasick": lambda: sum(len(list(trie.iter(text))) for text in documents),
        "daachorse": lambda: sum(len(double.find_overlapping(text)) for text in blocks),
    }


def surface(sizes: tuple[int, ...], n_bytes: int, repeats: int) -> list[dict[str, object]]:
    """Print and return MB/s of each way, CPU time of one thread, the best run of each.

    In every run each way has its turn, so that all of them meet the same other load, and in another
    order, for what runs before leaves more or less of memory in the caches.
    """
    documents = load_documents(n_bytes)
    size = sum(len(text.encode()) for text in documents)
    about = {"document_bytes": size // len(documents), "machine": machine()}
    about["date"] = time.strftime("%Y-%m", time.gmtime())
    for name in ("hyperscan", "ahocorasick_rs", "pyahocorasick", "daachorse"):
        about[f"{name} version"] = version(name)
    rows = []
    # A million names take Hyperscan most of a minute to compile: fewer rates of these.
    for n, rate in ((m, r) for m in sizes for r in (RATES if m < 10**6 else RATES[1::2])):
        every = ways(choose_names(documents, n, rate), documents)
        finds = set(every) - {"ours", "hyperscan, first"}
        (matches,) = {every[way]() for way in finds}
        best = dict.fromkeys(every, float("inf"))
        for repeat in range(repeats * (4 if n <= 10_000 else 1)):
            for way in random.Random(repeat).sample(list(every), len(every)):
                began = time.process_time()
                every[way]()
                best[way] = min(best[way], time.process_time() - began)
        speeds = {way: round(size / 1e6 / spent, 1) for way, spent in best.items()}
        rows.append({"names": n, "matches_per_kb": round(matches / size * 1e3, 1)} | speeds | about)
        bare = max(speeds["hyperscan, by MiB"], speeds["hyperscan, by document"])
        print(f"{n:9,} names, {rows[-1]['matches_per_kb']:5.1f} matches per kB:", end=" ")
        print(*(f"{way} {speed:.0f};" for way, speed in speeds.items()), end=" ")
        print(f"ours over bare {speeds['ours'] / bare:.2f}", flush=True)
    return rows


def keep_ratios(rows: list[dict[str, object]]) -> None:
    """Note the counter against the bare Hyperscan, where it keeps least of its speed and most."""
    ways = ["hyperscan, by document", "hyperscan, by MiB"]
    peers = {"one call per document": ways[:1], "one call per document or per MiB": ways}
    for peer, bare in peers.items():
        for n in sorted({row["names"] for row in rows}):
            some = {r["matches_per_kb"]: r for r in rows if r["names"] == n}
            shares = {at: r["ours"] / max(r[way] for way in bare) for at, r in some.items()}
            missed = [f"{share:.0%} at {at}" for at, share in shares.items() if share < 0.9]
            best = "the faster of " if len(bare) > 1 else ""
            told = f"against {best}{peer}: {max(shares.values()):.0%} at best"
            if missed:
                least = min(shares, key=shares.get)
                joined = some[least]["hyperscan, joined"] / max(some[least][way] for way in bare)
                told += f", {', '.join(missed)} matches per kB; at the lowest ratio "
                told += f"the bare scanner itself keeps {joined:.0%} when it also has to join "
                told += "the documents"
            what = f"the whole counter, {n:,} names, 0 to 20 matches per kB: its lowest ratio"
            least = min(shares.values())
            aim = {"unit": "%", "aim": 0.9, "remark": f"{told}."}
            note(what, f"bare Hyperscan, {peer}", None, None, least, **aim)


def run(quick: bool, repeats: int) -> None:
    """Measure the surface; unless it is a quick one, store it as `counting_surface.csv`."""
    if quick:
        keep_ratios(surface((100, 10_000), 2_000_000, repeats))
        return
    rows = surface((100, 1000, 10_000, 100_000, 1_000_000), 8_000_000, repeats)
    keep_ratios(rows)
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    storage.write_text(PUBLISHED / "counting_surface.csv", table.getvalue())
