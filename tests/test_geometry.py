"""Cell counts and patchiness against a naive loop, quantizers on known clouds, noise, tables."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from helpers import data, geometry

HAVE_RUNS = data.available("manifolds/")
MEASURES = list(geometry.MEASURES.values())


def naive(codes, n_cells):
    """Count cell by cell; return counts, Lloyd's index and the released value in plain Python."""
    books = [[sum(int(c == k) for c in column) for k in range(n_cells)] for column in codes.T]
    flat = [count for row in books for count in row]
    centre = sum(flat) / len(flat)
    variance = sum((c - centre) ** 2 for c in flat) / len(flat)
    released = sum(flat) / n_cells
    return (
        books,
        1 + (variance / centre - 1) / centre,
        1 + (variance / released - 1) / released,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(1, 5), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_counts_indices_and_identity_agree_with_a_plain_loop(n, m, k, seed):
    rng = np.random.default_rng(seed)
    codes = rng.choice(k, (n, m), p=rng.dirichlet(np.ones(k)))
    books, lloyd, released = naive(codes, k)
    counts = geometry.cell_counts(codes, k)
    np.testing.assert_array_equal(counts, books)
    np.testing.assert_allclose(geometry.lloyd_index(counts), lloyd, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        geometry.patchiness_as_released(counts), released, rtol=1e-10, atol=1e-12
    )
    back = geometry.lloyd_from_released(released, points_per_cell=n / k, codebooks=m)
    np.testing.assert_allclose(back, lloyd, rtol=1e-9, atol=1e-9)


def test_indices_at_their_ends():
    everywhere, one = np.full((4, 16), 10), np.zeros((4, 16))
    one[:, 0] = 160
    assert geometry.lloyd_index(everywhere) == pytest.approx(1 - 1 / 10)
    assert geometry.lloyd_index(one) == pytest.approx(16 - 1 / 10)
    single = np.random.default_rng(0).poisson(9, 256)
    assert geometry.lloyd_index(single) == geometry.patchiness_as_released(single)


def test_poisson_counts_are_not_patchy_on_average():
    rng = np.random.default_rng(1)
    values = [geometry.lloyd_index(rng.poisson(20, (1, 256))) for _ in range(200)]
    assert np.mean(values) == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.empty((0, 4), int), "not empty"),
        (np.array([[0.0], [1.0]]), "pass integers"),
        (np.array([[0], [4]]), "n_cells is 4"),
        (np.array([[-1], [2]]), "from -1"),
    ],
)
def test_cell_counts_refuses(codes, message):
    with pytest.raises(ValueError, match=message):
        geometry.cell_counts(codes, 4)


@pytest.mark.parametrize("index", [geometry.lloyd_index, geometry.patchiness_as_released])
@pytest.mark.parametrize(
    "counts", [[[3, -1]], [[0, 0]], [[1, 2], [1, 3]], [[5]], np.ones((2, 2, 2))]
)
def test_indices_refuse(index, counts):
    with pytest.raises(ValueError, match="counts has"):
        index(counts)


def cloud(n=2000, d=16, seed=0):
    """Draw an isotropic Gaussian cloud."""
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize("quantizer", geometry.QUANTIZERS)
def test_quantizers_know_a_gaussian_from_a_collapsed_cloud(quantizer):
    even, patchy = cloud(), cloud()
    patchy[: len(patchy) // 2] = patchy[0]
    books = 1 if quantizer == "kmeans" else 4
    found = {}
    for name, points in {"even": even, "patchy": patchy}.items():
        codes, error = geometry.quantize(points, quantizer=quantizer, bits=4)
        assert codes.shape == (len(points), books) and codes.dtype == np.int64
        assert 0 < error < 1
        found[name] = geometry.lloyd_index(geometry.cell_counts(codes, 16))
    assert found["even"] < (1.6 if quantizer == "rq" else 1.15)
    assert found["patchy"] > 3


@pytest.mark.parametrize("quantizer", geometry.QUANTIZERS)
def test_quantize_repeats_and_ignores_scale(quantizer):
    points = cloud(600, 8)
    codes, error = geometry.quantize(points, quantizer=quantizer, bits=3, seed=5)
    again, same = geometry.quantize(points, quantizer=quantizer, bits=3, seed=5)
    np.testing.assert_array_equal(codes, again)
    assert error == same
    _, larger = geometry.quantize(4 * points, quantizer=quantizer, bits=3, seed=5)
    assert larger == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("quantizer", ["pq", "kmeans"])
def test_codes_restore_the_points_as_well_as_the_error_says(quantizer):
    points, books = cloud(800, 8).astype(float), 2 if quantizer == "pq" else 1
    codes, error = geometry.quantize(
        points, quantizer=quantizer, codebooks=books, bits=3, train_iters=100
    )
    # A converged k-means restores each slice by the mean of its cell.
    restored = np.empty_like(points)
    for book, columns in enumerate(np.array_split(np.arange(8), books)):
        for cell in range(8):
            inside = codes[:, book] == cell
            restored[np.ix_(inside, columns)] = points[np.ix_(inside, columns)].mean(axis=0)
    assert error == pytest.approx(((points - restored) ** 2).sum() / (points**2).sum(), rel=1e-3)


def test_more_iterations_and_more_cells_lower_the_error():
    points = cloud(1500, 12)
    coarse = geometry.quantize(points, bits=3)[1]
    fine = geometry.quantize(points, bits=5)[1]
    assert fine < coarse


def test_few_points_print_no_warning(capfd):
    geometry.quantize(cloud(40, 8), quantizer="pq", bits=5)
    geometry.quantize(cloud(40, 8), quantizer="kmeans", bits=5)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (cloud(255), {}, "255 rows for 256 cells"),
        (cloud(40, 7), {"quantizer": "pq", "bits": 3}, "do not divide"),
        (cloud(40), {"quantizer": "vq", "bits": 3}, "pass one of"),
        (np.full((40, 4), np.nan), {"bits": 3}, "NaN"),
        (np.empty((0, 4)), {"bits": 3}, "not empty"),
    ],
)
def test_quantize_refuses(points, options, message):
    with pytest.raises(ValueError, match=message):
        geometry.quantize(points, **options)
