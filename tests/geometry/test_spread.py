"""Spread measures against the released steps, naive loops, known clouds, and what must hold."""

import functools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import differential_entropy, ortho_group
from sklearn.decomposition import PCA
from sklearn.metrics import auc

from helpers import validation
from helpers.geometry import intrinsic_dimension, spread
from helpers.geometry.intrinsic_dimension import twonn

KEYS = list(spread.MEASURES)
N, D = 2000, 24


def cloud(n=400, d=9, seed=0, shift=0.5):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + shift


def vrm(points):
    x = validation.cloud(points)
    return spread._vrm(x, spread._decompose(x))


def released_eee(points):
    """Follow the released script, without its rounding to four digits."""
    pca = PCA().fit(points)
    d = pca.n_components_
    running = np.cumsum(pca.explained_variance_)
    line = np.cumsum([running[-1] / d] * d)
    return auc(range(d), running - line) / (running[-1] * d / 2)


def released_vrm(points):
    """Follow the released script, with d for the variance of its normal sample."""
    pca = PCA()
    projected = pca.fit_transform(points)
    d = points.shape[1]
    projected *= np.sqrt(d / sum(pca.explained_variance_))
    most = np.log(np.sqrt(2 * np.pi * np.e))
    ratio = np.exp(differential_entropy(projected)) / np.exp(most)
    return np.sum((1 - ratio) ** 2) / d


def vasicek_by_hand(values):
    """Return Vasicek's entropy of one coordinate, spacing by spacing."""
    values, n = sorted(values), len(values)
    m = int(np.floor(np.sqrt(n) + 0.5))
    total = 0.0
    for i in range(n):
        gap = values[min(i + m, n - 1)] - values[max(i - m, 0)]
        total += np.log(n / (2 * m) * gap)
    return total / n


def isoscore_by_steps(points):
    """Follow the steps of the released IsoScore, on the variances along the principal axes."""
    variances = PCA().fit_transform(points).var(axis=0, ddof=1)
    d = len(variances)
    scaled = variances * np.sqrt(d) / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    used = (d - defect**2 * (d - np.sqrt(d))) ** 2
    return (used - d) / (d * (d - 1))


def rankme_by_svd(points, epsilon=0.0):
    singular = np.linalg.svd(points, compute_uv=False)
    p = singular / singular.sum() + epsilon
    return np.exp(-np.sum(p * np.log(p)))


def cosine_by_pairs(points):
    total, pairs = 0.0, 0
    for i, a in enumerate(points):
        for b in points[:i]:
            total += a @ b / np.sqrt((a @ a) * (b @ b))
            pairs += 1
    return total / pairs


def twonn_by_hand(points, discard=0.1):
    """Return the slope of the two-neighbour plot, point by point."""
    ratios = []
    for i, row in enumerate(cdist(points, points)):
        first, second = sorted(np.delete(row, i))[:2]
        ratios.append(second / first)
    n = len(points)
    pairs = [(np.log(r), -np.log(1 - i / n)) for i, r in enumerate(sorted(ratios), 1) if i < n]
    pairs = pairs[: int(n * (1 - discard))]
    return sum(x * y for x, y in pairs) / sum(x * x for x, _ in pairs)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 90), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_eigenvalue_measures_agree_with_their_definitions(n, d, seed):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d)) * rng.uniform(0.1, 3, d) + rng.standard_normal(d)
    values = spread.eigenvalues(points)
    np.testing.assert_allclose(
        values, np.linalg.eigvalsh(np.cov(points.T))[::-1], rtol=1e-9, atol=1e-12
    )
    about_zero = spread.eigenvalues(points, centred=False)
    singular = np.zeros(d)
    singular[: min(n, d)] = np.linalg.svd(points, compute_uv=False)
    np.testing.assert_allclose(about_zero, singular**2 / n, rtol=1e-9, atol=1e-12)
    assert spread._rankme(about_zero) == pytest.approx(rankme_by_svd(points), rel=1e-5)
    total = values.sum()
    assert spread._participation_ratio(values) == pytest.approx(
        np.trace(np.cov(points.T)) ** 2 / np.square(np.cov(points.T)).sum()
    )
    assert spread.early_enrichment(values[::-1]) == pytest.approx(
        sum(
            (s - i * total / d + t - (i + 1) * total / d) / 2
            for i, (s, t) in enumerate(
                zip(np.cumsum(values)[:-1], np.cumsum(values)[1:], strict=True), 1
            )
        )
        / (total * d / 2),
        abs=1e-12,
    )
    if n > d:
        assert spread.early_enrichment(values[::-1]) == pytest.approx(
            released_eee(points), abs=1e-10
        )
        assert spread.isoscore(values) == pytest.approx(isoscore_by_steps(points), abs=1e-10)


