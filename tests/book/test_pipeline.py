import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import forked
import nbformat
import psutil
import pytest

from helpers.book import pipeline, planning, site


def run(build, *words):
    return pipeline.main(["--build", str(build), *words])


def record(build, name):
    return json.loads((build / "records" / f"{name}.json").read_text())


@pytest.fixture
def build(tmp_path, monkeypatch):
    # Publishing copies the whole book; the runner's own behaviour does not depend on it.
    monkeypatch.setattr(site, "publish", lambda tasks, build: [])
    return tmp_path / "build"


def test_one_failure_does_not_stop_the_rest(write_notebook, build, capsys):
    write_notebook("a/bad", "x = 3", "y = 1 / 0  # the culprit", "print('never')")
    write_notebook("a/good", "print(n)")
    assert run(build) == 1
    assert record(build, "a/good")["status"] == "ok"
    # Two at a time share the cores.
    assert record(build, "a/good")["threads"] == max(1, (os.cpu_count() or 1) // 2)
    failure = record(build, "a/bad")["failure"]
    assert failure["cell"] == 3 and failure["line"] == "y = 1 / 0  # the culprit"
    assert "ZeroDivisionError" in failure["error"]
    shown = capsys.readouterr()
    assert "a/bad failed in code cell 3" in shown.out and "ZeroDivisionError" in shown.out
    assert "a/good: ok" in shown.err
    assert (build / "executed" / "a" / "good.ipynb").is_file()
    assert not (build / "executed" / "a" / "bad.ipynb").exists()
    assert (build / "failed" / "a" / "bad.ipynb").is_file()


def test_only_what_has_changed_runs_again(write_notebook, build, monkeypatch):
    write_notebook("a/one", "print(n)")
    write_notebook("a/two", "print(n)")
    executed = []
    real = pipeline._execute
    monkeypatch.setattr(
        pipeline,
        "_execute",
        lambda task, *a, **k: executed.append(task.name) or real(task, *a, **k),
    )
    assert run(build) == 0 and sorted(executed) == ["a/one", "a/two"]
    executed.clear()
    assert run(build) == 0 and executed == []
    path = write_notebook("a/one", "print(n + 1)")
    assert run(build) == 0 and executed == ["a/one"]
    executed.clear()
    nb = nbformat.read(path, as_version=4)
    nb.cells[-1]["outputs"] = [nbformat.v4.new_output("stream", text="opened and saved\n")]
    nb.cells[-1]["execution_count"] = 7
    nbformat.write(nb, path)
    assert run(build) == 0 and executed == []
    assert run(build, "a/two", "-p", "n", "5") == 0 and executed == ["a/two"]
    executed.clear()
    (build / "executed" / "a" / "one.ipynb").unlink()
    assert run(build, "a/one") == 0 and executed == ["a/one"]
    executed.clear()
    assert run(build, "a/one", "--force") == 0 and executed == ["a/one"]


def test_a_run_with_the_readers_parameters_is_marked_and_knows_its_caller(
    write_notebook, build, tmp_path, monkeypatch
):
    path = write_notebook("a/one", "1 / 0", "import os; print(os.environ['BOOK_CALLER'])")
    nb = nbformat.read(path, as_version=4)
    # What the page tests about itself is not run for a reader's inputs.
    nb.cells[2].metadata["tags"] = ["book_only"]
    nbformat.write(nb, path)
    monkeypatch.chdir(tmp_path)
    assert run(build, "a/one", "-p", "n", "3") == 0
    said = nbformat.read(build / "executed" / "a" / "one.ipynb", as_version=4).cells[-1].outputs
    assert record(build, "a/one")["own"] and said[0].text.strip() == str(tmp_path)
    (tmp_path / "mine.yml").write_text("a/one: {n: 2}\n")
    owned = {
        profile: [planning.plan(profile, ["a/one"], extra)[0].own for extra in ({}, {"n": 1})]
        for profile in ("laptop", str(tmp_path / "mine.yml"))
    }
    assert list(owned.values()) == [[False, False], [True, True]]


def test_parameters_reach_the_kernel_and_the_record(write_notebook, build):
    write_notebook("a/one", "import os; print('n is', n, os.environ['OMP_NUM_THREADS'])")
    assert run(build, "a/one", "-p", "n", "41") == 0
    # A single one has all cores.
    cores = os.cpu_count() or 1
    nb = nbformat.read(build / "executed" / "a" / "one.ipynb", as_version=4)
    assert nb.cells[-1].outputs[0].text == f"n is 41 {cores}\n"
    kept = record(build, "a/one")
    assert kept["parameters"] == {"n": 41} and kept["peak_mib"] > 30 and kept["seconds"] > 0
    assert kept["command"].startswith("papermill notebooks/a/one.ipynb book/notebooks/a/one.ipynb")
    assert kept["digest"] and kept["facts"]["versions"].startswith("python 3")


def test_paths_are_those_of_the_caller(write_notebook, build, tmp_path, monkeypatch):
    write_notebook(
        "a/one", "print(0)", parameters="m: list[str] = []  # models\nw: str = ''  # word"
    )
    (tmp_path / "own" / "small").mkdir(parents=True)
    (tmp_path / "own" / "texts.txt").write_text("rain")
    monkeypatch.chdir(tmp_path / "own")
    given = {
        "m": ["./small", "texts.txt", "*.txt", "small", "a/hub-name", "none.csv"],
        "w": "small",
    }
    words = [word for key, value in given.items() for word in ("-p", key, json.dumps(value))]
    assert run(build, "a/one", *words) == 0
    here = tmp_path / "own"
    assert record(build, "a/one")["parameters"] == {
        "m": [str(here / "small"), str(here / "texts.txt"), str(here / "*.txt"), *given["m"][3:]],
        "w": "small",
    }


def test_the_books_own_runs_are_closed_and_others_may_ask_the_hub(
    write_notebook, build, monkeypatch
):
    monkeypatch.delenv("BOOK_OFFLINE", raising=False)
    write_notebook("a/one", "import os; print(os.environ['BOOK_OFFLINE'] or 'open')")

    def said():
        nb = nbformat.read(build / "executed" / "a" / "one.ipynb", as_version=4)
        return nb.cells[-1].outputs[0].text.strip()

    assert run(build, "a/one") == 0 and said() == "1"
    assert run(build, "a/one", "-p", "n", "2") == 0 and said() == "open"
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    assert run(build, "a/one", "-p", "n", "3") == 0 and said() == "1"


def test_a_notebook_that_hangs_is_ended(write_notebook, build, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(build.parent / "temporary"))
    (build.parent / "temporary").mkdir()
    write_notebook("a/slow", "import tempfile, time; tempfile.mkdtemp(); time.sleep(600)")
    began = time.time()
    assert run(build, "--timeout", "6") == 1
    assert time.time() - began < 120
    assert "time limit" in record(build, "a/slow")["failure"]["error"]
    assert not list((build.parent / "temporary").iterdir())


def runner(notebooks, build, scratch):
    """Run notebooks one by one, in a session of its own, and write what is said to a file."""
    os.setsid()
    tempfile.tempdir, planning._NOTEBOOKS = str(scratch), notebooks
    with open(scratch / "said", "w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
    return pipeline.main(["--build", str(build), "--jobs", "1"])


def test_a_killed_run_goes_on_where_it_was(write_notebook, build, tmp_path):
    write_notebook("a/first", "print(n)")
    slow = write_notebook("a/second", "import time; time.sleep(600)")
    process = forked.begin(runner, planning._NOTEBOOKS, build, tmp_path)
    for _ in range(600):
        if (build / "records" / "a" / "first.json").is_file():
            break
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert record(build, "a/first")["status"] == "ok"
    assert not (build / "records" / "a" / "second.json").exists()
    before = (build / "executed" / "a" / "first.ipynb").stat().st_mtime_ns
    slow.write_text(slow.read_text().replace("time.sleep(600)", "time.sleep(0)"))
    assert run(build) == 0
    assert (build / "executed" / "a" / "first.ipynb").stat().st_mtime_ns == before
    assert record(build, "a/second")["status"] == "ok"


def test_two_runs_at_once_are_refused(write_notebook, build, capsys):
    from filelock import FileLock

    write_notebook("a/one", "print(n)")
    build.mkdir(parents=True)
    with FileLock(build / "pipeline.lock"):
        assert run(build) == 2
    assert "another run" in capsys.readouterr().err
    assert not (build / "records").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a/none"], r"no notebook \['a/none'\]"),
        (["a/one", "-p", "m", "3"], "has no parameter 'm'"),
        (["a/one", "-p", "n", "many"], "wants int, but got 'many'"),
        (["a/one", "-p", "n", "true"], "wants int, but got True"),
        (["--profile", "huge"], "no profile 'huge'"),
        (["--profile", "smoke"], "names notebooks that are not there"),
        (["--profile", "list"], "must map notebooks to parameters"),
        (["--profile", "broken"], "is not YAML"),
        (["--profile", "typo"], "has no parameter 'nn'"),
        (["--profile", "code"], "code.yml is not YAML.*tag.*os.system"),
        (["--profile", "bytes"], "bytes.yml cannot be read"),
        (["a/one", "-p", "n", "[1,"], "-p n is not YAML"),
        (["a/one", "-p", "n", "!!python/object/apply:os.system [ls]"], "-p n is not YAML"),
        (["a/one", "-p", "n", "[&a [1], *a]"], "-p n has aliases.*write the values out"),
        (["a/one", "-p", "n", "2020-01-01"], "-p n has values that are no text.*in quotes"),
        (["a/one", "-p", "n", "[" * 500 + "]" * 500], "-p n has values"),
    ],
)
def test_a_bad_request_is_refused_before_anything_runs(
    write_notebook, build, capsys, words, message
):
    write_notebook("a/one", "print(n)")
    profiles = {
        "smoke": "a/gone: {n: 1}",
        "list": "[1, 2]",
        "broken": "a/one: {n: [",
        "typo": "a/one: {nn: 1}",
        "code": "a/one: {n: !!python/object/apply:os.system ['touch ran']}",
        "bytes": "a/one: {n: \xff}",
    }
    for name, text in profiles.items():
        (planning._PROFILES / f"{name}.yml").write_text(text, encoding="latin-1")
    assert run(build, *words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Nothing was run:") and shown.count("\n") == 1
    assert __import__("re").search(message, shown), shown
    assert not build.exists()


def test_a_profile_overrides_by_notebook(write_notebook, tmp_path):
    write_notebook("a/one", "print(n)")
    write_notebook("a/two", "print(n)")
    path = tmp_path / "mine.yml"
    path.write_text("a/one: {n: 7}\n")
    one, two = planning.plan(str(path))
    assert (one.parameters, two.parameters) == ({"n": 7}, {"n": 1})
    assert one.profile == "mine" and one.overrides == {"n": 7} and two.overrides == {}


def test_the_digest_follows_cells_parameters_helpers_and_data(write_notebook):
    def digest(*code, at_hand=None, parameters="n: int = 1  # a number"):
        write_notebook("a/one", *code, parameters=parameters)
        (task,) = planning.plan(names=["a/one"])
        return planning.digest(task, at_hand or {})

    base = digest("print(n)")
    assert digest("print(n)") == base
    assert digest("print(n + 1)") != base
    assert digest("print(n)", parameters="n: int = 2  # a number") != base
    needs = "from helpers import data\nok = data.available('wikitext2/')"
    assert digest(needs) != digest(needs, at_hand={"wikitext2/": True})


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("requirements.txt", {"plain", "box", "table"}),
        ("requirements-models.txt", {"plain", "box", "table"}),
        ("helpers/validation.py", {"plain", "box", "table"}),
        ("experiments/synthesis/glass_box_table.py", {"box"}),
        ("data/published/glass_box.csv", {"box"}),
        ("data/published/map_merges_models.csv", {"table"}),
        ("data/published/real_model.csv", set()),
        ("data/glass_box/tokenizer.json", {"box"}),
        ("data/glass_box/gpt-16x2-even-0-step0512.safetensors", {"box"}),
        ("data/claims.yml", set()),
    ],
)
def test_a_change_makes_just_the_pages_stale_that_read_it(
    changed, stale, write_notebook, monkeypatch
):
    pages = {
        "plain": "from helpers import validation, stats",
        "box": "from experiments.synthesis import glass_box_table",
        "table": "from helpers import validation, data\n"
        "for kind in ['', '_models']: print(data.PUBLISHED / f'map_merges{kind}.csv')",
    }
    for name, code in pages.items():
        write_notebook(f"a/{name}", code)
    tasks = {name: planning.plan(names=[f"a/{name}"])[0] for name in pages}
    before = {name: planning.digest(task, {}) for name, task in tasks.items()}
    known = planning._file_digest
    monkeypatch.setattr(
        planning, "_file_digest", lambda p: "new" if p == planning.ROOT / changed else known(p)
    )
    assert {name for name in tasks if planning.digest(tasks[name], {}) != before[name]} == stale


