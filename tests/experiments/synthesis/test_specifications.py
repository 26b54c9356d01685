import numpy as np
import pandas as pd
import pytest

from experiments.synthesis import glass_box_world, specifications


@pytest.fixture(scope="module")
def known():
    rows = [
        {"kind": kind, "width": width, "mix": mix, "seed": seed, "step": step}
        for kind in ("gpt", "bert")
        for width in (16, 32, 64)
        for mix in glass_box_world.MIXES
        for seed in (0, 1)
        for step in (128, 512, 2048)
    ]
    table = pd.DataFrame(rows)
    rng = np.random.default_rng(0)
    table["parameters"] = table.width**2.0
    states = table["mix"].map(glass_box_world.statement_rate)
    table["closed_book"] = states * table.step / 4096 + 0.001 * rng.normal(size=len(table))
    table["fine_tuned"] = table.width + rng.normal(size=len(table))
    table["rankme"] = table.width + rng.normal(size=len(table))
    for name in ("fine_tuned_section", "fine_tuned_same_field"):
        table[name] = table.fine_tuned
    for name in ("stated", "stated_width", "from_counts", "from_counts_widths"):
        table[name] = states * table.step
    for name in specifications.TEXTS.values():
        table[name] = states + 0.0
    return specifications.Tables(table[table["mix"].isin(glass_box_world.SUITE)], table)


@pytest.mark.parametrize("name", specifications.CURVES)
def test_every_choice_is_made_once_and_can_be_measured(name, known):
    rows = specifications.CURVES[name].rows()
    assert 12 <= len(rows) <= 120
    assert len({tuple(row.values()) for row in rows}) == len(rows)
    frame = pd.DataFrame(rows)
    found = specifications.again(name, known, frame.iloc[::9])
    assert list(found) == [*frame, "estimate", "low", "high"]
    assert (found.low <= found.estimate + 1e-9).all() and (
        found.estimate <= found.high + 1e-9
    ).all()


def test_the_choices_matter(known):
    measure = specifications.CURVES["syn_rankme"].measure
    row = {"kind": "gpt", "score": "both tasks", "given": "nothing", "scale": "ranks"}
    assert measure(known, row)["estimate"] > 0.8
    assert abs(measure(known, row | {"given": "width"})["estimate"]) < 0.4
    loss = specifications.CURVES["syn_loss"].measure
    row = {
        "kind": "gpt",
        "corpora": "six",
        "texts": "mixed",
        "steps": "last",
        "widths": "narrowest",
    }
    assert loss(known, row)["estimate"] == 1
    wrong = known.corpora.assign(validation=-known.corpora.validation)
    assert loss(known._replace(corpora=wrong), row)["estimate"] == 0


@pytest.mark.parametrize("name", specifications.CURVES)
def test_the_stored_table_holds_every_specification(name):
    stored = specifications.load(name)
    rows = pd.DataFrame(specifications.CURVES[name].rows())
    pd.testing.assert_frame_equal(stored[list(rows)], rows, check_dtype=False)
    assert stored[["estimate", "low", "high"]].notna().all(axis=None)
