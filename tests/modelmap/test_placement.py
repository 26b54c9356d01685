import numpy as np
import pandas as pd
import pytest

from helpers.modelmap import model_map, placement


def values(seed=0, k=9, n=40):
    return np.random.default_rng(seed).normal(size=(k, n)) * 5 - 100


@pytest.fixture
def made():
    return model_map.fit_map(values(), list("abcdefghi"), texts=range(40), n_bytes=[900] * 40)


def test_a_map_of_the_first_texts_is_the_map_of_them(made):
    part = placement.first_texts(made, 10)
    plain = model_map.fit_map(made.log_likelihoods[:, :10], made.names, 0, n_bytes=[900] * 10)
    assert np.allclose(part.distances(), plain.distances())
    assert part.threshold == made.threshold and part.texts == made.texts[:10]
    assert np.allclose(placement.first_texts(made, 40).coordinates, made.coordinates)
    for n in (1, 41):
        with pytest.raises(ValueError, match="n is"):
            placement.first_texts(made, n)


def test_neighbours_agree_with_the_map_and_the_naive_resamples(made):
    new = values(1)[0]
    new[0] = -1000  # cut at the threshold
    table = placement.neighbours(made, new, k=9, n_resamples=400, seed=3)
    exact = made.place(new).distances[0]
    assert np.allclose(table.distance, np.sort(exact))
    assert table.nearest.sum() == pytest.approx(1)
    drawn = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), 400)
    clipped, row = np.maximum(new, made.threshold), made.log_likelihoods[0]
    naive = [np.var(np.repeat(clipped - row, times)) for times in drawn]
    low, high = np.quantile(naive, [0.025, 0.975])
    assert np.allclose(table.loc["a", ["low", "high"]].astype(float), [low, high])


def test_a_copy_is_found_in_every_draw_and_a_shift_of_all_values_changes_nothing(made):
    table = placement.neighbours(made, made.log_likelihoods[4] + 7, k=1, n_resamples=50)
    assert table.index[0] == "e" and table.nearest.iloc[0] == 1
    assert table.high.iloc[0] < 1e-9
    with pytest.raises(ValueError, match="missing or infinite"):
        placement.neighbours(made, np.full(40, np.nan))


@pytest.fixture
def models():
    kinds = ["", "rounded", "tuned", "rounded", *["n-gram"] * 5]
    return pd.DataFrame(
        {
            "parent": ["", "a", "a", "a", *[""] * 5],
            "kind": kinds,
            "level": [0, 8, 10, 4, *[1] * 5],
            "family": ["s"] * 4 + ["x"] * 3 + ["y", "z"],
        },
        index=list("abcdefghi"),
    )


def test_yardsticks_are_the_distances_that_they_name(made, models):
    yards, apart = placement.yardsticks(made, models), made.distances()
    assert yards["rounded to 8 bits"] == apart[0, 1] and yards["tuned"] == apart[0, 2]
    near = [min(apart[i, j] for j in range(4) if j != i) for i in range(4)]
    near += [min(apart[i, j] for j in range(4, 7) if j != i) for i in range(4, 7)]
    assert yards["family"] == pytest.approx(np.median(near))
    families = models.family.tolist()
    away = [min(apart[i, j] for j in range(9) if families[j] != families[i]) for i in range(9)]
    assert yards["stranger"] == pytest.approx(np.median(away))
    assert "tuned" not in placement.yardsticks(made, models.assign(kind="n-gram"))
    with pytest.raises(ValueError, match="other rows than the map"):
        placement.yardsticks(made, models[::-1])


def test_kinship_grows_with_distance():
    yards = {"rounded to 8 bits": 1.0, "tuned": 5.0, "family": 20.0, "stranger": 50.0}
    told = [placement._kinship(d, yards) for d in (0, 1, 3, 30, 60)]
    assert told[0] == told[1] == "the same weights, but for rounding"
    assert told[2] == "as near as a fine-tune" and told[4] == "a stranger"
    assert len(set(told)) == 4 and "(5)" in told[3] and "(50)" in told[3]
    assert placement._kinship(0.0, {}) == "a stranger"
    assert placement.kinship_between(2, 4, yards) == told[2]
    assert placement.kinship_between(0.5, 4, yards) == f"undecided: {told[0]}; or {told[2]}"
    with pytest.raises(ValueError, match="distance is nan"):
        placement._kinship(float("nan"), yards)


