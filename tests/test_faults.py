"""Faults of the machine: full disks, kills, damaged files, silent servers, two runs at once."""

import contextlib
import http.server
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import gguf
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from forked import begin, end

from experiments import tiny_gpt
from experiments.geometry import noise_sweep
from experiments.posterior import images
from helpers import checkpoints, data, decoders, encoding, models, storage
from helpers.book import pipeline, planning, site
from helpers.commands import count, score
from helpers.modelmap import model_map, scoring
from helpers.retrieval import corpus_counts, counting

TEXTS = [f"{a} {verb} {b}." for a in "ABCD" for verb in ("likes", "knows") for b in "UVW"]
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny model."""
    place = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = tiny_gpt.word_tokenizer(TEXTS)
    tiny_gpt.new_gpt(tokenizer, width=16, layers=1, seed=0).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


@contextlib.contextmanager
def small_disk(n_bytes):
    """Let no file grow beyond a size: the system refuses each write further on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(place):
    found = (p for p in Path(place).rglob("*") if p.is_file() and p.suffix != ".lock")
    return {str(p): p.read_bytes() for p in found}


# Disk full, and a folder that cannot be written


class Serving(http.server.BaseHTTPRequestHandler):
    """A server with one large file."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "50000")
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(b"x" * 50_000)

    def log_message(self, *args):
        pass


def fetch(place, monkeypatch):
    """Download one file of 50,000 bytes into a cache."""
    import hashlib

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("BOOK_OFFLINE", "BOOK_DATA_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BOOK_DATA_CACHE", str(place))
    row = {"key": "a/b.txt", "bytes": 50_000, "licence": "none"}
    row |= {"sha256": hashlib.sha256(b"x" * 50_000).hexdigest()}
    row |= {"url": f"http://127.0.0.1:{server.server_port}/b.txt"}
    try:
        return data.fetch("a/b.txt", table=pd.DataFrame([row]).set_index("key"))
    finally:
        server.shutdown()
        server.server_close()


def counts():
    return counting.count_documents(["a b"], [(f"s{i}", f"o{i}") for i in range(3000)])


def save_map(place, _):
    L = -rng.random((20, 300))
    model_map.fit_map(L, [str(i) for i in range(20)]).save(place / "map.npz")


def sweep(place, _):
    def measure(n):
        return {str(i): float(i) for i in range(2000)}

    noise_sweep.collect_rows([{"n": 1}], measure, place, key={})


# Each writes into a folder; `model` is the folder of a model.
WRITERS = {
    "text": lambda p, m: data.write_atomically(p / "a.txt", "x" * 50_000),
    "kept": lambda p, m: storage.store(p / "a.json", list(range(9000))),
    "csv": lambda p, m: corpus_counts.write_counts(counts(), p / "counts.csv"),
    "parquet": lambda p, m: corpus_counts.write_counts(counts(), p / "counts.parquet"),
    "map": save_map,
    "rows": sweep,
    "checkpoint": lambda p, m: checkpoints.write(
        p / "a.safetensors", "run", {"w": torch.ones(9000)}, []
    ),
    "embeddings": lambda p, m: encoding.cached_layer_embeddings(m, TEXTS * 4, folder=p),
    "scores": lambda p, m: scoring.score_models([m], TEXTS * 4, p),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("fault", ["full disk", "no folder"])
def test_where_nothing_can_be_written_the_error_says_so_and_nothing_is_left(
    folder, tmp_path, name, fault
):
    place = tmp_path / "out"
    if fault == "no folder":
        # Not even root can make a folder below a file.
        place.write_text("")
        with pytest.raises(storage.CannotWrite, match=r"out/.* could not be written \(.*\); "):
            WRITERS[name](place, folder)
        assert place.read_text() == ""
        place.unlink()
    else:
        with small_disk(2000), pytest.raises(storage.CannotWrite) as caught:
            WRITERS[name](place, folder)
        assert f"{place}/" in str(caught.value) and "room" in str(caught.value)
        assert files(place) == {}
    WRITERS[name](place, folder)
    whole = files(place)
    assert len(whole) == 1
    if fault == "full disk":
        # What stood there before stays as it was.
        with small_disk(2000), contextlib.suppress(storage.CannotWrite):
            WRITERS[name](place, folder)
        assert files(place) == whole


def test_a_download_for_which_there_is_no_room(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    with small_disk(2000), pytest.raises(data.DataError, match="could not be written") as caught:
        fetch(cache, monkeypatch)
    assert "BOOK_DATA_MIRROR" in str(caught.value) and files(cache) == {}
    assert fetch(cache, monkeypatch).stat().st_size == 50_000


def test_the_commands_tell_that_they_cannot_write(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "facts.csv").write_text("subject,object\na,b\n")
    (tmp_path / "texts.txt").write_text("A likes U.\n")
    words = ["--corpus", str(tmp_path / "texts.txt"), "--pairs", str(tmp_path / "facts.csv")]
    assert count.main([*words, "--out", str(tmp_path / "file" / "counts.csv")]) == 1
    told = capsys.readouterr().err
    assert "no counts written" in told and "could not be written" in told
    words = ["--models", folder, "--texts", str(tmp_path / "texts.txt")]
    assert score.main([*words, "--out", str(tmp_path / "file")]) == 1
    told = capsys.readouterr().err
    assert "nothing written" in told and "could not be written" in told


@pytest.fixture
def build(tmp_path, monkeypatch):
    # Publishing copies the whole book; the faults do not depend on it.
    monkeypatch.setattr(site, "publish", lambda tasks, build: [])
    return tmp_path / "build"


def run(build, *words):
    return pipeline.main(["--build", str(build), *words])


def record(build, name):
    return json.loads((build / "records" / f"{name}.json").read_text())


def test_the_runner_on_a_full_disk_goes_on_when_there_is_room(write_notebook, build, capsys):
    write_notebook("a/large", "print('x' * 300_000)")
    write_notebook("a/small", "print(n)")
    with small_disk(100_000):
        assert run(build) == 1
    assert record(build, "a/small")["status"] == "ok"
    assert "a/large failed" in capsys.readouterr().out
    assert not list((build / "executed").rglob(".*.part*"))
    before = (build / "executed" / "a" / "small.ipynb").stat().st_mtime_ns
    assert run(build) == 0
    assert (build / "executed" / "a" / "small.ipynb").stat().st_mtime_ns == before


def test_the_runner_where_it_cannot_write(write_notebook, build, capsys):
    write_notebook("a/one", "print(n)")
    build.write_text("a file")
    assert run(build / "below") == 2
    assert "choose another folder by --build" in capsys.readouterr().err


# Kills


def score_and_die(folder, out):
    """Score texts, and be killed on the way."""

    def progress(name, done, total):
        if done >= 10:
            os.kill(os.getpid(), signal.SIGKILL)

    scoring.score_models([folder], TEXTS, out, piece=2, progress=progress)


def score_and_die_in_a_write(folder, out):
    """Score texts; the system kills the process within a write of a piece, after some bytes."""
    store = storage.store

    def store_or_die(path, value):
        if len(os.listdir(out)) == 5:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))
        store(path, value)

    storage.store = store_or_die
    scoring.score_models([folder], TEXTS, out, piece=2)


@pytest.mark.parametrize(
    ("killed", "sign"),
    [(score_and_die, signal.SIGKILL), (score_and_die_in_a_write, signal.SIGXFSZ)],
)
def test_a_run_of_scores_that_was_killed_goes_on(folder, tmp_path, killed, sign):
    out = tmp_path / "out"
    out.mkdir()
    assert end(begin(killed, folder, out)) == -sign
    kept = {name: text for name, text in files(out).items() if name.endswith(".json")}
    assert len(kept) == 5 and all(storage.stored(name) for name in kept)
    halves = [name for name in files(out) if name.endswith(".part")]
    assert len(halves) == (sign == signal.SIGXFSZ)
    again = scoring.score_models([folder], TEXTS, out, piece=2)
    whole = scoring.score_models([folder], TEXTS, tmp_path / "whole", piece=2)
    pd.testing.assert_frame_equal(again.scores, whole.scores, rtol=0, atol=1e-12)
    assert all(files(out)[name] == text for name, text in kept.items())


def runner(notebooks, build, log):
    """Run notebooks, and write what is said to a file."""
    with open(log, "w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    planning._NOTEBOOKS, pipeline.site.publish = notebooks, lambda tasks, build: []
    return pipeline.main(["--build", str(build)])


def start(build, log="log"):
    return begin(runner, planning._NOTEBOOKS, build, build.parent / log)


def kernels_of(process):
    """Wait for the kernel of a runner, and return it with papermill."""
    for _ in range(3000):
        family = psutil.Process(process.pid).children(recursive=True)
        if any("ipykernel_launcher" in " ".join(p.cmdline()) for p in family):
            return family
        assert process.is_alive()
        time.sleep(0.1)
    raise AssertionError("no kernel was started")


def test_what_a_killed_runner_left_at_work_is_ended_by_the_next(write_notebook, build):
    slow = write_notebook("a/slow", "import time; time.sleep(600)")
    process = start(build)
    family = kernels_of(process)
    process.kill()
    process.join()
    assert any(p.is_running() for p in family)
    slow.write_text(slow.read_text().replace("time.sleep(600)", "time.sleep(0)"))
    assert run(build) == 0
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    assert [p.name for p in (build / "executed" / "a").iterdir()] == ["slow.ipynb"]


def test_a_notebook_that_hangs_is_ended_with_its_children_and_the_next_one_runs(
    write_notebook, build
):
    hangs = "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    hangs += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    write_notebook("a/hangs", hangs + "open(n, 'w').write(str(child.pid)); child.wait()",
                   parameters=f"n: str = {str(build.parent / 'pid')!r}  # a path")  # fmt: skip
    write_notebook("a/next", "print(n)")
    assert run(build, "--jobs", "1", "--timeout", "30") == 1
    assert "time limit" in record(build, "a/hangs")["failure"]["error"]
    assert record(build, "a/next")["status"] == "ok"
    child = int((build.parent / "pid").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


# Two at once


def test_a_second_runner_in_one_folder_says_so_and_leaves_the_first_alone(write_notebook, build):
    gate = build.parent / "gate"
    waits = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.1)\nprint(n)"
    write_notebook("a/waits", waits)
    first = start(build)
    kernels_of(first)
    assert end(start(build, "second")) == 2
    assert "another run is at work" in (build.parent / "second").read_text()
    gate.write_text("")
    assert end(first) == 0, (build.parent / "log").read_text()
    assert record(build, "a/waits")["status"] == "ok"
    assert run(build) == 0


def test_two_runs_of_scores_in_one_folder_agree(folder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS * 5))
    words = ["--models", folder, "--texts", str(tmp_path / "texts.txt")]
    both = [begin(score.main, [*words, "--out", str(tmp_path / "out")]) for _ in range(2)]
    assert [end(process) for process in both] == [0, 0]
    alone = scoring.score_models([folder], TEXTS * 5, tmp_path / "alone")
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert table.log_likelihood.to_numpy() == pytest.approx(alone.scores.log_likelihood, abs=1e-9)
    names = {Path(name).name for name in files(tmp_path / "out")}
    assert {
        *"scores.csv report.csv matrix.csv texts.jsonl results.json progress.log".split()
    } < names
    assert not [name for name in names if name.endswith(".part")] and len(names) == 8


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    def write(i):
        for _ in range(30):
            storage.store(tmp_path / "a.json", [i] * 2000)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "a.json").exists():
            assert len(set(storage.stored(tmp_path / "a.json"))) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


# Damaged files


def flips(content, every):
    for place in range(0, len(content), every):
        yield content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :]


def test_no_flipped_byte_of_a_kept_result_is_read(tmp_path):
    path, value = tmp_path / "a.json", {"names": [1, 20, 300], "x": [0.1, None, -2.5e-7], "é": "ü"}
    storage.store(path, value)
    assert storage.stored(path) == value
    content, found = path.read_bytes(), 0
    for damaged in flips(content, 1):
        path.write_bytes(damaged)
        assert storage.stored(path) in (None, value)
        found += storage.stored(path) is None
    assert found > len(content) - 20
    for part in (b"", content[:-1], b"[]", b"7", b"[" * 100_000):
        path.write_bytes(part)
        assert storage.stored(path) is None


def test_no_flipped_byte_of_a_checkpoint_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    checkpoints.write(path, "run", {"w": torch.arange(20.0)}, {"step": 3})
    for damaged in flips(path.read_bytes(), 3):
        path.write_bytes(damaged)
        try:
            found = checkpoints.read(path, "run")
        except ValueError as error:
            assert "another run" in str(error)
        else:
            assert found is None or torch.equal(found[0]["w"], torch.arange(20.0))


def test_damaged_counts_and_scores_are_made_anew(folder, tmp_path):
    (tmp_path / "corpus.txt").write_text("in Paris a car\n" * 1234)
    pairs = [("Paris", "car")]

    def count():
        return corpus_counts.count_corpus(tmp_path / "corpus.txt", pairs, tmp_path / "counts")

    def score():
        return scoring.score_models([folder], TEXTS[:4], tmp_path / "scores").scores

    counted, scored = count(), score()
    for place in ("counts", "scores"):
        (path,) = (tmp_path / place).glob("*.json")
        content = path.read_bytes()
        # A digit for another: still JSON, of the same shape.
        at = content.index(b'"kept"') + next(
            i for i, c in enumerate(content[content.index(b'"kept"') :]) if chr(c) in "23456789"
        )
        path.write_bytes(content[:at] + b"1" + content[at + 1 :])
        assert json.loads(path.read_text()) and storage.stored(path) is None
    pd.testing.assert_frame_equal(count().table, counted.table)
    pd.testing.assert_frame_equal(score(), scored)


def test_the_runner_makes_damaged_pages_anew(write_notebook, build):
    write_notebook("a/one", "print(n)")
    assert run(build) == 0
    sound = (build / "executed" / "a" / "one.ipynb").read_text()
    for what in ("executed/a/one.ipynb", "records/a/one.json"):
        path = build / what
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert run(build) == 0
        assert record(build, "a/one")["status"] == "ok"
        text = (build / "executed" / "a" / "one.ipynb").read_text()
        assert len(json.loads(text)["cells"]) == len(json.loads(sound)["cells"])


# A hub that is silent

ASK = """
import json
from helpers import decoders, encoding, models
from experiments.posterior import images
for load in (models.load_model, decoders.load_causal, encoding.identity,
             lambda name: images.clip_embeddings(name, ["a.png"])):
    try:
        load("someone/model")
    except ValueError as error:
        print(json.dumps(str(error)))
