"""Clouds of known shape."""

import numpy as np
import pytest

from experiments.geometry import known_shapes
from helpers.geometry.quantization import cell_counts, lloyd_index
from helpers.geometry.quantizers import quantize


def test_clouds_are_what_their_names_say():
    found = known_shapes._clouds(400, seed=1)
    assert len(found) == 8 and {c.shape for c in found.values()} == {(400, known_shapes.WIDTH)}
    plane = np.linalg.matrix_rank(found["Gaussian on a plane"])
    assert plane == 2
    half = found["half the points are one"]
    assert (half == half[0]).all(axis=1).sum() == 200
    norms = np.linalg.norm(found[known_shapes.TAILS], axis=1)
    assert norms.max() > 3 * np.median(norms)
    again = known_shapes._clouds(400, seed=1)
    assert all((found[name] == again[name]).all() for name in found)


def test_rows_hold_the_index_of_each_cloud():
    table = known_shapes.table(160, seed=0)
    assert len(table) == 24 and (table["lloyd"] > 0.5).all()
    row = table.query("cloud == 'isotropic Gaussian' and quantizer == 'PQ'").iloc[0]
    codes, error = quantize(known_shapes._clouds(160)["isotropic Gaussian"], quantizer="pq", bits=5)
    assert row["lloyd"] == lloyd_index(cell_counts(codes, 32))
    assert row["error"] == error
    ratios = known_shapes.heavy_tail_ratios(160, 2)
    pair = [table.query(f"cloud == '{n}' and quantizer == 'PQ'")["lloyd"].item()
            for n in (known_shapes.TAILS, known_shapes.EQUAL)]  # fmt: skip
    assert ratios.loc[0, "PQ"] == pytest.approx(pair[0] / pair[1])