def test_rankme_is_of_the_cloud_as_it_is_and_near_the_guarded_form():
    points = cloud(shift=4)
    measured = spread.spread_measures(points)["rankme"]
    assert measured == pytest.approx(rankme_by_svd(points), rel=1e-9)
    assert measured == pytest.approx(rankme_by_svd(points, 1e-7), rel=1e-5)
    centred = spread._rankme(spread.eigenvalues(points))
    assert centred == pytest.approx(rankme_by_svd(points - points.mean(axis=0)), rel=1e-9)
    assert centred > measured + 0.5


@pytest.mark.parametrize("n", [30, 400, 1001])
def test_vrm_is_the_mean_over_axes_of_vasicek_ratios(n):
    points = cloud(n, 5)
    projected = PCA().fit_transform(points)
    projected *= np.sqrt(5 / projected.var(axis=0, ddof=1).sum())
    ratios = [np.exp(vasicek_by_hand(axis)) / np.sqrt(2 * np.pi * np.e) for axis in projected.T]
    expected = np.mean([(1 - r) ** 2 for r in ratios])
    assert vrm(points) == pytest.approx(expected, rel=1e-9)


def test_vrm_is_the_released_one_above_a_thousand_points_only():
    points = cloud(1001, 6)
    assert vrm(points) == pytest.approx(released_vrm(points), rel=1e-9)
    few = points[:1000]
    assert abs(vrm(few) - released_vrm(few)) > 1e-3


def test_mean_cosine_agrees_with_all_pairs():
    points = cloud(60, 4)
    assert spread.mean_cosine(points) == pytest.approx(cosine_by_pairs(points), abs=1e-12)
    assert spread.mean_cosine(np.array([[1, 0], [0, 3]])) == pytest.approx(0, abs=1e-15)
    assert spread.mean_cosine([[1.0, 2.0], [-3.0, -6.0]]) == pytest.approx(-1)
    scales = 10.0 ** np.random.default_rng(1).integers(-200, 200, (60, 1))
    assert spread.mean_cosine(points * scales) == pytest.approx(spread.mean_cosine(points))


def test_twonn_agrees_with_a_plain_loop():
    points = cloud(300, 6)
    assert twonn(points) == pytest.approx(twonn_by_hand(points), rel=1e-6)
    assert twonn(points, discard=0.3) == pytest.approx(twonn_by_hand(points, 0.3), rel=1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_twonn_finds_the_dimension_of_a_cube_in_a_larger_space(dimension):
    rng = np.random.default_rng(dimension)
    flat = rng.uniform(size=(1500, dimension)) @ rng.standard_normal((dimension, 30)) + 3
    assert twonn(flat) == pytest.approx(dimension, rel=0.12)


def test_twonn_counts_coinciding_points_once():
    points = cloud(500, 4)
    copies = np.concatenate([points, points[:200], points[:50]])
    expected = twonn_by_hand(points)
    assert twonn(copies) == pytest.approx(expected, rel=1e-6)
    jitter = np.random.default_rng(1).standard_normal(copies.shape)
    near = copies + 1e-5 * jitter
    assert twonn(near) < 0.7 * expected
    assert twonn(near, tolerance=1e-3) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("groups", "size"), [(300, 3), (20, 40), (100, 1)])
def test_twonn_is_exact_where_float32_cannot_tell_neighbours_apart(groups, size):
    rng = np.random.default_rng(2)
    points = np.repeat(rng.standard_normal((groups, 24)), size, axis=0)
    points += 1e-6 * rng.standard_normal(points.shape)
    expected = twonn_by_hand(points)
    assert twonn(points, tolerance=1e-7) == pytest.approx(expected, rel=1e-6)


def test_twonn_draws_by_the_seed():
    points = cloud(1500, 5)
    draw = np.sort(np.random.default_rng(3).choice(1500, 400, replace=False))
    assert twonn(points, most=400, seed=3) == pytest.approx(twonn_by_hand(points[draw]))
    first, again, other = (twonn(points, most=400, seed=s) for s in (1, 1, 2))
    assert first == again != other
    assert twonn(points, seed=1) == twonn(points, seed=2)


