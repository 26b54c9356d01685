"""The interactive pages' scripts in a real browser, number by number against the package."""

import importlib
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from helpers import likelihood
from helpers.data import ROOT
from helpers.modelmap import (
    held_out_texts,
    model_map,
    placement,
    scoring,
    stored_families,
)
from helpers.posterior import average_log_posterior, by_hand, expected_optimism

SCRIPTS = {"place": ["placement.js", "place.js"], "alp": ["alp.js"]}
PAGES = {"place": "place_in_browser.md", "alp": "alp_by_hand.md"}


def two_clusters(standard, size, *, distance, spread, noise):
    """Return what the page draws: two clusters of `size` entities, and their labels."""
    most = max(by_hand.SIZES)
    rows = np.concatenate([standard[:size], standard[most : most + size]])
    X, labels = rows[:, : 2 + noise].copy(), np.repeat(["A", "B"], size)
    X[size:, :2] *= spread
    X[:, 0] += np.where(labels == "A", -distance / 2, distance / 2)
    return X, labels


@pytest.fixture(scope="module")
def extension():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book" / "_ext")
        yield importlib.import_module("interactive")


@pytest.fixture(scope="module")
def opened(browser, extension, tmp_path_factory):
    """Open a page of the book without the rest of the site; what goes wrong in it is raised."""
    pages, wrong, folder = {}, [], tmp_path_factory.mktemp("pages")

    def open_page(name):
        if name not in pages:
            text = (ROOT / "book" / PAGES[name]).read_text()
            body = re.search(r"```\{raw\} html\n(<div.*?)```", text, re.S)[1]
            scripts = ["interactive.js", *SCRIPTS[name]]
            static = [(ROOT / "book" / "_static" / script).read_text() for script in scripts]
            parts = [f"<body>{body}{extension.element(name)}"]
            parts += [f"<script>{script}</script>" for script in static]
            (folder / f"{name}.html").write_text(
                "\n".join(["<!doctype html><meta charset=utf-8>", *parts])
            )
            pages[name] = page = browser.new_page()
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto((folder / f"{name}.html").as_uri())
        return pages[name]

    yield open_page
    for page in pages.values():
        page.close()
    assert not wrong


def part(page, name):
    return page.locator(f"[data-part='{name}']")


def status(page, text):
    """Wait until the page says a text, and return all that it says."""
    from playwright.sync_api import expect

    expect(part(page, "status")).to_contain_text(text, timeout=30_000)
    return part(page, "status").inner_text()


def table(page, name):
    """Return a table of a page by its first column: the numbers behind cells, or their texts."""
    cells = """table => [...table.tBodies[0].rows].map(row => [...row.cells].map(cell =>
        cell.dataset.value ? cell.dataset.value.split(' ').map(Number) : cell.textContent))"""
    return {row[0]: row[1:] for row in part(page, name).evaluate(cells)}


@pytest.fixture(scope="module")
def saved():
    return stored_families.load()


@pytest.fixture(scope="module")
def written(saved, tmp_path_factory):
    """Write models as the command `score` writes them, and return matrix and report."""
    folder = tmp_path_factory.mktemp("scored")

    def write(values, truncated=()):
        scores = values.set_axis(range(values.shape[1]), axis=1)
        scores = scores.copy().rename_axis("model").reset_index()
        scores = scores.melt("model", var_name="text", value_name="log_likelihood")
        scores = scores.assign(n_bytes=500, truncated=scores.model.isin(truncated))
        report = pd.DataFrame({"model": values.index, "digest": "", "status": "scored"})
        report["n_truncated"] = report.model.isin(truncated) * values.shape[1]
        texts = [f"text {key}" for key in values.columns]
        scored = scoring.Scored(scores, report)
        scoring.write(scored, texts, folder, list(values.columns))
        return [str(folder / name) for name in ("matrix.csv", "report.csv")]

    return write


