"""What unfolds to more than a limit is left out, with its place, before it is in memory."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import zstandard
from pyarrow import parquet

from helpers import data
from helpers.retrieval import corpora

MB = 1 << 20
GOOD = b'{"text": "good"}\n'


def large_json(pack):
    """Pack a line of 60 MB with a good one before and after it, frame by frame."""
    frame = pack(b"x" * MB)
    return pack(GOOD + b'{"text": "') + frame * 60 + pack(b'"}\n' + GOOD)


def table_file(path, *groups, **options):
    schema = pa.schema([("text", pa.string())])
    with parquet.ParquetWriter(path, schema, **options) as writer:
        for group in groups:
            writer.write_table(pa.table({"text": group}, schema))


def arrow_file(path, *batches, compression="zstd"):
    schema = pa.schema([("text", pa.string()), ("other", pa.dictionary(pa.int8(), pa.string()))])
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(path, schema, options=options) as stream:
        for texts in batches:
            other = pa.array(["b"] * len(texts)).dictionary_encode().cast(schema.field(1).type)
            stream.write_table(pa.table([texts, other], schema))


def write_bombs(folder):
    """Write small files of what is much, and return what each is to give with a limit of 1 MB."""
    (folder / "a.jsonl.gz").write_bytes(large_json(gzip.compress))
    (folder / "b.jsonl.zst").write_bytes(large_json(zstandard.compress))
    (folder / "c.txt.gz").write_bytes(gzip.compress(b"x" * MB) * 60)
    objects = b'{"text": "a", "other": [' + b"[]," * (MB // 4) + b"[]]}\n"
    (folder / "d.jsonl").write_bytes(GOOD + objects + GOOD)
    small, large = "a" * (MB - 9), "b" * (MB + MB // 2)
    plain = {"use_dictionary": False, "compression": "zstd"}
    # A page may hold more than a document; a dictionary repeats one.
    table_file(folder / "e.parquet", ["good", large, "good"], ["good"], **plain)
    table_file(folder / "f.parquet", ["good", "c" * 60 * MB], ["good"], **plain)
    table_file(folder / "g.parquet", [small] * 300, compression="zstd")
    arrow_file(folder / "h.arrow", ["good"], ["d" * 60 * MB, "e"], ["good"])
    arrow_file(folder / "i.arrow", ["good", large, "good"], compression=None)
    once = pa.array(["f" * (MB - 200)])
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int16()), once)
    valid, view, text = pa.array(["f" * (MB - 200)], pa.string_view()).buffers()
    buffers = [valid, pa.py_buffer(view.to_pybytes()[:16] * 300), text]
    views = pa.Array.from_buffers(pa.string_view(), 300, buffers)
    for name, column in {"j.arrow": repeated, "k.arrow": views}.items():
        table = pa.table({"text": column})
        with pa.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table)
    return {
        "a.jsonl.gz": (2, {"line 2": 1}),
        "b.jsonl.zst": (2, {"line 2": 1}),
        "c.txt.gz": (0, {"file 1": 1}),
        "d.jsonl": (2, {"line 2": 1}),
        "e.parquet": (3, {"row 2": 1}),
        "f.parquet": (1, {"rows 1 to 2": 2}),
        "g.parquet": (300, {}),
        "h.arrow": (2, {"rows 2 to 3": 2}),
        "i.arrow": (2, {"row 2": 1}),
        "j.arrow": (300, {}),
        "k.arrow": (300, {}),
    }


READER = """
import json, os, resource, sys
import pyarrow.parquet
from helpers.retrieval import corpora, tables

def peak():
    # On Linux the usage of a process begins with that of the one which started it.
    if os.path.exists("/proc/self/status"):
        return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
read = {}
for file in sys.argv[1:]:
    report, unit = corpora.Report(), "file" if ".txt" in file else "line"
    limit = {"unit": unit, "max_document": 1 << 20, "report": report}
    n = sum(1 for _ in corpora.read_documents(file, **limit))
    places = {problem.place: report.counts[problem.kind] for problem in report.first}
    assert set(report.counts) <= {"too large"}, report
    read[file] = n, places, peak() - before
print(json.dumps(read))
"""


def test_damaged_tables_are_reported_whatever_byte_is_wrong(tmp_path):
    rng = np.random.default_rng(1)
    table_file(tmp_path / "a.parquet", ["good"] * 20 + ["x" * 300], ["b"] * 5)
    arrow_file(tmp_path / "b.arrow", ["good"] * 5, ["x" * 200, "e"], ["good"])
    for path in (tmp_path / "a.parquet", tmp_path / "b.arrow"):
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        n_damaged = 0
        for _ in range(100):
            bytes_ = whole.copy()
            bytes_[rng.integers(len(whole), size=2)] = rng.choice([0, 127, 128, 255], 2)
            path.write_bytes(bytes_.tobytes())
            report = corpora.Report()
            n = sum(1 for _ in corpora.read_documents(path, max_document=MB, report=report))
            assert n <= 26
            n_damaged += report.counts.get("damaged file", 0)
        assert 20 < n_damaged < 100


def test_bombs_are_left_out_in_bounded_memory(tmp_path):
    wanted = write_bombs(tmp_path)
    files = [str(tmp_path / name) for name in wanted]
    assert sum((tmp_path / name).stat().st_size for name in wanted) < 6 * MB
    words = [sys.executable, "-c", READER, *files]
    run = subprocess.run(words, capture_output=True, text=True, cwd=data.ROOT)
    assert run.returncode == 0, run.stderr
    for file, (n, places, kilobytes) in json.loads(run.stdout).items():
        name = file.rpartition("/")[2]
        assert (n, places) == wanted[name], name
        # Eight times the limit, what one piece of an archive unfolds to, and the pool of Arrow.
        assert kilobytes < 40_000, name
