"""Counting a corpus of files: the same counts in every way, after every stop, and on a cluster."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from helpers import data
from helpers.commands import count
from helpers.retrieval import corpora, corpus_counts, corpus_files, counting

PAIRS = [("car", "Paris"), ("Paris", "car"), ("India", "Ho"), ("South Africa", "Africa")]
EMPTY = '{"n_documents": 1, "names": [], "both": [], "counts": {}, "first": [], "lines": 0}'
WORDS = "a car carts Paris India Indiana Ho House South Africa Zürich and of".split()


@pytest.fixture
def corpus(tmp_path):
    """Eight files of different size, as texts by path; the fifth has a line that is cut."""
    rng = np.random.default_rng(0)
    files = {}
    for i in range(8):
        texts = [" " + " ".join(rng.choice(WORDS, 6)) for _ in range(20 + 15 * i)]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        path = tmp_path / f"corpus/part{i}.jsonl.zst"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zstandard.compress((lines + '{"te' * (i == 4)).encode()))
        files[str(path)] = texts
    return files


def expected(files, **rule):
    return counting.count_documents([t for texts in files.values() for t in texts], PAIRS, **rule)


def same(counts, other):
    assert counts.n_documents == other.n_documents
    pd.testing.assert_frame_equal(counts.table, other.table)


@pytest.fixture
def counted_files(monkeypatch):
    """The names of the files that are counted in this process."""
    names = []
    shard = corpus_counts._count_shard

    def count_shard(one, *rest, **options):
        names.append(one.range.file)
        return shard(one, *rest, **options)

    monkeypatch.setattr(corpus_counts, "_count_shard", count_shard)
    return names


def test_counts_of_files_are_those_of_their_documents(corpus, tmp_path, counted_files):
    steps = []
    run = {"progress": lambda *done: steps.append(done)}
    counts = corpus_counts.count_corpus(list(corpus), PAIRS, tmp_path / "out", **run)
    same(counts, expected(corpus))
    assert counts.table["n_both"].sum() > 0
    assert counts.report.counts == {"broken JSON": 1}
    assert counts.report.first[0].place == f"line {20 + 60 + 1}"
    sizes = [os.path.getsize(file) for file in counted_files]
    assert sorted(counted_files) == sorted(corpus) and sizes == sorted(sizes, reverse=True)
    assert steps[0] == (0, sum(sizes)) and steps[-1] == (sum(sizes), sum(sizes))
    assert set(np.cumsum(sizes)) <= {done for done, _ in steps}
    assert steps == sorted(steps) and len(steps) > 8


def test_a_stopped_run_goes_on_where_it_stood_and_counts_no_file_twice(
    corpus, tmp_path, counted_files, monkeypatch
):
    def stop(done, total):
        if len(counted_files) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corpus_counts.count_corpus(list(corpus), PAIRS, tmp_path / "out", progress=stop)
    first = counted_files[:3]
    del counted_files[3:]
    steps = []
    run = {"progress": lambda *done: steps.append(done)}
    counts = corpus_counts.count_corpus([*corpus, *corpus], PAIRS, tmp_path / "out", **run)
    same(counts, expected(corpus))
    assert counts.report.counts == {"broken JSON": 1}
    assert sorted(counted_files) == sorted(corpus)
    assert steps[0][0] == sum(os.path.getsize(file) for file in first)
    same(corpus_counts.count_corpus(list(corpus), PAIRS, tmp_path / "out"), counts)
    assert len(counted_files) == 8
    corpus_counts.count_corpus(list(corpus), PAIRS, tmp_path / "out", resume=False)
    assert len(counted_files) == 16


@pytest.mark.parametrize(
    "other",
    [{"prefix": ""}, {"right_boundary": True}, {"case_sensitive": False}, {"column": "te"}]
    + [{"unit": "file"}, {"pairs": PAIRS[::-1]}],
)
def test_nothing_kept_is_taken_for_another_question(corpus, tmp_path, counted_files, other):
    file = list(corpus)[0]
    corpus_counts.count_corpus(file, PAIRS, tmp_path / "out")
    corpus_counts.count_corpus(file, **{"pairs": PAIRS, "out_folder": tmp_path / "out", **other})
    assert counted_files == [file, file]


def test_changed_files_and_damaged_results_are_counted_anew(corpus, tmp_path, counted_files):
    file, other = list(corpus)[:2]
    before = os.stat(file)
    first = corpus_counts.count_corpus(file, PAIRS, tmp_path / "out")
    Path(file).write_bytes(Path(file).read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    same(corpus_counts.count_corpus(file, PAIRS, tmp_path / "out"), first)
    assert len(counted_files) == 2
    for text in ("", '{"n_documents": 3', '{"names": []}', "[1]", EMPTY):
        for result in (tmp_path / "out").glob("*.json"):
            result.write_text(text)
        same(corpus_counts.count_corpus(file, PAIRS, tmp_path / "out"), first)
    assert len(counted_files) == 7


def test_a_file_that_changes_while_it_is_counted_is_an_error(corpus, tmp_path, monkeypatch):
    file = list(corpus)[0]
    shard = corpus_counts._count_shard

    def slow(one, *rest, **options):
        result = shard(one, *rest, **options)
        os.utime(one.range.file, ns=(0, 0))
        return result

    monkeypatch.setattr(corpus_counts, "_count_shard", slow)
    with pytest.raises(RuntimeError, match="changed while it was counted"):
        corpus_counts.count_corpus(file, PAIRS, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_strict_stops_also_at_a_problem_that_was_kept(corpus, tmp_path, counted_files):
    bad = list(corpus)[4]
    with pytest.raises(corpora.CorpusError, match="line 81: broken JSON"):
        corpus_counts.count_corpus(bad, PAIRS, tmp_path / "out", strict=True)
    assert not list(tmp_path.glob("out/*"))
    corpus_counts.count_corpus(bad, PAIRS, tmp_path / "out")
    with pytest.raises(corpora.CorpusError, match="line 81: broken JSON"):
        corpus_counts.count_corpus(bad, PAIRS, tmp_path / "out", strict=True)
    assert counted_files == [bad, bad]


@pytest.fixture
def large_files(tmp_path):
    """One corpus in files of four kinds, each to be cut into ranges, with a bad line or row."""
    rng = np.random.default_rng(0)
    texts = [" " + " ".join(rng.choice(WORDS, rng.integers(1, 40))) for _ in range(400)]
    lines = [json.dumps({"text": text}).encode() + b"\n" for text in texts]
    lines[300] = b"{}\n"
    texts[300] = None
    whole = b"".join(lines)
    frames = (whole[i : i + 3001] for i in range(0, len(whole), 3001))
    (tmp_path / "a.jsonl").write_bytes(whole)
    (tmp_path / "b.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, frames)))
    table = pa.table({"text": texts})
    parquet.write_table(table, tmp_path / "c.parquet", row_group_size=21)
    texts[300] = "\udcff"
    lines = "\n".join(texts).encode("utf-8", "surrogateescape")
    (tmp_path / "d.txt").write_bytes(lines)
    del texts[300]
    files = {tmp_path / name: texts for name in ("a.jsonl", "b.jsonl.zst", "c.parquet", "d.txt")}
    return {str(file): texts for file, texts in files.items()}


def test_a_file_in_ranges_counts_and_reports_as_the_whole(large_files, tmp_path, counted_files):
    for file, texts in large_files.items():
        whole = corpus_counts.count_corpus(file, PAIRS, tmp_path / "whole")
        same(whole, expected({file: texts}))
        assert whole.report.first[0].place.endswith(" 301")
        counted_files.clear()
        size = os.path.getsize(file) // 5
        steps = []
        run = {"range_size": size, "progress": lambda *done, steps=steps: steps.append(done)}
        parts = corpus_counts.count_corpus(file, PAIRS, tmp_path / "out", **run)
        assert len(counted_files) >= 4
        same(parts, whole)
        assert parts.report == whole.report
        assert steps[-1] == (os.path.getsize(file), os.path.getsize(file))
        kept = len(counted_files)
        corpus_counts.count_corpus(file, PAIRS, tmp_path / "out", range_size=size)
        assert len(counted_files) == kept
        with pytest.raises(corpora.CorpusError, match=f"{file}, (line|row) 301: "):
            corpus_counts.count_corpus(file, PAIRS, tmp_path / "out", range_size=size, strict=True)
        # Another size cuts elsewhere, and nothing of the first is taken for its ranges.
        same(corpus_counts.count_corpus(file, PAIRS, tmp_path / "out", range_size=size * 2), whole)
        assert len(counted_files) > kept + 1


def test_documents_over_a_limit_are_told_with_their_place(tmp_path):
    lines = [f" car Paris {'x' * (i // 10)}\n" for i in range(200)]
    (tmp_path / "c.txt").write_text("".join(lines))
    run = {"max_document": 25, "range_size": 500, "workers": 2}
    counts = corpus_counts.count_corpus(tmp_path / "c.txt", PAIRS[:1], tmp_path / "out", **run)
    assert counts.n_documents == counts.table.loc[0, "n_both"] == 150
    assert counts.report.counts == {"too large": 50}
    assert [p.place for p in counts.report.first] == [f"line {i}" for i in range(151, 156)]
    again = corpus_counts.count_corpus(
        tmp_path / "c.txt", PAIRS[:1], tmp_path / "out", range_size=500
    )
    assert again.n_documents == 200
    # Commas within a text make no objects; lists do. Of many keys a few are told.
    rows = [
        {"text": "1,\\[" * 5000},
        {"text": "a", "x": [[]] * 5000},
        dict.fromkeys(map(str, range(999))),
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = corpora.Report()
    documents = corpora.read_documents(tmp_path / "c.jsonl", report=report, max_document=100_000)
    assert list(documents) == [rows[0]["text"].encode()]
    assert report.counts == {"too large": 1, "no text": 1}
    assert len(report.first[1].detail) < 1000
    with pytest.raises(ValueError, match="max_document is 0"):
        corpus_counts.count_corpus(tmp_path / "c.txt", PAIRS, tmp_path / "out", max_document=0)
    with pytest.raises(ValueError, match="range_size is 2.5"):
        corpus_counts.count_corpus(tmp_path / "c.txt", PAIRS, tmp_path / "out", range_size=2.5)


KILLED = """
import os, sys
from helpers.retrieval import corpus_counts