@cache
def relative(name):
    """Return a stored model: one of the map's, and one beside it that was scored on more texts."""
    family = "smollm2" if name.startswith("smollm2") else "merges"
    if family == "merges":
        return stored_families.trained_further().log_likelihoods.loc[[name]]
    return stored_families.stored(family).log_likelihoods.loc[[name]]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("smollm2-4-bits", "pretrained"), ("small GPT, python", "n-gram")],
)
def test_a_stored_model_is_placed_as_by_the_package(opened, saved, written, name, kind):
    made, about = saved
    page, frame = opened("place"), relative(name)
    part(page, "kind").select_option(kind)
    part(page, "file").set_input_files(written(frame))
    status(page, f"{name} is ")
    values = frame[list(made.texts)].iloc[0]

    near = placement.neighbours(made, values, n_resamples=1000, confidence=0.8)
    shown = table(page, "near")
    assert list(shown) == list(near.index)
    for model, ((distance,), ends, (first,), family, _) in shown.items():
        assert [distance, *ends, first] == pytest.approx(list(near.loc[model]), rel=1e-9, abs=1e-6)
        assert family == about.family[model]
    kin = placement.kinship_between(*near.iloc[0][["low", "high"]], placement.yardsticks(*saved))
    assert part(page, "status").inner_text().startswith(f"{name} is {kin}. Nearest: ")

    genres = [key.rpartition("-")[0].replace("-", " ") for key in made.texts]
    other = pd.Series(made.log_likelihoods[made.names.index(near.index[0])], made.texts)
    shown = table(page, "bits")
    assert list(shown) == [*sorted(set(genres)), "all"]
    for genre, (value, ends, nearest) in shown.items():
        at = np.array([genre in ("all", each) for each in genres])
        ours = likelihood.bits_per_byte(values[at], made.n_bytes[at])
        assert [*value, *ends] == pytest.approx(ours, rel=1e-9)
        assert nearest == pytest.approx(likelihood.bits_per_byte(other[at], made.n_bytes[at])[:1])

    scores = about[list(held_out_texts.SCORES)]
    said = placement.predict(made, scores, about.family, values)
    makes = stored_families.makes(about)
    ours = placement.score_table(said, scores, about.family, makes, kind, 0.8)
    for score, (guess, ends) in table(page, "scores").items():
        row = ours.loc[score.replace(" ", "_")]
        assert guess == pytest.approx([row.predicted], abs=1e-8)
        if np.isnan(row.low):
            reason = f"the map has {row.families:.0f} {kind} family with measured scores, and"
            assert reason in ends and ends.endswith(f"80\N{NO-BREAK SPACE}% needs {row.needed:.0f}")
        else:
            assert ends == pytest.approx([row.low, row.high], abs=1e-8)

    star = made.place(values).coordinates[0] @ model_map.principal_coordinates(made, 2).axes.T
    on_plane = "v => placement(interactive.data('place-data')).onPlane(Float64Array.from(v))"
    assert page.evaluate(on_plane, list(values)) == pytest.approx(star, rel=1e-9)


def changed(frame, text, value):
    return frame.assign(**{text: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename_axis("name"), "matrix.csv is not a matrix.csv of"),
        (
            lambda f: f.drop(columns=f.columns[:5]),
            "the file lacks 5 of the 64 texts of this map (c",
        ),
        (
            lambda f: f.drop(columns=f.columns[3]),
            "lacks 1 of the 64 texts of this map (manual-883e",
        ),
        (lambda f: f.rename(columns="other {}".format), "the file has none of the 64 texts"),
        (lambda f: changed(f, f.columns[7], np.nan), "no finite value for text tables-0340d444"),
        (lambda f: changed(f, f.columns[2], -np.inf), "no finite value for text facts-f351d3fa"),
        (lambda f: -f, "but a log-likelihood in nats is at most 0"),
        (lambda f: pd.concat([f, f.iloc[:, :1]], axis=1), "names a text twice (c++-08f8fe8d)"),
        (lambda f: f.iloc[:0], "matrix.csv is not a matrix.csv of"),
    ],
)
def test_a_file_that_cannot_be_placed_is_refused_in_one_line(opened, tmp_path, change, message):
    page, path = opened("place"), tmp_path / "matrix.csv"
    change(relative("smollm2").rename_axis("model")).to_csv(path)
    part(page, "file").set_input_files(path)
    said = status(page, message)
    assert said.startswith("Not placed: ") and "\n" not in said
    assert part(page, "results").is_hidden()


