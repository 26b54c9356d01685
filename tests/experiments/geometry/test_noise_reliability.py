"""Measurements of one model again: the tokens that are drawn, and what repeats of a measure."""

import numpy as np
import pandas as pd
import pytest

from experiments.geometry import noise_reliability, noise_sweep
from helpers import encoding, factbook, models

SMALL = {**noise_sweep.SIZES["small"], "n_sentences": 60, "bits": 3}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(noise_sweep.SIZES, "small", SMALL)


def test_draws_are_those_of_the_sweep(small, bert):
    tokenizer, model = models.load_model(bert)
    sentences = factbook.draw_sentences(60)
    found = noise_reliability.repeated_rows(tokenizer, model, size="small", draws=(0, 2))
    for row, draw in zip(found.to_dict("records"), (0, 2), strict=True):
        points = encoding.token_vectors(
            model, tokenizer, sentences, tokens_per_sentence=3, seed=draw
        )
        cloud = noise_sweep.cloud_row(points, 60, bits=3, seed=draw)
        assert {name: row[name] for name in cloud} == pytest.approx(cloud, nan_ok=True)
    assert found["draw"].tolist() == [0, 2]


def test_the_rows_drawn_are_tokens_of_each_sentence_in_order():
    rows = noise_reliability._drawn_rows([4, 3, 5], 3, seed=1)
    sentence = np.repeat([0, 1, 2], [4, 3, 5])[rows]
    assert sentence.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert len(set(rows)) == 9


def test_reliability_within_levels_is_that_of_logarithms():
    rng, rows, again = np.random.default_rng(0), [], []
    for level in (1.0, 2.0, 9.0):
        for _ in range(400):
            rows.append({"level": level, "x": level * np.exp(0.2 * rng.standard_normal())})
            again.append({"level": level, "x": level * np.exp(0.1 * rng.standard_normal())})
    sweep, repeats = pd.DataFrame(rows).assign(y=-1.0), pd.DataFrame(again).assign(y=1.0)
    found = noise_reliability.within_levels(sweep, repeats, ["x", "y"])
    assert list(found.index) == ["x"]
    assert found.loc["x", "low"] < 0.75 < found.loc["x", "high"]
    assert found.loc["x", "models"] == pytest.approx(0.2, rel=0.05)
    higher = noise_reliability.within_levels(sweep + 1, repeats + 1, ["x"], above=1.0)
    assert higher.loc["x"].tolist() == pytest.approx(found.loc["x"].tolist())
    assert noise_reliability.within_levels(sweep, repeats, ["x"], above=9.0).empty


def test_the_scales_are_those_of_the_index_and_of_its_excess():
    rng, names = np.random.default_rng(0), noise_reliability.QUANTIZERS
    values = 1 + np.exp(rng.standard_normal((2, 12, 3)))
    sweep, again = (pd.DataFrame(v, columns=names).assign(level=[1.0, 2.0] * 6) for v in values)
    sweep["km_lloyd_index"] -= 0.999
    found = noise_reliability.by_scale(sweep, again)
    for (scale, name), row in found.iterrows():
        above = float(scale.endswith("- 1"))
        known = noise_reliability.within_levels(sweep, again, [name], above=above)
        assert known.empty == row.isna().all() == (above == 1 and name == "km_lloyd_index")
        assert known.empty or row.tolist() == known.loc[name].tolist()
