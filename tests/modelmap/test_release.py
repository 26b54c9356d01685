"""The released matrix of 90 models as frames; families and training runs with known answers."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from forked import begin, end, page

from helpers import data
from helpers.modelmap import release, score_prediction

PAIRS = [
    ("('pythia', 'EleutherAI/pythia-1b')", 1.0),
    ("('pythia', 'EleutherAI/pythia-1b_step20000')", 1.2),
    ("('amber', 'LLM360/Amber')", 0.9),
    ("('llm360', 'LLM360/Amber')", 0.9),
    ("('llama', 'meta-llama/Llama-2-7b-hf')", 0.8),
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write files of the released form, with columns in another order in each."""
    columns = [name for name, _ in PAIRS]
    bits = pd.DataFrame([[b, b + 1] for _, b in PAIRS], columns, ["one", "two"]).T
    errors = pd.DataFrame([[b, 10 * b] for _, b in PAIRS], columns, ["piqa", "lambada_openai"]).T
    scores = pd.DataFrame(
        {task: [0.25, 0.5] for task in release._TASKS},
        ["LLM360/Amber", "EleutherAI/pythia-1b"],
    )
    scores.loc["LLM360/Amber", "GSM8K"] = np.nan
    scores["Model Size (B)"] = [6.7, 1.1]
    bits.rename_axis("id").to_csv(tmp_path / "bits_per_byte.csv")
    errors[columns[::-1]].rename_axis("benchmark").to_csv(tmp_path / "error.csv")
    scores.rename_axis("Model").to_csv(tmp_path / "base_llm_benchmark_eval.csv")
    monkeypatch.setattr(data, "fetch", lambda key: tmp_path / key.split("/")[1])


def test_columns_become_models_and_bits_nats(files):
    found = release.load_release()
    names = [
        "EleutherAI/pythia-1b",
        "EleutherAI/pythia-1b_step20000",
        "LLM360/Amber",
        "LLM360/Amber (2)",
        "meta-llama/Llama-2-7b-hf",
    ]
    assert found.log_likelihoods.index.tolist() == names
    assert found.log_likelihoods.columns.tolist() == ["one", "two"]
    assert found.log_likelihoods.loc["LLM360/Amber", "two"] == pytest.approx(-1900 * np.log(2))
    assert found.models.family.tolist() == ["pythia", "pythia", "amber", "amber", "llama"]
    # A name tells the size; where it does not, the second source does.
    assert found.models["size"].iloc[[0, 2, 4]].tolist() == [1, 6.7, 7]
    assert np.isnan(found.models["size"].iloc[3])
    assert found.models.pile.tolist() == [True, True, False, False, False]
    assert found.models.step.tolist()[1] == 20000 and found.models.step.isna().sum() == 4
    assert found.errors.index.tolist() == names
    assert found.errors.piqa.tolist() == pytest.approx([b for _, b in PAIRS])
    assert found.errors.lambada_openai.iloc[0] == pytest.approx(np.log(10))


def test_scores_are_percent_of_models_with_all_six(files):
    scores = release.load_release().scores
    assert scores.index.tolist() == ["EleutherAI/pythia-1b"]
    assert set(scores) == {*release._TASKS.values(), "mean"}
    assert (scores == 50).all(axis=None)


def test_near_copies_share_a_stem():
    names = ["EleutherAI/pythia-1.4b-deduped", "EleutherAI/pythia-1.4b-v0"]
    names += ["EleutherAI/pythia-1.4b-deduped_step20000", "LLM360/Amber", "LLM360/Amber (2)"]
    names += ["TinyLlama/TinyLlama-1.1B-step-50K-105b"]
    names += ["TinyLlama/TinyLlama-1.1B-intermediate-step-240k-503b", "Qwen/Qwen1.5-4B"]
    stems = release.stems(names)
    assert list(stems.index) == names
    assert stems.groupby(stems, sort=False).size().tolist() == [3, 2, 2, 1]


def test_rates_of_relatives_by_hand():
    distances = np.array(
        [[0, 1, 5, 9], [1, 0, 2, 9], [5, 2, 0, 3.0], [9, 9, 3, 0]],
    )
    # Nearest: 0 -> 1, 1 -> 0, 2 -> 1, 3 -> 2; the last family has one member.
    assert release.same_family_rate(distances, list("aabc")) == 1
    assert release.same_family_rate(distances, list("abab")) == 0
    assert release.same_family_rate(distances, list("aaab")) == 1
    assert np.isnan(release.same_family_rate(distances, list("abcd")))


def test_shuffled_families_have_the_rate_of_chance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 5))
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    families = np.repeat(np.arange(6), 10)
    rates = [release.same_family_rate(distances, rng.permutation(families)) for _ in range(300)]
    assert np.mean(rates) == pytest.approx(9 / 59, abs=0.01)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.0])
def test_exponents_of_known_walks(exponent):
    steps = np.array([10, 20, 40, 70, 110])
    apart = np.abs(steps[:, None] - steps[None]).astype(float) ** exponent
    for start in (0, 2):
        found = release.diffusion_exponent(apart, steps, start)
        assert found == pytest.approx(exponent)


def test_repeated_predictions_are_the_means_over_splits():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(40, 6))
    y = pd.DataFrame(50 + 20 * X[:, :2] + rng.normal(size=(40, 2)), columns=["a", "b"])
    groups = rng.integers(0, 9, 40)
    r, mean = score_prediction.repeated(X, y, groups, [0.1, 1.0], seeds=3)
    tries = [
        score_prediction.predict_scores(X, y, groups, [0.1, 1.0], seed=s).predictions.clip(0, 100)
        for s in range(3)
    ]
    assert mean["b"].to_numpy() == pytest.approx(np.mean(tries, axis=0)[:, 1])
    assert r["a"] == pytest.approx(np.mean([np.corrcoef(t[:, 0], y["a"])[0, 1] for t in tries]))


