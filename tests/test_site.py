"""The built pages, in a real browser, from files, with no network."""

import base64
import json
import re
import sys
from collections import Counter
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from playwright.sync_api import TimeoutError

from helpers import data
from helpers.book import claims, pages, planning, scoreboard
from helpers.data import ROOT

# The first test waits for the whole book, which takes half an hour on a busy core.
pytestmark = pytest.mark.timeout(1800)
# A page is opened on a phone, then made wide, then dark.
VIEWS = {"phone": (390, 844, "light"), "wide": (1280, 900, "light"), "dark": (1280, 900, "dark")}


@pytest.fixture(scope="module")
def html(site):
    apart = {"_static", "_sources", "404.html"}
    found = sorted(p for p in site.rglob("*.html") if not apart & set(p.parts))
    assert len(found) >= 12
    return {p: BeautifulSoup(p.read_text(), "html.parser") for p in found}


# Code, printed results, tables and figures that end outside their box, which shows no scroll bar.
CUT = """(() => {
  const cut = [];
  for (const part of document.querySelectorAll('article :is(pre, table, figure img, .output)')) {
    if (part.closest('.scoreboard, .point-explorer')) continue;
    const box = part.closest('.output, .pst-scrollable-table-container, figure, pre, article');
    const over = Math.max(part.getBoundingClientRect().right - box.getBoundingClientRect().right,
      getComputedStyle(part).overflowX === 'visible' ? 0 : part.scrollWidth - part.clientWidth);
    const scrolls = box.scrollWidth > box.clientWidth && box.offsetHeight - box.clientHeight > 6;
    if (over > 1 && !scrolls) cut.push(`${part.tagName} ${part.textContent.trim().slice(0, 50)}`);
  }
  return cut })()"""

LOOK = """() => ({
  cut: CUT,
  images: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
  untypeset: [...document.querySelectorAll('.math')]
    .filter(m => !m.querySelector('mjx-container')).map(m => m.textContent.slice(0, 80)),
  merror: [...document.querySelectorAll('mjx-merror')].map(m => m.textContent),
  text: document.querySelector('main, article').innerText,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  theme: document.documentElement.dataset.theme })""".replace("CUT", CUT)


FOLLOWS = """scheme => {
  const theme = document.documentElement.dataset.theme;
  return !theme || theme === scheme }"""


def visit(context, path):
    """Open a page, and return what went wrong and what each view shows.

    All pages are opened in one tab: a new one is a new process, which reads all scripts again.
    """
    page, wrong, seen = (context.pages or [context.new_page()])[0], [], {}
    local = ("file:", "data:", "blob:")
    hear = {
        "console": lambda m: wrong.append(m.text) if m.type == "error" else None,
        "pageerror": lambda e: wrong.append(str(e)),
        "requestfailed": lambda r: wrong.append(f"failed {r.url}"),
        "request": lambda r: None if r.url.startswith(local) else wrong.append(f"left {r.url}"),
    }
    for event, act in hear.items():
        page.on(event, act)
    width, height, scheme = next(iter(VIEWS.values()))
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    page.goto(path.as_uri())
    page.wait_for_load_state("load")
    page.wait_for_function(
        "!document.querySelector('.math') || (window.MathJax && MathJax.startup"
        " && document.querySelectorAll('.math mjx-container').length"
        " >= document.querySelectorAll('.math').length)",
        timeout=30000,
    )
    page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.evaluate("document.querySelectorAll('article details').forEach(d => d.open = true)")
    page.wait_for_function("[...document.images].every(i => i.complete)", timeout=30000)
    for view, (width, height, scheme) in VIEWS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        with suppress(TimeoutError):
            page.wait_for_function(FOLLOWS, arg=scheme, timeout=5000)
        page.wait_for_timeout(100)
        seen[view] = page.evaluate(LOOK)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(100)
    for event, act in hear.items():
        page.remove_listener(event, act)
    return wrong, seen


@pytest.fixture(scope="module")
def context(browser):
    """One place without a network for all pages: what they share is compiled once."""
    with browser.new_context(offline=True) as context:
        yield context


