import json
import os
from pathlib import Path

import hypothesis
import nbformat
import pytest

from helpers import data, pipeline, planning

ROOT = data.ROOT
# The same examples in every run; HYPOTHESIS_PROFILE=explore draws new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture
def clean_data(monkeypatch, tmp_path):
    """An empty cache, no mirror, and no memory of servers that did not answer."""
    for name in ("BOOK_DATA_MIRROR", "BOOK_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BOOK_DATA_TIMEOUT", "5")
    data._unreachable.clear()
    yield tmp_path / "cache"
    data._unreachable.clear()


@pytest.fixture
def write_notebook(monkeypatch, tmp_path):
    """Write small notebooks into a folder that the planner takes for notebooks/."""
    folder = tmp_path / "notebooks"
    (folder / "parameters").mkdir(parents=True)
    monkeypatch.setattr(planning, "NOTEBOOKS", folder)
    monkeypatch.setattr(planning, "PROFILES", folder / "parameters")

    def write(name: str, *code: str, parameters: str = "n: int = 1  # a number") -> Path:
        nb = nbformat.v4.new_notebook()
        nb.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nb.cells.append(nbformat.v4.new_markdown_cell("# A page"))
        nb.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        nb.cells += [nbformat.v4.new_code_cell(text) for text in code]
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, path)
        return path

    return write


def _run(words: list[str], environment: dict[str, str]) -> dict[str, dict]:
    build = ROOT / words[words.index("--build") + 1]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert pipeline.main([*words, "--jobs", "2"]) == 0
    records = sorted((build / "records").rglob("*.json"))
    return {r["notebook"]: r for r in (json.loads(p.read_text()) for p in records)}


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The whole book in the smoke profile, with no data but what pip installed: its records."""
    empty = str(tmp_path_factory.mktemp("empty"))
    away = {"BOOK_OFFLINE": "1", "BOOK_DATA_MIRROR": "", "BOOK_DATA_CACHE": empty}
    return _run(["--profile", "smoke", "--build", "build/smoke", "--book"], away)


@pytest.fixture(scope="session")
def site(smoke) -> Path:
    """The html of the smoke run."""
    return ROOT / "build" / "smoke" / "html"


@pytest.fixture(scope="session")
def smoke_as_is():
    """All notebooks in the smoke profile, with whatever registry files this machine can have."""
    return _run(["--profile", "smoke", "--build", "build/smoke-as-is"], {})
