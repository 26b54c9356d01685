import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from experiments.synthesis import glass_box_report, glass_box_table, glass_box_world
from helpers import stats

SIGNALS, TRUTHS = list(glass_box_table.SIGNALS), list(glass_box_table.TRUTHS)


def table_of(kinds=("gpt", "bert"), seeds=(0, 1), rng_seed=0, mixes=("facts", "even", "code")):
    """A suite's table with random signals; the truths are what they are made to be."""
    rows = [
        {"kind": kind, "width": width, "layers": 2, "mix": mix, "seed": seed, "step": step}
        for kind in kinds
        for width in (16, 32, 64, 128)
        for mix in mixes
        for seed in seeds
        for step in (128, 512, 2048)
    ]
    table = pd.DataFrame(rows)
    table.index = ["{kind}-{width}x2-{mix}-{seed}-step{step:04d}".format(**row) for row in rows]
    rng = np.random.default_rng(rng_seed)
    for name in [*SIGNALS, *TRUTHS]:
        if name not in table:
            table[name] = rng.normal(size=len(table))
    table["parameters"] = table.width**2.0
    return table


def test_correlations_are_those_of_scipy_within_each_kind():
    table = table_of()
    found = glass_box_report.correlations(table, n_resamples=20)
    assert len(found) == 2 * len(SIGNALS) * len(TRUTHS)
    for row in found.sample(12, random_state=1).itertuples():
        part = table[table.kind == row.kind]
        wanted = scipy_stats.spearmanr(part[row.signal], part[row.truth]).statistic
        assert row.r == pytest.approx(wanted) and row.low <= row.r <= row.high
    assert found.label.tolist()[: len(SIGNALS)] == list(glass_box_table.SIGNALS.values())
    partial = glass_box_report.correlations(table, given=["parameters", "step"], n_resamples=5)
    assert not {"parameters", "step"} & set(partial.signal)


def test_the_intervals_follow_the_seed():
    table = table_of(kinds=("gpt",))
    one, same, other = (
        glass_box_report.correlations(table, n_resamples=30, seed=seed).low for seed in (0, 0, 1)
    )
    pd.testing.assert_series_equal(one, same)
    assert not one.equals(other)
    shares = [glass_box_report.choices(table, n_resamples=30, seed=s).low for s in (0, 0, 1)]
    pd.testing.assert_series_equal(*shares[:2])
    assert not shares[0].equals(shares[2])


def test_choices_differ_in_what_they_say_and_share_the_rest():
    table = table_of(kinds=("gpt",))
    table["closed_book"] = table.width + table.step / 1e3
    table["closed_book"] += table["mix"].map({"facts": 3.0, "even": 2.0, "code": 1.0})
    table["closed_book"] += 0.02 * table.seed
    table["rankme"], table["alp"] = table.closed_book, -table.width
    found = glass_box_report.choices(table, n_resamples=5)
    found = found[found.truth == "closed_book"].set_index(["context", "signal"])
    assert (found.share.unstack().rankme == 1).all()
    # Turned to its better side; between corpora and checkpoints of one width it says nothing.
    assert found.share["size", "alp"] == 1
    assert found.share["corpus", "alp"] == 0.5 == found.share["checkpoint", "alp"]
    assert found.share["checkpoint", "step"] == 1 == found.share["size", "parameters"]
    assert found.share["seed", "alp"] == found.share["seed", "step"] == 0.5
    # 6 pairs of widths, 3 of corpora, 3 of steps, 1 of seeds, in every cell of what they share.
    pairs = found.n.unstack().alp
    assert pairs.to_dict() == {"size": 6 * 18, "corpus": 3 * 24, "checkpoint": 3 * 24, "seed": 36}


def test_corpora_are_compared_by_how_they_differ():
    mixes = glass_box_world.MIXES
    table = table_of(kinds=("gpt",), mixes=tuple(mixes))
    table["closed_book"] = table["mix"].map(glass_box_world.statement_rate)
    table["genre"] = table["mix"].map(lambda mix: mixes[mix].n_bytes["facts"])
    found = glass_box_report.between_corpora(table, ["closed_book", "genre"], "closed_book")
    share = found.set_index(["contrast", "signal"]).share
    assert (share.xs("closed_book", level="signal") == 1).all()
    assert share["same way", "genre"] == 1 and share["opposite ways", "genre"] == 0
    assert share["equal text", "genre"] == 0.5 and "equal statements" not in share
    rows = found[found.signal == "genre"].set_index("contrast")
    # Three of fifteen pairs of corpora state facts equally often, so they have no better one.
    assert rows.corpora.to_dict() == {"all": 12, "equal text": 4, "opposite ways": 5, "same way": 3}
    assert rows.share["all"] == pytest.approx((3 + 4 * 0.5) / 12)
    assert rows.low["all"] < rows.share["all"] < rows.high["all"]


