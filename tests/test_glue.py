"""Tasks: official splits, no leak between train and test, and scores against two libraries."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from helpers import data, factbook_tasks, glue

HAVE_GLUE = data.available("glue/")
# Rows of train and validation in GLUE (Wang et al. 2018); of QNLI the validation split alone.
OFFICIAL = {
    "sst2": (67_349, 872),
    "mrpc": (3_668, 408),
    "rte": (2_490, 277),
    "cola": (8_551, 1_043),
    "stsb": (5_749, 1_500),
    "wnli": (635, 71),
}
QNLI_ROWS = 5_463


def texts_of(table):
    columns = [c for c in ("sentence1", "sentence2") if c in table]
    return {text.strip().casefold() for c in columns for text in table[c]}


@pytest.fixture(scope="module", params=factbook_tasks.NAMES)
def factbook(request):
    return glue.load_task(request.param)


# GLUE from the registry


@pytest.mark.parametrize("name", glue._GLUE)
def test_a_registry_task_has_its_official_rows_or_says_what_is_missing(name):
    if not HAVE_GLUE:
        with pytest.raises(data.DataError, match="glue/"):
            glue.load_task(name)
        return
    task = glue.load_task(name)
    sizes = (len(task.train), len(task.test))
    if name == "qnli":
        assert sum(sizes) == QNLI_ROWS
        assert 0.25 < sizes[1] / QNLI_ROWS < 0.35
        assert not texts_of(task.train) & texts_of(task.test)
    else:
        assert sizes == OFFICIAL[name]
    columns = ["sentence1", "label"] if name in ("sst2", "cola") else list(factbook_tasks.PAIR)
    for part in (task.train, task.test):
        assert list(part.columns) == columns
        assert not part.isna().any().any()
        assert all((part[c].str.strip() != "").all() for c in columns[:-1])
        if name == "stsb":
            assert part["label"].between(0, 5).all() and part["label"].nunique() > 50
        else:
            assert set(part["label"]) == {0, 1}


def test_known_rows_have_their_official_labels():
    if not HAVE_GLUE:
        return
    first = {name: glue.load_task(name).train.iloc[0] for name in ("sst2", "mrpc", "rte", "cola")}
    assert first["sst2"].to_list() == ["hide new secretions from the parental units ", 0]
    assert 'called "the witness", of deliberately' in first["mrpc"]["sentence1"]
    assert first["mrpc"]["label"] == 1
    assert first["rte"].to_list() == [
        "No Weapons of Mass Destruction Found in Iraq Yet.",
        "Weapons of Mass Destruction Found in Iraq.",
        1,  # not entailed
    ]
    assert first["cola"]["label"] == 1 and first["cola"]["sentence1"].startswith("Our friends")
    # Two files, back in the official order: the index begins in the second.
    wnli = glue.load_task("wnli").train
    assert wnli["sentence1"].iloc[0].startswith("I stuck a pin through a carrot")
    assert wnli["sentence1"].iloc[1].startswith("John couldn't see the stage")


def test_texts_that_are_linked_stay_on_one_side():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "sentence1": [f"Question {i}" for i in rng.integers(0, 300, 500)],
            "sentence2": [f"text {i}" for i in rng.integers(0, 600, 500)],
            "label": 0,
        }
    )
    table.loc[::2, "sentence1"] = table.loc[::2, "sentence1"].str.upper() + " "
    train, test = glue._apart(table)
    assert len(train) + len(test) == 500 and len(train) and len(test)
    assert not texts_of(train) & texts_of(test)
    again = glue._apart(table)
    pd.testing.assert_frame_equal(test, again[1])


def test_without_files_the_factbook_stands_in(clean_data, monkeypatch):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    with pytest.raises(data.DataError, match="glue/SST-2/train.tsv"):
        glue.load_task("sst2")


def test_load_task_refuses():
    with pytest.raises(ValueError, match="name is 'sst'; choose one of sst2, .*, region"):
        glue.load_task("sst")


# The Factbook


def test_factbook_tasks_are_even_full_and_do_not_leak(factbook):
    for part, least in [(factbook.train, 900), (factbook.test, 700)]:
        sizes = part["label"].value_counts()
        assert sizes.nunique() == 1 and len(part) >= least
        columns = [c for c in ("sentence1", "sentence2") if c in part]
        texts = pd.concat([part[c] for c in columns])
        assert texts.is_unique and (texts.str.count(" ") >= 3).all()
    assert not texts_of(factbook.train) & texts_of(factbook.test)
    assert set(factbook.train["label"]) == set(factbook.test["label"])
    classes = 6 if factbook.kind == "classes" else 2
    assert factbook.train["label"].nunique() == classes
    again = glue.load_task(factbook.name)
    pd.testing.assert_frame_equal(factbook.train, again.train)


def test_factbook_rows_are_what_their_labels_say():
    book = factbook_tasks._every_sentence()
    assert not set(book["country"][book["is_test"]]) & set(book["country"][~book["is_test"]])
    assert book.groupby("continent")["is_test"].nunique().eq(2).all()
    row = book.set_index("sentence1")
    section = glue.load_task("section").test
    assert (row.loc[section["sentence1"], "section"].to_numpy() == section["label"]).all()
    pairs = glue.load_task("same_field").test
    first, second = (row.loc[pairs[c]].reset_index() for c in ("sentence1", "sentence2"))
    assert ((first["field"] == second["field"]) == (pairs["label"] == 1)).all()
    assert (first["country"] != second["country"]).all()
    region = glue.load_task("region").test
    masked = book.set_index("masked").loc[region["sentence1"]]
    assert (masked["continent"].to_numpy() == region["label"]).all()


def test_masks_hide_the_country_and_the_continent():
    book = factbook_tasks._every_sentence()
    assert book["masked"].str.contains("[country]", regex=False).mean() > 0.2
    assert not book["masked"].str.contains("Africa|Europe|Oceania|South America").any()
    for country, names in {"gm": "German", "fr": "France|French", "us": "US|American"}.items():
        rows = book[book["country"] == country]
        assert rows["sentence1"].str.contains(rf"\b(?:{names})\b").any()
        assert not rows["masked"].str.contains(rf"\b(?:{names})\b").any()


def test_swapped_words_are_neighbours_and_the_bag_of_words_is_kept():
    book = {" ".join(text.split()) for text in factbook_tasks._every_sentence()["sentence1"]}
    bags = {" ".join(sorted(text.split())) for text in book}
    task = glue.load_task("word_order")
    for text, label in task.test.itertuples(index=False):
        words = text.split()
        assert (text in book) == (label == 1)
        assert " ".join(sorted(words)) in bags
        if label == 0:
            undone = [
                [*words[:i], words[i + 1], words[i], *words[i + 2 :]] for i in range(len(words) - 1)
            ]
            assert any(" ".join(w) in book for w in undone)


# Scores


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_scores_agree_with_scikit_learn_and_scipy(n, seed):
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 2, (2, n))
    accuracy = accuracy_score(truth, found)
    f1 = f1_score(truth, found, zero_division=0)
    assert glue.score("accuracy", truth, found) == pytest.approx(accuracy)
    assert glue.score("accuracy_f1", truth, found) == pytest.approx((accuracy + f1) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matthews = matthews_corrcoef(truth, found)
    assert glue.score("matthews", truth, found) == pytest.approx(matthews)
    truth, found = rng.integers(0, 26, n) / 5, rng.standard_normal(n)
    if (truth != truth[0]).any():
        both = (pearsonr(truth, found)[0] + spearmanr(truth, found)[0]) / 2
        assert glue.score("pearson_spearman", truth, found) == pytest.approx(both, abs=1e-12)


def test_a_constant_prediction_scores_nothing_without_a_warning():
    rng = np.random.default_rng(0)
    truth = rng.random(50) * 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert glue.score("pearson_spearman", truth, np.full(50, 2.5)) == 0
        assert glue.score("pearson_spearman", truth, 1e-12 * truth + 3) == pytest.approx(1, abs=0.1)
        assert glue.score("matthews", truth > 2, np.ones(50, dtype=bool)) == 0
        assert glue.score("matthews", np.ones(5), np.ones(5)) == 0
        assert glue.score("accuracy_f1", [0, 0, 1], [0, 0, 0]) == pytest.approx(1 / 3)
        assert glue.score("accuracy_f1", [0, 0], [0, 0]) == 0.5
    assert glue.score("accuracy", ["a", "b"], ["a", "a"]) == 0.5


@pytest.mark.parametrize(
    ("metric", "truth", "found", "message"),
    [
        ("f1", [1], [1], "task_or_metric is 'f1'; choose one of accuracy"),
        ("accuracy", [1, 0], [1], "truth has shape \\(2,\\), prediction \\(1,\\)"),
        ("accuracy", [], [], "one value a row"),
        ("pearson_spearman", [1.0, 2.0], [np.nan, 1.0], "prediction has values that are missing"),
        ("pearson_spearman", [np.inf, 2.0], [0.0, 1.0], "truth has values"),
        ("accuracy", ["a", None], ["a", "b"], "truth has values"),
    ],
)
def test_score_refuses(metric, truth, found, message):
    with pytest.raises(ValueError, match=message):
        glue.score(metric, truth, found)
