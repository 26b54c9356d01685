import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress
from sklearn.metrics import mutual_info_score

from helpers import data
from helpers.retrieval import release, smi


@pytest.fixture(scope="module")
def published():
    return release.published_models(), release.published_bins()


@st.composite
def counts(draw):
    both, s, o, none = (draw(st.integers(0, 500)) for _ in range(4))
    return both + s + o + none + 1, both + s, both + o, both


@given(counts())
def test_four_cells_equal_the_mutual_information_of_two_indicators(table):
    n, s, o, both = table
    cells = [(1, 1, both), (1, 0, s - both), (0, 1, o - both), (0, 0, n - s - o + both)]
    subject = np.repeat([c[0] for c in cells], [c[2] for c in cells])
    obj = np.repeat([c[1] for c in cells], [c[2] for c in cells])
    expected = mutual_info_score(subject, obj) / np.log(2)
    assert smi.mutual_information(n, s, o, both, cells=4) == pytest.approx(expected, abs=1e-12)


@given(counts())
def test_one_cell_is_the_direct_formula(table):
    n, s, o, both = table
    direct = 0.0 if both == 0 else both / n * np.log2((both / n) / ((s / n) * (o / n)))
    assert smi.mutual_information(n, s, o, both) == pytest.approx(direct, abs=1e-15)


def test_independent_names_have_no_information():
    assert smi.mutual_information(100, 20, 50, 10, cells=4) == pytest.approx(0, abs=1e-15)
    assert smi.mutual_information(100, 20, 50, 10) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("table", [(10, 3, 3, 4), (10, 9, 9, 1), (10, 3, 3, -1), (0, 0, 0, 0)])
def test_impossible_counts_are_refused(table):
    with pytest.raises(ValueError):
        smi.mutual_information(*table)


def test_bins_are_cut_toward_zero():
    assert smi.log_bins([1, 2, 4, 5, 1000]).tolist() == [0, 5, 10, 11, 49]
    assert smi.log_bins([0.5, 0.4, 2**-0.39]).tolist() == [-5, -6, -1]
    with pytest.raises(ValueError, match="positive"):
        smi.log_bins([1, 0])


def test_normalise_maps_the_ends_to_0_and_1():
    assert smi.normalise([-100, -50, 0]).tolist() == [0, 0.5, 1]
    assert smi.normalise([-75], (-30, 0)).tolist() == [0.5]
    with pytest.raises(ValueError, match="two different"):
        smi.normalise([3, 3])


def test_the_exponent_rules():
    assert smi.size_exponent(13e9, "billions") == 1 + 1 / 13
    assert smi.size_exponent(2.0**30, "log2") == 1 + 1 / 30
    assert smi.size_exponent(1e9, "billions", unit=1e10) == 11
    for arguments in ((0.5,), (1e9, "cubes")):
        with pytest.raises(ValueError):
            smi.size_exponent(*arguments)


def naive_fit(x, accuracy):
    means = {v: accuracy[x == v].mean() for v in sorted(set(x))}
    fit = linregress(list(means), list(means.values()))
    per_bin = [((accuracy[x == v] - fit.slope * v - fit.intercept) ** 2).mean() for v in means]
    return fit.slope, fit.intercept, fit.rvalue**2, float(np.mean(per_bin))


@pytest.mark.parametrize("seed", range(3))
def test_the_binned_fit_equals_the_naive_loop(seed):
    rng = np.random.default_rng(seed)
    bins, accuracy = rng.integers(-40, -10, 500), rng.random(500)
    statistics = smi.bin_statistics(bins, accuracy)
    ours = smi.fit_bins(statistics, smi.normalise(statistics.index))
    x = (bins - bins.min()) / (bins.max() - bins.min())
    assert ours[["a", "b", "R2", "MSE"]].to_numpy() == pytest.approx(naive_fit(x, accuracy), 1e-11)
    assert ours["acc"] == pytest.approx(accuracy.mean())
    assert ours["upper bound"] == pytest.approx(ours.a + ours.b)


def test_the_weighted_fit_equals_a_line_through_the_facts():
    rng = np.random.default_rng(0)
    bins = rng.integers(0, 30, 800)
    accuracy = np.clip(0.02 * bins + 0.1 * rng.standard_normal(800), 0, 1)
    statistics = smi.bin_statistics(bins, accuracy)
    ours = smi.fit_bins(statistics, smi.normalise(statistics.index), weighted=True)
    fit = linregress(bins / 29, accuracy)
    assert [ours.a, ours.b] == pytest.approx([fit.slope, fit.intercept])
    residual = accuracy - (ours.a * bins / 29 + ours.b)
    assert pytest.approx((residual**2).mean()) == ours["MSE"]


