"""Tuning curves: laws that are known, orders that cross, and units that differ."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.synthesis import released_truths, tuning_curves

SIZES = np.array([200 * 2**i for i in range(14)], float)


def test_spearman_is_that_of_scipy_and_regret_what_was_lost():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 12), rng.standard_normal(12)
    assert tuning_curves.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(tuning_curves.spearman(np.ones(4), np.arange(4)))
    assert tuning_curves.regret([1, 3, 2], [5, 7, 9]) == 2
    assert tuning_curves.regret([1, 2, 3], [5, 7, 9]) == 0


def test_the_rectified_law_is_recovered_on_curves_that_follow_it():
    law = tuning_curves._Law(
        np.array([1.0, 0.5]), np.array([3.0, 2.0]), np.array([1e3, 1e4]), np.array([0.5, 0.8])
    )
    y = np.array([law.predict(n) for n in SIZES]).T
    fit = tuning_curves._fit_rectified(SIZES[:12], y[:, :12])
    np.testing.assert_allclose(fit.predict(SIZES[-1]), y[:, -1], rtol=0.01)
    twice = tuning_curves._fit_rectified(SIZES[:12], 2 * y[:, :12])
    np.testing.assert_allclose(twice.predict(1e6), 2 * fit.predict(1e6), rtol=1e-6)
    flat = tuning_curves._fit_rectified(SIZES, np.full((1, 14), 2.0))
    np.testing.assert_allclose(flat.predict(1e7), 2.0, rtol=1e-6)


def test_accept_then_stop_continues_a_power_law_and_drops_what_bends_away():
    y = 5 * SIZES**-0.1
    at = tuning_curves.accept_then_stop(SIZES[:8], y[:8], SIZES[-1])
    assert at == pytest.approx(y[-1])
    noise = 1 + 1e-3 * np.random.default_rng(1).standard_normal(14)
    bent = y * noise
    bent[:4] *= [0.6, 0.7, 0.8, 0.9]
    at = tuning_curves.accept_then_stop(SIZES[:12], bent[:12], SIZES[-1])
    straight = np.exp(np.polyval(np.polyfit(np.log(SIZES[:12]), np.log(bent[:12]), 1),
                                 np.log(SIZES[-1])))  # fmt: skip
    assert abs(at - y[-1]) < 0.3 * abs(straight - y[-1])


def curves(n=8, seed=0):
    """Return curves as `released_truths.tuning_curves`, power laws that cross along the way."""
    rng, rows = np.random.default_rng(seed), []
    for task in released_truths.CORPORA:
        for i in range(n):
            slope = 0.05 + 0.02 * i
            about = {"task": task, "model": f"m{i}", "family": f"f{i % 4}", "parameters": 1e8 + i}
            about |= {"tokenizer": "x" if i < n // 2 else "y", "decoder": True}
            start = 3 + 0.3 * i + 0.01 * rng.uniform()
            for size in (0, *SIZES.astype(int)):
                loss = start + 1 if size == 0 else start * (size / 200) ** -slope
                rows.append(about | {"examples": size, "loss": loss})
    return pd.DataFrame(rows)


def test_extrapolation_sees_that_curves_cross():
    table = curves()
    found = tuning_curves.predictions(table, 6)
    assert len(found) == 24 and found.truth.max() < 0
    quality = tuning_curves.curve_qualities(table, [6]).set_index(["task", "method"])
    for task in released_truths.CORPORA:
        assert quality.rho[task, "accept then stop"] == pytest.approx(1)
        assert quality.rho[task, "last point"] < 0.5
        assert quality.examples[task, "last point"] == 6400
    gain, low, high = tuning_curves.family_gain(
        found, "accept then stop", "last point", n_resamples=50
    )
    assert low <= gain <= high and gain > 0.5
    same = tuning_curves.family_gain(found, "last point", "last point", n_resamples=10)
    assert same == (0, 0, 0)
    r, low, high = tuning_curves.mean_order(found, "truth", n_resamples=20)
    assert (r, low, high) == pytest.approx((1, 1, 1))


def test_pairs_within_and_across_groups_are_told_apart():
    table = pd.DataFrame(
        {
            "task": "t",
            "family": list("abcdef"),
            "unit": list("xxxyyy"),
            "truth": [1, 2, 3, 11, 12, 13],
            "signal": [3, 2, 1, 13, 12, 11],
        }
    )
    pairs = tuning_curves._pair_agreement(table, "signal", "truth", "unit").set_index("pairs")
    assert pairs.share["same"] == 0 and pairs.share["other"] == 1
    assert list(pairs.n[["same", "other"]]) == [6, 9]
    losses = table.truth.to_numpy(float)
    assert tuning_curves.share_within(losses, table.unit, 3.7) == pytest.approx(1 / 9)
    assert tuning_curves.share_within(losses, table.unit, 1.0) == 0
    assert tuning_curves.order_changes(losses, -losses, table.unit) == (9, 9)
    assert tuning_curves.order_changes(losses, 2 * losses, table.unit) == (0, 9)


def test_shares_and_orders_within_groups():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"task": "t", "family": list("abcdef") * 4, "unit": list("xxyyzz") * 4})
    table["loss"] = table.unit.map({"x": 0.0, "y": 5.0, "z": 9.0}) + rng.normal(0, 0.1, 24)
    low, high = tuning_curves.explained_interval(table, "loss", "unit", n_resamples=50)
    assert 0.9 < low <= high <= 1
