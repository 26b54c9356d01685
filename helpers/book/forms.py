"""Other forms of the built site: one PDF, and one zip to read offline.

`python -m helpers.book.forms pdf zip` makes them of `build/html`; `--publish` puts those that were
made into the site and names them on its start page.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

from helpers import storage
from helpers.book import environment
from helpers.data import ROOT

NAME = "before-fine-tuning"
# What a page has for a screen only: buttons, folded code, marks beside headings, what is explored.
SCREEN = "a.headerlink, details.above-input, #scoreboard-controls, .point-explorer, script, button"
SCREEN += ", .scoreboard td details"
# The start page's place for links to the other forms; the site's checks see a comment.
PLACE = re.compile(r"<!--other forms-->.*?(?=<!--/other forms-->)", re.S)
PRINT = """
@page { size: A4; margin: 18mm 16mm 20mm; }
html, body { background: #fff; font-size: 9.5pt; }
body { display: block; height: auto; }
article { break-before: page; max-width: none; padding: 0 !important; overflow: visible; }
article.front { break-before: auto; }
article.front li { font-size: 8.5pt; line-height: 1.25; }
.title { font-size: 30pt; font-weight: bold; margin-top: 10mm; }
h1, h2, h3, h4 { break-after: avoid; margin-top: 1.2em !important; }
.depth2 > section > h2:first-of-type { font-size: 1.9em; margin-top: 0 !important; }
figure, tr, .admonition-title { break-inside: avoid; }
figure img { max-height: 215mm; }
pre, code { white-space: pre-wrap !important; overflow-wrap: anywhere; }
.output, .highlight, .pst-scrollable-table-container, .scoreboard {
  overflow: visible !important; max-height: none !important; max-width: 100%;
}
table { font-size: 7pt !important; min-width: 0 !important; width: 100%; table-layout: auto; }
td, th { overflow-wrap: break-word; padding: 1pt 3pt !important; }
th { position: static !important; }
.sd-card { break-inside: avoid; }
.admonition { break-inside: auto !important; }
.reproduce ul { columns: 2; }
a { text-decoration: none; color: #0b5d8f; }
"""
# The text column of a page in pixels: A4 less its margins, at 96 to an inch.
COLUMN = 672
# A table that is wider than the column is drawn smaller.
SHRINK = """() => document.querySelectorAll('table').forEach(table => {
  const room = table.parentElement.clientWidth;
  if (table.scrollWidth > room + 1) table.style.zoom = room / table.scrollWidth;
})"""
FOOTER = (
    '<div style="font-size: 7pt; width: 100%; text-align: center; color: #555">'
    '<span class="pageNumber"></span></div>'
)


def _pages_in_order() -> Iterator[tuple[str, int]]:
    """Yield the name of each page of the book and its depth, in the order of `book/_toc.yml`."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    yield toc["root"], 1
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            yield chapter["file"], 1
            for section in chapter.get("sections", []):
                yield section["file"], 2


def _mark(page: str, place: str = "") -> str:
    """Return the name of a page, or of a place on it, in the one document."""
    return page.replace("/", "-") + (f"--{place}" if place else "")


def _lead_inside(tag: Tag, page: str, html: Path, names: set[str]) -> None:
    """Point a link of a page to the same place in the one document; drop what has none."""
    link, place = urldefrag(tag["href"])
    if urlsplit(link).scheme:
        return
    path = (html / page).parent / unquote(link)
    target = page if not link else str(path.resolve().relative_to(html)).removesuffix(".html")
    if target in names:
        tag["href"] = "#" + _mark(target, unquote(place))
    else:
        tag.unwrap()


def _article(html: Path, page: str, depth: int, names: set[str]) -> Tag:
    """Return what a page of the site says, with places, links and pictures of the one document."""
    soup = BeautifulSoup((html / f"{page}.html").read_text(), "html.parser")
    article = soup.select_one("article.bd-article")
    for tag in article.select(SCREEN):
        tag.decompose()
    for tag in article.find_all(id=True):
        tag["id"] = _mark(page, tag["id"])
    for tag in article.find_all("a", href=True):
        _lead_inside(tag, page, html, names)
    for tag in article.find_all("img", src=True):
        tag["src"] = ((html / page).parent / unquote(tag["src"])).resolve().as_uri()
        tag.attrs.pop("loading", None)
    for tag in article.find_all("details"):
        tag["open"] = ""
    for tag in article.find_all(re.compile("^h[1-5]$")):
        # The outline loses the space at which a heading is broken; these it keeps.
        for text in tag.find_all(string=True):
            text.replace_with(text.replace(" ", "\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}"))
        tag.name = f"h{int(tag.name[1]) + depth - 1}"
    article["id"] = _mark(page)
    article["class"] = ["bd-article", f"depth{depth}"]
    return article


def _one_page(html: Path) -> str:
    """Return the whole book as one HTML document: a title, its contents, then all pages in order.

    `html` is the folder of the built site. Code is left out; links between pages lead to places in
    the document.
    """
    html = html.resolve()
    order = [
        (page, depth) for page, depth in _pages_in_order() if (html / f"{page}.html").is_file()
    ]
    names = {page for page, _ in order}
    articles = [_article(html, page, depth, names) for page, depth in order]
    first = BeautifulSoup((html / "index.html").read_text(), "html.parser")
    sheets = [html / urlsplit(tag["href"]).path for tag in first.select("link[rel=stylesheet]")]
    sheets += sorted((html / "_static").glob("mystnb.*.css"))
    contents = []
    for (page, depth), article in zip(order, articles, strict=True):
        title = article.find(re.compile("^h[1-6]$")).get_text().strip()
        line = f'<li style="margin-left: {depth - 1}em"><a href="#{_mark(page)}"></a></li>'
        tag = BeautifulSoup(line, "html.parser")
        tag.a.string = title
        contents.append(str(tag))
    mathjax = (html / "_static" / "mathjax" / "tex-chtml.js").as_uri()
    options = '{options: {enableMenu: false, processHtmlClass: "math"}}'
    head = [f'<link rel="stylesheet" href="{path.as_uri()}">' for path in dict.fromkeys(sheets)]
    head += [f"<style>{PRINT}</style>", f"<script>window.MathJax = {options}</script>"]
    head += [f'<script defer src="{mathjax}"></script>']
    subtitle = yaml.safe_load((ROOT / "CITATION.cff").read_text())["title"].partition(": ")[2]
    front = (
        '<article class="bd-article front"><p class="title">Before Fine-Tuning</p>'
        f"<p>{subtitle.capitalize()}</p>"
        "<h1>Contents</h1><p>The code of each page is left out here; the site and the notebooks "
        "have it.</p>"
        f'<ul style="list-style: none">{"".join(contents)}</ul></article>'
    )
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light"><head>'
        '<meta charset="utf-8"><title>Before Fine-Tuning</title>'
        f"{''.join(head)}</head><body>{front}{''.join(map(str, articles))}</body></html>"
    )


def _make_pdf(html: Path, target: Path) -> Path:
    """Print the whole book with a headless Chromium into one PDF with an outline.

    Raises `SystemExit` where no browser can be found.
    """
    from playwright.sync_api import sync_playwright

    source = target.with_suffix(".print.html")
    storage.write_text(source, _one_page(html))
    typeset = (
        "window.MathJax && MathJax.startup.promise && document.querySelectorAll('.math').length"
        " <= document.querySelectorAll('.math mjx-container').length"
        " && [...document.images].every(i => i.complete)"
    )
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--allow-file-access-from-files"]
        browser = driver.chromium.launch(executable_path=environment.get_chromium(), args=flags)
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(600_000)
        page.goto(source.resolve().as_uri())
        page.wait_for_function(typeset)
        page.emulate_media(media="print")
        page.set_viewport_size({"width": COLUMN, "height": 1000})
        page.evaluate(SHRINK)
        with storage.whole(target) as part:
            page.pdf(
                path=part, prefer_css_page_size=True, print_background=True, outline=True,
                tagged=True, display_header_footer=True, header_template="<span></span>",
                footer_template=FOOTER,
            )  # fmt: skip
        browser.close()
    source.unlink()
    return target


def _make_zip(html: Path, target: Path) -> Path:
    """Pack the site into one zip whose `index.html` opens from a disk; the same site, the same zip.

    The other forms, where they were put into the site, stay out.
    """
    with storage.whole(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(p for p in html.rglob("*") if p.is_file()):
            name = str(path.relative_to(html))
            if name in (f"{NAME}.pdf", f"{NAME}.zip"):
                continue
            content = path.read_bytes()
            if name == "index.html":
                content = PLACE.sub("<!--other forms-->", content.decode()).encode()
            entry = zipfile.ZipInfo(f"{NAME}/{name}")
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            out.writestr(entry, content)
    return target


def publish(html: Path, files: list[Path]) -> None:
    """Copy the other forms into the site, and name them with their sizes on its start page."""
    links = []
    for file in files:
        kind = "one PDF" if file.suffix == ".pdf" else "a zip to read offline"
        size = f"{file.stat().st_size / 1e6:.0f} MB"
        links.append(f'<a href="{file.name}">{kind}</a> ({size})')
        with storage.whole(html / file.name) as part:
            part.write_bytes(file.read_bytes())
    start = html / "index.html"
    text = f"<!--other forms--><p>The book is also here as {' and as '.join(links)}.</p>"
    storage.write_text(start, PLACE.sub(lambda _: text, start.read_text()))


def main(words: list[str] | None = None) -> int:
    """Command line of the other forms; returns 0, or 2 where there is no site yet."""
    parser = argparse.ArgumentParser(prog="python -m helpers.book.forms", description=__doc__)
    parser.add_argument("form", nargs="+", choices=["pdf", "zip"])
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where the site is")
    parser.add_argument("--publish", action="store_true", help="put them into the site")
    arguments = parser.parse_args(words)
    html = arguments.build / "html"
    if not (html / "index.html").is_file():
        print(f"There is no site in {html}; run `make book` first.", file=sys.stderr)
        return 2
    makers, made = {"pdf": _make_pdf, "zip": _make_zip}, []
    for form in dict.fromkeys(arguments.form):
        made.append(makers[form](html, arguments.build / f"{NAME}.{form}"))
        print(f"  {form}: {made[-1]}, {made[-1].stat().st_size / 1e6:.1f} MB")
    if arguments.publish:
        publish(html, made)
        print(f"  site: {html / 'index.html'} names them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
