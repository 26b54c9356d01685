"""Files of results of a reader's own model, from a page that places it."""

import json

import pandas as pd
import pytest
from forked import begin, end, page

from helpers import text_sets
from helpers.modelmap import placement, stored_families
from helpers.synthesis import example_models


def test_a_page_writes_what_it_says_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_CALLER", str(tmp_path))
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "cache"))
    model = str(example_models.write("causal", tmp_path / "mine"))

    asked = {"model": model, "dtype": "bfloat16", "device": "cpu", "n_texts": 8, "refused": ""}
    assert end(begin(page, "modelmap/place_my_model", asked | {"n_resamples": 50})) == 0
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.parent == tmp_path / "results" and folder.name.startswith("place_my_model-")
    whole = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    (one,) = whole["models"]
    assert (one["model"], one["dtype"], one["device"]) == (model, "bfloat16", "cpu")
    assert len(one["digest"]) == 64 and one["kinship"] and "torch" in whole["versions"]
    assert whole["settings"]["seed"] == 0 and len(whole["inputs"]["map"]) == 64
    assert whole["inputs"]["texts"] == text_sets.fingerprint(text_sets.load_texts(8))
    table = pd.read_csv(folder / "results.csv")
    assert len(table) == len(one["measures"]) == 7
    near = table[table.measure == "squared distance"]
    made, _ = stored_families.load()
    assert (
        set(near.to) <= set(placement.first_texts(made, 8).names)
        and near.value.is_monotonic_increasing
    )
    assert ((near.low <= near.value) & (near.value <= near.high)).all()
    # The map has one pretrained family, and an interval of 80 % needs four.
    scores = table[table.measure != "squared distance"]
    assert len(scores) == 2 and scores.value.notna().all()
    assert scores.low.isna().all() and (scores.families < scores.needed).all()
