"""Choices are crossed and named rightly; rows recomputed live equal those of the stored table."""

import numpy as np
import pandas as pd
import pytest

from experiments.synthesis import headlines_checkpoints as checkpoints
from experiments.synthesis import headlines_choices as choices
from helpers import data


def test_blocks_are_crossed_and_named_by_what_differs_from_the_page():
    def measure(a, b, c):
        return "xy".index(a) + 10 * "pq".index(b) + 100 * "nm".index(c)

    found = checkpoints.under(
        measure, {"a": ["x", "y"], "b": ["p", "q"], "c": ["n"]}, {"a": ["x"], "c": ["n", "m"]}
    )
    told = dict(zip(found.specification, found.estimate, strict=True))
    assert told == {"as on the page": 0, "q": 10, "y": 1, "y, q": 11, "m": 100}
    assert found.specification[0] == "as on the page" and len(found) == 5


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


def test_the_stored_table_is_that_of_the_claims_and_some_rows_are_found_again():
    stored = pd.read_csv(data.PUBLISHED / "headlines_choices.csv")
    assert list(dict.fromkeys(stored.claim)) == list(choices.CLAIMS)
    for claim in ("syn-sealed-leads-facts", "syn-sealed-ranks-tuning", "syn-price-glass-box-size"):
        own = stored[stored.claim == claim].drop(columns="claim").reset_index(drop=True)
        again = choices.CLAIMS[claim]().reset_index(drop=True)
        pd.testing.assert_frame_equal(again, own, atol=1e-6, check_dtype=False)