def test_a_model_that_read_beginnings_is_refused_and_another_of_the_file_is_not(opened, written):
    page, names = opened("place"), ["smollm2", "smollm2-8-bits"]
    frame = pd.concat([relative(name) for name in names])
    part(page, "file").set_input_files(written(frame, truncated=names[:1]))
    status(page, "Not placed: smollm2 read only the beginning of 64 texts")
    part(page, "model").select_option(names[1])
    assert status(page, "smollm2-8-bits is the same weights").count("report.csv") == 0


def test_what_a_dropped_file_says_is_text_and_never_html(opened, written):
    page, name = opened("place"), '<img src=x onerror="document.title=1">,"\n</script>'
    matrix = written(relative("smollm2").set_axis([name]))[0]
    drop = """(place, text) => {
        const data = new DataTransfer();
        data.items.add(new File([text], "matrix.csv"));
        place.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
    }"""
    page.locator("#place").evaluate(drop, Path(matrix).read_text())
    assert "report.csv" in status(page, '<img src=x onerror="document.title=1">')
    assert page.locator("img").count() == 0 and page.title() == ""


def test_the_example_is_a_model_of_the_map_and_works_by_keyboard(opened, saved):
    page, made = opened("place"), saved[0]
    part(page, "file").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    status(page, "smollm2-tuned-python is the same weights")
    assert next(iter(table(page, "near").items())) == (
        "smollm2-tuned-python",
        [[0], [0, 0], [1], "smollm2", "tuned"],
    )
    points = part(page, "map").locator(".point")
    assert points.count() == len(made.names)
    part(page, "zoom").check()
    assert 12 <= points.count() < len(made.names)
    part(page, "file").set_input_files(str(ROOT / "README.md"))
    status(page, "Not placed: README.md is not a matrix.csv")
    assert part(page, "results").is_hidden() and points.count() == len(made.names)


def test_the_page_names_the_texts_and_confidence_of_its_numbers(extension, saved):
    text, made = (ROOT / "book" / PAGES["place"]).read_text(), saved[0]
    element = extension.element("place")
    numbers = json.loads(re.search(">(.*)<", element)[1])
    assert f"--n-texts {len(made.texts)} " in text
    assert f"{numbers['confidence']:.0%} interval".replace("%", " %") in text
    assert f"{len(numbers['draws'][str(len(made.texts))]) // len(made.texts):,} times" in text
    assert element.count("<") == 2 and len(element) < 2**18


FORMS = {"published": "published", "leave-one-out": "leave_one_out", "calibrated": "calibrated"}
MOVES = [(0.0, 1.0), (6.0, 0.2), (1.5, 1.0), (0.3, 2.0)]
SETTINGS = [
    {"sample": sample, "size": size, "noise": noise, "distance": distance, "spread": spread}
    for sample, size in enumerate(by_hand.SIZES)
    for noise, moves in zip(by_hand.NOISE, (MOVES[:2], MOVES[2:], MOVES), strict=True)
    for distance, spread in moves
]


