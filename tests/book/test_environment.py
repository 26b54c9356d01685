import ast
import re
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from helpers.book import environment
from helpers.data import ROOT

CUSTOMER = {
    "jupyterlab", "jupyter-book", "papermill", "matplotlib", "seaborn", "numpy", "scikit-learn",
    "faiss-cpu", "torch", "transformers",
}  # fmt: skip
# jupyterlab and jupyter-book are programs; the others are imported.
COMMANDS = {"jupyterlab": "jupyter lab", "jupyter-book": "jupyter-book", "papermill": "papermill"}
IMPORTS = {"scikit-learn": "sklearn", "faiss-cpu": "faiss"}


def lines(name):
    text = (ROOT / name).read_text().split("\n")
    return [line for line in text if line.strip() and not line.startswith("#")]


def named(requirements):
    return {re.split(r"[<>=!~ ;\[]", line)[0].lower().replace("_", "-") for line in requirements}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_three_faces_ask_for_the_same():
    direct = project()["dependencies"] + project()["optional-dependencies"]["dev"]
    assert sorted(direct) == sorted(lines("requirements.in"))
    env = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [d for d in env["dependencies"] if isinstance(d, str)]
    (section,) = [d["pip"] for d in env["dependencies"] if isinstance(d, dict)]
    assert section == ["-r requirements.txt", "-e ."]
    assert "pip" in plain
    floor = project()["requires-python"].removeprefix(">=")
    assert f"python={floor}" in plain


def test_the_lock_is_exact_complete_and_without_cuda():
    for line in lines("requirements.txt"):
        assert re.fullmatch(r"[a-z0-9.\-]+==[^=;\s]+( ; .+)?", line), line
    locked = named(lines("requirements.txt"))
    assert not [name for name in locked if re.match("nvidia|cuda|triton", name)]
    assert named(lines("requirements.in")) <= locked and CUSTOMER <= locked
    pinned = [Requirement(line) for line in lines("requirements.txt")]
    for wanted in map(Requirement, lines("requirements.in")):
        for one in (p for p in pinned if p.name == wanted.name):
            (exact,) = one.specifier
            assert wanted.specifier.contains(exact.version), f"{wanted} against {one}"


def test_every_direct_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    for name in project()["dependencies"] + project()["optional-dependencies"]["dev"]:
        assert re.search(rf'^  "{re.escape(name)}",\s+# \w+', text, re.M), name


def test_the_environment_holds_what_the_lock_says():
    from importlib.metadata import version

    for requirement in map(Requirement, lines("requirements.txt")):
        if requirement.marker is None or requirement.marker.evaluate():
            (exact,) = requirement.specifier
            assert version(requirement.name).split("+")[0] == exact.version
    for requirement in map(Requirement, lines("requirements-models.txt")):
        (exact,) = requirement.specifier
        assert version(requirement.name) == exact.version


def imported():
    code = [p.read_text() for p in (ROOT / "helpers").rglob("*.py")]
    for path in (ROOT / "notebooks").glob("*/*.ipynb"):
        cells = __import__("json").loads(path.read_text())["cells"]
        code += ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    names = set()
    for node in (n for text in code for n in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_everything_that_was_asked_for_is_used():
    used = imported()
    files = ["Makefile", *(f"helpers/book/{name}.py" for name in ("pipeline", "site"))]
    commands = "".join((ROOT / name).read_text() for name in files)
    for name in sorted(CUSTOMER):
        if name in COMMANDS:
            found = COMMANDS[name] in commands
        else:
            found = IMPORTS.get(name, name) in used
        assert found, f"{name} is installed and never used"


def test_the_top_level_is_what_was_agreed():
    for name in ("book", "notebooks", "helpers", "data", "environment.yml", "_config.yml"):
        assert (ROOT / name).exists()
    assert (ROOT / "README.md").read_text().strip()


@pytest.mark.parametrize(
    ("system", "gpu", "wanted"),
    [("Linux", False, True), ("Linux", True, False), ("Darwin", False, False)],
)
def test_the_cpu_build_is_wanted_on_linux_without_a_gpu_only(monkeypatch, system, gpu, wanted):
    monkeypatch.setattr(environment.platform, "system", lambda: system)
    monkeypatch.setattr(environment.shutil, "which", lambda name: "/usr/bin/x" if gpu else None)
    monkeypatch.setattr(environment.Path, "exists", lambda path: False)
    assert environment._wants_cpu_torch() is wanted


def test_a_failing_step_says_what_to_do(capsys):
    python = environment.Path(sys.executable)
    with pytest.raises(SystemExit, match="package index"):
        environment._pip(python, "--no-index", "--find-links", "nowhere", "no-such-package==9")
    assert "no-such-package" in capsys.readouterr().err
