"""Corpora named from losses: oracles, what must not matter, chance, and bad input."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.neighbors import NearestCentroid

from experiments.modelmap import corpus_directions, corpus_names


@pytest.fixture
def clusters():
    """Return points of three labels in four groups, and the two columns."""
    rng = np.random.default_rng(0)
    labels, groups = np.repeat(list("abc"), 8), np.tile(np.repeat([0, 1, 2, 3], 2), 3)
    centres = 4 * rng.standard_normal((3, 5))
    values = centres[np.repeat([0, 1, 2], 8)] + rng.standard_normal((24, 5))
    return values, labels, groups


def test_nearest_labels_are_those_of_scikit_learn(clusters):
    values, labels, groups = clusters
    names = corpus_names.nearest_labels(values, labels, corpus_names.other_groups(groups))
    for group in range(4):
        out = groups == group
        fit = NearestCentroid().fit(values[~out], labels[~out])
        assert list(names[out]) == list(fit.predict(values[out]))


def test_a_row_without_two_labels_to_learn_from_has_no_name(clusters):
    values, labels, _ = clusters
    teaches = np.repeat((labels == "a")[None], len(labels), axis=0)
    assert set(corpus_names.nearest_labels(values, labels, teaches)) == {""}


def test_a_signature_does_not_depend_on_the_level_of_a_model():
    rng = np.random.default_rng(1)
    losses = rng.uniform(0.5, 2, (4, 5))
    scale = rng.uniform(0.5, 2, (4, 1))
    np.testing.assert_allclose(
        corpus_names.signatures(losses), corpus_names.signatures(scale * losses), atol=1e-12
    )
    np.testing.assert_allclose(corpus_names.signatures(losses).mean(axis=1), 0, atol=1e-12)
    shift = corpus_names.signatures(-losses, logs=False)
    np.testing.assert_allclose(shift, corpus_names.signatures(3 - losses, logs=False), atol=1e-12)


def test_lines_name_what_means_confuse():
    level = np.tile(np.linspace(0, 1, 9), 2)
    labels = np.repeat(["a", "b"], 9)
    offset = np.where(labels == "a", 0.1, -0.1)
    values = np.column_stack([3 * level + offset, -3 * level - offset])
    teachers = level < 0.6
    names = corpus_names._nearest_line_labels(values, level, labels, teachers)
    assert list(names) == list(labels)


def test_the_best_set_relative_to_a_reference_is_named():
    reference = np.array([1.0, 2.0, 3.0])
    losses = np.array([[0.9, 2.0, 3.0], [2.0, 4.0, 5.0]])
    names = corpus_names._relative_labels(losses, reference, ["x", "y", "z"])
    assert list(names) == ["x", "z"]


def test_each_group_counts_once_and_agreement_has_the_exact_interval():
    right = [1, 1, 1, 1, 0, 0]
    found = corpus_names.group_rate(right, ["a", "a", "a", "a", "b", "b"])
    assert found.rate == 0.5 and found.n == 2 and (found.low, found.high) == (0, 1)
    sure = corpus_names.group_rate([1, 1, 1], list("abc"))
    expected = stats.binomtest(3, 3).proportion_ci(0.95, method="exact")
    assert sure.low == pytest.approx(expected.low) and sure.high == 1
    never = corpus_names.group_rate([0, 0, 0], list("abc"))
    assert never.high == pytest.approx(1 - expected.low) and never.low == 0
    assert corpus_names.binomial_interval(3, 3) == pytest.approx((expected.low, 1))


def test_labels_are_exchanged_as_whole_units_within_blocks():
    labels = np.array(list("aabbccddeeff"))
    units, blocks = np.repeat(range(6), 2), np.repeat([0, 1], 6)
    other = corpus_names._permuted(labels, units, blocks, np.random.default_rng(3))
    assert (other[::2] == other[1::2]).all()
    assert sorted(other[:6]) == sorted(labels[:6]) and (other != labels).any()


def test_null_rates_are_at_chance_and_the_same_under_their_seed(clusters):
    values, labels, groups = clusters
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(values.shape)
    teaches, units = corpus_names.other_groups(groups), np.arange(24)
    arguments = (noise, labels, teaches, units, groups)
    rates = corpus_names.null_rates(*arguments, n_shuffles=100)
    assert rates.mean() == pytest.approx(1 / 3, abs=0.06)
    np.testing.assert_array_equal(rates, corpus_names.null_rates(*arguments, n_shuffles=100))


def test_the_exact_p_value_counts_orders():
    truths = ["x", "y", "z", "z", "z", "z"]
    assert corpus_names.exact_p_value(truths, truths) == pytest.approx(1 / 30)
    assert corpus_names.exact_p_value(["z"] * 6, truths) == 1


def test_shares_of_a_balanced_design_add_up():
    frame = pd.DataFrame([(a, b) for a in "xyz" for b in range(4)], columns=["a", "b"])
    rng = np.random.default_rng(5)
    of_a, of_b = rng.standard_normal((3, 6)), rng.standard_normal((4, 6))
    values = np.array([of_a["xyz".index(a)] + of_b[b] for a, b in frame.to_numpy()])
    shares = corpus_names.explained_shares(values, frame)
    assert shares.sum() == pytest.approx(1)
    only = corpus_names.explained_shares(of_a.repeat(4, axis=0), frame)
    assert only["a"] == pytest.approx(1) and only["b"] == pytest.approx(0, abs=1e-12)
    gap = corpus_names.share_difference(values, frame, "a", "b", n_resamples=20)
    assert gap.low <= gap.rate <= gap.high and gap.n == 6


def test_more_texts_name_better_and_sizes_are_checked(clusters):
    values, labels, groups = clusters
    wide = np.hstack([values + np.random.default_rng(i).standard_normal(values.shape)
                      for i in range(8)])  # fmt: skip
    teaches = corpus_names.other_groups(groups)
    rates = corpus_names.rates_by_texts(wide, labels, teaches, [2, 40], n_draws=10)
    mean = rates.groupby("n_texts").rate.mean()
    assert mean[40] > mean[2] and len(rates) == 20


def test_a_change_is_named_by_its_direction():
    rng = np.random.default_rng(6)
    centres = rng.standard_normal((3, 12))
    values = np.repeat(centres, 5, axis=0) + 0.1 * rng.standard_normal((15, 12))
    directions = centres - centres.mean(axis=0)
    found = corpus_directions.tuned_names(0.01 * directions, values, np.repeat(list("abc"), 5))
    assert [name for name, _ in found] == list("abc") and all(c > 0.9 for _, c in found)


def released(n=6, seed=0):
    """Return a table as `load_loss_lines` gives it, in which the corpus decides the losses."""
    rng = np.random.default_rng(seed)
    best = {"C4": 0, "FineWeb-Edu": 1, "The Pile": 2}
    kinds = [("Llama", c) for c in best] + [("Mamba", "The Pile"), ("OLMo", "Dolma")]
    rows = []
    for architecture, corpus in kinds:
        for i in range(n):
            losses = 1 + 0.1 * i + 0.01 * rng.standard_normal(14)
            if corpus in best:
                losses[best[corpus]] -= 0.2
            row = dict(zip([*corpus_names.LOSSES, *corpus_names.ANSWERS], losses, strict=True))
            rows.append({"architecture": architecture, "corpus": corpus, **row})
    return pd.DataFrame(rows)


def test_released_models_are_named_and_summed_up():
    table = released()
    named = corpus_names.named_real(table).set_index(["rule", "texts"])
    assert (named.loc[("nearest mean", "all five"), "right"] == 6).all()
    assert set(named.architecture) == {"Mamba"} and (named.n == 6).all()
    rate = corpus_names.named_rate(corpus_names.named_real(table), "nearest mean", "all five")
    assert rate.rate == 1 and rate.n == 1
    own = corpus_names.named_real(table, {"two answers": corpus_names.ANSWERS[:2]})
    assert set(own.texts) == {"two answers", "all five"}  # the latter by the mean loss alone
    units = corpus_names.relative_units(table)
    assert list(units.name) == list(units.corpus) and "OLMo" not in set(units.architecture)
    means = corpus_names.signature_means(table)
    assert means.n.sum() == len(table) and len(means) == 5
    values = corpus_names.signatures(table[list(corpus_names.LOSSES)])
    ratio = corpus_directions.design_and_data(values, table, "Llama", "The Pile")
    assert list(ratio.index) == ["Mamba"] and ratio["Mamba"] < 0.2
    sized = table.assign(size=np.where(table.index % 2 == 0, 1e9, 9e9))
    rows = corpus_directions.design_ratios(sized, {"five": corpus_names.LOSSES}, (5e8, 2e9))
    assert rows.loc[("five", "signature", "all"), "Mamba"] == pytest.approx(ratio["Mamba"])
    assert len(rows) == 4 and list(rows.columns) == ["Mamba"]
    with pytest.raises(ValueError, match="not above 0"):
        corpus_directions.design_ratios(
            sized.assign(C4=0.0), {"five": corpus_names.LOSSES}, (5e8, 2e9)
        )


def test_the_file_is_read_without_repeated_or_incomplete_rows(tmp_path):
    names = ["Name", "Architecture", "Pretraining Data", "Size", "Tokens", "Tokenizer"]
    names += [f"{n} Validation BPB" for n in corpus_names.LOSSES]
    names += [f"{n} Validation Loss" for n in corpus_names.LOSSES]
    names += [f"{n} BPB" for n in corpus_names.ANSWERS]
    row = ["m", "olmo", "The Pile Deduped", 1, 2, "t"] + [0.5] * 19
    rows = [[""] * 25, row, row, [*row[:6], 0.4, *row[7:]], [*row[:6], "", *row[7:]]]
    path = tmp_path / "models.csv"
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    table = corpus_names.load_loss_lines(path)
    assert len(table) == 2 and set(table.corpus) == {"The Pile"}
    assert set(table.architecture) == {"OLMo"}
