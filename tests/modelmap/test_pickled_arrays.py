import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.modelmap import pickled_arrays


def written(tmp_path, value, protocol=4):
    path = tmp_path / "data.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_it_reads_what_pickle_reads(tmp_path, protocol):
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(3)
    value = {
        "vectors": {"a": shared, "b": shared, "f": np.asfortranarray(rng.standard_normal((2, 3)))},
        "numbers": [1, -2, 10**30, 1.5, float("inf"), True, False, None, np.float64(2.5)],
        "texts": ("", "é\u2028", "x" * 300),
        "others": [np.arange(4, dtype="int16"), np.array([1, 2], ">f4"), np.zeros((0, 5), "u1")],
        "whole": np.array([True, False]),
        7: (),
    }
    found = pickled_arrays.read(written(tmp_path, value, protocol))
    assert found["numbers"] == value["numbers"] and found["texts"] == value["texts"]
    assert found[7] == () and list(found) == list(value)
    for name in value["vectors"]:
        np.testing.assert_array_equal(found["vectors"][name], value["vectors"][name])
    for one, other in zip(found["others"], value["others"], strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype and one.shape == other.shape
    assert found["whole"].tolist() == [True, False]


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_files_of_both_numpys_are_read(tmp_path, module):
    raw = pickle.dumps(np.arange(3.0), 2)
    new = raw.replace(b"numpy._core.multiarray", f"{module}.multiarray".encode())
    assert pickled_arrays.read(written(tmp_path, new)).tolist() == [0, 1, 2]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=15,
)


@given(plain, st.integers(0, 5))
def test_plain_values_come_back(tmp_path_factory, value, protocol):
    path = written(tmp_path_factory.mktemp("p"), value, protocol)
    assert pickled_arrays.read(path) == value


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def fail(*_):
    raise AssertionError("the file was executed")


@pytest.mark.parametrize(
    "value",
    [
        Evil(fail, ()),
        Evil(eval, ("1 + 1",)),
        Evil(__import__, ("this_module_is_not_there",)),
        {"a": [Evil(print, ("x",))]},
        sys.getsizeof,
        np.array([1, "a"], dtype=object),
        np.array(["text"]),
        np.zeros(2, [("x", "f8")]),
        slice(1, 2),
        {1, 2},
        complex(1, 2),
    ],
)
def test_all_else_is_refused_and_nothing_is_run(tmp_path, value, capsys):
    before = set(sys.modules)
    with pytest.raises(ValueError, match="cannot be read as plain arrays: it .*byte"):
        pickled_arrays.read(written(tmp_path, value, 2))
    assert capsys.readouterr().out == "" and set(sys.modules) == before


def test_old_instructions_that_call_are_refused(tmp_path):
    path = written(tmp_path, b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(ValueError, match="cannot be read"):
        pickled_arrays.read(path)
    with pytest.raises(ValueError, match="instruction INST"):
        pickled_arrays.read(written(tmp_path, b"(ios\nsystem\n."))


def test_a_name_by_itself_is_no_value(tmp_path):
    with pytest.raises(ValueError, match="holds 'numpy dtype' as a value"):
        pickled_arrays.read(written(tmp_path, b"cnumpy\ndtype\n."))


def test_a_list_in_itself_is_refused_and_shared_lists_stay_small(tmp_path):
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match="holds itself"):
        pickled_arrays.read(written(tmp_path, endless))
    # A billion elements if every list were copied.
    level = ["ha"] * 10
    for _ in range(8):
        level = [level] * 10
    found = pickled_arrays.read(written(tmp_path, level))
    assert found[0] is found[9]


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.999])
def test_a_damaged_file_is_an_error(tmp_path, keep):
    raw = pickle.dumps({f"m{i}": np.random.default_rng(i).random(50) for i in range(20)}, 4)
    with pytest.raises(ValueError, match="data.pkl"):
        pickled_arrays.read(written(tmp_path, raw[: int(keep * len(raw))]))
    with pytest.raises(FileNotFoundError):
        pickled_arrays.read(tmp_path / "none.pkl")


def test_a_file_of_the_published_shape(tmp_path):
    rng = np.random.default_rng(0)
    vectors = {f"maker/model-{i}": -600 + 100 * rng.standard_normal(10_000) for i in range(1018)}
    found = pickled_arrays.read(written(tmp_path, vectors))
    assert list(found) == list(vectors)
    assert all(np.array_equal(found[name], vectors[name]) for name in vectors)
