import numpy as np
import pytest
from scipy.stats import mode

from helpers.posterior.dimensions import varied


def test_it_counts_the_rows_that_leave_the_most_common_value():
    rng = np.random.default_rng(0)
    X = np.where(rng.random((200, 30)) < np.linspace(0, 0.3, 30), rng.standard_normal((200, 30)), 0)
    oracle = (mode(X, axis=0).mode != X).mean(axis=0)
    for least in (0.01, 0.05, 0.2):
        assert (varied(X, least) == (oracle >= least)).all()


def test_scale_offset_and_the_order_of_rows_do_not_matter():
    rng = np.random.default_rng(1)
    X = rng.integers(0, 3, (100, 8)) * (rng.random((100, 8)) < 0.1)
    assert (varied(X) == varied(4.0 * X[::-1] - 2)).all()
    assert varied(rng.standard_normal((50, 3))).all() and not varied(np.ones((50, 3))).any()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="X"):
        varied("text")
