"""Measures of a quantized cloud against naive loops, the released steps, and known clouds."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import kl_div
from scipy.stats import ortho_group
from sklearn.decomposition import PCA
from sklearn.metrics import auc

from helpers.geometry import quantization, quantizers, spread

KEYS = ["lloyd_index", "patchiness_as_released", "count_variance", "count_kl"]
KEYS += ["error", "iqr", "skew", "empty_cells"]


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
    counts = quantization.cell_counts(codes, k)
    np.testing.assert_array_equal(counts, books)
    np.testing.assert_allclose(quantization.lloyd_index(counts), lloyd, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        quantization.patchiness_as_released(counts), released, rtol=1e-10, atol=1e-12
    )
    back = quantization.lloyd_from_released(released, points_per_cell=n / k, codebooks=m)
    np.testing.assert_allclose(back, lloyd, rtol=1e-9, atol=1e-9)


def test_indices_at_their_ends():
    everywhere, one = np.full((4, 16), 10), np.zeros((4, 16))
    one[:, 0] = 160
    assert quantization.lloyd_index(everywhere) == pytest.approx(1 - 1 / 10)
    assert quantization.lloyd_index(one) == pytest.approx(16 - 1 / 10)
    single = np.random.default_rng(0).poisson(9, 256)
    assert quantization.lloyd_index(single) == quantization.patchiness_as_released(single)


def released_counts(codes, n_cells, reference):
    """Follow the released script for the variance and the KL of the counts."""
    variances, divergences = [], []
    for column in codes.T:
        shares = np.histogram(column, bins=n_cells, range=(0, n_cells))[0] / len(column)
        variances.append(np.var(shares / (1 - shares) * (n_cells - 1)))
        divergences.append(sum(kl_div(shares, reference)))
    return np.mean(variances), np.mean(divergences)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 120), st.integers(1, 5), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_variance_and_kl_of_counts_follow_the_released_steps(n, m, k, seed):
    rng = np.random.default_rng(seed)
    codes = rng.choice(k, (n, m), p=rng.dirichlet(np.ones(k)))
    counts = quantization.cell_counts(codes, k)
    entropies = stats.entropy(counts, axis=1)
    assert quantization._count_kl(counts) == pytest.approx(
        np.mean(np.log(k) - entropies), abs=1e-12
    )
    if counts.max() == n:
        assert quantization._count_variance(counts) == np.inf
        return
    variance, divergence = released_counts(codes, k, np.full(k, 1 / k))
    assert quantization._count_variance(counts) == pytest.approx(variance, rel=1e-10, abs=1e-12)
    assert quantization._count_kl(counts) == pytest.approx(divergence, rel=1e-10, abs=1e-12)


def test_released_kl_hangs_on_its_random_sample():
    rng = np.random.default_rng(0)
    codes = rng.choice(16, (4000, 4), p=rng.dirichlet(np.full(16, 5.0)))
    found = []
    for _ in range(60):
        uniform = np.histogram(rng.uniform(0, 16, 4000), bins=16)[0] / 4000
        found.append(released_counts(codes, 16, uniform)[1])
    exact = quantization._count_kl(quantization.cell_counts(codes, 16))
    assert np.std(found) > 1e-3
    assert np.mean(found) == pytest.approx(exact, abs=4 * np.std(found) / np.sqrt(60) + 0.002)


def test_variance_and_kl_at_their_ends():
    even, one = np.full((3, 16), 5), np.eye(16)[:3] * 80
    assert quantization._count_variance(even) == 0 and quantization._count_kl(even) == 0
    assert quantization._count_variance(one) == np.inf
    assert quantization._count_kl(one) == pytest.approx(np.log(16))
    half = np.zeros(16)
    half[[2, 7]] = 40
    assert quantization._count_kl(half) == pytest.approx(np.log(8))
    assert quantization._count_variance(half) == pytest.approx(15**2 * (2 / 16) * (14 / 16))


def test_poisson_counts_are_not_patchy_on_average():
    rng = np.random.default_rng(1)
    values = [quantization.lloyd_index(rng.poisson(20, (1, 256))) for _ in range(200)]
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
        quantization.cell_counts(codes, 4)


@pytest.mark.parametrize(
    "index",
    [
        quantization.lloyd_index,
        quantization.patchiness_as_released,
        quantization._count_variance,
        quantization._count_kl,
    ],
)
@pytest.mark.parametrize(
    "counts", [[[3, -1]], [[0, 0]], [[1, 2], [1, 3]], [[5]], np.ones((2, 2, 2))]
)
def test_indices_refuse(index, counts):
    with pytest.raises(ValueError, match="counts has"):
        index(counts)


def cloud(n=2000, d=16, seed=0):
    """Draw an isotropic Gaussian cloud."""
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize("quantizer", quantizers.QUANTIZERS)
def test_quantizers_know_a_gaussian_from_a_collapsed_cloud(quantizer):
    even, patchy = cloud(), cloud()
    patchy[: len(patchy) // 2] = patchy[0]
    books = 1 if quantizer == "kmeans" else 4
    found = {}
    for name, points in {"even": even, "patchy": patchy}.items():
        codes, error = quantizers.quantize(points, quantizer=quantizer, bits=4)
        assert codes.shape == (len(points), books) and codes.dtype == np.int64
        assert 0 < error < 1
        found[name] = quantization.lloyd_index(quantization.cell_counts(codes, 16))
    assert found["even"] < (1.6 if quantizer == "rq" else 1.15)
    assert found["patchy"] > 3


@pytest.mark.parametrize("quantizer", quantizers.QUANTIZERS)
def test_quantize_repeats_and_ignores_scale(quantizer):
    points = cloud(600, 8)
    codes, error = quantizers.quantize(points, quantizer=quantizer, bits=3, seed=5)
    again, same = quantizers.quantize(points, quantizer=quantizer, bits=3, seed=5)
    np.testing.assert_array_equal(codes, again)
    assert error == same
    _, larger = quantizers.quantize(4 * points, quantizer=quantizer, bits=3, seed=5)
    assert larger == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("quantizer", ["pq", "kmeans"])
def test_codes_restore_the_points_as_well_as_the_error_says(quantizer):
    points, books = cloud(800, 8).astype(float), 2 if quantizer == "pq" else 1
    codes, error = quantizers.quantize(
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
    coarse = quantizers.quantize(points, bits=3)[1]
    fine = quantizers.quantize(points, bits=5)[1]
    assert fine < coarse


@pytest.mark.parametrize("quantizer", quantizers.QUANTIZERS)
def test_few_or_equal_points_print_no_warning(quantizer, capfd):
    few, half = cloud(40, 8), cloud(40, 8)
    half[:20] = half[0]
    for points in (few, half, np.ones_like(few), np.zeros_like(few)):
        quantizers.quantize(points, quantizer=quantizer, bits=3 if quantizer == "rq" else 5)
    printed = capfd.readouterr()
    assert printed.err == "" and printed.out == ""


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (cloud(255), {}, "255 rows for 256 cells"),
        (cloud(40, 7), {"quantizer": "pq", "bits": 3}, "do not divide"),
        (cloud(40), {"quantizer": "vq", "bits": 3}, "quantizer is 'vq'; choose one of lsq, pq"),
        (np.full((40, 4), np.nan), {"bits": 3}, "points has NaN or infinite values in 40 rows"),
        (np.full((40, 4), 1e39), {"bits": 3}, "the range of float32; rescale"),
        # Here FAISS ends the process, or gives NaN, or loses the squares.
        (cloud(40) * np.float32(1e20), {"bits": 3}, "points has values above 1e15.*; rescale"),
        (cloud(40) * np.float32(1e25), {"bits": 3}, "points has values above 1e15.*; rescale"),
        (cloud(40) * np.float32(1e-25), {"bits": 3}, "values below 1e-15 only.*; rescale"),
        (np.empty((0, 4)), {"bits": 3}, "points has shape .0, 4."),
        (np.ones(40), {"bits": 3}, "points has 1 dimensions"),
        (cloud(40), {"bits": 0}, "bits is 0"),
        (cloud(40), {"bits": 3, "codebooks": 0}, "codebooks is 0"),
        (cloud(40), {"bits": 3, "train_iters": 0}, "train_iters is 0"),
        (cloud(40), {"bits": 3, "seed": -1}, "seed is -1"),
    ],
)
def test_quantizers_refuse(points, options, message):
    for function in (
        quantizers.quantize,
        quantizers.quantize_and_restore,
        quantization.measure_cloud,
    ):
        with pytest.raises(ValueError, match=message):
            function(points, **options)


def released_point_eee(points, codes):
    """Follow the released script, without its rounding to four digits."""
    found = []
    for column in codes.T:
        for cell in set(column.tolist()):
            inside = np.unique(
                [p for p, c in zip(points, column, strict=True) if c == cell], axis=0
            )
            if len(inside) > 1:
                pca = PCA().fit(inside)
                d = pca.n_components_
                running = np.cumsum(pca.explained_variance_)
                line = np.cumsum([running[-1] / d] * d)
                found.append(auc(range(d), running - line) / (running[-1] * d / 2))
    return np.mean(found) if found else np.nan


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 90), st.integers(2, 12), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_enrichment_of_cells_follows_the_released_steps(n, d, k, seed):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d)).astype(np.float32)
    points[rng.integers(n, size=n // 3)] = points[0]
    codes = rng.choice(k, (n, 3), p=rng.dirichlet(np.ones(k)))
    wide = points.astype(np.float64)
    assert quantization.cell_enrichment(points, codes) == pytest.approx(
        released_point_eee(wide, codes), abs=2e-6, nan_ok=True
    )


@pytest.mark.parametrize(("scale", "shift"), [(1e-30, 0), (1e30, 0), (1e-3, 1), (1, 1000)])
def test_enrichment_of_cells_keeps_its_digits(scale, shift):
    codes = np.random.default_rng(1).integers(4, size=(200, 2))
    points = (cloud(200, 60).astype(float) * scale + shift).astype(np.float32)
    expected = released_point_eee(points.astype(np.float64) / scale, codes)
    assert quantization.cell_enrichment(points, codes) == pytest.approx(expected, rel=1e-5)


def test_enrichment_of_cells_counts_equal_points_once():
    points, codes = cloud(60, 5), np.repeat([0, 1, 2], 20)
    usual = quantization.cell_enrichment(points, codes)
    copies = np.concatenate([points, points[::2], points[:1]])
    again = np.concatenate([codes, codes[::2], codes[:1]])
    assert quantization.cell_enrichment(copies, again) == pytest.approx(usual, rel=1e-6)
    order = np.random.default_rng(0).permutation(len(copies))
    shuffled = quantization.cell_enrichment(copies[order], again[order])
    assert shuffled == pytest.approx(usual, rel=1e-6)
    # 0 and -0 are equal, and the bits of (1, 2) and (2, 1) have one sum.
    zeros = np.array([[0.0, 1.0], [-0.0, 1.0]])
    assert np.isnan(quantization.cell_enrichment(zeros, [0, 0]))
    assert quantization.cell_enrichment([[1.0, 2.0], [2.0, 1.0]], [0, 0]) == pytest.approx(0.25)
    assert np.isnan(quantization.cell_enrichment(points[:3], [0, 1, 2]))
    # A point that is in two cells counts in both.
    both = quantization.cell_enrichment(points[[0, 1, 0, 2]], [0, 0, 1, 1])
    assert both == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize(
    ("points", "codes", "message"),
    [
        (np.eye(3), [0.0, 1.0, 1.0], "pass integers"),
        (np.eye(3), [0, -1, 1], "from -1"),
        (np.full((3, 2), np.inf), [0, 1, 1], "points has NaN"),
    ],
)
def test_enrichment_of_cells_refuses(points, codes, message):
    with pytest.raises(ValueError, match=message):
        quantization.cell_enrichment(points, codes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantized_measures_agree_with_plain_formulas(dtype):
    points = (cloud(700, 12) + 0.5).astype(dtype)
    codes, restored = quantizers.quantize_and_restore(points, quantizer="pq", bits=5)
    measures = quantization.quantized_measures(points, codes, restored, n_cells=32)
    assert list(measures) == KEYS
    assert all(type(value) is float for value in measures.values())
    residuals = points.astype(float) - restored
    norms = np.linalg.norm(residuals, axis=1)
    total = np.square(points.astype(float)).sum()
    assert measures["error"] == pytest.approx(np.square(residuals).sum() / total, rel=1e-12)
    assert measures["error"] == quantizers.quantize(points, quantizer="pq", bits=5)[1]
    assert measures["skew"] == pytest.approx(stats.skew(norms), rel=1e-9)
    assert measures["iqr"] == pytest.approx(stats.iqr(norms / norms.max()), rel=1e-12)
    empty = sum(cell not in column for column in codes.T for cell in range(32))
    assert measures["empty_cells"] == empty / 128
    _, lloyd, released = naive(codes, 32)
    assert measures["lloyd_index"] == pytest.approx(lloyd)
    assert measures["patchiness_as_released"] == pytest.approx(released)
    counts = quantization.cell_counts(codes, 32)
    assert measures["count_variance"] == quantization._count_variance(counts)
    assert measures["count_kl"] == quantization._count_kl(counts)
    more = quantization.quantized_measures(points, codes, restored, n_cells=32, per_cell=True)
    enrichment = more.pop("point_eee")
    assert more == measures and enrichment == quantization.cell_enrichment(points, codes)
    order = np.random.default_rng(0).permutation(700)
    shuffled = quantization.quantized_measures(
        points[order], codes[order], restored[order], n_cells=32, per_cell=True
    )
    assert shuffled == pytest.approx(measures | {"point_eee": enrichment}, rel=1e-6)


def test_residuals_that_are_all_alike_have_no_skew():
    points, codes = np.ones((50, 3)), np.zeros((50, 1), int)
    exact = quantization.quantized_measures(points, codes, points, n_cells=2)
    assert np.isnan(exact["skew"]) and exact["iqr"] == 0 and exact["error"] == 0
    alike = quantization.quantized_measures(points, codes, points * 0.9, n_cells=2)
    assert np.isnan(alike["skew"]) and alike["iqr"] == 0
    assert alike["error"] == pytest.approx(0.01)
    zeros = quantization.quantized_measures(points * 0, codes, points * 0, n_cells=2)
    assert zeros["error"] == 0 and zeros["lloyd_index"] == pytest.approx(2 - 1 / 25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"restored": np.full((10, 2), np.nan)}, "restored has NaN"),
        ({"codes": np.full((10, 4), 4)}, "n_cells is 4"),
        ({"points": np.full((10, 2), np.inf)}, "points has NaN"),
    ],
)
def test_quantized_measures_refuse(change, message):
    good = {"points": np.ones((10, 2)), "codes": np.zeros((10, 4), int)}
    with pytest.raises(ValueError, match=message):
        quantization.quantized_measures(
            **(good | {"restored": np.ones((10, 2))} | change), n_cells=4
        )


@pytest.mark.parametrize("quantizer", quantizers.QUANTIZERS)
def test_a_measured_cloud_joins_its_parts(quantizer):
    points = cloud(500, 8) + 1
    options = {"quantizer": quantizer, "bits": 3, "train_iters": 10}
    measures = quantization.measure_cloud(points, seed=2, **options)
    assert list(measures) == KEYS + list(spread.MEASURES)
    assert all(type(value) is float and np.isfinite(value) for value in measures.values())
    codes, restored = quantizers.quantize_and_restore(points, seed=2, **options)
    parts = quantization.quantized_measures(points, codes, restored, n_cells=8, per_cell=True)
    parts |= spread.spread_measures(points, seed=2)
    assert quantization.measure_cloud(points, seed=2, per_cell=True, **options) == parts
    assert list(parts) == [*KEYS, "point_eee", *spread.MEASURES]
    assert {name: parts[name] for name in measures} == measures
    books = 1 if quantizer == "kmeans" else 4
    back = quantization.lloyd_from_released(
        measures["patchiness_as_released"], points_per_cell=500 / 8, codebooks=books
    )
    assert measures["lloyd_index"] == pytest.approx(float(back), rel=1e-12)
    assert quantization.measure_cloud(points, seed=3, **options)["error"] != measures["error"]


@pytest.mark.parametrize("quantizer", quantizers.QUANTIZERS)
def test_equal_points_are_measured_but_for_their_spread(quantizer, recwarn):
    points = np.repeat(cloud(1, 16), 320, axis=0)
    options = {"quantizer": quantizer, "bits": 3 if quantizer == "rq" else 5, "per_cell": True}
    measures = quantization.measure_cloud(points, **options)
    assert all(np.isnan(measures[name]) for name in spread.MEASURES)
    assert np.isnan(measures["point_eee"]) and measures["error"] < 1e-3
    cells = 2 ** options["bits"]
    assert measures["lloyd_index"] == pytest.approx(cells - cells / 320)
    assert measures["empty_cells"] == 1 - 1 / cells
    assert measures["count_variance"] == np.inf
    zeros = quantization.measure_cloud(points * 0, **options)
    assert zeros["error"] == 0 and np.isnan(zeros["mean_cosine"])
    assert not recwarn.list


@pytest.mark.parametrize("quantizer", quantizers.QUANTIZERS)
def test_equal_points_share_their_cells(quantizer):
    points, order = cloud(300, 8), np.random.default_rng(0).permutation(900)
    points = (np.concatenate([points, points, points]) + 10)[order]
    codes, restored = quantizers.quantize_and_restore(points, quantizer=quantizer, bits=3)
    sources = order % 300
    for other in range(300):
        assert len(np.unique(codes[sources == other], axis=0)) == 1
        assert len(np.unique(restored[sources == other], axis=0)) == 1
    # Copies of all points change no share of a cell.
    once, back = np.unique(sources, return_index=True)
    counts = quantization.cell_counts(codes, 8)
    assert np.array_equal(counts, 3 * quantization.cell_counts(codes[back], 8)) and len(once) == 300


def test_a_cloud_with_no_measure_of_spread_is_refused_before_the_training():
    points = cloud(40, 4)
    points[3] = 0
    with pytest.raises(ValueError, match="points has rows of zeros"):
        quantization.measure_cloud(points, bits=3)


@pytest.mark.parametrize("quantizer", ["lsq", "kmeans"])
def test_scale_and_rotation_do_little(quantizer):
    points = cloud(1200, 8) * np.arange(1, 9) ** -0.5
    options = {"quantizer": quantizer, "bits": 4, "train_iters": 15}
    usual = quantization.measure_cloud(points, **options)
    turned = points @ ortho_group.rvs(8, random_state=1)
    for other in (points * 100, points * 0.01, turned):
        measures = quantization.measure_cloud(other, **options)
        # Rounding may send a point, and then the whole search, another way.
        assert measures["lloyd_index"] == pytest.approx(usual["lloyd_index"], abs=0.1)
        assert measures["error"] == pytest.approx(usual["error"], rel=0.1)
        assert measures["iqr"] == pytest.approx(usual["iqr"], rel=0.3)
        for name in spread.MEASURES:
            assert measures[name] == pytest.approx(usual[name], rel=1e-3, abs=1e-6), name


def clouds(n, d):
    """Return clouds of known shape, as float32."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((n, d))
    plane = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    half = normal.copy()
    half[: n // 2] = half[0]
    zipf = 1 / np.arange(1, 301)

    def clusters(k, weights=None):
        centres = rng.standard_normal((k, d))
        return centres[rng.choice(k, n, p=weights)] + 0.25 * rng.standard_normal((n, d))

    made = {
        "uniform cube": rng.uniform(-1, 1, (n, d)),
        "isotropic": normal,
        "power law": normal * np.arange(1, d + 1) ** -0.5,
        "rank two": rng.standard_normal((n, 2)) @ plane,
        "student": normal * np.sqrt(3 / rng.chisquare(3, (n, 1))),
        "20 clusters": clusters(20),
        "300 clusters": clusters(300),
        "zipf clusters": clusters(300, zipf / zipf.sum()),
        "half identical": half,
        "collapsed": 1 + 1e-3 * normal,
        "identical": np.repeat(normal[:1], n, axis=0),
    }
    return {name: points.astype(np.float32) for name, points in made.items()}


NARROW = clouds(2000, 32)
# Iterations on wide clouds that are compared with each other.
FEW = {"train_iters": 10}


@functools.cache
def wide():
    return clouds(8000, 128)


@functools.cache
def measured(name, quantizer):
    """Measure a wide cloud with 256 cells; a narrow one with 32 by the additive quantizer."""
    additive = quantizer == "lsq"
    points, cells = (NARROW[name], 32) if additive else (wide()[name], 256)
    options = {"bits": 5, "train_iters": 6} if additive else FEW
    codes, restored = quantizers.quantize_and_restore(points, quantizer=quantizer, **options)
    return quantization.quantized_measures(points, codes, restored, n_cells=cells)


@pytest.mark.parametrize("quantizer", ["lsq", "pq", "kmeans"])
def test_ranges_on_known_clouds(quantizer):
    for name in NARROW:
        measures = measured(name, quantizer)
        cells = 32 if quantizer == "lsq" else 256
        assert 1 - 32 / 2000 <= measures["lloyd_index"] < cells, name
        assert 0 <= measures["count_kl"] <= np.log(cells) + 1e-12 and measures["count_variance"] > 0
        assert 0 <= measures["error"] < 1 and 0 <= measures["iqr"] <= 1, name
        assert 0 <= measures["empty_cells"] <= 1 - 1 / cells


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("uniform cube", 1.03, 0.02),
        ("isotropic", 1.14, 0.03),
        ("power law", 1.13, 0.03),
        ("rank two", 1.08, 0.05),
        ("student", 3.12, 0.4),
        ("half identical", 64.2, 0.4),
        ("identical", 256 - 256 / 8000, 1e-9),
    ],
)
def test_product_quantizer_on_known_clouds(name, expected, tolerance):
    assert measured(name, "pq")["lloyd_index"] == pytest.approx(expected, abs=tolerance)