def test_every_page_in_a_browser(html, context, site):
    problems = []
    for path in html:
        name = str(path.relative_to(site))
        wrong, seen = visit(context, path)
        problems += [f"{name}: {text}" for text in wrong]
        for view, look in seen.items():
            problems += [f"{name}, {view}: image {src}" for src in look["images"]]
            if view == "wide":
                problems += [f"{name}: cut at the right edge: {text}" for text in look["cut"]]
            untypeset = look["untypeset"] + look["merror"]
            untypeset += re.findall(r"\\[(\[][^\n]{0,40}", look["text"])
            problems += [f"{name}, {view}: not typeset {text}" for text in untypeset]
            if look["overflow"] > 0:
                problems.append(f"{name}, {view}: {look['overflow']} pixels too wide")
            if look["theme"] != VIEWS[view][2]:
                problems.append(f"{name}, {view}: does not follow the reader's dark mode")
    assert not problems, "\n".join(problems)


def test_the_checks_of_the_browser_can_fail(context, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<article><p style='width: 600px'><img src='missing.png'>"
        "<script>console.error('oops')</script>"
        "<script src='https://example.invalid/x.js'></script></p>"
        f"<pre style='overflow: hidden'>{'x' * 400}</pre></article>"
    )
    wrong, seen = visit(context, page)
    assert any("oops" in text for text in wrong)
    assert any("example.invalid" in text for text in wrong)
    assert all(look["images"] for look in seen.values())
    assert seen["phone"]["overflow"] > 0 >= seen["wide"]["overflow"]
    assert len(seen["wide"]["cut"]) == 1 and seen["wide"]["cut"][0].startswith("PRE xxx")


def test_search_finds_a_page_without_a_network(browser, site):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((site / "search.html").as_uri() + "?q=patchiness")
    page.wait_for_selector("#search-results li a", timeout=30000)
    assert "geometry" in page.inner_text("#search-results").lower()
    context.close()