def test_noise_has_no_r2_and_its_interval_says_so():
    rng = np.random.default_rng(1)
    x, mean = np.linspace(0, 1, 100), rng.random(100)
    low, high = smi.r2_interval(x, mean, n_resamples=500)
    assert low < 0.02 and high < 0.2
    assert smi.r2_interval(x, mean, n_resamples=500) == (low, high)
    low, high = smi.r2_interval(x, 0.5 * x + 0.001 * mean)
    assert low > 0.99


@pytest.mark.parametrize("n", [3, 4, 5])
def test_the_interval_of_a_few_bins_leaves_out_resamples_of_one(n):
    x, mean = np.arange(n) / n, np.array([0.1, 0.3, 0.2, 0.5, 0.4])[:n]
    drawn = np.random.default_rng(0).integers(n, size=(1000, n))
    varied = [row for row in drawn if len(set(row)) > 1]
    assert len(varied) < 1000
    naive = [np.corrcoef(x[row], mean[row])[0, 1] ** 2 for row in varied]
    expected = np.quantile(naive, [0.025, 0.975])
    assert smi.r2_interval(x, mean) == pytest.approx(tuple(expected), abs=1e-9)
    assert np.isnan(smi.r2_interval(x, np.full(n, 0.1))).all()
    with pytest.raises(ValueError, match="x has 2 different positions"):
        smi.r2_interval([0, 1, 1, 1], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(ValueError, match="missing"):
        smi.r2_interval(x, np.where(x > 0, mean, np.nan))


def test_a_fit_needs_three_bins():
    statistics = smi.bin_statistics([1, 1, 2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="too few"):
        smi.fit_bins(statistics, [0, 1])
    with pytest.raises(ValueError, match="missing"):
        smi.bin_statistics([1, 2], [0.1, np.nan])


def test_object_in_subject_is_case_sensitive():
    mask = smi.object_in_subject(
        ["South Africa", "Toyota", "africa"], ["Africa", "Japan", "Africa"]
    )
    assert mask.tolist() == [True, False, False]


def test_published_statistics_give_the_headline_numbers(published):
    models, bins = published
    assert len(models) == 24 and len(bins.loc["v1"].index.get_level_values("model").unique()) == 4
    smallest = {}
    for generation in smi.GENERATIONS:
        r2 = smi.table(bins, models, generation).R2.xs("SMI", level="method")
        sizes = {**models.parameters, **smi.V1_PARAMETERS}
        smallest[generation] = min(r2[m] for m in r2.index if sizes[m] > 1e9)
    assert smallest["v1"] > 0.84 and smallest["v2-v4"] > 0.75 and smallest["v5-v7"] > 0.7


def test_the_power_pools_bins_that_underflow(published):
    _, bins = published
    statistics = smi.statistics_of(bins, "v2-v4", "pythia-14m", "mi")
    assert np.isnan(smi.r2_of_power(statistics, 1e12, (-30, 0)))
    x = smi.normalise(statistics.index, (-30, 0))
    expected = linregress(x, statistics["mean"]).rvalue ** 2
    assert smi.r2_of_power(statistics, 1.0, (-30, 0)) == pytest.approx(expected, abs=1e-14)


def test_the_committed_statistics_are_those_of_the_released_files(published, monkeypatch):
    """With the registry at hand, data/published must come out again bit by bit.

    Without it, the committed files must still be whole: every bin's sums must be possible.
    """
    models, bins = published
    assert (bins["sum"] <= 400 * bins["n"]).all() and (bins["sum"] >= 0).all()
    assert (bins.sum_of_squares * bins["n"] >= bins["sum"] ** 2).all()
    if data.available("smi/"):
        pd.testing.assert_frame_equal(release.release_bins(), bins)
        pd.testing.assert_frame_equal(release.load_models(), models, check_dtype=False)
        pd.testing.assert_frame_equal(release.release_histogram(), release.published_histogram())
        for generation in ("v2-v4", "v5-v7"):
            stored = release.load_sheet(generation)
            scale = stored.abs().clip(lower=1)
            gap = (smi.table(bins, models, generation) - stored).abs() / scale
            assert gap.max().max() < 1e-12


@pytest.mark.parametrize("generation", smi.GENERATIONS)
def test_the_measure_of_the_paper_is_the_normalised_logarithm_to_the_power_of_the_size(generation):
    information = np.array([2.0**-40, 2.0**-16, 2.0**-8, 0.0, 2.0**-2])
    found = smi.size_dependent_mi(information, 2.0**30, generation)
    low, high = (-30, 0) if generation == "v2-v4" else (-40, -2)
    power = 1 + 1 / 30 if generation == "v5-v7" else 1 + 1e9 / 2**30
    expected = [max(0, (e - low) / (high - low)) ** power for e in (-40, -16, -8, -2)]
    assert found[[0, 1, 2, 4]] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(found[3])
    with pytest.raises(ValueError, match="generation"):
        smi.size_dependent_mi(information, 1e9, "v9")
