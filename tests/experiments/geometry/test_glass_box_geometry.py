"""Geometry of the glass box: rows, joins, and what width does."""

import numpy as np
import pandas as pd
import pytest

from experiments.geometry import glass_box_geometry as glass
from experiments.synthesis import glass_box_runs
from helpers import data

LAST = {kind: max(steps) for kind, steps in glass_box_runs.KEEP.items()}
NAME = "bert-16x2-facts-0-step8192"


@pytest.fixture
def suite():
    """Made-up models whose scores follow RankMe within a width, and patchiness not at all."""
    rng, rows = np.random.default_rng(0), {}
    for kind, last in LAST.items():
        for width in (16, 32, 64, 128):
            for mix in ("a", "b", "c"):
                for seed in (0, 1):
                    for step in [last]:
                        health = rng.standard_normal()
                        row = {"kind": kind, "width": width, "mix": mix, "seed": seed}
                        row |= {"step": step, "fine_tuned": health}
                        for name in glass.MEASURES:
                            row[name] = width + rng.standard_normal()
                            row[f"null_{name}"] = width
                            row[f"again_{name}"] = row[name]
                        row["rankme"] = row["again_rankme"] = width + health
                        for tool, cells in glass.CELLS.items():
                            for n_cells in cells:
                                row[f"{tool}_{n_cells}"] = health
                        rows[f"{kind}-{width}-{mix}-{seed}-{step}"] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def split(suite):
    extra = [c for c in suite if c.startswith(("again_", "null_", "lsq_", "pq_", "kmeans_"))]
    return glass.joined(suite.drop(columns=extra), suite[extra])


def test_models_are_joined_by_name_and_runs_hold_their_checkpoints(suite):
    both = split(suite[:-1])
    assert len(both) == 47
    assert (both["free_rankme"] == both["rankme"] - both["null_rankme"]).all()


def test_the_null_takes_width_away_and_leaves_what_the_measure_knows(suite, monkeypatch):
    asked = {name: glass.MEASURES[name] for name in ("lloyd_index", "rankme")}
    monkeypatch.setattr(glass, "MEASURES", asked)
    found = glass.width_table(split(suite), "fine_tuned", n_resamples=40)
    table = found.set_index(["kind", "measure", "form"])
    for kind in LAST:
        plain = table.loc[(kind, "RankMe", "plain")]
        free = table.loc[(kind, "RankMe", "minus its null")]
        assert plain["with width"] > 0.9 > 0.4 > abs(free["with width"])
        assert free["r"] > 0.6 and free["low"] > 0.2
        useless = table.loc[(kind, "patchiness (AQ)", "given width")]
        assert useless["low"] < 0 < useless["high"]
        assert plain["reliability"] == pytest.approx(1)


def test_cells_are_compared_at_the_end_of_training(suite):
    cells = glass.cell_table(split(suite), "fine_tuned")
    assert len(cells) == 2 * 10 and (cells["n"] == 24).all()
    others = cells.query("quantizer != 'lsq' or cells != 32")
    assert (others["given_width"] > 0.8).all()


def test_a_stored_row_is_what_its_model_gives():
    stored = pd.read_csv(glass.TABLE, index_col="model")
    steps = {kind: f"step{step}" for kind, step in LAST.items()}
    ends = [n for n in glass_box_runs.stored_names() if n.endswith(steps[n.split("-")[0]])]
    assert set(stored.index) == set(ends) and len(ends) == 48
    assert glass.live_gap([NAME], stored) < 0.05
    suite = pd.read_csv(data.PUBLISHED / "glass_box.csv", index_col="model")
    points = glass._cloud(NAME, glass.sentences())
    again = glass._measured(points)
    assert again == pytest.approx(suite.loc[NAME, list(again)].to_dict(), rel=0.05)