def test_the_map_can_be_explored_and_read_as_a_table(browser, site):
    context = browser.new_context(offline=True, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto((site / "notebooks/modelmap/real_models.html").as_uri())
    page.wait_for_function("document.querySelectorAll('.point-explorer .point').length === 90")
    scripts = page.locator("script[src]").evaluate_all("all => all.map(s => s.src)")
    assert sum("plotly" in src for src in scripts) == 1
    assert not any("require" in src or not src.startswith("file:") for src in scripts)
    page.get_by_label("Find a name").fill("pythia")
    shown = (
        "[...document.querySelectorAll('.point')].filter(p => +getComputedStyle(p).opacity > 0.5)"
    )
    page.wait_for_function(f"{shown}.length > 0 && {shown}.length < 30")
    page.locator(".point-explorer summary").click()
    assert page.locator(".point-explorer tbody tr").count() == 90
    context.close()


def test_the_interactive_pages_fit_a_phone_and_follow_dark_mode(context, site):
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    for name, button in (("place_in_browser", "example"), ("alp_by_hand", "again")):
        page.goto((site / f"{name}.html").as_uri())
        page.locator(f".interactive [data-part={button}]").click()
        letters = page.locator(".interactive svg text").evaluate_all(
            "all => all.map(text => getComputedStyle(text).fill)"
        )
        assert len(letters) > 20 and "rgb(0, 0, 0)" not in letters, name
        assert page.evaluate(LOOK)["overflow"] <= 0, name
    page.close()


def test_every_control_has_a_name_and_every_picture_an_alternative(context, site):
    page = context.new_page()
    names = """[...document.querySelectorAll('button, summary, input, select')]
      .filter(c => c.getClientRects().length)
      .filter(c => !(c.ariaLabel || c.title || c.textContent.trim() || (c.labels || []).length))
      .map(c => c.outerHTML.slice(0, 90))"""
    differ = """[...document.querySelectorAll('button[aria-label], summary[aria-label]')]
      .filter(c => !c.ariaLabel.includes(c.innerText.trim())).map(c => c.outerHTML.slice(0, 90))"""
    for name in ("index", "scoreboard", "notebooks/modelmap/real_models"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate(names) == [], name
        assert page.evaluate(differ) == [], name
        assert page.evaluate("[...document.images].filter(i => !i.hasAttribute('alt')).length") == 0
    page.close()


LUMINANCE = """name => {
  const probe = document.body.appendChild(document.createElement('i'));
  probe.style.color = `var(${name})`;
  const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
  probe.remove();
  const [r, g, b] = parts.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_links_stand_out_from_what_is_behind_them(context, site, scheme):
    page = context.new_page()
    page.emulate_media(color_scheme=scheme)
    page.goto((site / "index.html").as_uri())
    for text in ("link", "text-base", "text-muted"):
        for behind in ("background", "surface"):
            both = [page.evaluate(LUMINANCE, f"--pst-color-{name}") for name in (text, behind)]
            assert (max(both) + 0.05) / (min(both) + 0.05) >= 4.5, (text, behind)
    page.close()


def test_a_link_to_a_page_shows_its_title_its_answer_and_its_picture(html, site):
    for path, soup in html.items():
        if path.stem in ("genindex", "search"):
            continue
        tags = {t["property"]: t["content"] for t in soup.select("meta[property^='og:']")}
        assert letters(tags["og:title"]) in letters(soup.h1.get_text()), path
        assert len(tags["og:description"]) <= 200, path
        with Image.open(path.parent / tags["og:image"]) as picture:
            assert picture.size == (1200, 630), path
    own = {name: soup.find("meta", property="og:image")["content"] for name, soup in
           executed(html, site).items()}  # fmt: skip
    assert len(set(own.values())) == len(own)


def test_no_internal_link_is_broken(html, site):
    ids = {p: {t["id"] for t in soup.find_all(id=True)} for p, soup in html.items()}
    broken = []
    for path, soup in html.items():
        for tag in soup.find_all(["a", "link", "script", "img"]):
            link = tag.get("href") or tag.get("src")
            if not link or urlsplit(link).scheme or link.startswith("//"):
                continue
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.name}: {link}")
            elif parts.fragment and target in ids and unquote(parts.fragment) not in ids[target]:
                broken.append(f"{path.name}: {link} (no such place on the page)")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_another_machine(html):
    for path, soup in html.items():
        for tag in soup.find_all(["script", "img", "iframe", "source"]):
            assert not str(tag.get("src", "")).startswith(("http", "//")), path
        for tag in soup.find_all("link", rel=["stylesheet", "preload", "icon"]):
            assert not tag["href"].startswith(("http", "//")), path


def executed(html, site):
    return {n: html[site / "notebooks" / f"{n}.html"] for n in planning._discover()}


def test_every_executed_page_can_be_reproduced(html, site, smoke):
    for name, soup in executed(html, site).items():
        box, run = soup.select_one(".reproduce"), smoke[name]
        text = " ".join(box.get_text(" ").split())
        assert run["command"] in text
        for parameter in run["parameters"]:
            assert f"{parameter} = " in text
        for word in (run["facts"]["commit"], run["facts"]["hardware"], f"{run['peak_mib']:,} MiB"):
            assert word in text
        assert all(v in text for v in run["facts"]["versions"].split(", "))
        link = soup.select_one("a[href*=_sources][href$=ipynb]")["href"]
        copy = (site / "notebooks" / f"{name}.html").parent / link
        nb = nbformat.read(copy.resolve(), as_version=4)
        assert nb.metadata["before_fine_tuning"]["digest"] == run["digest"]


def test_figures_have_captions_and_alt_text(html, site):
    for name, soup in executed(html, site).items():
        images = soup.select("main img, article img")
        assert images, name
        for image in images:
            assert len(image.get("alt", "")) > 40, f"{name}: {image.get('src')}"
            # The figure of the opening box is captioned where it stands below.
            if not image.find_parent(class_="in-short"):
                caption = image.find_parent("figure").find("figcaption")
                assert caption.get_text(strip=True), name


def test_no_figure_is_cut_off(smoke):
    for name in smoke:
        page = json.loads((ROOT / "build" / "smoke" / "executed" / f"{name}.ipynb").read_text())
        shown = [o.get("data", {}) for cell in page["cells"] for o in cell.get("outputs", ())]
        for picture in (each["image/png"] for each in shown if "image/png" in each):
            pixels = np.asarray(Image.open(BytesIO(base64.b64decode(picture))).convert("L"))
            ends = pixels[[0, -1]], pixels[:, [0, -1]]
            assert min(each.min() for each in ends) > 250, f"{name}: a figure is cut off"


def test_citations_are_resolved(html, site):
    for name, soup in executed(html, site).items():
        assert soup.select("a.reference.internal[href*='references.html#']"), name
    for path, soup in html.items():
        assert "[?]" not in soup.get_text(), path


def test_no_page_shows_an_error_a_warning_or_a_path_of_this_machine(html, site):
    for name, soup in executed(html, site).items():
        assert not soup.select(".output.stderr, .output.traceback"), name
        assert str(ROOT) not in soup.get_text(), name


def test_the_page_for_lost_readers_leads_back(context, site):
    page = context.new_page()
    for name in ("index", "scoreboard", "search"):
        page.goto((site / "404.html").as_uri())
        page.click(f"a[href$='{name}.html']")
        page.wait_for_load_state("load")
        assert name in page.url and "Before Fine-Tuning" in page.title()
    page.close()


def letters(text):
    """Return the letters and digits of a text: markup and typographic quotes do not count."""
    return re.sub(r"[\W_]+", "", text)


def test_the_scoreboard_shows_every_claim_and_the_run_behind_it(html, site):
    soup = html[site / "scoreboard.html"]
    shown = {row["id"]: row.get_text() for row in soup.select(".scoreboard tbody tr")}
    assert list(sorted(shown)) == sorted(claims.load())
    for name, claim in claims.load().items():
        assert letters(claim["statement"]) in letters(shown[name]), name
        assert f"scoreboard.html#{name}" in shown[name]
    assert any("Run (stored): profile laptop" in text for text in shown.values())


def test_the_claims_of_the_site_are_a_file_with_a_schema(site):
    import jsonschema

    schema = json.loads((site / "claims.schema.json").read_text())
    record = json.loads((site / "claims.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(record)
    assert {row["id"] for row in record["claims"]} == set(claims.load())
    record["claims"][0]["status"] = "surely"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(record)


def test_the_scoreboard_can_be_searched_sorted_and_shared(context, site):
    page = context.new_page()
    address = (site / "scoreboard.html").as_uri()
    visible = "[...document.querySelectorAll('.scoreboard tbody tr')].filter(r => !r.hidden)"
    page.goto(address)
    assert page.evaluate(f"{visible}.length") == len(claims.load())
    controls = page.locator("#scoreboard-controls")
    controls.get_by_label("part").select_option("geometry")
    controls.get_by_label("search").fill("patchiness")
    kept = page.evaluate(f"{visible}.map(r => [r.dataset.part, r.textContent])")
    assert 1 < len(kept) < 60
    assert all(part == "geometry" and "patchiness" in text.lower() for part, text in kept)
    page.get_by_role("button", name="claim", exact=True).click()
    view, rows = page.url, page.evaluate(f"{visible}.map(r => r.cells[1].textContent)")
    assert rows == page.evaluate("r => [...r].sort((a, b) => a.localeCompare(b, 'en'))", rows)
    page.goto("about:blank")
    page.goto(view)
    assert page.evaluate(f"{visible}.map(r => r.cells[1].textContent)") == rows
    page.goto("about:blank")
    page.goto(f"{address}#smi-v5-r2-above-0.7")
    row = page.locator("[id='smi-v5-r2-above-0.7']")
    assert row.is_visible() and row.locator("details").get_attribute("open") is not None
    page.close()


def test_code_is_folded_and_one_switch_opens_it_all(context, site):
    page = context.new_page()
    page.goto((site / "notebooks/posterior/rivals.html").as_uri())
    state = "[...document.querySelectorAll('div.cell details.hide')].map(d => d.open)"
    assert set(page.evaluate(state)) == {False}
    page.get_by_role("button", name="Show all code").click()
    assert set(page.evaluate(state)) == {True}
    page.reload()
    assert set(page.evaluate(state)) == {True}
    page.get_by_role("button", name="Fold all code").click()
    page.close()


def untested(run):
    """Return the claims that a run has left untested, as they stand in the ledger's source."""
    return [claims.load()[r["id"]] for r in run["claims"] if r["status"] == claims.NOT_TESTED]


def test_without_data_the_pages_say_what_they_could_not_recompute(html, site, smoke):
    for name, soup in executed(html, site).items():
        needs = bool(smoke[name]["data"])
        assert bool(soup.select(".admonition.warning")) is needs, name
        for claim in untested(smoke[name]):
            assert claim["needs"] != "nothing" or claim["published"] is None, claim["id"]


def test_with_the_registry_at_hand_every_claim_is_tested(smoke, smoke_as_is):
    assert set(smoke_as_is) == set(planning._discover())
    before = {r["id"] for run in smoke.values() for r in run["claims"]}
    before -= {claim["id"] for run in smoke.values() for claim in untested(run)}
    for name, run in smoke_as_is.items():
        if all(run["data"].values()):
            for claim in (claim for claim in untested(run) if claim["id"] not in before):
                assert claim["needs"] == "hub" or claim["published"] is None, claim["id"]
        entered = {r["id"] for r in run["claims"]}
        assert entered == {c["id"] for c in claims.load().values() if c["notebook"] == name}


@pytest.mark.parametrize("build", ["smoke", "smoke-as-is"])
def test_what_a_page_imports_and_opens_is_what_it_is_said_to_hang_on(build, smoke_as_is):
    seen = sorted((ROOT / "build" / build / "ledger").rglob("*.seen"))
    # Kernels are listened to where they can be forked.
    assert bool(seen) == (sys.platform == "linux")
    tasks = {task.name: task for task in planning.plan("smoke")}
    folders = (data.PUBLISHED, planning._WEIGHTS)
    for file in seen:
        name = f"{file.parent.name}/{file.stem}"
        lines = set(file.read_text().splitlines())
        imported = {line[7:] for line in lines if line.startswith("import helpers")}
        modules = {planning._file(module) for module in imported} - {None}
        assert modules and modules <= set(tasks[name].modules), name
        opened = {Path(line[5:]) for line in lines if line.startswith("open ")}
        known = planning._stored_files(planning._code_of(tasks[name]))
        assert {path for path in opened if path.parent in folders} <= set(known), name


def test_the_generated_pages_are_made_of_the_records(smoke):
    rows = claims.ledger(list(smoke.values()))
    status = pages._status_page(list(smoke.values()))
    assert all(f"{{ref}}`{pages.label(name)}`" in status for name in smoke)
    counted = Counter((c["paper"], c["kind"]) for c in claims.load().values())
    lines = scoreboard.totals(rows).rstrip().split("\n")[2:]
    assert len(lines) == len(counted)
    numbers = [[int(n) for n in line.split("|")[3:-1]] for line in lines]
    assert all(row[0] == sum(row[1:]) for row in numbers)
    assert sorted(row[0] for row in numbers) == sorted(counted.values())


def test_the_start_page_shows_pictures_that_lead_to_their_pages(html, site):
    soup = html[site / "index.html"]
    cards = soup.select(".sd-card.cover")
    assert len(cards) == len(pages.COVER)
    for card, notebook in zip(cards, pages.COVER, strict=True):
        assert len(card.select_one("img")["alt"]) > 40
        link = card.select_one("a.sd-stretched-link")["href"]
        assert link.startswith(f"notebooks/{notebook}.html"), link


def test_numbers_in_the_prose_are_those_of_the_run(html, site, smoke):
    measured = {row["id"]: row for row in claims.ledger(list(smoke.values()))}
    texts = {p.stem: p.read_text() for p in (ROOT / "book").glob("*.md")}
    seen = 0
    for stem, text in texts.items():
        asked = re.findall(r"\{measured\}`([^`:]+):\.2f( \[\])?`", text)
        links = html[site / f"{stem}.html"].select("a.reference.internal")
        words = {tag.get_text() for tag in links}
        for name, ends in asked:
            value, interval = measured[name]["ours"], measured[name].get("interval")
            if value is not None:
                text = f"{value:.2f}"
                if ends and interval:
                    text += f" [{interval[0]:.2f},\N{NO-BREAK SPACE}{interval[1]:.2f}]"
                assert text.replace("-", "\N{MINUS SIGN}") in words, f"{stem}: {name}"
                seen += 1
    assert seen > 15


def test_the_whole_site_is_small(site):
    size = sum(p.stat().st_size for p in site.rglob("*") if p.is_file())
    assert size < 40 * 2**20
    assert json.loads((ROOT / "build/smoke/records/retrieval/published_tables.json").read_text())


def test_the_reference_has_a_place_and_an_example_for_every_name(html, site):
    for wing in claims.PAPERS:
        soup = html[site / f"api_{wing}.html"]
        for name in import_module(f"helpers.{wing}").__all__:
            place = soup.find(id=f"helpers.{wing}.{name}")
            assert place, name
            assert place.find_next_sibling("dd").select(".doctest"), name


def test_the_first_use_of_a_function_leads_to_the_reference(html, site):
    wings, ids = set(), {}
    for page, soup in executed(html, site).items():
        links = soup.select(".highlight a.reference")
        code = "\n".join(part.get_text() for part in soup.select(".highlight pre"))
        renamed = {new: old for old, new in re.findall(r"(\w+) as (\w+)", code)}
        targets = [(link["href"], link.get_text()) for link in links]
        assert len(targets) == len(set(targets)), page
        for href, text in targets:
            file, _, place = href.rpartition("#")
            target = ((site / "notebooks" / page).parent / file).resolve()
            if target not in ids:
                ids[target] = {tag["id"] for tag in html[target].select("[id]")}
            assert place in ids[target], (page, href)
            name = text.rpartition(".")[2]
            assert place.endswith(f".{renamed.get(name, name)}"), (page, href)
            wings.add(place.split(".")[1])
    assert wings >= set(claims.PAPERS)
