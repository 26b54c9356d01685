import numpy as np
import pandas as pd
import pytest

from experiments.modelmap import reference_map
from helpers import data, text_sets
from helpers.modelmap import held_out_texts, placement, stored_families


def part(names, keys, **columns):
    rng = np.random.default_rng(len(names))
    values = pd.DataFrame(rng.normal(-900, 50, (len(names), len(keys))), names, keys)
    values.index.name = "model"
    return stored_families.Gathered(values, pd.DataFrame(columns, index=values.index))


@pytest.fixture
def keys():
    return list(text_sets.load_texts(16).index)


def test_families_join_on_their_common_texts(keys):
    first = part(["a", "b"], keys, family="x", parent=["", "a"], bits_per_byte=[1.0, 2.0])
    second = part(["c"], keys[::-1][:9], family="y")
    found = stored_families.gather([first, second])
    assert list(found.log_likelihoods) == [k for k in keys if k in keys[::-1][:9]]
    assert found.log_likelihoods.loc["c"].equals(
        second.log_likelihoods.loc["c", list(found.log_likelihoods)]
    )
    assert list(found.models) == stored_families.COLUMNS
    assert found.models.parent.tolist() == ["", "a", ""] and np.isnan(found.models.accuracy["c"])
    with pytest.raises(ValueError, match="no text in common"):
        stored_families.gather([first, part(["d"], ["other"], family="z")])


def test_a_saved_map_comes_back(keys, tmp_path):
    first = part(["a", "b", "c"], keys, family="x", bits_per_byte=1.5, accuracy=np.nan)
    made = stored_families.save(stored_families.gather([first]), tmp_path)
    again, models = stored_families.load(tmp_path)
    assert again.names == made.names and np.array_equal(again.coordinates, made.coordinates)
    assert models.bits_per_byte.tolist() == [1.5] * 3 and models.accuracy.isna().all()
    assert models.parent.tolist() == [""] * 3


def test_a_family_beside_a_saved_map_leaves_the_distances_there_alone(keys, tmp_path):
    first = part(["a", "b", "c"], keys, family="x", bits_per_byte=1.5, accuracy=np.nan)
    made = stored_families.save(stored_families.gather([first]), tmp_path)
    made, models = stored_families.load(tmp_path)
    second = part(["d", "e"], keys[:9], family="y", bits_per_byte=2.0)
    second.log_likelihoods.iloc[0, 0] = -1e6
    wide, known = stored_families.beside(made, models, second)
    assert wide.names == ("a", "b", "c", "d", "e") and list(wide.texts) == keys[:9]
    assert np.array_equal(wide.n_bytes, made.n_bytes[:9])
    assert (
        known.family.tolist() == [*"xxxyy"] and known.bits_per_byte.tolist() == [1.5] * 3 + [2] * 2
    )
    few = placement.first_texts(made, 9)
    assert np.allclose(wide.distances()[:3, :3], few.distances())
    # The new family is cut where the map is.
    assert wide.threshold == made.threshold == wide.log_likelihoods[3, 0]
    with pytest.raises(ValueError, match="no text in common"):
        stored_families.beside(made, models, part(["f"], ["other"], family="z"))


def test_stored_families_are_read_and_runs_are_families(tmp_path, keys):
    first = part(["a", "b"], keys, family="gpt", size=["small", "large"], seed=[0, 1])
    first.log_likelihoods.to_csv(tmp_path / "map_x.csv")
    first.models.to_csv(tmp_path / "map_x_models.csv")
    found = stored_families.stored("x", tmp_path)
    assert np.allclose(found.log_likelihoods, first.log_likelihoods)
    assert found.models.family.tolist() == ["gpt, small, seed 0", "gpt, large, seed 1"]


def test_the_published_map_agrees_with_the_published_family():
    made, models = stored_families.load()
    family = stored_families.stored("smollm2")
    rows = [made.names.index(name) for name in family.log_likelihoods.index]
    values = np.maximum(family.log_likelihoods[list(made.texts)], made.threshold)
    assert np.allclose(made.log_likelihoods[rows], values, atol=0.006)
    assert models.loc[family.models.index, "bits_per_byte"].equals(family.models.bits_per_byte)
    assert set(made.texts) <= set(text_sets.load_texts(128).index)
    for score in held_out_texts.SCORES:
        assert models[score].notna().sum() > 100
    assert (data.PUBLISHED / stored_families.MAP).stat().st_size < 1_000_000


def test_n_gram_models_score_without_having_read_the_texts():
    found = reference_map._ngram_models(16, sizes=[3000])
    assert found.log_likelihoods.shape == (64, 16)
    assert found.models.family.nunique() == 8 and list(found.models) == stored_families.COLUMNS
    # Eight bits are what a model that knows nothing gives; a text once read would be far below 2.
    low = found.models.groupby("family").bits_per_byte.min()
    assert low.between(4, 14).all()
    assert found.models.accuracy.between(0.05, 0.6).all()


def test_a_stand_in_scores_texts_and_another_is_refused():
    name, score = reference_map.stand_in("n-gram")
    texts = text_sets.load_texts(8)
    assert "n-grams" in name and (score(list(texts["text"])) < 0).all()


def test_models_trained_further_are_the_corners_of_the_merges():
    found = stored_families.trained_further()
    assert len(found.models) == 6 and found.models.index.is_unique
    assert found.models.family.value_counts().tolist() == [5, 1]
    assert found.models.corpus.tolist() == ["", "python", "facts", "python", "facts", ""]
    stored = pd.read_csv(data.PUBLISHED / "map_merges.csv", index_col="model")
    tuned = found.log_likelihoods.loc["small GPT, python"]
    assert tuned.tolist() == stored.loc["full short 1.0 0.0"].tolist()
    # Longer training on a genre helps there and nowhere else so much.
    gain = found.log_likelihoods.loc["small GPT, python, long"] - tuned
    genre = gain.groupby([key.rsplit("-", 1)[0] for key in gain.index]).mean()
    assert genre.idxmax() == "python"
