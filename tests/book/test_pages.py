import base64
import importlib
import io
import json
import os
import re
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from helpers import figures
from helpers.book import claims, pages
from helpers.data import ROOT

TEXTS = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*/*.ipynb")]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(32))


def executed(name="fig-a", data=None):
    """A small executed notebook with one figure cell."""
    nb = nbformat.v4.new_notebook()
    nb.cells.append(nbformat.v4.new_markdown_cell("(a-b)=\n# What is it?\n\nText."))
    cell = nbformat.v4.new_code_cell("plot()")
    cell.metadata["mystnb"] = {"figure": {"name": name, "caption": "c"}, "image": {"alt": "told"}}
    data = {"image/png": base64.b64encode(PNG).decode()} if data is None else data
    cell.outputs = [
        nbformat.v4.new_output("stream", text="said first"),
        nbformat.v4.new_output("display_data", data=data),
    ]
    nb.cells.append(cell)
    return nb


def test_a_picture_is_the_named_figure_of_an_executed_page():
    found = pages.picture("a/b", executed(), "fig-a")
    assert found == ("a/b", "What is it?", "fig-a", PNG, "told")
    assert pages.picture("a/b", executed(), "fig-other") is None
    assert pages.picture("a/b", executed(data={"text/plain": "x"}), "fig-a") is None


def test_a_card_is_the_copy_that_was_drawn_for_it():
    both, card = {"image/png": base64.b64encode(b"big").decode()}, io.BytesIO()
    Image.new("RGB", (3, 2), "#0072B2").save(card, "PNG")
    both[figures._CARD] = base64.b64encode(card.getvalue()).decode()
    found = pages.picture("a/b", executed(data=both), "fig-a", pages._CARD)
    drawn, shown = (Image.open(p).convert("RGB") for p in (card, io.BytesIO(found.png)))
    assert found.name == "card-fig-a" and drawn.tobytes() == shown.tobytes()
    assert pages.small_picture("a/b", executed(data=both), "fig-a") == found
    assert pages.picture("a/b", executed(), "fig-a", pages._CARD) is None
    assert pages.small_picture("a/b", executed(), "fig-a").name == "fig-a"


def test_a_preview_has_the_size_that_other_sites_ask_for():
    wide = io.BytesIO()
    Image.new("RGB", (1100, 400), "red").save(wide, "PNG")
    made = Image.open(io.BytesIO(pages.preview("Is it? " * 40, wide.getvalue()))).convert("RGB")
    assert made.size == (1200, 630)
    red = [x for x in range(1200) if made.getpixel((x, 350))[1] < 40]
    assert red[0] == 48 and red[-1] == 1151  # the whole width, and no more


def test_the_cover_links_each_picture_to_its_page():
    text = pages.cover([pages.picture("a/b_c", executed(), "fig-a")])
    for line in ("What is it?", ":img-alt: told", ":link: a-b-c", "_generated/fig-a.png"):
        assert line in text
    assert pages.cover([]) == ""


def test_the_figures_of_the_cover_are_there():
    for notebook, name in pages.COVER.items():
        nb = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
        names = [c.metadata.get("mystnb", {}).get("figure", {}).get("name") for c in nb.cells]
        assert name in names, notebook


def test_measured_has_every_claim_and_the_page_that_measured_it():
    rows = claims.ledger([])
    found = json.loads(pages._measured(rows))
    assert set(found) == set(claims.load())
    told = found["syn-counter-finds-the-planted"]
    assert told["value"] == 0 and told["text"] == "0" and told["label"] == "synthesis-which-signal"
    table = pd.read_csv(ROOT / "data" / "published" / "headlines_geometry.csv")
    n = int((table.claim == "geo-beyond-dose").sum()) - 1
    assert found["geo-beyond-dose"]["choices"].endswith(f" of {n} other choices agree")
    assert found["map-predict-arc"]["value"] is None and found["map-predict-arc"]["text"] == "–"
    written = {p.relative_to(ROOT / "notebooks") for p in (ROOT / "notebooks").glob("*/*.ipynb")}
    labels = {pages.label(str(path.with_suffix(""))) for path in written}
    assert {row["label"] for row in found.values() if row["value"] is not None} <= labels


def test_formats_in_the_prose_suit_their_claims():
    found = json.loads(pages._measured(claims.ledger([])))
    for path in (ROOT / "book").glob("*.md"):
        for name, form in re.findall(r"\{measured\}`([^`:]+):([^`]+)`", path.read_text()):
            if found[name]["value"] is not None:
                assert format(found[name]["value"], form.removesuffix("[]").strip()), (
                    path.name,
                    name,
                )


