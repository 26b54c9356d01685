"""The picture to explore: its data, and its behaviour in a real browser without a network."""

import json

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from helpers.book import environment
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
    given = {"title": "Four points", "distance": "steps", "shape": "family"}
    given |= {"table": table, "positions": {"plane": at, "turned": at[:, ::-1]}, "neighbours": near}
    return explorer.show(**{**given, **options}).data


def read(text):
    soup = BeautifulSoup(text, "html.parser")
    return json.loads(soup.find("script", type="application/json").string)


def test_the_data_are_what_was_given():
    found = read(picture(units={"size": "M"}, hollow="open", trails=[["left", "top"]]))
    assert found["names"] == NAMES and found["trails"] == [[0, 2]]
    family, size, opened = found["columns"]
    assert family["values"] == ["a", "a", "b", "b"] and family["kind"] == "group"
    assert size["values"] == [1, 10, 100, None] and size["unit"] == "M"
    assert opened["values"] == ["yes", "no", "no", "no"] and found["hollow"] == 2
    assert found["neighbours"][0] == [[2, 1.25], [1, 2.5]]
    # One scale for both axes of a picture that is half as wide again as it is high.
    (x0, _), (x1, _), (_, y1), (_, y0) = found["layouts"][0]["at"]
    assert (y1 - y0) / (x1 - x0) == pytest.approx(1.5, abs=1e-3)


def test_a_name_cannot_end_the_script():
    evil = "</script><img src=x onerror=alert(1)><!--"
    table = pd.DataFrame({"family": [evil, "b"]}, index=[evil, "\u2028"])
    near = pd.DataFrame({"point": [evil], "nearest": ["\u2028"], "distance": [1.0]})
    text = picture(table=table, neighbours=near, positions={evil: np.eye(2)}, title=evil)
    soup = BeautifulSoup(text, "html.parser")
    assert soup.find("img") is None and "\u2028" not in text
    assert read(text)["names"][0] == evil


def test_the_book_has_one_script_for_all_its_pages(monkeypatch):
    script = explorer.SCRIPT.read_text()
    assert script in picture()
    monkeypatch.setenv("BOOK_SCRIPTS", "shared")
    assert script not in picture() and "<script>" not in picture()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "maker"}, "shape has 'maker'"),
        ({"colour": "maker"}, "colour has 'maker'"),
        ({"units": {"weight": "g"}}, "units has 'weight'"),
        ({"hollow": "size"}, "hollow is 'size'; name a column of table that holds only bools"),
        ({"logarithmic": ["none"]}, "logarithmic has 'none'"),
        ({"positions": {}}, "positions is empty"),
        ({"positions": {"flat": np.zeros((3, 2))}}, r"positions\['flat'\] must be 4 rows"),
        ({"positions": {"flat": np.full((4, 2), np.nan)}}, "finite"),
        ({"trails": [["left", "nowhere"]]}, "trails has 'nowhere'"),
        ({"neighbours": pd.DataFrame({"point": []})}, "neighbours has no column"),
        ({"table": pd.DataFrame({"family": []})}, "table is empty"),
    ],
)
def test_bad_requests_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        picture(**options)


def test_a_logarithmic_column_is_above_zero():
    table = pd.DataFrame({"family": ["a", "b"], "size": [0.0, 1.0]}, index=["x", "y"])
    near = pd.DataFrame({"point": ["x"], "nearest": ["y"], "distance": [1.0]})
    given = {"table": table, "neighbours": near, "positions": {"one": np.eye(2)}}
    with pytest.raises(ValueError, match="not above 0"):
        picture(**given, logarithmic=["size"])


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=environment.get_chromium(), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, tmp_path):
    file = tmp_path / "map.html"
    body = picture(hollow="open", logarithmic=["size"], trails=[["left", "top"]])
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{body}")
    context = browser.new_context(offline=True, viewport={"width": 900, "height": 1000})
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith("file:") else wrong.append(r.url))
    page.goto(file.as_uri())
    page.wait_for_selector(".point-explorer[data-ready]")
    yield page
    context.close()
    assert not wrong


