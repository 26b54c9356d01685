"""Prices of an order: costs, the frontier, budgets, and bad input."""

import numpy as np
import pandas as pd
import pytest

from experiments.synthesis import tuning_prices


def test_the_frontier_has_what_nothing_beats():
    cost, quality = [0, 1, 2, 3, 0], [0.5, 0.4, 0.9, 0.9, 0.5]
    assert list(tuning_prices.frontier(cost, quality)) == [True, False, True, False, True]


def encoders(seed=0):
    """Return a table and runs like those of the release, in which 500 steps know the truth."""
    rng = np.random.default_rng(seed)
    models, rows, runs = list("abcdef"), [], []
    for task in tuning_prices.EXAMPLES:
        for i, model in enumerate(models):
            truth = 50 + 5 * i + rng.uniform(0, 3)
            row = {"model": model, "task": task, "truth": truth, "parameters": 10 * (i + 1)}
            scores = {"EarlyStop-500": truth, "EarlyStop-100": rng.uniform(), "LogME": -truth}
            rows.append(row | scores)
            for scorer, seconds in (("EarlyStop-500", 45), ("EarlyStop-100", 5), ("LogME", 1)):
                runs.append({"task": task, "scorer": scorer, "model": model, "run": 0,
                             "score": scores[scorer], "seconds": seconds})  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame(runs)


def test_prices_count_the_pass_forward_and_name_the_frontier():
    table, runs = encoders()
    passes = tuning_prices._forward_seconds(runs).set_index(["task", "model"]).forward
    # A step takes (45 - 5) / 400 = 0.1 seconds, a pass forward a third of it per batch of 32.
    assert passes["rte", "a"] == pytest.approx(2490 / 32 * 0.1 / 3)
    prices = tuning_prices.encoder_prices(table, runs)
    one = prices[(prices.task == "rte")].set_index("signal")
    assert one.seconds["500 steps"] == 270 and one.rho["500 steps"] == 1
    assert one.seconds["LogME"] == pytest.approx(6 + 6 * passes["rte", "a"])
    assert one.released["LogME"] == 6 and one.rho["LogME"] == -1
    assert one.seconds["parameters"] == 0 and one.regret["LogME"] > 0
    found = tuning_prices.summary(prices, n_resamples=50)
    assert found.frontier["parameters"] and not found.frontier["LogME"]
    assert (found.low <= found.rho).all() and (found.rho <= found.high).all()
    assert found.behind["parameters"] == 0


def test_advice_keeps_the_budget_and_prefers_what_is_free():
    table, runs = encoders()
    options = tuning_prices.summary(tuning_prices.encoder_prices(table, runs), n_resamples=50)
    seconds = tuning_prices.machine_seconds([1e8, 1e8], 1000, 100.0)
    assert seconds["50 steps"] == pytest.approx(6 * 2e8 * 128 * 32 * 50 / 1e11)
    assert seconds["a score"] == pytest.approx(2 * 2e8 * 128 * 1000 / 1e11)
    poor = tuning_prices.advice(options, seconds, 0.0)
    assert list(poor.index[poor.run]) == ["parameters"]
    rich = tuning_prices.advice(options.assign(behind_low=0.1), seconds, 1e9)
    assert rich.rho[rich.run].item() == 1
    with pytest.raises(ValueError, match="budget"):
        tuning_prices.advice(options, seconds, -1.0)


def test_a_machine_sustains_something():
    assert tuning_prices.sustained_gigaflops(64) > 0


def test_orders_within_one_size():
    rows = [{"kind": k, "width": w, "x": i, "y": i * w} for k in "ab" for w in (1, 2)
            for i in range(5)]  # fmt: skip
    assert tuning_prices.given_size(pd.DataFrame(rows), "x", "y") == pytest.approx((1, 1, 1))


def test_one_model_is_left_out():
    frame = pd.DataFrame({"model": list("aabb"), "task": list("xyxy"), "truth": [1, 9, 5, 2]})
    left = tuning_prices.leave_one_out(
        pd.concat([frame, frame.assign(model=frame.model + "2")]), ["truth"]
    )
    assert len(left) == 4 and np.allclose(left.truth, 1)


def test_steps_that_know_the_truth_tie_with_a_size_that_does():
    table, _ = encoders()
    table = table.assign(**{"EarlyStop-50": -table.truth})
    rows = tuning_prices.specification_rows(table)
    assert len(rows) == 5 * 3 * 3 * 7
    ranks = rows[rows.agreement != "Pearson"].groupby("rank by").estimate
    assert ranks.mean()[["500 steps", "50 steps", "LogME"]].tolist() == pytest.approx([0, -2, -2])
    assert (ranks.std()["500 steps"], ranks.max()["best score"]) == pytest.approx((0, -2))
