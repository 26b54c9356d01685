"""The specification tables: known answers on made-up runs, and the stored ones."""

import numpy as np
import pandas as pd
import pytest

from experiments.geometry import base_encoder
from experiments.geometry import specifications as specs
from helpers import data, stats
from helpers.geometry import release

HAVE_RUNS = data.available("manifolds/")


@pytest.fixture
def runs():
    rng, rows = np.random.default_rng(0), []
    for name in ("bert-small", "roberta", "bert-base"):
        for alpha in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
            for replicate in (1, 2, 3):
                own = rng.standard_normal()
                glue = 0.8 - 0.1 * np.log(alpha) + 0.01 * own
                patchy = 1.05 - 0.01 * np.log(alpha) + 0.002 * own
                rows.append((name, alpha, replicate, glue, patchy, 1 + rng.random()))
    columns = ["architecture", "alpha", "replicate", "glue", "aq_patchiness", "pq_patchiness"]
    return pd.DataFrame(rows, columns=columns)


def test_controls_hold_the_noise_fixed(runs):
    part = runs.query("architecture == 'roberta'")
    for form, columns in zip(specs.NOISE, (1, 2, 3, 6), strict=True):
        controls = specs.noise_controls(part["alpha"], form)
        assert controls.shape == (18, columns)
        left, freedom = specs.residuals(np.log(part["alpha"]), controls)
        assert np.abs(left).max() < 1e-10
        assert freedom == 18 - min(columns + 1, 6)
    with pytest.raises(ValueError, match="choose one of line"):
        specs.noise_controls(part["alpha"], "spline")


def test_a_measure_that_knows_more_than_the_noise_is_seen_in_every_control(runs):
    parts = {name: part for name, part in runs.groupby("architecture")}
    errors = {name: {c: 1e-6 for c in specs.COLUMNS.values()} for name in parts}
    table = specs._beyond_noise(parts, errors)
    ours = table.query("quantizer == 'AQ' and scale == 'values'")
    assert len(ours) == 12 and (ours["low"] > 0.9).all()
    assert (table.query("quantizer == 'PQ'")["estimate"].abs() < 0.9).all()
    row = ours.query("models == 'roberta' and noise == 'levels'").iloc[0]
    part = parts["roberta"]
    oracle = stats.partial_correlation(
        part["aq_patchiness"], part["glue"], pd.get_dummies(part["alpha"])
    )
    assert row["estimate"] == pytest.approx(oracle.r)


def test_correction_enlarges_and_a_measure_that_never_repeats_has_none(runs):
    parts = {"roberta": runs.query("architecture == 'roberta'")}
    small = specs._beyond_noise(parts, {"roberta": {c: 1e-4 for c in specs.COLUMNS.values()}})
    pair = small.query("quantizer == 'AQ' and noise == 'levels'").set_index("scale")["estimate"]
    assert pair["values, corrected"] > pair["values"]
    none = specs._beyond_noise(parts, {"roberta": {c: 1e3 for c in specs.COLUMNS.values()}})
    assert set(none["scale"]) == {"values", "ranks"}


def test_relative_errors_are_those_of_repeated_measurements():
    repeats = pd.DataFrame({"model": ["a"] * 3, "x": 1 + np.exp([0.1, 0.2, 0.3])})
    assert specs._relative_error(repeats, "x", "model") == pytest.approx(0.01)


def test_every_reading_of_the_headline_stands_once(runs):
    table = specs._headline_r(runs)
    assert len(table) == 4 * 2 * 2 * 2
    row = table.query(
        "models == 'BERT-small' and quantizer == 'AQ' "
        "and unit == 'single models' and scale == 'values'"
    ).iloc[0]
    part = runs.query("architecture == 'bert-small'")
    assert row["estimate"] == pytest.approx(part["aq_patchiness"].corr(part["glue"]))
    assert row["n"] == 18


def test_the_stored_tables_are_those_of_the_released_runs():
    sweep = pd.read_csv(data.PUBLISHED / "geometry_noise.csv")
    stored = {name: pd.read_csv(path) for name, path in specs.FILES.items()}
    assert len(stored["headline_r"]) == 32 and len(stored["beyond_noise"]) <= 72
    assert all(
        table["estimate"].between(table["low"], table["high"]).all() for table in stored.values()
    )
    variants = pd.read_csv(data.PUBLISHED / "geometry_variants.csv")
    fresh = {"variants": specs.variant_rows(variants, sweep)}
    noisy = base_encoder.load_sweeps().query("level > 0")
    fresh["base"] = specs.base_rows(noisy, n_resamples=2).drop(columns=["low", "high"])
    for name, table in fresh.items():
        pd.testing.assert_frame_equal(stored[name][list(table)], table, rtol=1e-4, atol=1e-5)
    if HAVE_RUNS:
        for name, fresh in specs.both(release.load_perturbed_runs(), sweep).items():
            pd.testing.assert_frame_equal(stored[name], fresh, rtol=1e-4, atol=1e-5)


def test_models_in_reverse_are_called_so_by_every_quantizer():
    steps, columns = np.linspace(0, 1, 9), list(specs.OURS.values())
    noisy = pd.DataFrame({"level": 1.0, "rule": "published", "score": steps})
    others = pd.DataFrame({"model": [*specs.RANDOM, *specs.CUT, "a", "b"], "score": steps})
    for name in columns:
        noisy[name], others[name] = 1 + steps**2, 3 - steps
    sizes = ("full", "small")
    noisy, others = (pd.concat([t.assign(size=s) for s in sizes]) for t in (noisy, others))
    table = specs.variant_rows(others, noisy)
    assert len(table) == 36 and table["estimate"].to_numpy() == pytest.approx(-1)
    assert set(table.groupby("models")["n"].first().sort_values()) == {5, 6, 9}
    turned = specs.variant_rows(others, noisy.assign(score=-noisy["score"]))
    assert turned["estimate"].to_numpy() == pytest.approx(1)


def test_the_encoders_differ_where_one_follows_and_the_other_opposes():
    rows = base_encoder.load_sweeps().query("level > 0")
    sign = rows["encoder"].map({"MPNet": -1.0, "MiniLM": 1.0})
    for name in specs.OURS.values():
        rows[name] = sign * rows["score"]
    table = specs.base_rows(rows, n_resamples=5)
    assert len(table) == 108
    assert table.query("score == 'mean'")["estimate"].to_numpy() == pytest.approx(-2)


def test_the_window_of_all_levels_is_the_specification_of_all_levels():
    rows = base_encoder.load_sweeps().query("level > 0")
    windows, known = specs.base_windows(rows, fewest=8), specs.base_rows(rows, n_resamples=2)
    whole = windows.query("first == 1 and last == 100")["estimate"].to_numpy()
    assert whole == pytest.approx(known.query("levels == 'all'")["estimate"].to_numpy())
    n = rows["level"].nunique()
    assert len(windows) == 36 * sum(range(1, n - 6)) and (windows["last"] > windows["first"]).all()