def here(page):
    return page.locator(".explorer-panel strong").inner_text()


def faint(page):
    dots = page.locator(".explorer-dot")
    return [NAMES[i] for i in range(4) if "is-faint" in dots.nth(i).get_attribute("class")]


def test_the_mouse_shows_keeps_and_follows_a_point(page):
    dots, tip = page.locator(".explorer-dot"), page.locator(".explorer-tip")
    assert tip.is_hidden() and "is-hollow" in dots.nth(0).get_attribute("class")
    dots.nth(0).hover()
    text = tip.inner_text()
    assert "left" in text and "family" in text and "top (1.25), right (2.5)" in text
    assert page.locator(".explorer-link").count() == 2
    dots.nth(0).click()
    page.mouse.move(5, 5)
    assert tip.is_hidden() and here(page) == "left"
    page.locator(".explorer-panel li button", has_text="top").click()
    assert here(page) == "top"
    # What is not known of a point is not said.
    dots.nth(3).click()
    assert "size" not in page.locator(".explorer-panel").inner_text()
    page.get_by_label("Show all").click()
    assert "4 points" in page.locator(".explorer-panel").inner_text()


def test_keys_alone_reach_every_point(page):
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('explorer-map')"):
            break
    else:
        raise AssertionError("the picture cannot be reached by Tab")
    page.keyboard.press("ArrowRight")
    assert here(page) == "left"
    seen = {}
    for key in ("ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
        seen[key] = here(page)
    assert seen == dict(zip(seen, ["top", "right", "bottom", "left"], strict=True))
    page.keyboard.press("Enter")
    page.keyboard.press("+")
    assert here(page) == "left"
    # Zoomed in, the point that is kept is in the middle.
    middle = page.locator(".explorer-dot").nth(0).get_attribute("transform")
    assert middle == "translate(380.0 260.0)"
    page.keyboard.press("Escape")
    assert page.locator(".explorer-panel strong").count() == 0
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert faint(page) == ["top", "bottom"]


def test_search_finds_and_sets_apart(page):
    page.get_by_label("Find").fill("O")
    assert faint(page) == ["left", "right"]
    assert "2 of 4" in page.locator(".explorer-panel").inner_text()
    page.get_by_label("Find").fill("bot")
    assert here(page) == "bottom"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowUp")
    assert here(page) == "bottom", "points that were not searched for are left out"


def test_colours_groups_and_pictures_can_be_chosen(page):
    colour = "getComputedStyle(document.querySelectorAll('.explorer-dot')[{}]).stroke"
    group = [page.evaluate(colour.format(0).replace("stroke", "getPropertyValue('--dot')"))]
    page.get_by_label("Colour").select_option(label="size")
    fills = [
        page.evaluate(
            f"document.querySelectorAll('.explorer-dot')[{i}].style.getPropertyValue('--dot')"
        )
        for i in range(4)
    ]
    assert len(set(fills)) == 4 and "grey" in fills[3] and group[0] not in fills
    # Logarithmic: 10 lies halfway between 1 and 100, in the middle of the scale.
    assert fills[1].replace(" ", "") == "rgb(33,145,140)"
    assert "grey: not known (1)" in page.locator(".explorer-legend").inner_text()
    page.get_by_label("Colour").select_option(label="family")
    page.locator(".explorer-legend button", has_text="b").click()
    assert faint(page) == ["left", "right"]
    before = page.locator(".explorer-dot").nth(0).get_attribute("transform")
    page.get_by_label("Picture").select_option(label="turned")
    assert page.locator(".explorer-dot").nth(0).get_attribute("transform") != before


def test_two_pictures_on_a_page_do_not_disturb_each_other(browser, tmp_path):
    file = tmp_path / "two.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body>{picture()}{picture()}")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_function("document.querySelectorAll('[data-ready]').length === 2")
    assert page.locator(".explorer-dot").count() == 8
    page.locator(".explorer-dot").nth(1).click()
    assert page.locator(".explorer-panel strong").count() == 1
    context.close()
