"""The gap between two scorers against the distances of the map itself."""

import numpy as np
import pytest

from helpers import conformance, modelmap

RNG = np.random.default_rng(0)
ROWS = RNG.normal(-300, 80, (6, 40))
TOKENS = RNG.integers(50, 200, 40)


@pytest.mark.parametrize("clip", [0, 0.1])
def test_the_distance_is_that_of_the_map_on_which_both_are_placed(clip):
    made = modelmap.fit_map(ROWS, list("abcdef"), clip=clip)
    other = ROWS[2] + RNG.normal(1, 2, 40)
    found = conformance.compare(ROWS[2], other, TOKENS, 8.0, threshold=made.threshold)
    expected = made.place(other).distances[0, 2]
    assert found.squared == pytest.approx(expected) and found.share == pytest.approx(expected / 8)


def test_one_text_that_is_off_is_named_and_a_shift_of_all_moves_no_point():
    other = ROWS[0].copy()
    other[7] -= 3
    found = conformance.compare(ROWS[0], other, TOKENS, 1.0)
    assert (found.worst, found.median) == (7, 0)
    assert found.largest == pytest.approx(3)
    assert found.per_token == pytest.approx(3 / TOKENS.sum())
    assert found.squared == pytest.approx(9 * (1 / 40 - 1 / 40**2))
    shifted = conformance.compare(ROWS[0], ROWS[0] + 2, TOKENS, 1.0)
    assert shifted.median == pytest.approx(2) and shifted.squared == pytest.approx(0, abs=1e-9)


def test_it_refuses():
    compare = conformance.compare
    with pytest.raises(ValueError, match="other \\(39,\\)"):
        compare(ROWS[0], ROWS[1][:39], TOKENS, 1.0)
    with pytest.raises(ValueError, match=r"other\[3\] is nan"):
        compare(ROWS[0], np.where(np.arange(40) == 3, np.nan, ROWS[1]), TOKENS, 1.0)
    with pytest.raises(ValueError, match="n_tokens must hold 40"):
        compare(ROWS[0], ROWS[1], TOKENS[:3], 1.0)
    with pytest.raises(ValueError, match="seed_distance"):
        compare(ROWS[0], ROWS[1], TOKENS, 0)