def test_a_better_prediction_gains_and_an_equal_one_does_not():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=80)
    good, bad = truth + rng.normal(size=80) * 0.3, truth + rng.normal(size=80) * 3
    groups = rng.integers(0, 20, 80)
    gain, low, high = score_prediction.prediction_gain(good, bad, truth, groups)
    expected = np.corrcoef(good, truth)[0, 1] - np.corrcoef(bad, truth)[0, 1]
    assert gain == pytest.approx(expected) and 0 < low < gain < high
    same = score_prediction.prediction_gain(good, good, truth, groups, n_resamples=50)
    assert same == (0, 0, 0)
    error, *_ = score_prediction.prediction_gain(good, bad, truth, groups, measure="error")
    by_hand = [np.sqrt(np.mean((guess - truth) ** 2)) for guess in (good, bad)]
    assert error == pytest.approx(by_hand[1] - by_hand[0])


def entry(name, vector, **more):
    return {"model_name": name, "model_type": "t", "model_size": 8, "tags": ["en"], **more} | {
        "log-likelihood-10k": vector
    }


def test_the_authors_files_are_read_without_executing_them(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, 7)) - 500
    points = {f"score_v1_{task}": 40.0 for task in release._TASKS.values()}
    full = [
        entry("EleutherAI/pythia-1b", vectors[0], **points),
        entry("b/two", vectors[1], **{**points, "score_v1_MMLU": None}),
        entry("c/three", vectors[2], model_size=None),
    ]
    path = tmp_path / "model-data-1018.pkl"
    path.write_bytes(pickle.dumps(full))
    found = release.load_authors(path)
    np.testing.assert_array_equal(found.log_likelihoods, vectors)
    assert found.models.family.tolist() == ["t", "t", "t"]
    assert found.models.pile.tolist() == [True, False, False]
    assert found.models["size"].tolist()[:2] == [8, 8] and np.isnan(found.models["size"].iloc[2])
    assert found.scores.index.tolist() == ["EleutherAI/pythia-1b"]
    assert found.scores["mean"].tolist() == [40] and found.errors.shape == (3, 0)
    path.write_bytes(pickle.dumps({row["model_name"]: row["log-likelihood-10k"] for row in full}))
    alone = release.load_authors(path)
    pd.testing.assert_frame_equal(alone.log_likelihoods, found.log_likelihoods)
    assert alone.models.family.tolist() == ["EleutherAI", "b", "c"] and alone.scores.empty


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "neither vectors by name nor one dict"),
        ([1], "neither vectors"),
        ([{"model_name": "a"}], "no vector 'log-likelihood-10k' for a"),
        ({"a": [1.0, 2.0]}, "no vector"),
        ([entry("a", np.zeros(2)), entry("a", np.zeros(2))], "no model_name of its own in entry 1"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "vectors of"),
        (print, "cannot be read as plain arrays"),
    ],
)
def test_other_files_are_refused(tmp_path, value, message):
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(ValueError, match=message):
        release.load_authors(path)


def test_the_page_draws_the_authors_matrix(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    family = np.arange(48) % 8
    place = rng.standard_normal((8, 3))[family] + 0.1 * rng.standard_normal((48, 3))
    vectors = -600 + 40 * place @ rng.standard_normal((3, 90)) + rng.standard_normal((48, 90))
    scores = 50 + 5 * place @ rng.standard_normal((3, 6)) + 0.1 * rng.standard_normal((48, 6))
    keys = [f"score_v1_{task}" for task in release._TASKS.values()]
    rows = [
        entry(f"EleutherAI/pythia-{i}m" if i < 10 else f"m/{i}", vectors[i], model_type=str(kind))
        | dict(zip(keys, map(float, scores[i]), strict=True))
        for i, kind in enumerate(family)
    ]
    (tmp_path / "model-data-1018.pkl").write_bytes(pickle.dumps(rows))
    monkeypatch.setenv("BOOK_LEDGER", str(tmp_path / "ledger.json"))
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    given = {"matrix": str(tmp_path / "model-data-1018.pkl"), "seeds": 1}
    given |= {"n_shuffles": 10, "n_resamples": 20}
    assert end(begin(page, "modelmap/real_models", given)) == 0
    ledger = json.loads((tmp_path / "ledger.json").read_text())
    ours = {row["id"]: row.get("ours") for row in ledger}
    assert ours["map-dimension-90"] <= 3
    assert ours["map-predict-mean"] == pytest.approx(1, abs=0.05)
    means = np.maximum(vectors, np.quantile(vectors, 0.02)).mean(axis=1)
    truth = np.corrcoef(means, scores.mean(axis=1))[0, 1]
    assert ours["map-baseline-mean"] == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("EleutherAI/pythia-6.9b_step20000", 6.9),
        ("EleutherAI/pythia-160m-deduped", 0.16),
        ("stabilityai/stablelm-2-1_6b", 1.6),
        ("TinyLlama/TinyLlama-1.1B-step-50K-105b", 1.1),
        ("sail/Sailor-0.5B", 0.5),
        ("gordicaleksa/YugoGPT", np.nan),
        ("maker/model-2base", np.nan),
    ],
)
def test_sizes_are_read_from_names(name, size):
    assert release._size(name) == pytest.approx(size, nan_ok=True)
