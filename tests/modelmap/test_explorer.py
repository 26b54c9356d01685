"""The picture to explore: its data, and its behaviour in a real browser without a network."""

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from helpers.modelmap import explorer

NAMES = ["left", "right", "top", "bottom"]


def picture(**options):
    table = pd.DataFrame(
        {
            "family": ["a", "a", "b", "b"],
            "size": [1.0, 10.0, 100.0, np.nan],
            "open": [True, False, False, False],
        },
        index=NAMES,
    )
    at = np.array([[0, 0.5], [1, 0.5], [0.5, 1], [0.5, 0]])
    near = pd.DataFrame(
        {
            "point": ["left", "left", "right", "top", "bottom"],
            "nearest": ["top", "right", "left", "left", "left"],
            "distance": [1.25, 2.5, 2.5, 1.25, 3.0],
        }
    )
    given = {"title": "Four points", "distance": "steps", "group": "family"}
    given |= {"table": table, "positions": {"plane": at, "turned": at[:, ::-1]}, "neighbours": near}
    return explorer.show(**{**given, **options}).data


def test_the_table_holds_what_is_known_and_the_nearest_points():
    soup = BeautifulSoup(picture(labels={"size": "parameters"}), "html.parser")
    heads = [cell.get_text() for cell in soup.select("thead th.col_heading")]
    assert heads == ["family", "parameters", "open", "nearest, steps"]
    rows = {row.th.get_text(): [c.get_text() for c in row("td")] for row in soup.select("tbody tr")}
    assert list(rows) == NAMES
    assert [cells[1] for cells in rows.values()] == ["1", "10", "100", "\N{EN DASH}"]
    assert rows["left"][-1] == "top 1.25, right 2.5" and rows["bottom"][-1] == "left 3"


def test_the_book_has_one_script_for_all_its_pages(monkeypatch):
    alone = picture()
    monkeypatch.setenv("BOOK_SCRIPTS", "shared")
    assert len(picture()) < 30_000 < 3_000_000 < len(alone)


@pytest.fixture
def page(browser, tmp_path):
    file = tmp_path / "map.html"
    body = picture(hollow="open", trails=[["left", "top"]]) + picture()
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{body}")
    context = browser.new_context(offline=True, viewport={"width": 900, "height": 1000})
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith("file:") else wrong.append(r.url))
    page.goto(file.as_uri())
    page.wait_for_function("document.querySelectorAll('.point').length === 8")
    yield page
    context.close()
    assert not wrong


def test_a_point_tells_its_name_what_is_known_and_its_relatives(page):
    page.locator(".point").nth(0).hover(force=True)
    page.wait_for_selector(".hoverlayer .hovertext")
    told = page.locator(".hoverlayer .hovertext").text_content()
    assert all(text in told for text in ("left", "family: a", "size: 1", "top 1.25, right 2.5"))


def test_the_legend_hides_a_family_and_the_search_sets_names_apart(page):
    shown = "document.querySelector('.js-plotly-plot').querySelectorAll('.point')"
    faint = f"[...{shown}].map(p => +getComputedStyle(p).opacity < 0.5)"
    page.get_by_label("Find a name").nth(0).fill("O")
    page.wait_for_function(f"{faint}.join() === 'true,true,false,false'")
    page.get_by_label("Find a name").nth(0).fill("")
    page.wait_for_function(f"{faint}.join() === 'false,false,false,false'")
    page.locator(".legendtoggle").nth(1).click()
    page.wait_for_function(f"{shown}.length === 2")


def test_another_picture_moves_the_points(page):
    place = "document.querySelector('.point').getAttribute('transform')"
    before = page.evaluate(place)
    page.locator(".updatemenu-button").nth(1).click()
    page.wait_for_function(f"{place} !== '{before}'")
