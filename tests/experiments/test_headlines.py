"""The stored tables of headlines: their form, the page's own numbers, and some rows live."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from experiments import headlines
from helpers import data
from helpers.book import claims

FILES = sorted(data.PUBLISHED.glob("headlines_*.csv"))
LEDGER = json.loads((data.ROOT / "data/results/ledger.json").read_text())["claims"]
MEASURED = {row["id"]: row["ours"] for row in LEDGER}
# Claims with so little to choose that they have fewer than six specifications.
FEWER = {}
# Of each part the claims that are quickly computed from stored tables.
LIVE = {
    "geometry": ["geo-noise-tuned-follows", "geo-variants-order", "geo-base-new-model"],
    "modelmap": ["map-corpus-gpt", "map-corpus-gpt-six", "map-corpus-bert"],
    "posterior": ["alp-rivals-published-noise", "alp-rivals-tuned-probe-cost-most"],
    "retrieval": ["smi-real-proxy-costs"],
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_tables_begin_with_the_page_and_hold_enough_alternatives(file):
    table = pd.read_csv(file)
    assert list(table) == ["claim", "specification", *headlines.ENDS]
    assert not table.duplicated(["claim", "specification"]).any()
    assert np.isfinite(table["estimate"]).all() and table["specification"].str.len().all()
    assert not (table["low"] > table["high"]).any()
    assert (table["low"].isna() == table["high"].isna()).all()
    known = claims.load()
    for name, part in table.groupby("claim"):
        first = part.iloc[0]
        assert name in known and first["specification"] == headlines.PAGE
        assert first["estimate"] == pytest.approx(MEASURED[name], rel=1e-6, abs=1e-6), name
        assert len(part) >= FEWER.get(name, 6), name


@pytest.mark.parametrize("name", LIVE)
def test_rows_are_computed_again(name):
    made = import_module(f"experiments.{name}.headlines").CLAIMS
    stored = pd.read_csv(data.PUBLISHED / f"headlines_{name}.csv")
    assert set(stored["claim"]) == set(made)
    for claim in LIVE[name]:
        before = stored[stored["claim"] == claim].drop(columns="claim").reset_index(drop=True)
        again = made[claim]().reset_index(drop=True)
        pd.testing.assert_frame_equal(before, again, rtol=1e-5, atol=1e-6, check_dtype=False)


def test_a_specification_says_what_differs_and_the_page_comes_first():
    def measure(a, b):
        return (a + b, a, b) if a != b else np.nan

    table = headlines.rows(measure, {"a": [1, 2], "b": [3, 2]}, {"a": 1, "b": 2})
    assert list(table["specification"]) == [headlines.PAGE, "3", "2, 3"]
    assert list(table["estimate"]) == [3, 4, 5] and list(table["low"]) == [1, 1, 2]


def test_other_claims_stay_when_one_is_computed(tmp_path, capsys):
    made = {name: lambda n=n: headlines.rows(lambda a: a * n, {"a": [1.0, 2.0]})
            for n, name in enumerate("xy", 1)}  # fmt: skip
    main = headlines.command_of("some", made)
    assert main(["--folder", str(tmp_path)]) == 0
    whole = pd.read_csv(tmp_path / "headlines_some.csv")
    assert list(whole["claim"]) == ["x", "x", "y", "y"] and list(whole["estimate"]) == [1, 2, 2, 4]
    made["y"] = lambda: headlines.rows(lambda a: a, {"a": [7.0]})
    assert main(["--folder", str(tmp_path), "--only", "y"]) == 0
    again = pd.read_csv(tmp_path / "headlines_some.csv")
    assert list(again["estimate"]) == [1, 2, 7]
