"""The gate against SciPy, closed forms and what must not matter."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers.synthesis import gate


def table_of(n_models=8, n_tasks=4, seed=0, noise=1.0, missing=False):
    """Models whose truth is a quality shared by tasks plus noise, and four signals."""
    rng = np.random.default_rng(seed)
    quality, rows = rng.normal(size=n_models), []
    for task in range(n_tasks):
        truth = quality + noise * rng.normal(size=n_models)
        for m in range(n_models):
            rows.append({"model": f"m{m}", "task": f"t{task}", "truth": truth[m], "known": m})
    table = pd.DataFrame(rows)
    table["perfect"], table["reverse"] = table.truth**3, -table.truth
    table["random"], table["flat"] = rng.normal(size=len(table)), 1.0
    table["family"] = table.model.map(lambda name: "ab"[int(name[1:]) % 2])
    return table.drop(index=[0, 9]) if missing else table


def estimates(table, signals):
    found = gate.judge(table, signals, n_resamples=2)
    return found.pivot(index="signal", columns="measure", values="estimate")


@pytest.mark.parametrize("missing", [False, True])
def test_rank_correlation_is_the_mean_of_scipys(missing):
    table = table_of(missing=missing)
    table["tied"] = table.random.round(0)
    found = estimates(table, ["random", "tied"])["rank correlation"]
    for signal in ("random", "tied"):
        each = [stats.spearmanr(g[signal], g.truth).statistic for _, g in table.groupby("task")]
        assert found[signal] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("missing", [False, True])
def test_choices_are_those_of_the_naive_loop(missing):
    table = table_of(missing=missing)
    found, rows = estimates(table, ["random"]).loc["random"], []
    for _, g in table.groupby("task"):
        order = g.sort_values("random", ascending=False)
        best = g.truth.max()
        hits = [best in order.truth.iloc[:k].tolist() for k in (1, 3)]
        rows.append([best - order.truth.iloc[0], *hits])
    assert found[["regret", "top 1", "top 3"]].tolist() == pytest.approx(np.mean(rows, axis=0))


def test_a_perfect_signal_a_reversed_one_and_one_that_does_not_vary():
    table = table_of()
    found = estimates(table, ["perfect", "reverse", "flat"])
    assert found.loc["perfect"].to_dict() == {
        "rank correlation": 1.0,
        "regret": 0.0,
        "top 1": 1.0,
        "top 3": 1.0,
    }
    worst = table.groupby("task").truth.agg(lambda v: v.max() - v.min()).mean()
    assert found.loc["reverse", "rank correlation"] == -1
    assert found.loc["reverse", "regret"] == pytest.approx(worst)
    # One that does not vary is a choice at random: among 8, the best is it in one of 8.
    mean = table.groupby("task").truth.agg(lambda v: v.max() - v.mean()).mean()
    assert found.loc["flat"].tolist() == pytest.approx([0, mean, 1 / 8, 3 / 8])


def test_of_several_best_models_any_will_do():
    truth = [3, 3, 1, 0] * 2
    table = pd.DataFrame({"model": list("abcd") * 2, "task": [*"xxxxyyyy"], "truth": truth})
    table["signal"] = [1, 2, 0, 0] * 2
    found = estimates(table, ["signal"]).loc["signal"]
    assert found["top 1"] == 1 and found["regret"] == 0


@given(st.integers(0, 100))
def test_only_the_order_of_a_signal_matters_and_not_that_of_rows(seed):
    table = table_of(n_models=5, n_tasks=3, seed=seed)
    table["bent"] = np.exp(table.random) + 7
    one = gate._score(table, ["random"], n_resamples=5)
    two = gate._score(table.sample(frac=1, random_state=seed), ["bent"], n_resamples=5)
    np.testing.assert_allclose(one.estimate, two.estimate, atol=1e-12)
    np.testing.assert_allclose(one.resamples, two.resamples, atol=1e-12)
    assert (one.resamples[:, 1:] >= 0).all() and (np.abs(one.resamples[:, 0]) <= 1 + 1e-12).all()


def test_static_order_is_the_mean_rank_elsewhere():
    table = table_of(missing=True)
    order, ranks = gate.static_order(table), table.groupby("task").truth.rank(pct=True)
    for i in table.index:
        elsewhere = (table.model == table.model[i]) & (table.task != table.task[i])
        assert order[i] == pytest.approx(ranks[elsewhere].mean())
    # It knows nothing of its own task.
    other = table.copy()
    here = other.task == "t2"
    other.loc[here, "truth"] = np.random.default_rng(1).normal(size=here.sum())
    pd.testing.assert_series_equal(gate.static_order(other)[here], order[here])


def test_family_order_knows_nothing_of_the_model_or_the_task():
    table = table_of(missing=True)
    order, static = gate.family_order(table), gate.static_order(table)
    i = table.index[10]
    same = (table.task == table.task[i]) & (table.family == table.family[i])
    relatives = same & (table.model != table.model[i])
    assert order[i] == pytest.approx(static[relatives].mean())
    single = table.assign(family=table.model)
    assert gate.family_order(single).nunique() == 1
    once = table[table.task == "t0"]
    assert gate.static_order(once).isna().all()


def test_shared_quality_makes_the_static_order_good_and_noise_does_not():
    for noise, least, most in ((0.1, 0.8, 1.0), (1e6, -0.3, 0.3)):
        table = table_of(n_models=40, n_tasks=10, noise=noise)
        table["static"] = gate.static_order(table)
        value = estimates(table, ["static"]).loc["static", "rank correlation"]
        assert least <= value <= most


def test_intervals_hold_the_estimate_follow_the_seed_and_are_wider_with_tasks_drawn():
    table = table_of(n_models=20, n_tasks=5)
    one = gate.judge(table, ["random", "perfect"], n_resamples=60, seed=3)
    pd.testing.assert_frame_equal(
        one, gate.judge(table, ["random", "perfect"], n_resamples=60, seed=3)
    )
    assert not one.equals(gate.judge(table, ["random", "perfect"], n_resamples=60, seed=4))
    assert ((one.low <= one.estimate) & (one.estimate <= one.high)).all()
    fixed = gate.judge(table, ["random"], n_resamples=60, seed=3, draw_tasks=False)
    widths = [(f.high - f.low).iloc[0] for f in (one, fixed)]
    assert widths[0] > widths[1] > 0
    wider = gate.judge(table, ["random"], n_resamples=60, seed=3, confidence=0.99)
    assert (wider.high - wider.low).iloc[0] > widths[0]


def test_the_interval_covers_a_correlation_of_nothing():
    covered = 0
    for seed in range(40):
        table = table_of(n_models=12, n_tasks=6, seed=seed)
        row = gate.judge(table, ["random"], n_resamples=60).iloc[0]
        covered += row.low <= 0 <= row.high
    assert covered >= 36


def test_leads_are_differences_in_favour_of_the_signal():
    table = table_of(n_models=20)
    found = gate.leads(table, ["perfect", "random"], ["random", "reverse"], n_resamples=60)
    assert len(found) == 3 * 4
    rows = found.set_index(["signal", "rival", "measure"])
    values = estimates(table, ["perfect", "random", "reverse"])
    lead = rows.lead["perfect", "random", "rank correlation"]
    assert lead == pytest.approx(1 - values["rank correlation"]["random"])
    assert rows.lead["perfect", "reverse", "regret"] == pytest.approx(values.regret["reverse"])
    assert rows.verdict["perfect", "reverse", "rank correlation"] == "ahead"
    back = gate.leads(table, ["reverse"], ["perfect"], n_resamples=60).set_index("measure")
    assert back.verdict["rank correlation"] == "behind"
    same = gate.leads(table.assign(copy=table.random), ["random"], ["copy"], n_resamples=60)
    assert (same.verdict == "undecided").all() and (same.lead == 0).all()


def test_without_each_leaves_each_model_out():
    table = table_of()
    found = gate.without_each(table, ["random"]).set_index("left_out")
    assert list(found.index) == list(dict.fromkeys(table.model))
    rest = estimates(table[table.model != "m3"], ["random"]).loc["random"]
    assert found.loc["m3", list(gate.MEASURES)].tolist() == pytest.approx(
        rest[list(gate.MEASURES)].tolist()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="truth"), "truth"),
        (lambda t: t.drop(columns="random"), "random"),
        (lambda t: t[t.task == "t0"], "1 tasks"),
        (lambda t: t[t.model.isin(["m0", "m1"])], "2 models"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "twice"),
        (lambda t: "table", "data frame"),
    ],
)
def test_bad_tables_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        gate.judge(change(table_of()), ["random"], n_resamples=2)


def test_bad_arguments_are_refused():
    table = table_of()
    with pytest.raises(ValueError, match="signals"):
        gate.judge(table, "random")
    with pytest.raises(ValueError, match="n_resamples"):
        gate.judge(table, ["random"], n_resamples=0)
    with pytest.raises(ValueError, match="confidence"):
        gate.judge(table, ["random"], n_resamples=2, confidence=95)
    with pytest.raises(ValueError, match="seed"):
        gate.judge(table, ["random"], n_resamples=2, seed=-1)
    with pytest.raises(ValueError, match="family"):
        gate.family_order(table.drop(columns="family"))


def test_units_are_drawn_whole_and_single_models_as_before():
    table = table_of(n_models=12)
    alone = gate._score(table, ["random"], n_resamples=20)
    single = gate._score(table.assign(one=table.model), ["random"], n_resamples=20, unit="one")
    np.testing.assert_array_equal(alone.resamples, single.resamples)
    # Copies of a model add nothing: with their unit the interval stays, without it shrinks.
    copies = [table.assign(model=table.model + c, unit=table.model) for c in "abcd"]
    copied = pd.concat(copies, ignore_index=True)
    widths = {}
    for name, part, unit in [
        ("one", table, "model"),
        ("all", copied, "unit"),
        ("no", copied, "model"),
    ]:
        row = gate.judge(part, ["random"], n_resamples=200, draw_tasks=False, unit=unit).iloc[0]
        widths[name] = row.high - row.low
    assert widths["all"] == pytest.approx(widths["one"], rel=0.1)
    assert widths["no"] < 0.75 * widths["one"]
    with pytest.raises(ValueError, match="one value"):
        gate._score(table.assign(unit=1), ["random"], unit="unit")
    with pytest.raises(ValueError, match="several values"):
        gate._score(table.assign(unit=table.task), ["random"], unit="unit")


def test_rows_beside_the_gate_are_those_of_judge_and_leads():
    table = table_of(n_models=12).assign(parameters=lambda t: t.known, tokens=lambda t: -t.known)
    rows = gate.beside(table, {"random": "at random"}, n_resamples=50, seed=1)
    full, why = gate._with_free(table)
    assert not why and list(rows.index) == ["random", *gate.FREE]
    options = {"n_resamples": 50, "seed": 1}
    judged = gate.judge(full, list(rows.index), **options)
    judged = judged[judged.measure == "rank correlation"].set_index("signal")
    np.testing.assert_allclose(rows.rank_correlation, judged.estimate.loc[rows.index])
    np.testing.assert_allclose(rows.low, judged.low.loc[rows.index])
    best = rows.rank_correlation.loc[list(gate.FREE)].idxmax()
    lead = gate.leads(full, ["random"], [best], **options).iloc[0]
    assert rows.loc["random", ["lead", "lead_low", "lead_high"]].tolist() == pytest.approx(
        [lead.lead, lead.low, lead.high]
    )
    assert rows.lead.isna().sum() == 1 and np.isnan(rows.lead[best])
    shown = gate.shown(rows)
    assert shown.index[0] == "at random" and not shown["rank correlation"].str.contains("no").any()


def test_one_task_is_judged_with_orders_from_the_others():
    table = table_of(n_models=12)
    rows = gate.beside(table, {"random": ""}, task="t1", n_resamples=20)
    here = table[table.task == "t1"]
    order = gate.static_order(table)[here.index]
    assert rows.rank_correlation["static_order"] == pytest.approx(
        stats.spearmanr(order, here.truth).statistic
    )
    assert (rows.n_tasks == 1).all()
    with pytest.raises(ValueError, match="task"):
        gate.beside(table, {"random": ""}, task="t9")


def test_where_no_gate_applies_the_row_says_why_with_the_number():
    one = table_of().query("task == 't0'").assign(parameters=7.0)
    rows = gate.beside(one, {"random": ""}, draw_tasks=False, n_resamples=20)
    assert rows.why["parameters"] == "one value for all 8 models, 7"
    assert rows.why["tokens"] == "known of 0 of 8 models"
    for order in ("static_order", "family_order"):
        assert rows.why[order] == "0 of 8 models stand in two tasks"
    assert rows.rank_correlation[list(gate.FREE)].isna().all() and rows.lead.isna().all()
    assert (
        gate.shown(rows).loc[gate.FREE["tokens"], "rank correlation"].startswith("no gate: known")
    )
    two = one[one.model.isin(["m0", "m1"])]
    assert gate.beside(two, {}, draw_tasks=False).why.eq("2 models, and 3 are needed").all()
    unknown = table_of().drop(columns="family")
    assert gate.beside(unknown, {}, n_resamples=5).why["family_order"].endswith("0 of 8 models")


def test_frames_are_stacked_by_their_own_truths_or_a_shared_one():
    frame = pd.DataFrame({"x": [1, 2], "y": [4, 3], "size": [5, 6]}, ["a", "b"])
    long = gate.stacked({"x": frame, "y": frame})
    assert long[["model", "task", "truth"]].to_numpy().tolist() == [
        ["a", "x", 1], ["b", "x", 2], ["a", "y", 4], ["b", "y", 3]
    ]  # fmt: skip
    assert gate.stacked({"x": frame}, "size").truth.tolist() == [5, 6]
