import numpy as np

from experiments.posterior import settings
from helpers.posterior import average_log_posterior

LABELS = np.repeat([0, 1, 2], 60)
KNOWS = np.random.default_rng(0).standard_normal((180, 6)) + 2 * LABELS[:, None]


def test_noise_stands_below_a_model_that_knows_and_level_with_other_noise():
    assert settings.noise_lead(KNOWS, LABELS, block=3) < -0.5
    silent = np.random.default_rng(9).standard_normal((180, 6))
    assert abs(settings.noise_lead(silent, LABELS, block=3)) < 0.1
    first, second = (settings.noise_lead(KNOWS, LABELS, draw=d, block=3) for d in (0, 1))
    assert first != second and first == settings.noise_lead(KNOWS, LABELS, draw=0, block=3)


def test_wrong_labels_cost_skill_and_none_cost_nothing():
    table = settings.flipped_skills({"x": KNOWS}, LABELS, [0.0, 0.5], 2, block=6)
    skill = table[table.form == "calibrated"].groupby("share").skill.mean()
    direct = average_log_posterior(KNOWS, LABELS, head_dim=6, seed=0).skill
    clean = table[(table.form == "calibrated") & (table.share == 0) & (table.draw == 0)]
    assert clean.skill.item() == direct and skill[0.5] < 0.5 * skill[0.0]


def test_in_sample_noise_gains_with_the_size_of_the_blocks():
    noise = {"noise": np.random.default_rng(1).standard_normal((180, 16))}
    table = settings.block_skills(noise, LABELS, [2, 8, 16])
    assert (table.loc[("published", "noise")].diff().dropna() > 0).all()
    assert table.loc[("calibrated", "noise")].abs().max() < 0.05


def test_subsets_scatter_more_than_blocks():
    table = settings.block_scatter(["subsets", "blocks"], [1], 6, n=500, d=32, block=8)
    spread = table.groupby("kind").score.std()
    assert len(table) == 12 and spread["subsets"] > spread["blocks"]