def clusters(rng, k, weights=None):
    """Draw tight groups about k normal centres."""
    centres = rng.standard_normal((k, D))
    return centres[rng.choice(k, N, p=weights)] + 0.1 * rng.standard_normal((N, D))


def zipf(k):
    weights = 1 / np.arange(1, k + 1)
    return weights / weights.sum()


def clouds():
    """Return the clouds on which the quantizer measures were tried, smaller."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((N, D))
    half = normal + 1
    half[: N // 2] = half[0]
    return {
        "uniform cube": rng.uniform(-1, 1, (N, D)),
        "isotropic": normal,
        "power law": normal * np.arange(1, D + 1) ** -0.5,
        "rank two": rng.standard_normal((N, 2)) @ ortho_group.rvs(D, random_state=1)[:2],
        "student": rng.standard_t(3, (N, D)),
        "20 clusters": clusters(rng, 20),
        "300 clusters": clusters(rng, 300),
        "300 zipf clusters": clusters(rng, 300, zipf(300)),
        "2000 zipf clusters": clusters(rng, 2000, zipf(2000)),
        "half identical": half,
        "collapsed": 1 + 1e-3 * normal,
    }


CLOUDS = clouds()


@functools.cache
def measured(name):
    return spread.spread_measures(CLOUDS[name])


@pytest.mark.parametrize("name", CLOUDS)
def test_measures_stay_in_their_ranges_on_known_clouds(name):
    measures = measured(name)
    assert list(measures) == KEYS
    assert all(isinstance(value, float) and np.isfinite(value) for value in measures.values())
    assert 0 <= measures["eee"] <= (1 - 1 / D) ** 2
    assert 0 <= measures["isoscore"] <= 1 and 1 <= measures["participation_ratio"] <= D
    assert 1 <= measures["rankme"] <= D and -1 / (N - 1) <= measures["mean_cosine"] <= 1
    assert measures["vrm"] >= 0 and measures["twonn"] > 0
    assert measures["vrm"] == vrm(CLOUDS[name])
    assert measures["twonn"] == twonn(CLOUDS[name])
    assert measures["mean_cosine"] == spread.mean_cosine(CLOUDS[name])


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (30, 1), (0, 1e-25), (0, 1e25)])
def test_projection_in_float32_moves_vrm_by_less_than_a_millionth(name, shift, scale):
    narrow = ((CLOUDS[name] + shift) * scale).astype(np.float32)
    wide = vrm(narrow.astype(np.float64))
    assert vrm(narrow) == pytest.approx(wide, abs=1e-6)


def test_points_in_pieces_give_what_they_give_at_once(monkeypatch):
    points = cloud(500, 9).astype(np.float32)
    points = np.concatenate([points, points[:200]])
    usual = spread.spread_measures(points)
    monkeypatch.setattr(spread, "_ROWS", 64)
    monkeypatch.setattr(intrinsic_dimension, "_DISTANCES", 100)
    monkeypatch.setattr(spread, "_PROJECTED", 2 * 700)
    assert spread.spread_measures(points) == pytest.approx(usual, rel=1e-6)


@pytest.mark.parametrize("name", ["uniform cube", "isotropic"])
def test_clouds_alike_in_all_directions_are_near_the_limits(name):
    measures = measured(name)
    # Sampling spreads N / d = 83 points a dimension over eigenvalues of 1 ± 2 √(d / N).
    assert measures["eee"] < 0.09
    assert measures["vrm"] < 0.015
    assert measures["isoscore"] > 0.985
    assert measures["rankme"] > 0.995 * D
    assert measures["participation_ratio"] > 0.985 * D
    assert abs(measures["mean_cosine"]) < 1e-3
    # TwoNN falls short in many dimensions: there are too few points to fill them.
    assert 10 < measures["twonn"] < D


def test_equal_eigenvalues_are_the_limit_itself():
    values = np.full(7, 3.0)
    assert spread.early_enrichment(values[::-1]) == pytest.approx(0, abs=1e-15)
    assert spread.isoscore(values) == pytest.approx(1)
    assert spread._rankme(values) == pytest.approx(7)
    assert spread._participation_ratio(values) == pytest.approx(7)


def test_one_direction_is_the_other_limit():
    rng = np.random.default_rng(2)
    line = rng.standard_normal((2000, 1)) * ortho_group.rvs(D, random_state=3)[0]
    measures = spread.spread_measures(line)
    assert measures["eee"] == pytest.approx((1 - 1 / D) ** 2)
    assert measures["isoscore"] == pytest.approx(0, abs=1e-12)
    assert measures["participation_ratio"] == pytest.approx(1)
    assert measures["rankme"] == pytest.approx(1, abs=1e-5)
    assert measures["vrm"] == pytest.approx((D - 1 + (1 - np.sqrt(D)) ** 2) / D, rel=0.05)
    assert measures["twonn"] == pytest.approx(1, rel=0.1)
    # A line through 0 in both directions: cosines of 1 and -1, by the shares of the two sides.
    right = int((line @ line[0] > 0).sum())
    expected = ((2 * right - 2000) ** 2 / 2000 - 1) / 1999
    assert measures["mean_cosine"] == pytest.approx(expected, abs=1e-12)


def test_known_spectra_give_known_values():
    measures = measured("rank two")
    assert measures["participation_ratio"] == pytest.approx(2, rel=0.01)
    assert measures["isoscore"] == pytest.approx(1 / (D - 1), rel=0.02)
    assert measures["rankme"] == pytest.approx(2, rel=0.01)
    assert measures["twonn"] == pytest.approx(2, rel=0.1)
    two = (D - 2 + 2 * (1 - np.sqrt(D / 2)) ** 2) / D
    assert measures["vrm"] == pytest.approx(two, rel=0.05)
    law = 1 / np.arange(1, D + 1)
    measures = measured("power law")
    assert measures["participation_ratio"] == pytest.approx(law.sum() ** 2 / (law @ law), rel=0.05)
    assert measures["eee"] == pytest.approx(spread.early_enrichment(law[::-1]), rel=0.03)
    p = np.sqrt(law) / np.sqrt(law).sum()
    assert measures["rankme"] == pytest.approx(np.exp(-p @ np.log(p)), rel=0.01)


def test_what_collapse_heavy_tails_and_ties_do():
    results = {name: measured(name) for name in CLOUDS}
    collapsed, isotropic = results["collapsed"], results["isotropic"]
    # A common shift is seen by the cosine and by RankMe alone.
    assert collapsed["mean_cosine"] > 0.999999 and collapsed["rankme"] < 1.3
    for name in ("eee", "vrm", "isoscore", "participation_ratio", "twonn"):
        assert collapsed[name] == pytest.approx(isotropic[name], rel=1e-6)
    # Half the points in one place: every axis has ties longer than two windows.
    half = results["half identical"]
    assert half["vrm"] == pytest.approx(1, abs=1e-4)
    assert half["mean_cosine"] > 0.25
    assert half["twonn"] == pytest.approx(isotropic["twonn"], rel=0.15)
    assert results["student"]["vrm"] > 1.3 * isotropic["vrm"]
    assert results["20 clusters"]["participation_ratio"] < 19
    assert results["20 clusters"]["eee"] > results["300 clusters"]["eee"] > isotropic["eee"]


@pytest.mark.parametrize("change", ["rotation", "scale", "order", "shift"])
def test_what_must_not_matter(change):
    points = cloud(1200, 10)
    usual = spread.spread_measures(points)
    free = set(KEYS)
    if change == "rotation":
        other = points @ ortho_group.rvs(10, random_state=5)
    elif change == "scale":
        other = points * 1e-6
    elif change == "order":
        other = points[np.random.default_rng(1).permutation(1200)]
    else:
        other, free = points + 7, free - {"rankme", "mean_cosine"}
    measures = spread.spread_measures(other)
    for name in KEYS:
        same = measures[name] == pytest.approx(usual[name], rel=1e-6)
        assert same == (name in free), name


def test_eigenvalues_may_come_in_any_order_and_scale():
    values = np.random.default_rng(0).uniform(0.1, 4, 12)
    for measure in (
        spread.isoscore,
        spread._rankme,
        spread._participation_ratio,
    ):
        for other in (np.sort(values), values * 1e-200, values * 1e200, list(values)):
            assert measure(other) == pytest.approx(measure(values), rel=1e-12)


def test_dtype_and_fewer_points_than_dimensions():
    points = np.random.default_rng(0).integers(-50, 50, (200, 7))
    usual = spread.spread_measures(points)
    for dtype in (np.float16, np.float32, np.float64):
        measures = spread.spread_measures(points.astype(dtype))
        # Narrow types are projected in float32, which moves VRM a little.
        assert measures["vrm"] == pytest.approx(usual["vrm"], rel=1e-6)
        assert measures | {"vrm": 0} == pytest.approx(usual | {"vrm": 0}, rel=1e-9)
    wide = cloud(20, 60, shift=0)
    values = spread.eigenvalues(wide)
    assert len(values) == 60 and np.count_nonzero(values) == 19
    measures = spread.spread_measures(wide)
    assert measures["participation_ratio"] < 19 and measures["rankme"] < 20
    assert measures["vrm"] > 41 / 60


def test_repeats_and_leaves_its_input_alone():
    points = cloud(4100, 6)
    kept = points.copy()
    first, again, other = (spread.spread_measures(points, seed=s) for s in (1, 1, 2))
    assert first == again
    assert {name for name in KEYS if first[name] != other[name]} == {"twonn"}
    np.testing.assert_array_equal(points, kept)


def test_few_distinct_points_have_no_intrinsic_dimension():
    points = np.repeat(np.eye(4) + 1, 30, axis=0)
    measures = spread.spread_measures(points)
    assert np.isnan(measures.pop("twonn"))
    assert np.isfinite(list(measures.values())).all()
    assert measures["participation_ratio"] == pytest.approx(3)
    assert measures["vrm"] == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="points has 4 distinct points"):
        twonn(points)
    with pytest.raises(ValueError, match="points has 9 distinct points"):
        twonn(cloud(9, 3))
    assert np.isfinite(twonn(cloud(10, 3)))


def test_memory_does_not_grow_with_the_number_of_points():
    points = np.random.default_rng(0).standard_normal((40_000, 64)).astype(np.float32)
    spread.spread_measures(points[:100])
    tracemalloc.start()
    spread.eigenvalues(points)
    spread.mean_cosine(points)
    vrm(points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All coordinates in float64 would be 20 MiB, and the entropy needs five times its input.
    assert peak < 80 * 2**20


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ones(5), "points has 1 dimensions"),
        (np.ones((1, 5)), "points has shape .1, 5.; pass 2 points"),
        (np.eye(5)[:, :1], "2 dimensions or more"),
        (np.ones((30, 5)), "every dimension of points is constant"),
        (np.array([["a", "b"], ["c", "d"]]), "pass real numbers"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "points has NaN or infinite values in 1 rows"),
        (np.eye(2), "points has 2 rows; Vasicek's entropy needs 3"),
        (np.vstack([np.eye(4), np.zeros((1, 4))]), "points has rows of zeros"),
    ],
)
def test_refuses_points(points, message):
    with pytest.raises(ValueError, match=message):
        spread.spread_measures(points)


@pytest.mark.parametrize("values", [[1.0], [[1.0, 2.0]], [1.0, -1e-9], [0.0, 0.0], [1.0, np.inf]])
def test_refuses_eigenvalues(values):
    for measure in (
        spread.isoscore,
        spread._rankme,
        spread._participation_ratio,
    ):
        with pytest.raises(ValueError, match="eigenvalues"):
            measure(values)


def test_refuses_settings():
    points = cloud(50, 3)
    for setting, message in [
        ({"most": 9}, "most is 9"),
        ({"discard": 1.0}, "discard is 1.0"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"seed": -1}, "seed is -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            twonn(points, **setting)
    with pytest.raises(ValueError, match="seed is -1"):
        spread.spread_measures(points, seed=-1)


@pytest.mark.parametrize(("scale", "word"), [(1e-170, "near to"), (1e-145, "near to"),
                                             (1e155, "far from"), (1e300, "far from")])  # fmt: skip
def test_clouds_whose_squares_are_lost_are_refused(scale, word):
    points = scale * np.random.default_rng(0).standard_normal((50, 4))
    for measure in (spread.spread_measures, spread.eigenvalues, vrm):
        with pytest.raises(ValueError, match=f"points are so {word} one another"):
            measure(points)
    fine = np.random.default_rng(0).standard_normal((50, 4))
    kept = spread.spread_measures(fine)
    for unit in (1e-130, 1e130):
        assert spread.spread_measures(unit * fine) == pytest.approx(kept, rel=1e-6)
