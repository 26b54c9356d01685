import argparse

import pytest

from experiments import command
from experiments.geometry import noise_sweep
from experiments.retrieval import small_world_runs
from experiments.synthesis import glass_box_runs


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_the_parts_hold_every_item_once(k):
    items = list(range(7))
    found = [items[command.part(f"{i}/{k}")] for i in range(1, k + 1)]
    assert sorted(sum(found, [])) == items
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "-1/2", "1/0", "1", "1/2/3", "a/b", "", "1.0/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="give i/k with i from 1 to k"):
        command.part(text)


@pytest.mark.parametrize("module", [noise_sweep, glass_box_runs, small_world_runs])
def test_every_command_with_parts_refuses_part_0(module, tmp_path, capsys):
    words = [] if module is glass_box_runs else [str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        module.main([*words, "--part", "0/2"])
    assert "part is '0/2'" in capsys.readouterr().err


def test_files_are_written_one_after_the_other_and_a_status_is_handed_on(tmp_path, capsys):
    @command.command("some", command.to_folder("folder"), command.option("--fail", type=int))
    def main(given):
        """Do something."""
        if given.fail:
            return given.fail

        def written():
            yield given.folder / "a.csv", "a\n"
            raise KeyboardInterrupt

        return written()

    assert main([str(tmp_path), "--fail", "2"]) == 2 and not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        main([str(tmp_path)])
    assert (tmp_path / "a.csv").read_text() == "a\n"
    assert capsys.readouterr().out == f"{tmp_path / 'a.csv'}\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "python -m experiments some" in said and "Do something." in said


def test_what_is_kept_is_made_once_and_again_when_it_is_damaged(tmp_path, caplog):
    caplog.set_level("INFO", "experiments")
    path, made = tmp_path / f"{command.digest('x', {'b': 1, 'a': 2})}.json", []

    def make():
        made.append(len(made))
        return {"n": made[-1]}

    assert command.kept(path, None, "x") is None
    assert [command.kept(path, make, "x") for _ in range(2)] == [{"n": 0}] * 2
    path.write_text(path.read_text()[:-3])
    assert command.kept(path, make, "x") == {"n": 1} and len(caplog.messages) == 2
    assert path.stem == command.digest("x", {"a": 2, "b": 1}) != command.digest("x")