def build(folder, *texts):
    """Build one page of some lines with the role, and return its html and what Sphinx said."""
    source, out = folder / "source", folder / "out"
    (source / "_generated").mkdir(parents=True)
    (source / "conf.py").write_text("extensions = ['myst_parser', 'measured']\n")
    rows = {
        "syn-a": {
            "value": 0.98765,
            "text": "0.9877",
            "label": "there",
            "interval": [0.9, 1.0],
            "choices": "7 of 9 other choices agree",
        },
        "syn-b": {"value": -2.5, "text": "-2.5", "label": "there", "interval": None},
        "syn-none": {"value": None, "text": "–", "label": "nowhere", "interval": None},
    }
    (source / "_generated" / "measured.json").write_text(json.dumps(rows))
    page = "\n\n".join(["# Page", *texts, "(there)=\n## Place\n"])
    (source / "index.md").write_text(page)
    words = [sys.executable, "-m", "sphinx", "-q", "--no-color", str(source), str(out)]
    paths = os.pathsep.join([str(ROOT / "book" / "_ext"), str(ROOT)])
    run = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    return (out / "index.html").read_text(), run.stderr


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Return the html of lines that ask for claims, of which Sphinx said nothing."""
    html, said = build(
        tmp_path_factory.mktemp("pages"),
        "Number {measured}`syn-a:.2f`, or {measured}`syn-a`.",
        "Interval {measured}`syn-a:.2f []`, or {measured}`syn-b:.1f []`.",
        "Sign {measured}`syn-a:.0%`, or {measured}`syn-b:.1f`.",
        "Dash {measured}`syn-none:.2f`.",
    )
    assert said == ""
    return {text.split()[0]: text for text in re.findall(r"<p>(\w+ .*?)</p>", html, re.S)}


def test_the_role_puts_in_the_number_with_a_link(lines):
    html = lines["Number"]
    assert html.count('href="#there"') == 2 and ">0.99<" in html and ">0.9877<" in html
    assert html.count('<abbr title="7 of 9 other choices agree">') == 2


def test_the_role_puts_in_the_interval_where_there_is_one(lines):
    html = lines["Interval"]
    assert ">0.99 [0.90,\N{NO-BREAK SPACE}1.00]<" in html and ">\N{MINUS SIGN}2.5<" in html


def test_signs_are_those_of_the_prose(lines):
    html = lines["Sign"]
    assert ">99\N{NO-BREAK SPACE}%<" in html and ">\N{MINUS SIGN}2.5<" in html


def test_what_was_not_measured_is_a_dash_and_no_broken_link(lines):
    assert ">–<" in lines["Dash"] and "href" not in lines["Dash"]


def test_an_unknown_claim_is_said_and_a_format_that_does_not_fit(tmp_path):
    said = build(tmp_path, "{measured}`syn-gone`", "{measured}`syn-a:.2x`")[1]
    assert "'syn-gone' is no claim" in said and "'syn-a:.2x'" in said


def test_the_pages_of_the_book_ask_for_claims_that_exist():
    asked = [
        (path.name, name)
        for path in TEXTS
        for name in re.findall(r"\{measured\}`([^`:\[ ]+)", path.read_text())
    ]
    assert len(asked) > 20
    assert not [(page, name) for page, name in asked if name not in claims.load()]


def test_code_leads_to_the_function_that_it_imports_and_to_no_namesake(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    reference = importlib.import_module("reference")
    known = {
        "helpers.geometry.quantization.lloyd_index": "helpers.geometry.lloyd_index",
        "helpers.posterior.log_me": "helpers.posterior.log_me",
        "helpers.synthesis.signals.measure": "helpers.synthesis.measure",
    }
    code = (
        "from helpers.geometry import quantization as q\n"
        "from helpers.posterior import (\n    h_score,\n    log_me,\n)\n"
        "from helpers.synthesis import your_model\n"
        "print(log_me(X, y), q.lloyd_index(counts), your_model.measure(looks), other.log_me(1))\n"
    )
    html = highlight(code, PythonLexer(), HtmlFormatter())
    found = [
        (name, [m.start() for m in re.finditer(pattern, html)])
        for pattern, name in reference.uses(code, known)
    ]
    assert [name for name, _ in found] == [
        "helpers.geometry.lloyd_index",
        "helpers.posterior.log_me",
    ]
    line = html.index("print")
    assert all(len(places) == 1 and places[0] > line for _, places in found)


def test_a_table_has_a_dash_where_there_is_no_value():
    shown = {"text/html": pd.DataFrame({"a": [1.5, None]}).to_html(), pages._CARD: "x"}
    cell = nbformat.v4.new_code_cell("1")
    cell.outputs = [nbformat.v4.new_output("display_data", shown)]
    nb = nbformat.v4.new_notebook(cells=[cell])
    pages.fold(nb)
    (output,) = nb.cells[0].outputs
    assert re.findall(r"<td>(.*)</td>", output.data["text/html"]) == ["1.5", "\N{EN DASH}"]
    assert nb.cells[0].metadata["tags"] == ["hide-input"] and pages._CARD not in output.data


def test_only_large_figures_lose_colours():
    rng = np.random.default_rng(0)

    def png(size):
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(out, "PNG")
        return base64.b64encode(out.getvalue()).decode()

    given = [png((300, 400)), png((30, 40))]
    assert len(given[0]) > pages._LARGE > len(given[1])
    outputs = [nbformat.v4.new_output("display_data", data={"image/png": one}) for one in given]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    pages.fold(nb)
    large, small = (output.data["image/png"] for output in nb.cells[0].outputs)
    assert small == given[1] and len(large) < len(given[0])
    few, whole = (Image.open(io.BytesIO(base64.b64decode(p))) for p in (large, given[0]))
    assert few.size == whole.size and len(few.getcolors()) <= 256
