import numpy as np
import pandas as pd
import pytest

from experiments.modelmap import score_tables as tables
from helpers.modelmap import model_map, release


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    names = [f"f{i // 3}-{i}" for i in range(36)]
    hidden, level = rng.normal(size=36), rng.uniform(-1, 1, 36)
    L = rng.normal(size=(36, 40)) / 9 + 40 * level[:, None] - 500
    L[:, :20] += 9 * hidden[:, None]
    L[:, 20:] -= 9 * hidden[:, None]
    models = pd.DataFrame(
        {"family": [n.split("-")[0] for n in names], "size": rng.uniform(1, 9, 36)},
        pd.Index(names, name="model"),
    )
    models.loc[names[3], "size"] = np.nan
    scores = pd.DataFrame({"bent": 50 + 30 * level**2, "mean": 50 + 9 * hidden}, models.index)
    keys = [f"t{i}" for i in range(40)]
    return release.Release(pd.DataFrame(L, models.index, keys), models, models[[]], scores)


def test_each_predictor_finds_what_it_can(source):
    llm_map = model_map.fit_map(source.log_likelihoods, clip=0)
    r, guesses = tables.predictions(source, llm_map, seeds=2)
    assert list(r.index) == [*tables.VECTORS, *tables.RIVALS] and list(r) == ["bent", "mean"]
    assert r.loc["mean, quadratic", "bent"] > 0.99 > 0.7 > r.loc["mean, straight line", "bent"]
    assert r.loc["vector, centred", "mean"] > 0.95 and abs(r.loc["size, quadratic", "mean"]) < 0.7
    rows = tables.gains(guesses, source.scores, source.models.family, n_resamples=50)
    rows = rows.set_index(["score", "rival"])
    assert rows.loc[("mean", "mean, quadratic"), "low"] > 0
    assert rows.loc[("bent", "mean, quadratic"), "high"] < 0


def test_the_mean_gain_is_that_of_the_single_scores(source):
    llm_map, rival = model_map.fit_map(source.log_likelihoods, clip=0), "mean, quadratic"
    _, guesses = tables.predictions(source, llm_map, seeds=1)
    how = {"families": source.models.family, "n_resamples": 50}
    whole = tables.mean_gains(guesses, source.scores, rival=rival, **how)
    single = tables.gains(guesses, source.scores, **how).query("rival == @rival")
    assert whole.gain["r"] == pytest.approx(single.gain.mean())
    ranks = [
        guesses[name].corrwith(source.scores, method="spearman").mean()
        for name in ("vector, centred", rival)
    ]
    assert whole.gain["rank"] == pytest.approx(ranks[0] - ranks[1])
    assert (whole.low <= whole.gain).all() and (whole.gain <= whole.high).all()


def test_errors_with_each_family_left_out(source):
    llm_map = model_map.fit_map(source.log_likelihoods, clip=0)
    errors = tables.held_out_errors(source, llm_map)
    assert list(errors) == ["vector, centred", "mean, quadratic"]
    assert errors["vector, centred"].std() < errors["mean, quadratic"].std() / 2


def test_a_gap_at_equal_score_is_in_standard_deviations():
    rng = np.random.default_rng(1)
    score = pd.Series(rng.uniform(0, 10, 200))
    mark = pd.Series(np.arange(200) % 4 == 0)
    mean = score**2 + rng.normal(size=200) + 3 * mark
    families = pd.Series(np.arange(200) % 20)
    gap, low, high = tables.gap_at_equal_score(score, mean, mark, families, 2, n_resamples=100)
    assert low < gap < high and gap == pytest.approx(3, abs=0.6)
