import re

import pandas as pd
import pytest

from helpers import each_model, storage


def half(name):
    if name == "none":
        raise OverflowError
    if name == "odd":
        raise ValueError("three is odd,\n  \x1b[1mas is one")
    if name == "disk":
        raise storage.CannotWrite("no room")
    return len(name) // 2


def test_each_model_is_a_row_and_none_stops_the_others():
    found, report = each_model.read(["none", "four", "odd", "sixsix"], half)
    assert found == {"four": 2, "sixsix": 3}
    assert list(report.index) == ["none", "four", "odd", "sixsix"]
    assert list(report.status) == ["refused", "read", "refused", "read"]
    assert list(report.why) == ["OverflowError", "", r"three is odd, \x1b[1mas is one", ""]
    found, report = each_model.read([], half)
    assert found == {} and report.empty and list(report) == ["status", "why"]


def test_none_at_all_is_an_error_with_the_reasons():
    with pytest.raises(ValueError, match=re.escape("no model could be read: OverflowError; three")):
        each_model.read(["none", "odd"], half)
    each_model.check(pd.DataFrame({"error": ["", "x"]}))
    with pytest.raises(ValueError, match="no model could be read: x; y"):
        each_model.check(pd.DataFrame({"model": ["", ""], "error": ["x", "y"]}))


def test_a_full_disk_stops_all():
    with pytest.raises(storage.CannotWrite):
        each_model.read(["four", "disk"], half)
