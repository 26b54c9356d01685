import numpy as np
import pandas as pd
import pytest

from experiments import headline_shares as judging
from experiments.headlines import PAGE
from experiments.synthesis import glass_box_table, headlines
from experiments.synthesis.specifications import Tables
from helpers.book import claims, other_choices


@pytest.fixture(scope="module")
def known():
    """The stored suite, with all signals that no curve is fitted for."""
    own = glass_box_table.load().table
    six = glass_box_table.load(added=True).table
    both = [t.assign(validation=-t.bits_per_byte) for t in (own, six)]
    return Tables(*both)


def test_the_stored_table_has_every_specification_once_and_the_page_first():
    stored = pd.read_csv(headlines.TABLE)
    rows = headlines.specifications()
    assert stored[["claim", "specification"]].equals(rows[["claim", "specification"]])
    assert not stored.duplicated(["claim", "specification"]).any()
    assert np.isfinite(stored.estimate).all()
    groups = stored.groupby("claim", sort=False)
    assert (groups.specification.first() == PAGE).all()
    assert groups.size().between(20, 110).all()
    assert set(stored.claim) <= set(claims.load())


def test_rows_measured_again_are_those_stored(known):
    rows = headlines.specifications()
    fitted = "counts|stated|smi|on-facts"
    rows = rows[~rows.claim.str.contains(fitted)].sample(40, random_state=0)
    stored = pd.read_csv(headlines.TABLE).estimate[rows.index]
    np.testing.assert_allclose(headlines.again(known, rows), stored, atol=1e-6)


@pytest.mark.parametrize(
    ("row", "n", "left"),
    [
        ({}, 72, {"mix": {"facts", "even", "code"}, "seed": {0, 1}}),
        ({"cut": "six corpora"}, 144, {"seed": {0, 1}}),
        ({"cut": "seed 1 alone"}, 36, {"seed": {1}}),
        ({"cut": "without width 16"}, 54, {"width": {32, 64, 128}}),
        ({"cut": "without corpus even"}, 48, {"mix": {"facts", "code"}}),
        ({"steps": "last checkpoints"}, 24, {"step": {2048}}),
        ({"steps": "without the first checkpoints"}, 48, {"step": {512, 2048}}),
    ],
)
def test_a_specification_keeps_the_models_that_it_names(known, row, n, left):
    models = headlines._models(known, headlines.SENTENCES["syn-rankme-follows-tuning"], row)
    assert len(models) == n and set(models.kind) == {"gpt"}
    assert all(set(models[column]) == values for column, values in left.items())


def test_kendalls_tau_is_put_on_the_scale_of_correlations():
    x, noise = np.random.default_rng(0).normal(size=(2, 4000))
    found = headlines._implied(pd.Series(x), pd.Series(0.6 * x + 0.8 * noise))
    assert found == pytest.approx(0.6, abs=0.03)


@pytest.mark.parametrize(
    ("claim", "estimates", "threshold", "agrees"),
    [
        ("syn-stated-follows-facts", [0.9, 0.6, 0.5, 0.1], 0.5, [True, True, False, False]),
        ("syn-facts-against-tasks", [-0.4, -0.1, 0.0, 0.3], 0.0, [True, True, False, False]),
        # The page does not show a lead, and neither does a specification at or below zero.
        ("syn-gate-loss-facts", [-0.1, -0.2, 0.0, 0.1], 0.0, [True, True, True, False]),
        # A number that the page misses has sides; where the page meets it, the sign decides.
        ("map-distance-is-kl", [36.8, 2.0, 1.0, 0.5], 1.0, [True, True, False, False]),
        ("geo-r-patchiness-bert-small", [0.9, 0.5, 0.95, -0.2], 0.0, [True, True, True, False]),
    ],
)
def test_a_specification_agrees_on_the_side_of_the_page(claim, estimates, threshold, agrees):
    found = other_choices.judged(claim, pd.Series(estimates))
    assert found.agrees.tolist() == agrees
    assert (found.threshold == threshold).all() and (found.page == estimates[0]).all()


def test_the_summary_counts_what_agrees():
    table = other_choices.load()
    rows = judging.summary(table)
    assert rows.share.is_monotonic_increasing and rows.n.sum() == len(table)
    for claim, row in rows.iterrows():
        part = table[table.claim == claim]
        scaled = judging.scaled(part)
        # On the threshold itself lies what no bound admits.
        assert ((scaled > 0) <= part.agrees).all() and ((scaled < 0) <= ~part.agrees).all()
        assert scaled.abs().max() == pytest.approx(1)
        assert row.share == part.agrees.mean() and row.lowest <= row.page <= row.highest
    of_part = rows[rows.part == "synthesis"]
    for first, n_heads in ((len(of_part), 1), (3, 2)):
        shown = judging.shown(rows, "synthesis", first=first).data
        assert shown.count("<tr>") == n_heads + len(of_part)
        assert shown.count("<details>") == n_heads - 1