def test_the_modules_behind_a_notebook_are_found_through_one_another():
    code = "from helpers.retrieval import release\nimport helpers.figures"
    names = {path.name for path in planning._modules(code)}
    shared = {"__init__.py", "validation.py", "storage.py"}
    assert names == {"release.py", "smi.py", "data.py", "figures.py"} | shared


TREE = {
    "helpers/__init__.py": "",
    "helpers/low.py": "",
    "helpers/wing/__init__.py": "import lazy_loader as lazy\n"
    "__getattr__, __dir__, __all__ = lazy.attach(\n"
    "    __name__, submodules=['whole'], submod_attrs={'one': ['fit'], 'two': ['draw', 'score']})",
    "helpers/wing/one.py": "from .. import low",
    "helpers/wing/two.py": "from .three import x",
    "helpers/wing/three.py": "def f():\n    from helpers.wing import fit",
    "helpers/wing/whole.py": "",
    "experiments/__init__.py": "",
    "experiments/wing/__init__.py": "from experiments.wing.run import main",
    "experiments/wing/run.py": "import helpers.low",
}
ONE = {"wing/__init__", "wing/one", "low"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from helpers import low", {"low"}),
        ("import helpers.low as x", {"low"}),
        ("from helpers.wing import fit", ONE),
        ("from helpers.wing.one import anything", ONE),
        ("from helpers.wing import one", ONE),
        ("from helpers.wing import score", ONE | {"wing/two", "wing/three"}),
        ("from helpers import wing\nwing.fit()", ONE),
        ("import helpers.wing\nhelpers.wing.draw()", ONE | {"wing/two", "wing/three"}),
        ("import helpers.wing as w\nw.whole.x", {"wing/__init__", "wing/whole"}),
        ("from helpers.wing import *", ONE | {"wing/two", "wing/three", "wing/whole"}),
        ("import numpy, json\nfrom other import helpers", set()),
    ],
)
def test_modules_are_found_through_packages_and_lazy_exports(code, found, tmp_path, monkeypatch):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(planning, "ROOT", tmp_path)
    expected = {f"helpers/{name}.py" for name in found} | (
        {"helpers/__init__.py"} if found else set()
    )
    assert {str(p.relative_to(tmp_path)) for p in planning._modules(code)} == expected
    run = planning._modules("from experiments.wing import main")
    both = {"experiments/__init__.py", "experiments/wing/__init__.py", "experiments/wing/run.py"}
    assert {str(p.relative_to(tmp_path)) for p in run} == both | {
        "helpers/__init__.py",
        "helpers/low.py",
    }