def test_ways_to_differ_are_those_of_the_mixes():
    assert glass_box_world.contrast("facts", "code") == "same way"
    assert glass_box_world.contrast("even", "facts") == "opposite ways"
    assert glass_box_world.contrast("code", "stated") == "equal text"
    assert glass_box_world.contrast("prose", "code") == "equal statements"
    with pytest.raises(ValueError, match="mix is 'other'"):
        glass_box_world.contrast("other", "code")


def test_a_corpus_can_be_cleared_and_p_values_are_corrected():
    table = table_of()
    table["alp"] += 9 * table["mix"].map({"facts": 3.0, "even": 2.0, "code": 1.0})
    table["probe"] += 9 * table["mix"].map({"facts": 3.0, "even": 2.0, "code": 1.0})
    options = {"signals": ["alp", "rankme"], "truths": ["probe"], "n_resamples": 100}
    raw = glass_box_report.correlations(table, **options).set_index(["kind", "signal"])
    left = glass_box_report.correlations(table, given=["mix"], **options)
    left = left.set_index(["kind", "signal"])
    assert raw.r["gpt", "alp"] > 0.8 and abs(left.r["gpt", "alp"]) < 0.4
    part = table[table.kind == "gpt"]
    ranks = part[["alp", "probe"]].rank()
    oracle = stats.partial_correlation(
        ranks.alp, ranks.probe, pd.get_dummies(part["mix"]).iloc[:, 1:]
    )
    assert left.r["gpt", "alp"] == pytest.approx(oracle.r)
    assert raw.p_holm.equals(
        pd.Series(multipletests(raw.p_value, method="holm")[1], raw.index, name="p_holm")
    )


def test_seeds_are_compared_within_a_width():
    table = table_of(kinds=("gpt",))
    table["probe"] = table.width * 10.0 + table.step + 0.1 * table.probe
    table["alp"] += 100.0 * table.width
    found = glass_box_report.retest_within(table, ["probe", "alp"], n_resamples=50)
    found = found.set_index(["measure", "width"])
    assert (found.r["probe"] > 0.8).all() and (found.n == 9).all()
    # All of its agreement lies between widths.
    assert glass_box_report.retest(table).loc[glass_box_table.SIGNALS["alp"], "gpt"] > 0.9
    assert found.r["alp"].abs().max() < 0.8
    part = table[table.width == 32].set_index(["mix", "step"])
    one, two = (part[part.seed == seed].alp for seed in (0, 1))
    wanted = scipy_stats.spearmanr(one, two.loc[one.index]).statistic
    assert found.r["alp", 32] == pytest.approx(wanted)
    whole = glass_box_report.retest_within(table, ["alp"], by=["kind"], n_resamples=5)
    assert list(whole.columns[:2]) == ["kind", "measure"] and whole.n[0] == 36
    assert whole.r[0] == pytest.approx(
        glass_box_report.retest(table).loc[glass_box_table.SIGNALS["alp"], "gpt"]
    )


def test_a_prediction_is_compared_with_facts_known_at_the_end():
    table = table_of(kinds=("gpt",))
    table["from_counts"] = table.closed_book + table["mix"].map(
        {"facts": -0.2, "even": 0.1, "code": 0}
    )
    table.loc[table.step < 2048, "from_counts"] = 99.0
    found = glass_box_report.calibration(table)
    assert found.to_dict() == pytest.approx(
        {("gpt", "facts"): -0.2, ("gpt", "even"): 0.1, ("gpt", "code"): 0.0}
    )


def test_two_seeds_agree_as_scipy_says():
    table = table_of()
    table["rankme"] = table.width * 10.0 + table.step
    found = glass_box_report.retest(table)
    labels = glass_box_table.TRUTHS | glass_box_table.SIGNALS
    assert found.loc[labels["rankme"]].tolist() == [1, 1]
    part = table[table.kind == "bert"].set_index(["width", "mix", "step"])
    one, two = part[part.seed == 0].probe, part[part.seed == 1].probe
    wanted = scipy_stats.spearmanr(one, two.loc[one.index]).statistic
    assert found.loc[labels["probe"], "bert"] == pytest.approx(wanted)
    settings = glass_box_report.GIVEN
    assert not {labels[name] for name in settings} & set(found.index)
    with pytest.raises(ValueError, match=r"seeds \[0\]"):
        glass_box_report.retest(table[table.seed == 0])