def test_a_linear_score_is_predicted_and_groups_are_held_out():
    rng = np.random.default_rng(0)
    level = rng.normal(size=(60, 5))
    made = model_map.fit_map(level, [f"m{i}" for i in range(60)], 0)
    truth = pd.DataFrame({"score": level @ [1, 2, 0, -1, 0.5] + 3}, made.names)
    groups = np.repeat(list("abcdef"), 10)
    new = rng.normal(size=(2, 5))
    said = placement.predict(made, truth, groups, new, penalties=[1e-6])
    assert np.allclose(said.new.score, new @ [1, 2, 0, -1, 0.5] + 3, atol=1e-3)
    assert np.allclose(said.held_out, truth, atol=1e-3)
    # What is said of a group does not hang on its own scores.
    spoilt = truth.copy()
    spoilt.iloc[:10] += 100
    again = placement.predict(made, spoilt, groups, new, penalties=[1e-6])
    assert np.allclose(again.held_out[:10], said.held_out[:10])
    assert not np.allclose(again.held_out[10:], said.held_out[10:])
    missing = truth.copy()
    missing.iloc[:10] = np.nan
    part = placement.predict(made, missing, groups, new, penalties=[1e-6])
    assert part.held_out[:10].isna().all().all() and np.allclose(part.new, said.new, atol=1e-3)
    with pytest.raises(ValueError, match="fewer than 2 names"):
        placement.predict(made, truth, ["a"] * 60, new)
    with pytest.raises(ValueError, match="a row per model"):
        placement.predict(made, truth[1:], groups[1:], new)


def test_rivals_know_less_where_the_score_hangs_on_single_texts():
    rng = np.random.default_rng(1)
    level = rng.normal(size=(60, 5))
    made = model_map.fit_map(level, [f"m{i}" for i in range(60)], 0)
    truth = pd.DataFrame({"score": level[:, 0] - level[:, 1]}, made.names)
    groups = pd.Series(np.repeat(list("abcdef"), 10), made.names)
    said = placement.predict(made, truth, groups, level[:1], penalties=[1e-6])
    table = placement.rivals(made, truth, groups, said.held_out)
    assert (
        table.score.idxmin() == "ridge on all texts"
        and table.loc["ridge on all texts"].max() < 0.01
    )
    means = [truth.score[groups != g].groupby(groups[groups != g]).mean().mean() for g in groups]
    by_hand = ((truth.score - means) ** 2).groupby(groups).mean().mean() ** 0.5
    assert table.loc["mean of other families", "score"] == pytest.approx(by_hand)


def test_an_interval_counts_groups_and_not_models():
    errors = [*[0.1] * 90, 1.0, 2.0, 3.0, -4.0]
    groups = [*["big"] * 90, "a", "b", "c", "d"]
    # Six groups with the new one: four of them reach 2/3.
    assert placement.interval(10, errors, groups, 0.66) == (7.0, 13.0)
    assert placement.interval(10, errors, groups, 5 / 6) == (6.0, 14.0)
    assert placement.interval(0, [np.nan, 1.0], ["a", "b"], 0.5) == (-1.0, 1.0)


def test_too_few_groups_give_no_interval():
    for confidence in (0.5, 0.8, 0.9, 0.95):
        n = placement.groups_needed(confidence)
        errors = np.arange(1.0, n + 1)
        assert np.isfinite(placement.interval(0, errors, range(n), confidence)).all()
        few = placement.interval(0, errors[1:], range(n - 1), confidence)
        assert few == (-np.inf, np.inf)
    assert placement.interval(0, [np.nan], ["a"]) == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="pass one each"):
        placement.interval(0, [1.0, 2.0], ["a"])


def test_intervals_cover_as_often_as_they_say_when_groups_are_alike():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        errors = rng.normal(size=20) * 2
        found.append(placement.coverage(errors, list(range(20)), 0.8).covered.mean())
    assert 0.78 < np.mean(found) < 0.86