def scored(setting):
    """Return ALP in its forms and its neighbours on the page, as the package has them."""
    standard = by_hand._standard()[setting["sample"]]
    options = {name: setting[name] for name in ("distance", "spread", "noise")}
    X, labels = two_clusters(standard, setting["size"], **options)
    found = {
        name: average_log_posterior(X, labels, form=form, ridge=by_hand.RIDGE)
        for name, form in FORMS.items()
    }
    middle, spreads = setting["distance"] / 2, (1.0, setting["spread"])
    means = ([-middle, 0], [middle, 0])
    densities = [multivariate_normal(m, s**2) for m, s in zip(means, spreads, strict=True)]
    both = np.array([density.logpdf(X[:, :2]) for density in densities])
    own = both[(labels == "B").astype(int), np.arange(len(X))]
    truth = float(np.mean(own - np.logaddexp(*both)))
    power = found["calibrated"].temperature
    scores = {"true Gaussians": truth, **{name: each.score for name, each in found.items()}}
    return scores, found["published"].chance, power


def test_alp_of_two_clusters_is_that_of_the_package(opened):
    page = opened("alp")
    call = "all => { const f = alp(interactive.data('alp-data')); return all.map(f); }"
    for setting, found in zip(SETTINGS, page.evaluate(call, SETTINGS), strict=True):
        scores, chance, power = scored(setting)
        d, size = 2 + setting["noise"], setting["size"]
        rule = float(expected_optimism(size, d, 2))
        assert [found["chance"], found["rule"]] == pytest.approx([chance, rule])
        levels = [chance, chance + rule, chance - rule, chance]
        for (form, score), level in zip(scores.items(), levels, strict=True):
            assert found["forms"][form] == pytest.approx([score, level], rel=1e-6, abs=1e-6), (
                setting,
                form,
            )
        # The package stops where power / (1 + power) is known to 1e-5. Where the score is 0 to
        # rounding, any large power gives it, and the page shows none.
        share = found["temperature"] / (1 + found["temperature"])
        if scores["calibrated"] < -1e-6:
            assert share == pytest.approx(power / (1 + power), abs=2e-5), setting
        else:
            assert min(power, found["temperature"]) >= 1, setting


def test_what_the_page_says_to_try_is_so_for_all_its_points(opened):
    assert "Distance 0, spread 1" in (ROOT / "book" / PAGES["alp"]).read_text()
    call = "all => { const f = alp(interactive.data('alp-data')); return all.map(f); }"
    noise = {"distance": 0, "spread": 1, "size": 25, "noise": 0}
    tries = (noise, noise | {"size": 12, "noise": 6}, noise | {"spread": 0.3})
    every = [{**each, "sample": k} for each in tries for k in range(by_hand.SAMPLES)]
    found = opened("alp").evaluate(call, every)
    skill = [{k: v[0] - each["chance"] for k, v in each["forms"].items()} for each in found]
    plain, wide, apart = (skill[k : k + by_hand.SAMPLES] for k in (0, 5, 10))
    assert all(each["published"] > 0.02 > each["leave-one-out"] for each in plain)
    assert all(each["published"] > np.log(2) / 2 and each["leave-one-out"] < -5 for each in wide)
    assert all(abs(each["calibrated"]) < 0.07 for each in wide)
    assert found[5]["rule"] > np.log(2)
    assert all(each["calibrated"] > 0.2 for each in apart)


def test_the_sliders_and_menus_move_the_scores(opened):
    page = opened("alp")
    part(page, "distance").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    part(page, "size").select_option("12")
    part(page, "noise").select_option("6")
    part(page, "again").click()
    setting = {"sample": 1, "size": 12, "noise": 6, "distance": 1.8, "spread": 1.0}
    scores, chance, power = scored(setting)
    shown = table(page, "table")
    assert list(shown) == list(scores)
    for form, ((score,), (skill,), _) in shown.items():
        assert [score, skill] == pytest.approx([scores[form], scores[form] - chance], abs=1e-6)
    rule = float(expected_optimism(12, 8, 2))
    said = part(page, "status").evaluate("p => p.dataset.value.split(' ').map(Number)")
    assert said[:2] == pytest.approx([chance, rule])
    assert "12 entities per cluster gains 0.92 nats" in part(page, "status").inner_text()
    assert part(page, "points").locator("text").count() == 24