def test_a_signal_that_tells_the_truth_gains_and_noise_does_not(monkeypatch):
    label = glass_box_table.SIGNALS
    few = [*glass_box_report.FREE, "rankme", "alp", "smi", "validation"]
    monkeypatch.setattr(glass_box_report, "SIGNALS", {name: label[name] for name in few})
    table = table_of()
    for truth in TRUTHS:
        table[truth] = table.rankme + 0.05 * table[truth]
    for groups in ("width", "mix"):
        found = glass_box_report.gains(table, groups=groups)
        assert (found.loc[label["rankme"]] > 0.5).all()
        assert found.drop(label["rankme"]).max(axis=None) < 0.2
    assert not {label[name] for name in glass_box_report.FREE} & set(found.index)


def test_whole_units_are_drawn_for_an_interval():
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(40), 5)
    table = pd.DataFrame({"run": run, "x": rng.normal(size=40)[run]})
    mean, low, high = glass_box_report.cluster_bootstrap(table, "x", "run", n_resamples=4000)
    error = table.x[::5].std(ddof=0) / np.sqrt(40)
    assert mean == pytest.approx(table.x.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    most = glass_box_report.cluster_bootstrap(table, "x", "run", quantile=0.9)
    assert most[0] == pytest.approx(table.x.quantile(0.9)) and most[1] <= most[0] <= most[2]
    with pytest.raises(ValueError, match="3 or more"):
        glass_box_report.cluster_bootstrap(table[:10], "x", "run")


def test_pairs_of_checkpoints_are_neighbours_tested_as_scipy_tests():
    table, world = table_of(kinds=("gpt",), seeds=(0,)), glass_box_world.make_world()
    rng = np.random.default_rng(0)
    lists = [pd.DataFrame(rng.normal(size=(len(table), n)), table.index) for n in (128, 720, 240)]
    suite = glass_box_table.Suite(table, *lists)
    items = glass_box_report.items_of(suite)
    told = int((world.facts.frequency > 0).sum())
    assert [values.shape[1] for values in items.values()] == [128, told, 240] and told < 720
    found = glass_box_report.checkpoint_pairs(suite)
    assert len(found) == 12 * 2 * 3
    for row in found.sample(8, random_state=0).itertuples():
        before, after = items[row.items].loc[row.before], items[row.items].loc[row.after]
        assert row.p_value == pytest.approx(scipy_stats.ttest_rel(after, before).pvalue)
        assert row.difference == pytest.approx((after - before).mean())
        steps = [128, 512, 2048]
        assert row.after.startswith(row.run) and row.after.endswith(f"{steps[row.stage]:04d}")
        gap = table.probe[row.after] - table.probe[row.before]
        assert row.probe_change == pytest.approx(gap)


def test_seeds_of_one_setting_are_tested_as_scipy_tests():
    table = table_of(kinds=("gpt",))
    rng = np.random.default_rng(0)
    lists = [pd.DataFrame(rng.normal(size=(len(table), n)), table.index) for n in (128, 720, 240)]
    suite = glass_box_table.Suite(table, *lists)
    found = glass_box_report.seed_pairs(suite)
    assert len(found) == 36 * 3
    for row in found.sample(6, random_state=0).itertuples():
        one, two = table.loc[row.before], table.loc[row.after]
        assert (one.seed, two.seed) == (0, 1)
        for name in ("width", "mix", "step"):
            assert one[name] == two[name] == getattr(row, name)
        assert row.probe_change == pytest.approx(two.probe - one.probe)
        items = glass_box_report.items_of(suite)[row.items]
        wanted = scipy_stats.ttest_rel(items.loc[row.after], items.loc[row.before]).pvalue
        assert row.p_value == pytest.approx(wanted)
    # Random numbers do not differ more often than the level says.
    assert (found.p_value < 0.05).mean() < 0.12
    with pytest.raises(ValueError, match="give models of two"):
        glass_box_report.seed_pairs(suite._replace(table=table[table.seed == 1]))


def test_costs_are_means_and_shares_of_fine_tuning():
    table = table_of().assign(seconds_alp=[1.0, 3.0] * 72, seconds_fine_tuned=8.0)
    found = glass_box_report.costs(table)
    assert found.index.tolist() == ["ALP", "fine-tuning"]
    assert found.loc["ALP"].tolist() == [2, 0.25] and found.loc["fine-tuning"].tolist() == [8, 1]
