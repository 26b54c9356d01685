"""The exercises at the end of each page: their form, and that every solution runs."""

import re

import nbformat
import pytest

from helpers.book import planning
from helpers.data import ROOT

EXERCISE = re.compile(
    r"\*\*Exercise (\d)\.\*\* ([^\n]+)\n\n"
    r":::\{dropdown\} Solution\n```python\n(.*?)```\n\n([^\n]+)\n:::",
    re.S,
)
CELLS = {
    name: nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells[-1]
    for name in planning._discover()
}
SOLUTIONS = {
    f"{name} {number}": code
    for name, cell in CELLS.items()
    for number, _, code, _ in EXERCISE.findall(cell.source)
}


@pytest.mark.parametrize("name", CELLS)
def test_a_page_ends_with_two_exercises(name):
    cell = CELLS[name]
    found = EXERCISE.findall(cell.source)
    assert cell.cell_type == "markdown" and cell.source.startswith("## Exercises\n")
    assert [number for number, *_ in found] == ["1", "2"] and cell.source.count(":::") == 4
    (_, first, *_), (_, last, own, _) = found
    assert "redict" in first and re.search(r"\b[Yy]ou", last)
    assert re.search(r"#.*\b(your|not )", own), "say where the reader's own data go"
    for _, question, code, answer in found:
        lines = [line for line in code.split("\n") if line.strip()]
        assert len(lines) <= 10 and max(map(len, lines)) <= 80
        assert 20 <= len(question.split()) <= 75 and 15 <= len(answer.split()) <= 75


@pytest.mark.models
@pytest.mark.parametrize("name", SOLUTIONS)
def test_its_solution_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(SOLUTIONS[name], name, "exec"), {"__name__": "solution"})
    assert capsys.readouterr().out.strip()