def test_coverage_stays_within_a_kind():
    errors = [1.0, 2.0, 3.0, 4.0, 5.0, 90.0, 91.0, np.nan]
    groups, kinds = list("abcdeffg"), ["small"] * 5 + ["large"] * 3
    table = placement.coverage(errors, groups, 0.8, kinds)
    assert list(table.index) == list("abcdef") and table.n.tolist() == [1] * 5 + [2]
    assert table.others.tolist() == [4] * 5 + [0]
    # The largest of four errors is the interval; no other large group has any.
    assert table.covered[:5].tolist() == [1, 1, 1, 1, 0] and np.isnan(table.covered["f"])
    assert table.half["a"] == 5 and np.isinf(table.half["f"])
    pooled = placement.coverage(errors, groups, 0.8)
    assert pooled.covered["f"] == 0 and pooled.half["f"] == 5
    with pytest.raises(ValueError, match="two kinds"):
        placement.coverage(errors, groups, 0.8, ["small"] * 6 + ["large"] * 2)
    with pytest.raises(ValueError, match="shorter"):
        placement.coverage(errors, groups, 0.8, ["small"])


def test_a_score_has_an_interval_only_where_its_kind_has_enough_families():
    names = list("abcdefg")
    held = pd.DataFrame({"accuracy": [0.5] * 7, "bits": [2.0] * 7}, names)
    scores = held + np.array([0.1, -0.2, 0.3, 0.3, 0.9, np.nan, 0.1])[:, None]
    said = placement._Prediction(pd.DataFrame({"accuracy": [0.9], "bits": [2.5]}), held)
    groups, kinds = pd.Series(names, names), pd.Series(["small"] * 4 + ["large"] * 3, names)
    table = placement.score_table(said, scores, groups, kinds, "small", 0.8)
    assert table.loc["bits"].tolist() == pytest.approx([2.5, 2.2, 2.8, 4, 4])
    assert table.loc["accuracy"].tolist() == pytest.approx([0.9, 0.6, 1.0, 4, 4])
    other = placement.score_table(said, scores, groups, kinds, "large", 0.8)
    assert other.low.isna().all() and other.high.isna().all() and (other.families == 2).all()
    assert other.predicted.tolist() == table.predicted.tolist()


def test_a_close_up_is_the_small_map_and_the_new_model_does_not_turn_it(made):
    around, among = placement.close_up(made, made.log_likelihoods[2], ["a", "b", "c", "d"])
    assert np.allclose(among, around[2]) and around.shape == (4, 2)
    far, _ = placement.close_up(made, made.log_likelihoods[8] * 3, ["a", "b", "c", "d"])
    assert np.array_equal(far, around)
    with pytest.raises(ValueError, match="pass 3 or more"):
        placement.close_up(made, made.log_likelihoods[2], ["a", "b"])


def test_a_series_is_matched_by_its_keys_everywhere(made):
    turned = pd.Series(made.log_likelihoods[0], made.texts)[::-1]
    plain = turned[::-1].to_numpy()
    assert made.place(turned).distances[0].argmin() == 0
    table = placement.neighbours(made, turned, k=9, n_resamples=50)
    assert table.index[0] == "a"
    pd.testing.assert_frame_equal(table, placement.neighbours(made, plain, k=9, n_resamples=50))
    scores = pd.DataFrame({"score": np.arange(9.0)}, made.names)
    said = [placement.predict(made, scores, list("aabbccdde"), v).new for v in (turned, plain)]
    pd.testing.assert_frame_equal(*said)
    ends = [placement.close_up(made, values, list("abcd"))[1] for values in (turned, plain)]
    assert np.array_equal(*ends)
    both = pd.DataFrame([turned, turned + 1])
    assert np.array_equal(made.aligned(both), [plain, plain + 1])
    for place in (placement.neighbours, lambda m, v: placement.close_up(m, v, list("abcd"))):
        with pytest.raises(ValueError, match="2 rows; pass one model"):
            place(made, both)
        with pytest.raises(ValueError, match="lacks '3'"):
            place(made, turned.drop("3"))
