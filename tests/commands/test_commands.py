"""The command line as its users meet it: help, output, errors and exit codes of every command."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import data, text_sets
from helpers.__main__ import main
from helpers.book import pipeline, planning
from helpers.commands import completion, doctor, judge, place, rank, shell
from helpers.commands.table import COMMANDS
from helpers.modelmap import engine_outputs, model_map, stored_families
from helpers.synthesis import example_models, ranking, signals

# Older commands, whose words and codes stay as they were.
OLDER = ("convert", "run", "completion")


def run(capsys, *words):
    """Return exit code, standard output and standard error of a command."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as left:
        code = left.code
    return code, *capsys.readouterr()


LIGHT = """
import sys, time
from helpers.__main__ import main
assert main(["--help"]) == 0 and main(["--version"]) == 0 and main(["juge"]) == 2
heavy = {"numpy", "pandas", "torch", "transformers"} & set(sys.modules)
print(heavy, time.process_time())
"""


def test_the_list_of_commands_imports_nothing_heavy_and_is_quick(tmp_path):
    words = [sys.executable, "-c", LIGHT]
    path = {"PYTHONPATH": str(data.ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=path, capture_output=True, text=True)
    *told, last = done.stdout.splitlines()
    heavy, seconds = last.rsplit(" ", 1)
    assert heavy == "set()" and float(seconds) < 0.5, done.stderr
    assert all(any(line.startswith(f"  {name} ") for line in told) for name in COMMANDS)
    assert "did you mean judge?" in done.stderr


def test_the_entry_point_is_the_table():
    scripts = tomllib.loads((data.ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts.pop(shell.PROGRAM).partition(":")
    assert getattr(import_module(module), name) is main and not scripts


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_examples_and_refuses_in_one_line(name, capsys):
    code, out, err = run(capsys, name, "--help")
    assert not re.search(r"\b_[A-Z]", out), "a private name in the help"
    assert code == 0 and not err and f"usage: before-ft {name}" in out
    if name not in ("convert", "run"):
        assert f"examples:\n  before-ft {name}" in out and "exit codes: 0 " in out
    code, out, err = run(capsys, name, "--no-such-option")
    assert code == 2 and not out
    if name not in ("convert", "run"):
        assert len(err.splitlines()) == 1 and f"see before-ft {name} --help" in err


def test_the_choices_typed_here_are_those_of_the_parts():
    assert tuple(signals.SIGNALS) == judge._SIGNALS and set(ranking._USES) == set(judge._USES)
    assert place._ENGINES == engine_outputs._ENGINES
    _, about = stored_families.load()
    assert set(stored_families.makes(about)) == set(place._KINDS)


def test_what_goes_wrong_is_one_line_and_a_code(capsys):
    def failing(error):
        def work(given):
            raise error

        return work

    made = shell.Parser("x", "Do x.", "--json")
    for error, code in {
        ValueError("n is 0;\n  give 1"): 2,
        FileNotFoundError(2, "No such file", "a.csv"): 2,
        PermissionError(13, "Permission denied", "b"): 1,
        data.DataError("no connection"): 1,
        MemoryError(): 1,
        KeyboardInterrupt(): 130,
    }.items():
        command = shell.Command(lambda: made, failing(error), "nothing written", "k")
        assert command([]) == code
        out, err = capsys.readouterr()
        assert not out and len(err.splitlines()) == 1 and err.startswith("before-ft x: ")
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        shell.Command(lambda: made, failing(ZeroDivisionError()))([])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("commands")
    labels = np.repeat(["a", "b", "c"], 20)
    X = np.random.default_rng(0).normal(size=(60, 6))
    centres = np.eye(6)[np.repeat([0, 1, 2], 20)]
    np.savez(made / "mine.npz", weak=X + centres, strong=[X, X + 4 * centres], none=X)
    texts = [f"word {i} of {label}" for i, label in enumerate(labels)]
    pd.DataFrame({"text": texts, "label": labels}).to_csv(made / "mine.csv", index=False)
    example_models.write("causal", made / "tiny")
    return made


def test_rank_orders_by_what_is_known(folder, capsys):
    files = folder / "mine.npz", folder / "mine.csv"
    code, out, err = run(capsys, "rank", *files, "--json")
    rows = {row["model"]: row for row in json.loads(out)["models"]}
    assert code == 0 and list(rows)[:2] == ["strong", "weak"] and "done" in err
    assert set(rows) == {"strong", "weak", "none", rank._NOISE}
    # Layers: the last counts; what knows nothing is at chance, as noise is.
    assert rows["strong"]["alp"] > 0.8 and rows["strong"]["behind"] is None
    assert all(rows["strong"][score] > rows["none"][score] for score in rank._BY)
    for row in list(rows.values())[1:]:
        gap = rows["strong"]["alp"] - row["alp"]
        assert row["behind"] == pytest.approx(gap) and row["behind low"] > 0
    np.savez(folder / "one.npz", only=np.load(files[0])["weak"])
    words = "--quiet", "--by", "GBC"
    code, out, err = run(capsys, "rank", folder / "one.npz", files[1], *words)
    assert code == 0 and not err and out.splitlines()[2].startswith("only ")
    code, _, err = run(capsys, "rank", *files, "--column", "genre")
    assert code == 2 and "--column is 'genre'" in err and "'label'" in err
    np.savez(folder / "short.npz", a=np.ones((3, 2)))
    code, _, err = run(capsys, "rank", folder / "short.npz", folder / "mine.csv")
    assert code == 2 and "'a'" in err


def test_embed_writes_what_rank_reads(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path))
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    words = "embed", folder / "tiny", "--texts", folder / "mine.csv", "--out"
    code, out, err = run(capsys, *words, tmp_path / "e.npz", "--layers", "all", "--json")
    (row,) = json.loads(out)["models"]
    assert code == 0 and row["shape"] == [3, 60, 64] and "100%" in err
    code, out, err = run(capsys, *words, tmp_path / "f.npz", "--quiet")
    assert (code, err) == (0, "") and "1 model, 60 texts" in out
    with np.load(tmp_path / "e.npz") as every, np.load(tmp_path / "f.npz") as last:
        np.testing.assert_array_equal(every["tiny"][-1], last["tiny"])
    code, _, err = run(capsys, *words, tmp_path / "f.csv")
    assert code == 2 and "ends in .npz" in err
    code, _, err = run(capsys, *words, tmp_path / "g.npz", "--texts", folder / "no.txt")
    assert code == 2 and "no.txt" in err and not (tmp_path / "g.npz").exists()


def test_place_reads_what_other_engines_scored(folder, tmp_path, capsys):
    made, _ = stored_families.load()
    # What the help says of the texts to score.
    assert f"--n-texts {len(made.texts)}` writes" in place._MORE
    assert list(text_sets.load_texts(len(made.texts)).index) == list(made.texts)
    row = made.log_likelihoods[made.names.index("smollm2")] + 0.01 * np.arange(len(made.texts))
    scored = pd.DataFrame({"key": made.texts, "log_likelihood": row})
    scored.to_csv(tmp_path / "s.csv", index=False)
    code, out, err = run(capsys, "place", "--log-likelihoods", tmp_path / "s.csv", "--json")
    (one,) = json.loads(out)["models"]
    assert code == 0 and one["kinship"] == "the same weights, but for rounding"
    first = one["neighbours"][0]
    assert first["model"] == "smollm2" and first["low"] <= first["distance"] <= first["high"]
    assert [score["low"] for score in one["scores"]] == [None, None]
    scored[1:].to_csv(tmp_path / "s.csv", index=False)
    code, out, err = run(capsys, "place", "--log-likelihoods", tmp_path / "s.csv")
    assert code == 2 and not out and "lacks" in err and len(err.splitlines()) == 1
    code, _, err = run(capsys, "place")
    assert code == 2 and "MODEL is missing" in err
    # A map of one's own, with its texts, by the reader's own names.
    values = np.random.default_rng(0).normal(-50, 5, (3, 4))
    own = model_map.fit_map(values, names=list("xyz"), texts=list("abcd"), clip=0)
    own.save(tmp_path / "own.npz")
    rows = [{"key": key, "text": f"text {key}"} for key in "abcd"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = pd.DataFrame({"key": list("dcba"), "log_likelihood": values[1][::-1]})
    scored.to_csv(tmp_path / "s.csv", index=False)
    words = "place", "--log-likelihoods", tmp_path / "s.csv", "--map", tmp_path / "own.npz"
    code, out, _ = run(capsys, *words, "--texts", tmp_path / "t.jsonl", "--k", 1)
    assert code == 0 and out.splitlines()[-1].split()[:2] == ["y", "0.0"]
    code, _, err = run(capsys, *words)
    assert code == 2 and "--texts lacks 4 texts of the map" in err


def test_place_reads_models_and_says_which_failed(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path))
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    words = "place", folder / "tiny", tmp_path / "no.gguf", "--n-texts", "8", "--json"
    code, out, err = run(capsys, *words)
    placed, failed = json.loads(out)["models"]
    assert code == 1 and placed["model"] == "tiny" and len(placed["neighbours"]) == 5
    assert "no.gguf" in failed["why"] and "no.gguf" in err
    assert text_sets.fingerprint(text_sets.load_texts(8)) == json.loads(out)["inputs"]["texts"]


def test_judge_asks_the_page_for_what_it_takes(folder, monkeypatch, capsys):
    asked, read = [], {"model": "tiny", "status": "computed", "signals": []}
    parts = [{"signal": s, "status": "refused", "why": "no such name"} for s in ("facts", "map")]
    models = [read, {"model": "hub/x", "status": "refused", "signals": parts}]

    def written(words):
        asked.append(words)
        place = Path(json.loads(words[words.index("out") + 1]))
        place.mkdir(parents=True, exist_ok=True)
        (place / "results.json").write_text(json.dumps({"models": models}))
        print("run")
        return 0

    monkeypatch.chdir(folder)
    monkeypatch.setattr(pipeline, "main", written)
    words = ["judge", folder / "tiny", "hub/x", "--revision", "v1", "--rank-for", "texts"]
    words += ["--device", "cpu", "--dtype", "bfloat16", "--batch-tokens", 256]
    code, out, err = run(capsys, *words, "--limit", 9, "--signals", "facts", "map")
    # The page stands, and the model that could not be read is named and shows in the exit code.
    assert code == 1 and err == "run\nhub/x: facts, map: no such name\n"
    assert out.strip().endswith("build/html/notebooks/synthesis/your_model.html")
    name, book, *rest = asked[0]
    values = zip(rest[1::3], rest[2::3], strict=True)
    extra = {key: planning.read_yaml(value, key) for key, value in values}
    place = Path(extra.pop("out"))
    assert place.parent == folder / "results" and place.name.startswith("your_model-")
    models.pop()
    assert run(capsys, *words, "--out", "mine")[0] == 0
    again = asked.pop()
    assert json.loads(again[again.index("out") + 1]) == str(folder / "mine")
    assert extra == {
        "models": [str(folder / "tiny"), "hub/x@v1"], "rank_for": "texts", "limit": 9,
        "signals": ["facts", "map"], "device": "cpu", "dtype": "bfloat16", "batch_tokens": 256,
    }  # fmt: skip
    # The runner takes each of them, and the page has a parameter for all that may be asked.
    assert name == judge._PAGE and book == "--book"
    (task,) = planning.plan("laptop", [name], extra, data.ROOT / "build")
    assert task.overrides.items() >= extra.items()
    asked_for = set(vars(judge._parser().parse_args(["m"])))
    assert asked_for - set(judge._OWN) <= set(planning._parameters_of(name))
    for option, wrong in {"--batch-tokens": 0, "--device": "abacus"}.items():
        code, _, err = run(capsys, *words, option, wrong)
        assert code == 2 and err.startswith("before-ft judge: ") and str(wrong) in err
    assert len(asked) == 1


def test_doctor_says_what_is_broken_and_what_will_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BOOK_DATA_MIRROR", raising=False)
    code, out, _ = run(capsys, "doctor", "--offline", "--json")
    whole = json.loads(out)
    state = {check["name"]: check["state"] for check in whole["checks"]}
    assert code == 0 and state["texts"] == state["cache"] == state["packages"] == "ok"
    assert state["registry"] == "missing" and state["hub"] == "missing"
    blocked = whole["blocked_by"]
    assert blocked["rank FILE LABELS"] == "" and blocked["a model's name on the hub"] == "hub"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("BOOK_DATA_MIRROR", str(tmp_path / "nowhere"))
    code, out, _ = run(capsys, "doctor", "--offline")
    assert code == 1 and "set BOOK_DATA_CACHE to another folder" in out
    assert "BOOK_DATA_MIRROR" in out and "no   judge MODEL: see cache" in out

    def _bad():
        raise ImportError("no such\nlibrary")

    (found,) = doctor._examined([_bad])
    assert found == ("bad", "broken", "ImportError: no such library", found.cure)


COMPLETE = """
source {script}
complete -p before-ft
COMP_WORDS=(before-ft {words}); COMP_CWORD={n}
_shtab_before_ft; echo "${{COMPREPLY[@]}}"
"""


def test_completion_completes(tmp_path, capsys):
    code, script, err = run(capsys, "completion", "bash")
    assert code == 0 and not err
    (tmp_path / "script").write_text(script)

    def after(*words):
        text = COMPLETE.format(script=tmp_path / "script", words=" ".join(words), n=len(words))
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True)
        return done.stdout.splitlines()[-1].split()

    assert set(after("")) >= set(COMMANDS) and after("sco") == ["score"]
    assert "--rank-for" in after("judge", "--ra") and after("place", "--bos", "y") == ["yes"]
    code, script, _ = run(capsys, "completion", "zsh")
    assert code == 0 and script.startswith("#compdef before-ft")
    assert set(completion._NO_FILES) <= {a.dest for n in COMMANDS for a in parser(n)._actions}


def parser(name):
    return completion._parser_of(COMMANDS[name][0])


def test_every_command_prints_json_and_can_be_quiet():
    for name in set(COMMANDS) - set(OLDER):
        given = {action.dest for action in parser(name)._actions}
        assert {"json", "quiet"} <= given, name
