"""The sealed forecast: its hash, what it may read, and how it is scored."""

import json
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest

from experiments.synthesis import glass_box_forecast as forecast
from helpers.data import ROOT


@pytest.fixture(scope="module")
def known():
    return forecast._known_models()


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The stored files, to be damaged."""
    for name in ("SIGNALS", "FORECAST", "SEAL", "TRUTH"):
        path = getattr(forecast, name)
        monkeypatch.setattr(forecast, name, tmp_path / path.name)
        shutil.copy(path, tmp_path)


def test_the_stored_forecast_is_the_sealed_one_and_comes_from_the_sealed_signals(known):
    table, signals = forecast._sealed()
    told = json.loads(forecast.SEAL.read_text())
    assert told["sha256"] == forecast._digest(forecast.FORECAST) and told["models"] == len(signals)
    assert set(signals.seed) == {forecast.SEED} and not set(forecast.TRUTHS) & set(signals)
    again = forecast._forecast(known, forecast._with_columns(signals))
    keys = ["truth", "method", "model"]
    assert again[keys].equals(table[keys])
    np.testing.assert_allclose(again.expected, table.expected, atol=1e-4)
    np.testing.assert_allclose(again.high - again.low, table.high - table.low, atol=1e-4)


@pytest.mark.parametrize("name", ["FORECAST", "SIGNALS"])
def test_a_changed_forecast_is_not_scored(copies, name):
    path = getattr(forecast, name)
    text = path.read_text()
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert len(forecast.outcome())
    at = text.index("0.", len(text) // 2)
    path.write_text(text[:at] + "1." + text[at + 2 :])
    with pytest.raises(ValueError, match=f"{path.name} is not what was sealed"):
        forecast.outcome()


def test_nothing_is_sealed_after_its_truth_and_no_truth_of_other_weights_is_stored(copies):
    _, signals = forecast._sealed()
    with pytest.raises(ValueError, match="comes before its truth"):
        forecast._seal(signals)
    truths = pd.read_csv(forecast.TRUTH, index_col="model")
    forecast._store_truths(truths)
    other = truths.assign(weights=["0" * 64, *truths.weights[1:]])
    with pytest.raises(ValueError, match="weights"):
        forecast._store_truths(other)
    other.to_csv(forecast.TRUTH)
    with pytest.raises(ValueError, match="other weights"):
        forecast.outcome()


def test_the_page_scores_the_sealed_forecast():
    page = nbformat.read(ROOT / "notebooks/synthesis/real_choices.ipynb", as_version=4)
    code = "\n".join(c.source for c in page.cells if c.cell_type == "code")
    assert "glass_box_forecast.outcome()" in code


def test_a_forecast_reads_no_truth_of_the_new_models(known):
    new = known[known.seed == 1].rename(index=lambda name: f"new {name}")
    blind = forecast._forecast(known, new.drop(columns=list(forecast.TRUTHS)))
    pd.testing.assert_frame_equal(blind, forecast._forecast(known, new))
    recipe = blind[(blind.method == "recipe") & (blind.truth == "probe")].set_index("model")
    name = new.index[0]
    same = (known[["width", "mix", "step"]] == new.loc[name, ["width", "mix", "step"]]).all(axis=1)
    assert recipe.expected[name] == pytest.approx(known.probe[same].mean())
    with pytest.raises(ValueError, match="two"):
        forecast._forecast(new, new)


def test_the_reach_holds_as_often_as_it_says():
    rng = np.random.default_rng(0)
    errors = np.abs(rng.standard_t(3, size=(4000, 25)))
    held = [e[-1] <= forecast._reach(pd.Series(e[:-1])) for e in errors]
    assert np.mean(held) == pytest.approx(0.8, abs=0.02)


def test_coverage_and_ranks_are_counted_by_hand():
    table = forecast.outcome()
    shares = forecast.coverage(table)
    part = table[(table.truth == "probe") & (table.method == "signals")]
    row = shares[(shares.truth == "probe") & (shares.method == "signals")].iloc[0]
    inside = (part.low <= part.truth_value) & (part.truth_value <= part.high)
    assert row.share == pytest.approx(inside.mean()) and row.low <= row.share <= row.high
    rows = forecast.beside_gate(table, "probe", n_resamples=20)
    r = part.expected.corr(part.truth_value, method="spearman")
    assert rows.rank_correlation["signals"] == pytest.approx(r)
    with pytest.raises(ValueError, match="truth"):
        forecast.beside_gate(table, "glue")
