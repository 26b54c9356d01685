import ast
import graphlib
import importlib
import re
import statistics
import subprocess
import sys

import nbformat
import pytest
import yaml

import experiments.__main__
import helpers.__main__
from helpers.book import claims, pages, planning
from helpers.data import ROOT

NAMES = planning._discover()
SECTIONS = ["Reproduce", "Run", "Audit", "Repair", "Verdict"]


@pytest.fixture(params=NAMES)
def page(request):
    name = request.param
    return name, nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code_cells(nb):
    return [c for c in nb.cells if c.cell_type == "code"]


def prose(nb):
    return "\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown")


def test_there_are_pages():
    assert len(NAMES) >= 3


def test_the_source_holds_no_output(page):
    _, nb = page
    assert all(not c.outputs and c.execution_count is None for c in code_cells(nb))


def test_it_opens_with_its_answer_then_a_cited_claim(page):
    name, nb = page
    title, short, claim = nb.cells[:3]
    first = title.source.split("\n")
    assert first[0] == f"({pages.label(name)})=" and first[1].startswith("# ")
    assert first[1].endswith("?") and len(first) == 2
    assert short.metadata["tags"] == ["in_short"] and "{measured}`" in short.source
    names = [c.metadata.get("mystnb", {}).get("figure", {}).get("name") for c in nb.cells]
    assert short.metadata["figure"] in names
    assert "**Claim.**" in claim.source and "{cite:" in claim.source


def test_its_sections_are_in_order(page):
    _, nb = page
    heads = re.findall(r"^## (\w+)", prose(nb), re.M)
    order = [SECTIONS.index(h) for h in heads if h in SECTIONS]
    assert order == sorted(order) and heads[-2:] == ["Verdict", "Exercises"]
    assert {"Reproduce", "Run", "Audit"} <= set(heads) or "Run" in heads


def test_it_closes_with_the_verdict_and_provenance(page):
    name, nb = page
    *_, verdict, last = code_cells(nb)
    assert verdict.source.startswith("claims.verdict(") and last.source.startswith(
        "provenance.table("
    )


def test_its_parameters_explain_themselves(page):
    name, nb = page
    (cell,) = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    planning._parameters_of(name)
    for line in cell.source.strip().split("\n"):
        assert re.fullmatch(r"\w+: [\w\[\], ]+ = .+  # \w.+", line), line


# Parameters that name models of the reader's own.
MODELS = {"model", "models", "encoder", "encoders", "clip_models"}
# Pages on which such a model reads no text for its probability.
VECTORS = ("posterior/images", "posterior/language_models", "geometry/other_models")


def test_a_page_that_takes_models_takes_how_they_are_read(page):
    name, nb = page
    known, code = planning._parameters_of(name), "\n".join(c.source for c in code_cells(nb))
    reads = re.findall(r"\b(?:allow_bin|device|dtype|batch_tokens): ", code)
    if not MODELS & set(known):
        assert not reads
        return
    scores = () if name in VECTORS else ("batch_tokens",)
    assert reads == [f"{word}: " for word in ("allow_bin", "device", "dtype", *scores)]
    given = "device, dtype" + ", batch_tokens or None" * bool(scores)
    assert f"How({given})" in code
    assert "allow_bin=allow_bin" in code or '"allow_bin": allow_bin' in code


def test_it_reads_like_a_lecture(page):
    _, nb = page
    cells = code_cells(nb)
    sizes = [len(c.source.split("\n")) for c in cells]
    widest = max((line for c in cells for line in c.source.split("\n")), key=len)
    words = len(re.findall(r"\w+", prose(nb)))
    assert 12 <= len(cells) <= 25
    assert max(sizes) <= 25 and statistics.median(sizes) <= 8
    assert len(widest) <= 80, widest
    assert words >= 8 * sum(sizes)


def test_it_defines_no_framework(page):
    _, nb = page
    tree = ast.parse("\n".join(c.source for c in code_cells(nb)))
    kinds = [type(n) for n in ast.walk(tree)]
    assert kinds.count(ast.FunctionDef) <= 1 and ast.ClassDef not in kinds


def test_the_data_it_asks_for_stand_in_its_code(page):
    """What is fetched, and what makes a page stale, is read from the calls."""
    code = "\n".join(cell.source for cell in code_cells(page[1]))
    nodes = [n for n in ast.walk(ast.parse(code)) if hasattr(n, "func") or hasattr(n, "attr")]
    asked = [n for n in nodes if ast.unparse(n) == "data.available"]
    calls = [n for n in nodes if hasattr(n, "func") and ast.unparse(n.func) == "data.available"]
    literal = [n for n in calls if n.args and all(isinstance(a, ast.Constant) for a in n.args)]
    assert len(asked) == len(literal)


