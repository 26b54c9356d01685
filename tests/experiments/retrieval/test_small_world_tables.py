"""The audit of the small world: planted effects, lines and contradictions are found again."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.retrieval import audit_tables, small_world, small_world_tables
from helpers.retrieval import smi

SIZES = pd.Series({16: 15_000.0, 32: 45_000.0})


@pytest.fixture(scope="module")
def counts():
    return small_world.counted(small_world.make_world(300, most=32, n_unseen=10, n_frequent=8))


def models_of(counts, accuracy):
    """Return the kept facts of each size for a function of the rows and the width."""
    table = pd.DataFrame({f"{w}-0": accuracy(counts, w) for w in SIZES.index})
    facts = small_world_tables.by_model(counts, table, SIZES)
    return facts, {w: audit_tables.kept(facts[facts.width == w]) for w in SIZES.index}


def test_starts_are_averaged_and_facts_keep_their_row(counts):
    rng = np.random.default_rng(0)
    accuracy = pd.DataFrame(rng.random((len(counts), 3)), columns=["16-0", "16-1", "32-0"])
    facts = small_world_tables.by_model(counts, accuracy, SIZES)
    assert len(facts) == 2 * len(counts)
    first = facts[facts.width == 16].set_index("fact")
    assert first.accuracy.to_numpy() == pytest.approx(accuracy[["16-0", "16-1"]].mean(axis=1))
    assert first.subject.tolist() == counts.subject.tolist()
    told = first[first.frequency > 0]
    assert (told.ratio * told.frequency == told.others).all()
    assert ((told.octave <= told.frequency) & (told.frequency < 2 * told.octave)).all()
    assert (first.octave[first.frequency == 0] == 0).all()


def test_planted_effects_are_found_and_their_intervals_hold_them(counts):
    planted = {"statements": 0.05, "neutral": -0.01, "competing": -0.2, "size": 0.03}
    rng = np.random.default_rng(1)

    def accuracy(rows, width):
        ratio = rows.others / rows.frequency.clip(lower=1)
        return (
            0.3
            + planted["statements"] * np.log2(rows.frequency.clip(lower=1))
            + planted["neutral"] * np.log2(1 + ratio) * (rows.kind == "neutral")
            + planted["competing"] * np.log2(1 + ratio) * (rows.kind == "competing")
            + planted["size"] * np.log2(SIZES[width])
            + rng.normal(0, 0.02, len(rows))
        )

    facts, _ = models_of(counts, accuracy)
    # Rows that must not count.
    facts.loc[(facts.frequency == 0) | facts.leaked, "accuracy"] = 1000.0
    found = small_world_tables.effects(facts)
    assert list(found.index) == list(planted)
    for name, value in planted.items():
        assert found.low[name] - 0.003 <= value <= found.high[name] + 0.003
        assert found.effect[name] == pytest.approx(value, abs=0.01)
    told = facts[(facts.frequency > 0) & ~facts.leaked]
    log = np.log2(1 + told.ratio)
    X = np.c_[
        np.ones(len(told)),
        np.log2(told.frequency),
        log * (told.kind == "neutral"),
        log * (told.kind == "competing"),
        np.log2(told.parameters),
    ]
    expected = np.linalg.lstsq(X, told.accuracy.to_numpy(), rcond=None)[0][1:]
    assert found.effect.to_numpy() == pytest.approx(expected)


def test_without_any_effect_every_interval_holds_zero(counts):
    rng = np.random.default_rng(2)
    facts, _ = models_of(counts, lambda rows, width: rng.random(len(rows)))
    found = small_world_tables.effects(facts)
    assert (found.low < 0).all() and (found.high > 0).all()


def test_each_form_is_the_cut_and_scaled_log_of_its_definition(counts):
    _, models = models_of(counts, lambda rows, width: rows.frequency / 200)
    facts = models[16]
    axes = small_world_tables._forms(facts)
    values = {
        "CO-OCCUR": facts.n_both,
        "MI": smi.facts_information(facts),
        "MI of four cells": smi.mutual_information(*(facts[c] for c in smi.COUNTS), cells=4),
        "P(o | s)": facts.n_both / facts.n_subject,
        "share among rivals": facts.share,
    }
    for name, value in values.items():
        cut = np.trunc(5 * np.log2(np.asarray(value, float)))
        expected = (cut - cut.min()) / np.ptp(cut)
        assert axes[name].to_numpy() == pytest.approx(expected), name
    mi = axes["MI"]
    assert axes[small_world_tables.SMI_FORM].to_numpy() == pytest.approx(
        mi ** (1 + 1 / np.log2(15_000))
    )
    fixed = (np.trunc(5 * np.log2(facts.information)) / 5 + 30) / 30
    assert axes[small_world_tables.BILLIONS_FORM].to_numpy() == pytest.approx(
        fixed ** (1 + 1e9 / 15_000)
    )


def test_r2_is_the_squared_correlation_of_bin_means(counts):
    rng = np.random.default_rng(3)
    _, models = models_of(counts, lambda rows, width: rng.random(len(rows)))
    table = small_world_tables.r2_by_form(models)
    axes = small_world_tables._forms(models[32])
    for form in ("CO-OCCUR", "P(o | s)", small_world_tables.SMI_FORM):
        means = models[32].accuracy.groupby(axes[form]).mean()
        assert table["bins", ""][form] == len(means)
        expected = stats.pearsonr(means.index, means)[0] ** 2
        assert table["bin means", 32][form] == pytest.approx(expected)
        single = stats.pearsonr(axes[form], models[32].accuracy)[0] ** 2
        assert table["facts", 32][form] == pytest.approx(single)
    # An exponent of 67,000 leaves nothing of an axis.
    assert np.isnan(table["facts", 16][small_world_tables.BILLIONS_FORM])


def test_leads_are_the_differences_of_the_table_and_leave_out_contradiction(counts):
    rng = np.random.default_rng(4)
    _, models = models_of(counts, lambda rows, width: rng.random(len(rows)))
    found = small_world_tables.leads(models, 20).set_index(["model", "facts"])
    table = small_world_tables.r2_by_form(models)
    expected = (table.loc[small_world_tables.SMI_FORM] - table.loc["CO-OCCUR"])["bin means"]
    assert found.gain.xs("all", level=1).to_numpy() == pytest.approx(expected.to_numpy())
    agreed = models[16][models[16].kind != "competing"].reset_index(drop=True)
    axes, r2 = audit_tables.axes_of(agreed, 15_000), {}
    for form in ("SMI", "CO-OCCUR"):
        means = agreed.accuracy.groupby(axes[form]).mean()
        r2[form] = stats.pearsonr(means.index, means)[0] ** 2
    assert found.gain[16, "none compete"] == pytest.approx(r2["SMI"] - r2["CO-OCCUR"])
    assert small_world_tables.leads(models, 20).equals(small_world_tables.leads(models, 20))


def test_grading_with_the_question_raises_leaked_facts_to_one_and_no_other(counts):
    _, models = models_of(counts, lambda rows, width: np.full(len(rows), 0.25))
    # A constant accuracy has no R²; the mean is what is looked at.
    models = {w: m.assign(accuracy=m.accuracy + m.information) for w, m in models.items()}
    found = small_world_tables.graded(models)
    facts = models[16]
    share = facts.leak.mean()
    expected = facts.accuracy.mean() + share * (1 - facts.accuracy[facts.leak].mean())
    assert found.acc[16, "with the question"] == pytest.approx(expected)
    alone = smi.fit_metrics(
        *(
            smi.bin_statistics(smi.log_bins(facts[c]), facts.accuracy)
            for c in ("n_both", "information")
        ),
        15_000,
        "v5-v7",
    ).loc["SMI"]
    points = small_world_tables.bin_points(facts)
    assert points.n.sum() == len(facts) and (points.x.min(), points.x.max()) == (0, 1)
    assert found.loc[(16, "answer alone")].to_numpy() == pytest.approx(
        alone[["acc", "R2", "upper bound"]].to_numpy(float)
    )


def test_the_end_of_a_line_that_rises_with_the_counts_moves_with_the_most_frequent_fact(counts):
    _, models = models_of(counts, lambda rows, width: np.log2(1 + rows.frequency) / 10)
    found = small_world_tables.line_ends(models, [8, 32, 1000]).set_index(["model", "most"])
    whole = small_world_tables.line(models[32])["upper bound"]
    assert found.bound[32, 1000] == pytest.approx(whole)
    assert found.bound[16, 8] < found.bound[16, 32] < found.bound[16, 1000]
    few = models[16][models[16].frequency <= 8]
    assert found.ceiling[16, 8] == pytest.approx(few.ceiling.mean())


def test_a_line_goes_on_where_accuracy_does_and_a_ceiling_where_documents_decide(counts):
    _, models = models_of(counts, lambda rows, width: rows.ceiling)
    straight = {
        w: m.assign(accuracy=0.95 + 0.01 * (smi.log_bins(m.information) + 10))
        for w, m in models.items()
    }
    # Of a line that stays within 0 and 1 nothing is cut.
    inside = {w: m.assign(accuracy=m.accuracy.clip(0, 1)) for w, m in straight.items()}
    bins = smi.log_bins(models[16].information)
    linear = {w: m.assign(accuracy=(bins - bins.min()) / 100) for w, m in models.items()}
    found = small_world_tables.saturation(linear, 16)
    assert found.line.to_numpy() == pytest.approx([0, 0], abs=1e-9) and (found.ceiling > 0.1).all()
    settled = small_world_tables.saturation(models, 16)
    assert (settled.ceiling == 0).all() and (settled.line > 0.05).all()
    common = models[16][models[16].frequency >= 16]
    assert settled.accuracy[16] == pytest.approx(common.accuracy.mean())
    assert (small_world_tables.saturation(inside, 16).line >= 0).all()


def test_only_a_count_of_rivals_predicts_what_contradiction_decides(counts):
    facts, models = models_of(counts, lambda rows, width: 0.1 + 0.8 * rows.share)
    models = {w: m[~m.leak].reset_index(drop=True) for w, m in models.items()}
    errors = small_world_tables.predictors(models)
    assert len(errors) == sum(map(len, models.values()))
    rmse = errors.drop(columns="fact").pow(2).mean() ** 0.5
    assert rmse.idxmin() == "with rivals"
    assert rmse["with rivals"] < rmse["three counts and size"] / 2
    # The straight line, again, by hand, for one relation.
    form = small_world_tables.SMI_FORM
    x = pd.concat([small_world_tables._forms(m) for m in models.values()], ignore_index=True)[form]
    pooled = pd.concat(models.values(), ignore_index=True)
    held = pooled.relation == "drink"
    slope, start = np.polyfit(x[~held], pooled.accuracy[~held], 1)
    expected = pooled.accuracy[held] - np.clip(start + slope * x[held], 0, 1)
    assert errors[form][held].to_numpy() == pytest.approx(expected.to_numpy())


def test_the_rise_of_the_bound_is_that_of_the_line_ends(counts):
    _, models = models_of(counts, lambda rows, _: 0.1 * np.log2(1 + rows.frequency))
    found = small_world_tables.bound_rise(models[32], 8, 30)
    named = {32: models[32]}
    most = int(models[32].frequency.max())
    ends = small_world_tables.line_ends(named, [8, most]).set_index("most").bound
    assert found.gain == pytest.approx(ends[most] - ends[8])
    assert found.low <= found.high


def test_a_doubling_within_a_band_is_what_was_planted(counts):
    _, models = models_of(counts, lambda rows, _: 0.04 * np.log2(rows.frequency.clip(lower=1)))
    table = small_world_tables.doubling_along(models, [1, 4], 20)
    assert table["from"].tolist() == [1, 4, 1, 4]
    assert table[["estimate", "low", "high"]].to_numpy() == pytest.approx(np.full((4, 3), 0.04))
