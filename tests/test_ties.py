"""Choices between equals: always the first, whatever the order of sums."""

import ast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import ties
from helpers.data import ROOT
from helpers.modelmap import lineage, model_map, release
from helpers.posterior import trees


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=40)
@given(
    rows=st.lists(
        st.lists(st.sampled_from([0.0, -0.0, 0.1, 1e30, -3.0]), min_size=2, max_size=2),
        min_size=1,
        max_size=12,
    )
)
def test_equal_rows_agree_with_a_loop(dtype, rows):
    x = np.array(rows, dtype)
    first = [next(j for j in range(len(x)) if (x[j] == x[i]).all()) for i in range(len(x))]
    assert ties.equal_rows(x).tolist() == first
    # Any order in memory.
    assert ties.equal_rows(np.asfortranarray(x)).tolist() == first


def test_of_values_that_differ_by_rounding_the_first_is_taken():
    values = np.array([[1, 3 - 1e-15, 3], [0.3, 0.1 + 0.2, 0.3], [-np.inf, 2, 2], [-2, -1, -1]])
    assert ties.first_largest(values).tolist() == [1, 0, 1, 1]
    assert ties.first_smallest(-values).tolist() == [1, 0, 1, 1]
    assert ties.first_largest(values, axis=0).tolist() == [0, 0, 0]
    assert ties.first_smallest([np.inf, 2.0, 2 - 1e-15]) == 1
    # A difference that is one counts.
    assert ties.first_largest([1, 1 + 1e-11]) == 1
    assert ties.first_largest([-np.inf, -np.inf]) == 0
    assert ties.first_largest([0, 0, 0]) == 0


def test_equal_models_have_no_distance_and_the_same_neighbours():
    rng = np.random.default_rng(0)
    L = rng.normal(-700, 150, (23, 997))
    L[[4, 11, 20]] = L[2]
    made = model_map.fit_map(L, range(23), clip=0)
    apart = made.distances()
    twins = [2, 4, 11, 20]
    assert (apart[np.ix_(twins, twins)] == 0).all()
    assert all((apart[twins] == apart[2]).ravel()) and all((apart[:, twins].T == apart[2]).ravel())
    assert made.nearest("11", 3).index.tolist() == ["2", "4", "20"]
    placed = made.place(L[[20, 5]]).distances
    assert (placed[0, twins] == 0).all() and len(set(placed[1, twins])) == 1


def test_of_twins_at_one_distance_the_first_is_the_nearest():
    rng = np.random.default_rng(0)
    L = rng.normal(-700, 150, (4, 997))
    L[3] = L[1]
    L[2] = L[1] + rng.normal(0, 1e-3, 997)
    apart = model_map.fit_map(L, range(4), clip=0).distances()
    # The twins 1 and 3, of two families, are as near to 2, a relative of 1; 0 has none.
    families = np.array(["c", "a", "a", "b"])
    assert release.same_family_rate(apart, families) == pytest.approx(1 / 2)
    turned = release.same_family_rate(apart[::-1, ::-1], families[::-1])
    assert turned == 0
    assert lineage.recovered(apart, families, n_shuffles=1).rate == pytest.approx(1 / 2)


def test_the_first_of_two_features_that_split_alike_is_taken():
    # Half and half: the gains of a feature and of its opposite sum other rows.
    rng = np.random.default_rng(1)
    for seed in range(20):
        side = rng.permutation(np.arange(200) % 2 == 0)
        X = np.random.default_rng(seed).standard_normal((200, 5)) + 2 * side[:, None]
        frame = pd.DataFrame({"no": ~side, "yes": side})
        assert trees.embedding_tree(X, frame, max_leaves=2).splits["feature"].tolist() == ["no"]
        turned = frame[["yes", "no"]]
        assert trees.embedding_tree(X, turned, max_leaves=2).splits["feature"].tolist() == ["yes"]


def unstable(code):
    """Return the sorts in a piece of code that leave the order of equals to the processor."""
    calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name not in ("argsort", "sort_values"):
            continue
        # Several columns are sorted by pandas in a stable way; drawn numbers have no equals.
        several = name == "sort_values" and call.args and isinstance(call.args[0], ast.List)
        said = {f"{k.arg}={ast.unparse(k.value)}" for k in call.keywords}
        stable = said & {"kind='stable'", "stable=True"}
        drawn = name == "argsort" and ast.unparse(call.func).startswith("rng.random(")
        if not (several or stable or drawn):
            yield ast.unparse(call)


def test_every_sort_of_rows_is_stable():
    assert list(unstable("np.argsort(x)\nx.sort_values('a')\nx.argsort(kind='quicksort')"))
    assert not list(unstable("x.argsort(kind='stable')\nx.sort_values(['a', 'b'])"))
    sources = sorted((ROOT / "helpers").rglob("*.py"))
    found = [f"{path.name}: {call}" for path in sources for call in unstable(path.read_text())]
    assert sources
    assert not found, "\n".join(found)
