"""Choices are crossed and named rightly; rows recomputed live equal those of the stored table."""

import numpy as np
import pandas as pd
import pytest

from experiments.synthesis import headlines_checkpoints as checkpoints
from experiments.synthesis import headlines_choices as choices


@pytest.fixture(scope="module")
def stored():
    return pd.read_csv(choices.TABLE)


def test_every_combination_is_measured_once_and_named_by_what_differs():
    seen = []

    def measure(a, b, c):
        seen.append((a, b, c))
        return len(seen)

    found = checkpoints.under(
        measure, {"a": ["x", "y"], "b": ["p", "q"], "c": ["n"]}, {"a": ["x"], "c": ["n", "m"]}
    )
    assert seen == [("x", "p", "n"), ("x", "q", "n"), ("y", "p", "n"), ("y", "q", "n"),
                    ("x", "p", "m")]  # fmt: skip
    assert found == {"as on the page": 1, "q": 2, "y": 3, "y, q": 4, "m": 5}


def test_words_leave_out_the_rows_that_they_name():
    table = pd.DataFrame({"family": ["Switch Transformer", "T5", "T5"], "width": [16, 16, 64]})
    words = checkpoints.each(table, "family", "width")
    assert words[1:] == ["without family Switch Transformer", "without family T5",
                         "without width 16", "without width 64"]  # fmt: skip
    assert [len(checkpoints.without(table, w)) for w in words] == [3, 2, 1, 1, 2]


def test_agreement_is_that_of_each_group_and_0_where_a_column_is_flat():
    x = np.arange(1.0, 6)
    rows = {"task": ["a"] * 5 + ["b"] * 5, "truth": [*x, *x]}
    table = pd.DataFrame(rows | {"up": [*x**3, *-x], "flat": [1.0] * 5 + [*x]})
    for how, first in (("Spearman's correlation", 1), ("Kendall's correlation", 1),
                       ("Pearson's correlation", np.corrcoef(x, x**3)[0, 1])):  # fmt: skip
        found = choices.agreement(table, ["up", "flat"], how)
        assert found.loc["a"].tolist() == pytest.approx([first, 0])
        assert found.loc["b"].tolist() == pytest.approx([-1, 1])


def test_the_table_has_every_claim_with_its_page_first(stored):
    parts = stored.groupby("claim", sort=False)
    assert list(parts.groups) == list(choices.CLAIMS)
    assert (parts.specification.first() == checkpoints.PAGE).all()
    assert not stored.duplicated(["claim", "specification"]).any()
    assert stored.estimate.notna().all() and parts.size().between(6, 110).all()


@pytest.mark.parametrize("claim", ["syn-sealed-leads-facts", "syn-seeds-by-package"])
def test_stored_rows_are_found_again(claim, stored):
    own = stored[stored.claim == claim].set_index("specification").estimate
    again = choices.measured(claim).set_index("specification").estimate
    pd.testing.assert_series_equal(again, own, atol=1e-6, check_names=False)