def test_every_figure_has_name_caption_and_alt_text(page):
    _, nb = page
    drawn = [
        c for c in code_cells(nb) if re.search(r"figures\.axes\(|plt\.(subplots|figure)", c.source)
    ]
    assert drawn
    names = []
    for cell in drawn:
        meta = cell.metadata.get("mystnb", {})
        names.append(meta["figure"]["name"])
        assert len(meta["figure"]["caption"]) > 40 and len(meta["image"]["alt"]) > 40
    assert len(set(names)) == len(names)


def test_links_are_labels_and_no_path_of_a_machine_stands_in_it(page):
    _, nb = page
    text = prose(nb) + "\n".join(c.source for c in code_cells(nb))
    assert not re.search(r"\]\((?!https?:|#)[^)]*\)", text)
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", text)


def test_it_is_in_the_book_the_smoke_profile_and_the_claims(page):
    name, nb = page
    assert f"file: notebooks/{name}" in (ROOT / "book" / "_toc.yml").read_text()
    assert name in yaml.safe_load((ROOT / "notebooks/parameters/smoke.yml").read_text())
    code = "\n".join(c.source for c in code_cells(nb))
    for claim in (c for c in claims.load().values() if c["notebook"] == name):
        assert claim["id"] in code, f"{claim['id']} is never recorded"


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_the_profiles_are_sound(profile):
    assert len(planning.plan(profile)) == len(NAMES)


def test_papermill_explains_the_parameters():
    name = NAMES[0]
    words = [sys.executable, "-m", "papermill", "--help-notebook", f"notebooks/{name}.ipynb"]
    shown = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout
    for parameter in planning._parameters_of(name):
        assert parameter in shown


WINGS = ("posterior", "geometry", "retrieval", "modelmap")
# What a floor may import besides itself and the ground floor; whoever is not named may import all.
FLOORS = {
    "ground": (),
    "book": (),
    **{wing: () for wing in WINGS},
    "synthesis": WINGS,
    "commands": (*WINGS, "synthesis", "book"),
    "main": (*WINGS, "synthesis", "book", "commands"),
}


def floor_of(path):
    """Return the floor of a file in `helpers`, or `experiments`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "experiments":
        return "experiments"
    if len(parts) == 2:
        return "main" if parts[1] == "__main__" else "ground"
    return parts[1]


def test_each_floor_of_the_house_stands_on_those_below_it():
    wrong, edges = [], {}
    for path in (ROOT / "helpers").rglob("*.py"):
        floor = floor_of(path)
        package = ".".join(path.parent.relative_to(ROOT).parts)
        files = map(planning._file, planning._imported(path.read_text(), package))
        edges[path] = {file for file in files if file and file.name != "__init__.py"} - {path}
        allowed = {floor, "ground", *FLOORS[floor]}
        wrong += [f"{path} -> {file}" for file in edges[path] if floor_of(file) not in allowed]
    assert not wrong, wrong
    graphlib.TopologicalSorter(edges).prepare()


@pytest.mark.parametrize("wing", [*WINGS, "synthesis"])
def test_a_wing_offers_few_names_and_each_is_there(wing):
    package = importlib.import_module(f"helpers.{wing}")
    assert 0 < len(package.__all__) <= 10
    modules = {path.stem for path in (ROOT / "helpers" / wing).glob("*.py")}
    assert not modules & set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__


@pytest.mark.parametrize(
    ("package", "commands"),
    [("helpers", helpers.__main__.COMMANDS), ("experiments", experiments.__main__.RUNS)],
)
def test_every_command_is_there_and_no_other(package, commands, capsys):
    for module, _ in commands.values():
        path = planning._file(f"{package}.{module}")
        body = ast.parse(path.read_text()).body
        names = {n.name for n in body if isinstance(n, ast.FunctionDef)}
        names |= {ast.unparse(n.targets[0]) for n in body if isinstance(n, ast.Assign)}
        assert "main" in names, module
    assert helpers.__main__.dispatch(package, commands, ["nothing"]) == 2
    told = capsys.readouterr().err
    assert "no command 'nothing'" in told and all(name in told for name in commands)
    assert helpers.__main__.dispatch(package, commands, []) == 0
    assert f"python -m {package} COMMAND --help" in capsys.readouterr().out