@pytest.mark.parametrize("parameters", ["n = 1", "n: int = 2 * 3"])
def test_parameters_must_be_annotated_literals(write_notebook, parameters):
    write_notebook("a/one", "print(n)", parameters=parameters)
    with pytest.raises(ValueError):
        planning._parameters_of("a/one")


def test_an_interrupted_run_leaves_no_kernel_and_starts_nothing_more(
    write_notebook, build, tmp_path
):
    write_notebook("a/first", "import time; time.sleep(600)")
    write_notebook("a/second", "print(n)")
    process = forked.begin(runner, planning._NOTEBOOKS, build, tmp_path)
    kernels = []
    for _ in range(600):
        family = psutil.Process(process.pid).children(recursive=True)
        kernels = [p for p in family if "ipykernel_launcher" in " ".join(p.cmdline())]
        if kernels:
            break
        time.sleep(0.1)
    time.sleep(2)
    process.terminate()
    assert forked.end(process, 60) == 130 and "Stopped" in (tmp_path / "said").read_text()
    _, alive = psutil.wait_procs(kernels, timeout=10)
    assert kernels and not alive
    assert not (build / "executed" / "a" / "second.ipynb").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_dead_links_stop_the_whole_book_only(tmp_path, monkeypatch, whole):
    source, given = tmp_path / "book", []
    source.mkdir()
    (source / "page.md").write_text("# A page\n")

    def run(words, **_):
        given.extend(words)
        (tmp_path / "site" / "_build" / "html").mkdir(parents=True)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(site, "book_source", lambda build: source)
    monkeypatch.setattr(site.subprocess, "run", run)
    assert site.build_html(tmp_path, whole=whole) == tmp_path / "html"
    assert ("-W" in given) == whole and (tmp_path / "html").is_dir()