"""


def test_a_hub_that_never_answers_is_an_error_soon(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "BOOK_DATA_TIMEOUT": "2"}
        environment |= {"HF_HUB_OFFLINE": "", "BOOK_OFFLINE": ""}
        path = os.pathsep.join(p for p in (str(data.ROOT), os.environ.get("PYTHONPATH")) if p)
        # Its own client would try for many minutes.
        done = subprocess.run(
            [sys.executable, "-c", ASK], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path, **environment}, timeout=200,
        )  # fmt: skip
    assert done.returncode == 0 and held, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(messages) == 4
    for message in messages:
        assert f"{address} did not answer within 2 s" in message
        assert "someone/model" in message and "; pass a folder" in message


# Code of a model's author


@pytest.fixture
def hostile(folder, tmp_path):
    """A model whose files ask for its author's code, which would leave a mark."""
    place = tmp_path / "hostile"
    shutil.copytree(folder, place)
    (place / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    names = {kind: f"own.{kind}" for kind in ("AutoConfig", "AutoModel", "AutoModelForCausalLM")}
    names["AutoModelForMaskedLM"] = names["AutoImageProcessor"] = "own.More"
    change(place / "config.json", model_type="own", auto_map=names)
    (place / "preprocessor_config.json").write_text(json.dumps({"auto_map": names}))
    change(place / "tokenizer_config.json", tokenizer_class="Own",
           auto_map={"AutoTokenizer": ["own.Own", "own.Own"]})  # fmt: skip
    return place


def change(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


LOADERS = {
    "load_model": models.load_model,
    "load_causal": decoders.load_causal,
    "clip": lambda place: images.clip_embeddings(place, ["a.png"]),
    "embeddings": lambda place: encoding.cached_layer_embeddings(place, ["a"]),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_model_with_code_of_its_own_is_refused_and_the_code_never_run(
    hostile, tmp_path, name, clean_data
):
    with pytest.raises(
        ValueError, match="code of its (own|author).*(not run here|never happens here)"
    ):
        LOADERS[name](str(hostile))
    report = scoring.score_models([str(hostile)], TEXTS, tmp_path / "out").report
    assert report.status[0] == "failed" and "not run here" in report.error[0]
    assert not (tmp_path / "mark").exists()


def test_of_a_known_kind_the_known_code_is_run_and_not_that_beside_it(folder, hostile, tmp_path):
    kind = json.loads((Path(folder) / "config.json").read_text())["model_type"]
    change(hostile / "config.json", model_type=kind)
    shutil.copy(Path(folder) / "tokenizer_config.json", hostile / "tokenizer_config.json")
    _, model = decoders.load_causal(str(hostile))
    assert type(model).__module__.startswith("transformers.")
    assert not (tmp_path / "mark").exists()


def test_code_beside_a_gguf_file_is_not_run_either(hostile, tmp_path):
    writer = gguf.GGUFWriter(hostile / "a.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"a\.gguf.* could not be loaded"):
        models.load_model(str(hostile / "a.gguf"))
    assert not (tmp_path / "mark").exists()
