import argparse

import pytest

from experiments import run_parts
from experiments.geometry import noise_sweep
from experiments.retrieval import small_world_runs
from experiments.synthesis import glass_box_runs


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_the_parts_hold_every_item_once(k):
    items = list(range(7))
    found = [items[run_parts.part(f"{i}/{k}")] for i in range(1, k + 1)]
    assert sorted(sum(found, [])) == items
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "-1/2", "1/0", "1", "1/2/3", "a/b", "", "1.0/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="give i/k with i from 1 to k"):
        run_parts.part(text)


@pytest.mark.parametrize("module", [noise_sweep, glass_box_runs, small_world_runs])
def test_every_command_with_parts_refuses_part_0(module, tmp_path, capsys):
    words = [] if module is glass_box_runs else [str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        module.main([*words, "--part", "0/2"])
    assert "part is '0/2'" in capsys.readouterr().err
