"""The table of the benchmarks: every script in it, every command in it there."""

import json
import re
import runpy
import subprocess
import sys
import threading
import time
from argparse import Namespace

import pytest
from filelock import FileLock

from helpers.data import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(p.name for p in FOLDER.glob("[!_]*.py") if p.name != "table.py")
ROWS = [json.loads(line) for line in (FOLDER / "ratios.jsonl").read_text().splitlines()]


def test_the_table_is_that_of_the_ratios():
    done = subprocess.run([sys.executable, FOLDER / "table.py", "--check"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_the_table_names_every_script_and_every_command_in_it_is_there():
    text = (FOLDER / "README.md").read_text()
    commands = set(re.findall(r"`python (benchmarks/\w+\.py[^`]*)`", text))
    named = {command.split()[0].removeprefix("benchmarks/") for command in commands}
    assert named - {"table.py"} == set(SCRIPTS)
    for command in commands:
        script, *options = command.split()
        source = (ROOT / script).read_text() + (FOLDER / "_timing.py").read_text()
        words = [word for word in options if word.startswith("--")]
        assert all(f'"{word}"' in source for word in words), command


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_tells_its_options(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    with pytest.raises(SystemExit, match="^0$"):
        runpy.run_path(str(FOLDER / script), run_name="__main__")
    assert {"--quick", "--repeats", "--keep"} <= set(
        re.findall(r"--[a-z]+", capsys.readouterr().out)
    )


def test_misses_stand_first_and_are_counted():
    text = (FOLDER / "README.md").read_text()
    table = [line for line in text.splitlines() if re.match(r"\| [a-z]+ \|", line)][1:]
    assert len(table) == len(ROWS)
    missed = ["**missed**" in line for line in table]
    assert missed == sorted(missed, reverse=True)
    assert f"Of {len(ROWS)} lines {sum(missed)} miss their aim" in text
    for row in ROWS:
        if row["aim"] is not None and row["ratio"] is not None:
            fails = row["ratio"] > row["aim"] if row["most"] else row["ratio"] < row["aim"]
            (line,) = (t for t in table if f"| {row['what']} | {row['peer']} |" in t)
            assert fails == ("**missed**" in line)


def test_two_benchmarks_keep_their_lines_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import _timing

    ratios = tmp_path / "ratios.jsonl"
    ratios.write_text("")
    monkeypatch.setattr(_timing, "RATIOS", ratios)
    monkeypatch.setattr(_timing, "_kept", [])
    monkeypatch.setattr(sys, "argv", ["benchmarks/b.py", "--keep"])
    _timing.note("ours", "peer", 1.0, 2.0, 2.0)
    keeps = threading.Thread(target=_timing.keep, args=[Namespace(keep=True, quick=False)])
    with FileLock(f"{ratios}.lock"):
        keeps.start()
        time.sleep(0.3)
        ratios.write_text(json.dumps({"script": "a.py", "what": "theirs", "command": ""}) + "\n")
    keeps.join()
    rows = [json.loads(line) for line in ratios.read_text().splitlines()]
    assert [row["what"] for row in rows] == ["theirs", "ours"]
