"""Merged models: what they learn from, how they are named, and how flat their grid is."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import tiny_gpt, tuning
from experiments.modelmap import merges
from helpers import likelihood, text_sets

TINY = {
    "model": {"width": 16, "layers": 1},
    "vocabulary": 280,
    "genres": ["python", "tables", "facts"],
    "n_texts": 3,
    "batch": 2,
    "steps": 2,
    "child_steps": 2,
    "triples": ["short", "strangers"],
}


@pytest.fixture(scope="module")
def family():
    return merges.train_family(TINY)


@pytest.fixture(scope="module")
def texts():
    return text_sets.load_texts(4, genres=["python", "tables"])


def test_nobody_learns_from_the_texts_of_a_map_or_twice():
    found = merges._corpora(TINY | {"n_texts": 20})
    assert {k: len(v) for k, v in found.items()} == {"mixed": 60, "python": 20, "facts": 20}
    every = [text for some in found.values() for text in some]
    assert len(set(every)) == len(every)
    tests = text_sets.load_texts(3 * merges.N_TEST, genres=TINY["genres"]).text
    assert not set(tests) & set(every)


def test_pieces_give_back_every_text_and_begin_with_the_end():
    tokenizer = tiny_gpt.with_ends(tiny_gpt.pieces(["for i in range(10):"] * 3, 270))
    assert len(tokenizer) <= 270
    for text in ("for x in y", "Größe 日本\n\t\x00"):
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == 0 and tokenizer.decode(ids[1:]) == text


def test_a_family_has_the_models_of_its_triples(family):
    assert set(family.models) == {"parent", "python", "facts", "stranger"}
    weights = {
        k: torch.cat([p.detach().flatten() for p in m.parameters()])
        for k, m in family.models.items()
    }
    apart = {k: (w - weights["parent"]).norm() for k, w in weights.items() if k != "parent"}
    assert 0 < apart["python"] < apart["stranger"] and 0 < apart["facts"] < apart["stranger"]
    again = merges.train_family(TINY | {"triples": ["short"]})
    one = family.models["facts"].state_dict()
    assert all(torch.equal(t, one[k]) for k, t in again.models["facts"].state_dict().items())
    head = family.models["parent"].lm_head.weight
    assert head is family.models["parent"].transformer.word_embeddings.weight


def test_texts_longer_than_any_row_are_read_whole(family):
    long = " ".join(f"x{i}" for i in range(200))
    table = likelihood.score_texts(family.models["parent"], family.tokenizer, [long])
    assert table.n_tokens[0] > merges.ROW and not table.truncated[0]


def test_merges_are_scored_as_the_models_that_they_are(family, texts):
    found, about = merges.score_merges(family, "short", texts, levels=(0.0, 0.5, 1.0))
    assert list(found.index) == list(about.index) and len(found) == 9
    assert list(found.columns) == list(texts.index)
    for name, (a, b) in {"parent": (0, 0), "python": (1, 0), "facts": (0, 1)}.items():
        model = family.models[name]
        table = likelihood.score_texts(model, family.tokenizer, list(texts.text), batch_tokens=1024)
        row = found.loc[f"short {a:.1f} {b:.1f}"]
        assert row.to_numpy() == pytest.approx(table.log_likelihood.to_numpy(), abs=1e-9)
    models = [family.models[k] for k in merges.TRIPLES["short"]]
    merged = tuning.interpolate(models, [-0.5, 0.5, 1.0])
    pairs = zip(merged.parameters(), models[0].parameters(), strict=True)
    difference = torch.cat([(p - q).detach().flatten() for p, q in pairs])
    row = about.loc["short 0.5 1.0"]
    assert row.weight_distance == pytest.approx(float((difference**2).mean().sqrt()), rel=1e-4)
    assert row.n_parameters == len(difference) and 0 < row.degrees < 180


def test_levels_a_twentieth_apart_have_names_of_their_own(family, texts):
    found, about = merges.score_merges(family, "short", texts, levels=(0.2, 0.25))
    names = ["short 0.2 0.2", "short 0.2 0.25", "short 0.25 0.2", "short 0.25 0.25"]
    assert list(found.index) == list(about.index) == names


def test_what_is_kept_of_a_run_is_scored_again_where_it_is_damaged(
    monkeypatch, tmp_path, texts, caplog
):
    caplog.set_level("INFO", "experiments")
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path))
    monkeypatch.setattr(merges, "SIZES", {"tiny": TINY | {"triples": ["short"]}})
    monkeypatch.setattr(merges, "_grid", lambda levels=(): [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    ((found, about),) = merges._run("tiny", texts)
    assert list(found.index) == list(about.index) and found.index[0] == "tiny short 0.0 0.0"
    (piece,) = tmp_path.rglob("short *.json")
    whole = piece.read_text()
    for damaged in (whole.replace("-", "-1", 1), whole[: len(whole) // 2], whole):
        piece.write_text(damaged)
        caplog.clear()
        ((again, _),) = merges._run("tiny", texts)
        assert again.equals(found) and piece.read_text() == whole
        assert bool(caplog.messages) == (damaged != whole)


def test_a_plane_fits_a_plane_and_a_bowl_wants_more():
    a, b = np.array(merges._grid()).T
    plane = np.column_stack([1 + 2 * a - b, 3 * b])
    fit = merges.fit_surface(plane, a, b)
    assert fit.explained == pytest.approx(1) and fit.residual < 1e-9
    moved = np.sqrt(((plane - plane.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert fit.movement == pytest.approx(moved)
    bowl = plane[:, 0] + a**2 - a * b
    assert merges.fit_surface(bowl, a, b).explained < 0.99
    assert merges.fit_surface(bowl, a, b, degree=2).explained == pytest.approx(1)
    from sklearn.linear_model import LinearRegression

    noisy = bowl + np.random.default_rng(0).normal(size=36)
    X = np.column_stack([a, b])
    expected = LinearRegression().fit(X, noisy).score(X, noisy)
    assert merges.fit_surface(noisy, a, b).explained == pytest.approx(expected)


def test_rows_that_were_not_fitted_are_judged():
    a, b = np.array(merges._grid((0.0, 0.5, 1.0))).T
    values = 4 * a - b
    values[4] += 10  # the middle
    known = np.arange(9) != 4
    fit = merges.fit_surface(np.append(values, 0.0)[:9], a, b, fitted=known)
    assert fit.residual == pytest.approx(10)


def test_the_line_between_corners_is_theirs():
    a, b = np.array(merges._grid()).T
    values = np.exp(a) + 2 * b**2
    found = merges.from_corners(values, a, b)
    assert found == pytest.approx((1 - a - b) * 1 + a * np.e + b * 3)


def test_the_stored_tables_are_whole():
    from helpers import data

    table = pd.read_csv(data.PUBLISHED / "map_merges.csv", index_col="model")
    about = pd.read_csv(data.PUBLISHED / "map_merges_models.csv", index_col="model")
    assert list(table.index) == list(about.index) and table.notna().all(axis=None)
    assert (about.groupby(["size", "triple"]).size() == 36).all()
    assert set(about["size"]) == set(merges.SIZES) and (table < 0).all(axis=None)
    keys = text_sets.load_texts(128).index
    assert list(table.columns) == list(keys)
