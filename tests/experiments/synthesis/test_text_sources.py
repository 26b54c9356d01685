import numpy as np
import pandas as pd
import pytest

from experiments.synthesis import glass_box_table, text_sources


def test_texts_of_a_package_are_its_own_and_the_same_again():
    texts = text_sources.package_texts("seaborn", n=4)
    assert texts.part.tolist() == ["code"] * 4 + ["docstrings"] * 4
    assert texts.text.str.len().max() <= 160 and texts.key.is_unique
    assert texts.equals(text_sources.package_texts("seaborn", n=8).groupby("part").head(4)[
        list(texts)].reset_index(drop=True))  # fmt: skip
    with pytest.raises(ValueError, match="package 'seaborn' has"):
        text_sources.package_texts("seaborn", n=100_000)


def test_what_is_stored_has_no_text_and_all_packages():
    sources = text_sources.load()
    assert list(sources.texts) == ["key", "package", "part"]
    sizes = sources.texts.groupby("package").size()
    assert set(sizes.index) == set(text_sources.PACKAGES) and sizes.nunique() == 1
    assert sources.log_likelihoods.shape[1] == len(sources.texts)
    assert set(sources.log_likelihoods.index) <= set(glass_box_table.load().table.index)
    assert (sources.log_likelihoods < 0).all(axis=None)


def test_seeds_are_tested_by_text_and_by_package():
    package = np.repeat(["a", "b", "c", "d", "e", "f"], 10)
    texts = pd.DataFrame({"key": range(60), "package": package, "part": "code"})
    names = ["x-0", "x-1", "y-0"]
    rng = np.random.default_rng(0)
    shared = rng.normal(size=6)[pd.factorize(package)[0]]
    values = pd.DataFrame([np.zeros(60), shared + 0.1 * rng.normal(size=60), np.ones(60)], names)
    table = pd.DataFrame(
        {"kind": "gpt", "width": 16, "mix": ["m", "m", "n"], "seed": [0, 1, 0], "step": 1}, names
    )
    found = text_sources.seed_tests(text_sources._Sources(texts, values), table)
    assert len(found) == 1 and found["mix"][0] == "m"
    assert found.icc[0] > 0.9 and found.clustered[0] > found.plain[0]
    assert found.difference[0] == pytest.approx(values.loc["x-1"].mean())
