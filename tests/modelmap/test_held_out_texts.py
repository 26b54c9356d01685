import numpy as np
import pytest

from helpers import text_sets
from helpers.modelmap import held_out_texts


@pytest.fixture(scope="module")
def asked():
    return held_out_texts.load(8, 8, 8)


def test_nothing_asked_is_on_the_map_and_items_are_from_other_texts(asked):
    mapped, full = set(text_sets.load_texts(8)["text"]), list(text_sets.load_texts(48)["text"])
    begins = [text[:20] for text in full]
    assert not mapped & set(asked.texts["text"])
    assert all(len(text.encode()) <= 256 for text in asked.texts["text"])
    assert [text[:20] for text in asked.texts["text"]] == begins[8:16]
    real = asked.items[asked.items.candidate == 0]
    assert not {text[:20] for text in real["text"]} & set(begins[:16])
    assert asked.items.groupby("item").size().eq(4).all() and asked.items.item.nunique() == 8
    assert len(asked.every_text) == 8 + 32


def test_an_item_has_one_beginning_and_its_own_passage_first():
    texts = [32 * a + 32 * b + "XX" for a, b in ("ab", "cd", "ef", "gh")]
    items = held_out_texts._make_items(texts, ["g"] * 4, 2)
    for item, (first, rest) in enumerate([("a", "bdfh"), ("c", "dfhb")]):
        made = [32 * first + 32 * last for last in rest]
        assert items[items.item == item].text.tolist() == made


def test_cuts_keep_characters_whole():
    items = held_out_texts._make_items(["a" + "é" * 40] * 4, ["g"] * 4, 1)
    # Byte 32 is in the middle of a letter, and so is byte 64.
    assert items.text.tolist() == ["a" + "é" * 31] * 4


def test_scores_follow_their_definitions(asked):
    n = len(asked.texts)
    values = np.full(n + len(asked.items), -8 * np.log(2))
    values[n:] = np.where(asked.items.candidate == 0, -1.0, -2.0)
    values[n + 4] = -3.0  # the real one of the second item
    found = held_out_texts.scores(values, asked)
    assert found["accuracy"] == 7 / 8
    assert found["bits_per_byte"] == pytest.approx(8 * n / asked.texts.n_bytes.sum())
    # A tie is no answer.
    values[n:] = -1.0
    assert held_out_texts.scores(values, asked)["accuracy"] == 0


def test_random_values_score_at_chance(asked):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, len(asked.every_text)))
    assert np.mean(
        [held_out_texts.scores(row, asked)["accuracy"] for row in rows]
    ) == pytest.approx(0.25, abs=0.03)


def test_another_number_of_values_is_refused(asked):
    with pytest.raises(ValueError, match="Length of values"):
        held_out_texts.scores([1.0], asked)
