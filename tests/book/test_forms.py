"""The other forms of the site, of a small site that these tests write."""

import hashlib
import zipfile
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from helpers.book import forms

PAGE = """<html><head><link rel="stylesheet" href="{up}_static/a.css"></head><body>
<article class="bd-article"><section id="top"><span id="label"></span><h1>{title}<a
class="headerlink" href="#top">#</a></h1>{body}</section></article></body></html>"""


@pytest.fixture
def html(tmp_path, monkeypatch):
    order = [("index", 1), ("part", 1), ("notebooks/part/one", 2)]
    monkeypatch.setattr(forms, "_pages_in_order", lambda: iter(order))
    html = tmp_path / "html"
    bodies = {
        "index": '<a href="notebooks/part/one.html#label">one</a><a href="claims.json">file</a>'
        '<a href="https://example.org/x">away</a><!--other forms--><!--/other forms-->',
        "part": '<a href="#label">here</a><a href="index.html">start</a>',
        "notebooks/part/one": '<img src="../../_images/f.png" alt="a"><h2>Next</h2>'
        '<details class="hide above-input"><pre>code()</pre></details>'
        "<details><p>untested rows</p></details>",
    }
    for name, body in bodies.items():
        path = html / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGE.format(up="../" * name.count("/"), title=f"Title {name}", body=body))
    return html


def test_links_of_the_one_page_lead_to_places_in_it(html):
    soup = BeautifulSoup(forms._one_page(html), "html.parser")
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    inside = [a["href"] for a in soup.select("a[href^='#']")]
    assert {"#notebooks-part-one--label", "#part--label", "#index"} <= set(inside)
    assert {link[1:] for link in inside} <= set(ids)
    assert soup.select_one("a[href='https://example.org/x']")
    assert not soup.select("a[href$='claims.json']") and "file" in soup.get_text()


def test_the_one_page_has_the_pages_in_order_without_code(html):
    soup = BeautifulSoup(forms._one_page(html), "html.parser")
    heads = [(h.name, h.get_text()) for h in soup.select("article:not(.front) :is(h1, h2, h3)")]
    spaces = str.maketrans({"\N{NO-BREAK SPACE}": " ", "\N{ZERO WIDTH SPACE}": ""})
    assert [(name, text.translate(spaces)) for name, text in heads] == [
        ("h1", "Title index"), ("h1", "Title part"), ("h2", "Title notebooks/part/one"),
        ("h3", "Next"),
    ]  # fmt: skip
    assert "code()" not in soup.get_text()
    assert soup.find("details").has_attr("open") and "untested rows" in soup.get_text()
    assert soup.img["src"] == (html / "_images" / "f.png").as_uri()


def test_the_zip_is_the_site_and_the_same_again(html, tmp_path):
    first = forms._make_zip(html, tmp_path / "a.zip")
    before = hashlib.sha256(first.read_bytes()).hexdigest()
    forms._publish(html, [first.rename(tmp_path / f"{forms._NAME}.zip")])
    forms._publish(html, [tmp_path / f"{forms._NAME}.zip"])
    assert (html / "index.html").read_text().count(f'href="{forms._NAME}.zip"') == 1
    again = forms._make_zip(html, tmp_path / "b.zip")
    assert hashlib.sha256(again.read_bytes()).hexdigest() == before
    with zipfile.ZipFile(again) as packed:
        names = {n.removeprefix(f"{forms._NAME}/") for n in packed.namelist()}
    assert names == {"index.html", "part.html", "notebooks/part/one.html"}


def test_without_a_site_the_cure_is_named(tmp_path, capsys):
    assert forms.main(["zip", "--build", str(tmp_path)]) == 2
    assert "make book" in capsys.readouterr().err


def test_the_order_is_that_of_the_book():
    names = [name for name, _ in forms._pages_in_order()]
    assert names[0] == "index" and len(names) == len(set(names))
    assert all((forms.ROOT / "book" / f"{n}.md").is_file() for n in names if "/" not in n)


def test_a_page_of_the_epub_is_xml_with_formulas_and_without_code():
    page = (
        '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8">'
        '<meta name="x" content="y"></head><body><p>a &nbsp;<span class="math">\\(r &lt; 0.9\\)'
        '</span><br></p><div class="math" id="eq"><span class="eqno">(4)</span>\\[\nL = '
        '\\frac{V}{\\bar n} .\n\\]</div><details class="above-input"><pre>code()</pre></details>'
        '<details class="toggle"><summary>shown</summary><img src="a.png"></details></body></html>'
    )
    tree = ElementTree.fromstring(forms._readable(page).replace("<!DOCTYPE html>", ""))
    name = "{http://www.w3.org/1998/Math/MathML}"
    inline, block = tree.iter(f"{name}math")
    assert "".join(inline.itertext()) == "r<0.9" and block.get("display") == "block"
    assert block.find(f".//{name}mfrac") is not None
    text = "".join(tree.itertext())
    assert "(4)" in text and "shown" in text and "code()" not in text and "\\" not in text