file, out = sys.argv[1:]

def progress(done, total):
    if len(os.listdir(out)) == 3:
        os.kill(os.getpid(), 9)

os.mkdir(out)
corpus_counts.count_corpus(file, [("car", "Paris")], out, range_size=4000, progress=progress)
"""


def test_a_killed_run_resumes_inside_of_a_file(large_files, tmp_path, counted_files):
    file, out = list(large_files)[0], tmp_path / "out"
    words = [sys.executable, "-c", KILLED, file, str(out)]
    assert subprocess.run(words, cwd=data.ROOT, capture_output=True).returncode == -9
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert len(kept) == 3
    counts = corpus_counts.count_corpus(file, PAIRS[:1], out, range_size=4000)
    same(counts, counting.count_documents(large_files[file], PAIRS[:1]))
    n = len(corpus_files.split(file, 4000, "line"))
    assert n > 8 and len(counted_files) == n - 3 and len(list(out.glob("*.json"))) == n
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_several_processes(corpus, tmp_path):
    run = {"right_boundary": True, "case_sensitive": False}
    steps = []
    counts = corpus_counts.count_corpus(
        list(corpus), PAIRS, tmp_path / "out", workers=2, progress=lambda *s: steps.append(s), **run
    )
    same(counts, expected(corpus, **run))
    size = sum(map(os.path.getsize, corpus))
    assert steps[0] == (0, size) and steps[-1] == (size, size) and steps == sorted(steps)
    assert counts.report.counts == {"broken JSON": 1}
    with pytest.raises(corpora.CorpusError, match="line 81"):
        corpus_counts.count_corpus(
            list(corpus), PAIRS, tmp_path / "strict", workers=2, strict=True, **run
        )
    with pytest.raises(ValueError, match="workers is 0"):
        corpus_counts.count_corpus(list(corpus), PAIRS, tmp_path / "out", workers=0)


class Gate:
    """A file of the corpus whose reader waits until it is let through, for a kill in mid-file."""

    def __init__(self, path, texts):
        os.mkfifo(path)
        self.path, self.lines = path, "".join(json.dumps({"text": t}) + "\n" for t in texts)
        self.status = os.stat(path)

    def wait_for_reader(self):
        self.file = open(self.path, "w")

    def let_through(self):
        """Write to the reader that is there, or to the next one if it is dead."""
        try:
            self.file.write(self.lines)
            self.file.flush()
        except BrokenPipeError:
            self.drop()
            self.wait_for_reader()
            return self.let_through()
        os.utime(self.path, ns=(self.status.st_atime_ns, self.status.st_mtime_ns))
        self.file.close()

    def drop(self):
        try:
            self.file.close()
        except BrokenPipeError:
            pass


def in_background(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def kill(processes):
    for process in processes:
        process.kill()
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


def new_workers(before):
    found = set(psutil.Process().children(recursive=True)) - before
    return [p for p in found if "resource_tracker" not in " ".join(p.cmdline())]


def test_a_process_that_dies_is_an_error_and_the_rest_is_kept(corpus, tmp_path, counted_files):
    gate = Gate(tmp_path / "gate.jsonl", WORDS)
    before = set(psutil.Process().children(recursive=True))

    def kill_the_workers():
        gate.wait_for_reader()
        kill(new_workers(before))
        gate.drop()

    in_background(kill_the_workers)
    with pytest.raises(RuntimeError, match="a worker process died"):
        corpus_counts.count_corpus([*corpus, gate.path], PAIRS, tmp_path / "out", workers=2)
    kept = len(list((tmp_path / "out").glob("*.json")))
    assert 0 < kept <= 8
    in_background(lambda: (gate.wait_for_reader(), gate.let_through()))
    counts = corpus_counts.count_corpus([*corpus, gate.path], PAIRS, tmp_path / "out")
    same(counts, expected({**corpus, "gate": WORDS}))
    assert len(counted_files) == 9 - kept


def test_a_cluster_counts_the_same_when_a_worker_is_killed(corpus, tmp_path):
    from distributed import LocalCluster

    gates = [Gate(tmp_path / f"gate{i}.jsonl", [f" car Paris {i}"]) for i in range(2)]
    files = [*corpus, *(gate.path for gate in gates)]
    size = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with LocalCluster(**size, dashboard_address=None) as cluster:
        victim = psutil.Process(cluster.workers[0].pid)

        def kill_a_worker():
            # One reader a gate and one thread a worker: both are in the middle of a file.
            for gate in gates:
                gate.wait_for_reader()
            kill([victim])
            for gate in gates:
                gate.let_through()

        thread = in_background(kill_a_worker)
        address = cluster.scheduler_address
        counts = corpus_counts.count_corpus(files, PAIRS, tmp_path / "out", scheduler=address)
        thread.join(60)
        assert not thread.is_alive() and not victim.is_running()
        again = corpus_counts.count_corpus(files, PAIRS, tmp_path / "out", scheduler=address)
    same(counts, expected({**corpus, "gates": [" car Paris 0", " car Paris 1"]}))
    same(again, counts)
    assert counts.report.counts == {"broken JSON": 1}


def command(tmp_path, *words):
    facts = tmp_path / "facts.csv"
    pd.DataFrame(PAIRS, columns=["subject", "object"]).to_csv(facts, index=False)
    words = [
        *["--corpus", f"{tmp_path}/corpus/*", "--pairs", str(facts)],
        *["--out", str(tmp_path / "counts.parquet"), *words],
    ]
    path = os.pathsep.join(p for p in (str(data.ROOT), os.environ.get("PYTHONPATH")) if p)
    return subprocess.Popen(
        [sys.executable, "-m", "helpers", "count", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def read_table(tmp_path):
    return pd.read_parquet(tmp_path / "counts.parquet")


def test_the_command_line_killed_and_resumed(corpus, tmp_path):
    # A file of which next to nothing is on the disk, and which takes a minute to read.
    last = tmp_path / "corpus/z.jsonl"
    with open(last, "wb") as file:
        file.truncate(1 << 36)
    words = ["--resume", "--workers", "2", "--ignore-case", "--corpus", *corpus, str(last)]
    words += ["--max-document", "1", "--range-size", "100000"]
    first = command(tmp_path, *words)
    out = tmp_path / "counts.parquet.shards"
    while not list(out.glob("*.json")):
        assert first.poll() is None
        time.sleep(0.01)
    tree = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
    assert len(tree) >= 3
    first.kill()
    # Its workers end with it.
    assert not psutil.wait_procs(tree[1:], timeout=60)[1]
    first.communicate()
    assert not (tmp_path / "counts.parquet").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert 0 < len(kept) <= 8
    last.write_text("".join(json.dumps({"text": text}) + "\n" for text in WORDS))
    second = command(tmp_path, *words)
    said, problems = second.communicate()
    assert second.returncode == 1, problems
    wanted = expected({**corpus, "last": WORDS}, case_sensitive=False)
    table = read_table(tmp_path)
    assert (table.pop("n_documents") == wanted.n_documents).all()
    pd.testing.assert_frame_equal(table, wanted.table)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert f"{wanted.n_documents:,} documents, 4 pairs" in said
    assert "left out: 1 x broken JSON" in problems and "line 81" in problems
    assert "100%" in problems and "Warning" not in problems


def test_a_pipe_is_no_corpus_and_may_hold_the_pairs(corpus, tmp_path, capsys):
    for name in ("corpus.jsonl", "pairs.csv"):
        os.mkfifo(tmp_path / name)
    pairs, out = tmp_path / "pairs.csv", tmp_path / "counts.csv"
    words = ["--pairs", str(pairs), "--out", str(out), "--corpus"]
    code: list[int] = []

    def run(*files):
        thread = in_background(lambda: code.append(count.main([*words, *files])))
        thread.join(60)
        return code.pop()

    # Before anybody has opened it at the other end.
    assert run(list(corpus)[0], str(tmp_path / "corpus.jsonl")) == 2
    told = capsys.readouterr().err.splitlines()
    assert "corpus.jsonl' is a pipe, which has no size; write what" in told[-1]
    in_background(lambda: pairs.write_text("subject,object\ncar,Paris\n"))
    assert run(list(corpus)[0]) == 0 and len(pd.read_csv(out)) == 1


def test_the_command_line_tells_what_went_wrong(corpus, tmp_path, capsys, monkeypatch):
    run = command(tmp_path, "--corpus", list(corpus)[0], "--prefix", "", "--right-boundary")
    assert run.wait() == 0, run.stderr.read()
    wanted = expected({"": corpus[list(corpus)[0]]}, prefix="", right_boundary=True)
    pd.testing.assert_frame_equal(read_table(tmp_path).drop(columns="n_documents"), wanted.table)
    (tmp_path / "counts.parquet").unlink()
    facts = tmp_path / "facts.csv"
    words = ["--pairs", str(facts), "--out", str(tmp_path / "counts.parquet"), "--corpus"]
    for given, message in {
        (f"{tmp_path}/corpus/*", "--columns", "subject"): "--columns is 'subject'; give two",
        (f"{tmp_path}/corpus/*", "--max-document", "0"): "max_document is 0",
        (f"{tmp_path}/corpus/*", "--strict"): "line 81: broken JSON",
        (f"{tmp_path}/corpus/*.txt",): "no file",
        (f"{tmp_path}/corpus/*", "--out", "counts.json"): "end its name in .parquet or .csv",
    }.items():
        assert count.main([*words, *given]) == 2
        assert message in capsys.readouterr().err
    facts.write_text("subj,obj\na,b\n")
    assert count.main([*words, f"{tmp_path}/corpus/*"]) == 2
    assert "no column subject and no column object, only subj, obj" in capsys.readouterr().err
    assert count.main([*words, list(corpus)[0], "--columns", "obj,subj"]) == 0
    assert read_table(tmp_path).iloc[0, :2].tolist() == ["b", "a"]
    (tmp_path / "counts.parquet").unlink()
    assert not (tmp_path / "counts.parquet").exists()
    facts.write_text("subject,object\ncar,Paris\n")
    csv = str(tmp_path / "counts.csv")
    assert count.main([*words, *corpus, "--out", csv]) == 1
    table = pd.read_csv(csv)
    columns = ["subject", "object", "n_documents", "n_subject", "n_object", "n_both"]
    assert list(table) == columns
    capsys.readouterr()
    with pytest.raises(SystemExit):
        count.main(["--help"])
    told = capsys.readouterr().out.partition("columns of the output")[2]
    assert all(f"{column} " in told or f"{column}," in told for column in columns)
    assert table.loc[0, "n_both"] == expected(corpus).table.loc[0, "n_both"]