def test_half_of_the_points_in_one_place_fill_one_cell():
    # One share of 1/2, and n/2 points over the other cells: L is near (K - 1/n) / 4 + 1/4.
    for quantizer in ("pq", "kmeans"):
        measures = measured("half identical", quantizer)
        assert measures["lloyd_index"] == pytest.approx(256 / 4 + 0.25, abs=0.4)
        assert measures["count_variance"] == pytest.approx(255, rel=0.03)
        assert measures["iqr"] > 0.6


@pytest.mark.parametrize("quantizer", ["lsq", "pq", "kmeans"])
def test_what_raises_patchiness_and_what_lowers_the_error(quantizer):
    lloyd = {name: measured(name, quantizer)["lloyd_index"] for name in NARROW}
    usual = lloyd["isotropic"]
    # Heavy tails and ties do, without any cluster.
    assert lloyd["student"] > 1.4 * usual
    assert lloyd["identical"] > lloyd["half identical"] > 2 * lloyd["student"]
    assert lloyd["uniform cube"] < usual + 0.02
    # Flat k-means has too few cells for a Gaussian of 128 dimensions, and fills them unevenly.
    if quantizer == "kmeans":
        assert usual > 1.5
    else:
        assert min(lloyd["20 clusters"], lloyd["300 clusters"], lloyd["zipf clusters"]) > usual
    assert measured("collapsed", quantizer)["error"] < 1e-5
    errors = {name: measured(name, quantizer)["error"] for name in NARROW}
    assert errors["20 clusters"] < errors["300 clusters"] < errors["isotropic"]
    assert errors["rank two"] < errors["power law"] < errors["isotropic"]


