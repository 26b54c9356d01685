"""The released tables: bands of runs, the regressions that the authors fitted, what GLUE means."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from helpers import data
from helpers.geometry import release

HAVE_RUNS = data.available("manifolds/")
MEASURES = list(release.MEASURES.values())


def bands_of(runs, least=3):
    """Return means of runs over bands of adjacent noise levels, with at least `least` runs each.

    `runs` is the table of `load_perturbed_runs`. Within an architecture the levels are taken from
    low to high, and a band is closed as soon as it holds enough runs; what is left over joins the
    last band. The columns are those of `runs` without `replicate` and the single tasks, each the
    mean over the band, and `runs` (how many), `alpha_low`, `alpha_high` (percent).
    """
    rows = []
    for architecture, part in runs.groupby("architecture", sort=True):
        bands = [[]]
        sizes = part.groupby("alpha").size()
        for alpha in sizes.index:
            if sizes[bands[-1]].sum() >= least:
                bands.append([])
            bands[-1].append(alpha)
        if len(bands) > 1 and sizes[bands[-1]].sum() < least:
            rest = bands.pop()
            bands[-1] += rest
        for band in bands:
            chosen = part[part["alpha"].isin(band)]
            span = {"alpha_low": band[0], "alpha_high": band[-1], "runs": len(chosen)}
            levels = " to ".join(dict.fromkeys(f"{level:g}" for level in (band[0], band[-1])))
            single = [c for c in chosen if c.startswith("task_")]
            means = chosen.drop(columns=["architecture", "model", "replicate", *single]).mean()
            rows.append(
                {
                    "architecture": architecture,
                    "model": f"{architecture}, {levels} %",
                    **span,
                    **means,
                }
            )
    return pd.DataFrame(rows)


def runs_like(seed=0):
    """Return a made-up table of runs with the columns of the real one."""
    rng = np.random.default_rng(seed)
    rows = [("a", alpha, r) for alpha in (0.5, 1.0, 2.0, 4.0) for r in (1, 2, 3)]
    rows += [("b", alpha, 1) for alpha in (1.0, 2.0, 3.0, 4.0, 5.0)]
    frame = pd.DataFrame(rows, columns=["architecture", "alpha", "replicate"])
    frame.insert(1, "model", [f"m{i}" for i in range(len(frame))])
    for column in ["glue", "glue_8_tasks", "tasks", *MEASURES]:
        frame[column] = rng.random(len(frame))
    return frame


def test_bands_hold_enough_runs_and_their_means():
    runs = runs_like()
    bands = bands_of(runs)
    assert bands["runs"].tolist() == [3, 3, 3, 3, 5]
    assert bands["runs"].sum() == len(runs)
    last = runs.query("architecture == 'b'")
    assert bands.iloc[-1]["glue"] == pytest.approx(last["glue"].mean())
    assert bands.iloc[-1]["alpha"] == pytest.approx(3)
    assert (bands.iloc[-1]["alpha_low"], bands.iloc[-1]["alpha_high"]) == (1, 5)
    shuffled = bands_of(runs.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(bands, shuffled)


def test_the_committed_bands_are_those_of_the_released_runs():
    bands = release.load_published_bands()
    assert bands["runs"].min() >= 3
    assert bands["runs"].sum() == 168
    assert bands.groupby("architecture")["runs"].sum().to_dict() == {
        "bert-base": 7,
        "bert-small": 125,
        "roberta": 36,
    }
    expected = ["architecture", "model", "alpha_low", "alpha_high", "runs", "alpha", "glue"]
    assert list(bands)[:7] == expected and set(MEASURES) <= set(bands)
    assert bands["glue"].between(0, 1).all() and not bands.isna().any(axis=None)
    if HAVE_RUNS:
        fresh = bands_of(release.load_perturbed_runs())
        pd.testing.assert_frame_equal(bands, fresh, rtol=1e-6, check_dtype=False)


def test_published_regressions():
    """The authors' fits to the last digits; without their tables, the pattern in the band means."""
    if not HAVE_RUNS:
        small = release.load_published_bands().query("architecture == 'bert-small'")
        assert 0.85 < small["aq_patchiness"].corr(small["glue"]) < 0.97
        assert np.log(small["alpha"]).corr(small["glue"]) < -0.9
        return
    runs, odd = release.load_perturbed_runs(), release.load_nonstandard_models()
    assert len(runs) == 168 and len(odd) == 13
    assert odd["plotted"].sum() == 12 and odd["set_aside"].sum() == 3
    assert odd["architecture"].notna().all() and odd["label"].is_unique
    assert runs["model"].is_unique and runs["replicate"].between(1, 3).all()
    assert runs[MEASURES].notna().mean().min() > 0.99
    small = runs.query("architecture == 'bert-small'")
    assert small["aq_patchiness"].corr(small["glue"]) == pytest.approx(0.9018, abs=5e-5)
    stored, both = release.load_fitted_values(), pd.concat([runs, odd])
    assert len(stored) == 184
    for column in stored.filter(like="fit_"):
        measure = column.removeprefix("fit_").removesuffix("_offset")
        formula = f"glue ~ {measure}" + " + architecture" * column.endswith("_offset")
        ours = both.assign(ours=smf.ols(formula, runs).fit().predict(both))
        pair = stored.merge(ours, on=["model", "architecture"])
        assert len(pair) == 181
        np.testing.assert_allclose(pair["ours"], pair[column], rtol=0, atol=1e-10)


def test_glue_is_the_average_that_was_regressed():
    table = release.load_perturbed_runs() if HAVE_RUNS else release.load_published_bands()
    base = table["architecture"] == "bert-base"
    np.testing.assert_allclose(table["glue"][~base], table["glue_8_tasks"][~base], atol=1e-7)
    assert (table["glue"][base] != table["glue_8_tasks"][base]).all()


def test_three_samples_of_one_model_were_measured():
    if not HAVE_RUNS:
        with pytest.raises(data.DataError):
            release.load_repeated_samples()
        return
    samples = release.load_repeated_samples()
    assert samples["model"].unique().tolist() == ["bert-base"]
    assert samples["aq_patchiness"].tolist() == pytest.approx([1.0421, 1.0448, 1.0443], abs=5e-5)
    assert samples["pq_error"].between(0.25, 0.26).all()
    assert {c for c in samples if c.startswith("aq_")} <= set(MEASURES)