@pytest.mark.parametrize("quantizer", ["pq", "kmeans"])
def test_patches_of_a_collapsed_cloud_are_rounding(quantizer):
    lloyd = {name: measured(name, quantizer)["lloyd_index"] for name in ("isotropic", "collapsed")}
    assert lloyd["collapsed"] > 2 * lloyd["isotropic"]
    # Taking off a shift of 1 is exact here: the same points, but no digits are lost to it.
    points = wide()["collapsed"] - np.float32(1)
    codes, error = quantizers.quantize(points, quantizer=quantizer, **FEW)
    centred = quantization.lloyd_index(quantization.cell_counts(codes, 256))
    assert centred == pytest.approx(lloyd["isotropic"], rel=0.03)
    assert error == pytest.approx(measured("isotropic", quantizer)["error"], rel=0.01)


def test_additive_codes_are_even_where_nothing_is_patchy():
    for name in ("uniform cube", "isotropic"):
        measures = measured(name, "lsq")
        assert measures["lloyd_index"] == pytest.approx(1, abs=0.02)
        assert measures["patchiness_as_released"] < 1 < measures["lloyd_index"] + 0.02
        assert measures["empty_cells"] == 0 and measures["count_kl"] < 0.02
    assert measured("rank two", "lsq")["lloyd_index"] > 1.2
