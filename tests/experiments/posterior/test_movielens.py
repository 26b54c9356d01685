"""Films: sequences, item embeddings and hits against NumPy, naive loops and torch's own Adam."""

import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.posterior import film_log, movielens
from helpers.data import ROOT

RATINGS = "userId,movieId,rating,timestamp\n1,10,4.0,100\n1,20,3.5,50\n2,10,5.0,7\n"
MOVIES = 'movieId,title,genres\n10,"Heat, The (1995)",Action|Crime\n20,Alone,(no genres listed)\n'


def walks(n_users=40, n_items=12, least=4, most=11, seed=0):
    """Draw sequences of distinct items."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(n_items)[: rng.integers(least, most)] for _ in range(n_users)]


def cycles(n_users=120, n_items=12, seed=0, n=4):
    """Draw sequences of `n` items in which i + 1 always follows i, around the circle."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(n_items, size=n_users)
    return [(s + np.arange(n)) % n_items for s in starts], (starts + n) % n_items


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, text in members.items():
            file.writestr(f"ml-latest-small/{name}.csv", text)
    return path


def test_importing_the_helpers_costs_no_heavy_import():
    code = (
        "import sys; from helpers import encoding, models; from helpers.posterior import entities; "
        "from experiments.posterior import movielens; "
        "print([m for m in ('torch', 'transformers', 'sklearn', 'gguf') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (told.stdout.strip(), told.stderr) == ("[]", "")


# Reading


def test_an_archive_is_read(tmp_path):
    path = archive(tmp_path / "small.zip", movies=MOVIES, ratings=RATINGS, links="movieId\n10\n")
    ratings, movies = film_log.load_movielens(path)
    assert list(ratings.columns) == ["userId", "movieId", "rating", "timestamp"]
    assert ratings.timestamp.tolist() == [100, 50, 7] and ratings.rating.tolist() == [4, 3.5, 5]
    assert movies.title.tolist() == ["Heat, The (1995)", "Alone"]


def test_what_is_no_such_archive_is_refused(tmp_path):
    text = tmp_path / "text.zip"
    text.write_text(RATINGS)
    with pytest.raises(ValueError, match=r"path .*text\.zip.*pass ml-latest-small\.zip"):
        film_log.load_movielens(text)
    with pytest.raises(ValueError, match=r"path .*absent\.zip.*pass ml-latest-small\.zip"):
        film_log.load_movielens(tmp_path / "absent.zip")
    with pytest.raises(ValueError, match=r"has no movies\.csv; pass"):
        film_log.load_movielens(archive(tmp_path / "half.zip", ratings=RATINGS))
    wrong = archive(tmp_path / "wrong.zip", movies=MOVIES, ratings="user,film\n1,2\n")
    with pytest.raises(ValueError, match=r"ratings\.csv without.*'userId', 'movieId'.*; pass"):
        film_log.load_movielens(wrong)


def test_a_damaged_archive_is_refused(tmp_path):
    path = archive(tmp_path / "small.zip", movies=MOVIES, ratings=RATINGS)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"1,20,3.5,50", b"1,20,9.5,50"))
    assert path.read_bytes() != whole
    with pytest.raises(ValueError, match="CRC.*fetch it again"):
        film_log.load_movielens(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="fetch it again"):
        film_log.load_movielens(path)


# Sequences


def naive_sequences(ratings, min_count):
    """Return user -> films in order of time, for ratings of distinct times."""
    kept = [r for r in ratings.itertuples() if (ratings.movieId == r.movieId).sum() >= min_count]
    users = {u: [r for r in kept if r.userId == u] for u in sorted({r.userId for r in kept})}
    return {
        u: [r.movieId for r in sorted(rows, key=lambda r: r.timestamp)]
        for u, rows in users.items()
        if len(rows) >= 3
    }


@pytest.mark.parametrize("min_count", [1, 3, 6])
def test_sequences_are_the_films_in_order_of_time(min_count):
    rng = np.random.default_rng(2)
    cells = [(u, 7 * m) for u in range(1, 13) for m in rng.permutation(10)[: rng.integers(1, 11)]]
    ratings = pd.DataFrame(cells, columns=["userId", "movieId"])
    ratings["timestamp"] = rng.permutation(len(ratings))
    log = film_log.sequences(ratings.sample(frac=1, random_state=0), min_count=min_count)
    wanted = naive_sequences(ratings, min_count)
    assert [log.items[s].tolist() for s in log.sequences] == list(wanted.values())
    assert log.items.tolist() == sorted({m for films in wanted.values() for m in films})


def test_ties_fall_at_random_by_the_seed():
    n, users = 8, range(200)
    ratings = pd.DataFrame(
        {"userId": np.repeat(users, n), "movieId": np.tile(range(n), len(users)), "timestamp": 5}
    )
    first = film_log.sequences(ratings, min_count=1, seed=0).sequences
    again = film_log.sequences(ratings, min_count=1, seed=0).sequences
    other = film_log.sequences(ratings, min_count=1, seed=1).sequences
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # Each film stands in each place about 200 / 8 times; the bound is five standard deviations.
    places = np.array([np.bincount(column, minlength=n) for column in np.array(first).T])
    assert np.abs(places - 25).max() < 5 * np.sqrt(25 * 7 / 8)


def test_ties_do_not_pass_earlier_ratings():
    ratings = pd.DataFrame(
        {"userId": 1, "movieId": [1, 2, 3, 4, 5, 6], "timestamp": [9, 9, 9, 1, 1, 1]}
    )
    for seed in range(10):
        (codes,) = film_log.sequences(ratings, min_count=1, seed=seed).sequences
        assert set(codes[:3]) == {3, 4, 5} and set(codes[3:]) == {0, 1, 2}


def test_a_film_rated_twice_stands_where_it_was_first_rated():
    ratings = pd.DataFrame(
        {"userId": 1, "movieId": [1, 2, 3, 1], "timestamp": [4, 2, 3, 1], "rating": 1.0}
    )
    log = film_log.sequences(ratings, min_count=1)
    assert log.items[log.sequences[0]].tolist() == [1, 2, 3]


def test_how_high_a_rating_is_does_not_matter():
    rng = np.random.default_rng(0)
    ratings = pd.DataFrame(
        {"userId": np.repeat([1, 2, 3], 5), "movieId": np.tile(range(5), 3), "timestamp": 1}
    )
    plain = film_log.sequences(ratings, min_count=1)
    rated = film_log.sequences(ratings.assign(rating=rng.random(15)), min_count=1)
    np.testing.assert_array_equal(plain.sequences, rated.sequences)


def test_the_last_item_is_left_out():
    full = walks()
    split = film_log.leave_last_out(full)
    for whole, part, last in zip(full, split.training, split.held_out, strict=True):
        assert [*part, last] == whole.tolist()


# Labels


def test_genre_decade_and_features_of_a_handmade_table():
    rows = [
        (1, "Old (1931)", "Drama"),
        (2, "Edge (1969)", "Drama|Western"),
        (3, "Cut (1970) ", "Comedy|Drama"),
        (4, "Series (2006–2007)", "Comedy|Drama"),
        (5, "Run (2019-)", "Comedy"),
        (6, "1984 without a year", "(no genres listed)"),
        (7, "2001 (Odyssey) (1968)", "Drama|Sci-Fi|Western"),
    ]
    movies = pd.DataFrame(rows, columns=["movieId", "title", "genres"])
    labels, binary = film_log.genre_and_decade(movies)
    # Films of a genre: Sci-Fi 1, Western 2, Comedy 3, Drama 5.
    genres = ["Drama", "Western", "Comedy", "Comedy", "Comedy", None, "Sci-Fi"]
    assert [g if isinstance(g, str) else None for g in labels.genre] == genres
    decades = ["before 1970"] * 2 + ["1970s", "2000s", "2010s", None, "before 1970"]
    assert [d if isinstance(d, str) else None for d in labels.decade] == decades
    years = [1931, 1969, 1970, 2006, 2019, np.nan, 1968]
    np.testing.assert_array_equal(labels.year, years)
    assert labels.index.tolist() == binary.index.tolist() == [1, 2, 3, 4, 5, 6, 7]
    cuts = {f"year >= {c}": [y >= c for y in years] for c in (1970, 1980, 1990, 2000, 2010)}
    kinds = {
        g: [g in r[2].split("|") for r in rows] for g in ("Comedy", "Drama", "Sci-Fi", "Western")
    }
    assert binary.to_dict("list") == kinds | cuts
    assert all(dtype.kind == "b" for dtype in binary.dtypes)


# Spectral embeddings


def same_up_to_sign(ours, theirs, atol):
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours * signs, theirs, rtol=0, atol=atol)


def table_of(training, n_items):
    table = np.zeros((len(training), n_items))
    for user, codes in enumerate(training):
        table[user, codes] = 1
    return table


@pytest.mark.parametrize("n_users", [40, 9])
def test_svd_embedding_is_that_of_numpy(n_users):
    training = walks(n_users)
    _, values, right = np.linalg.svd(table_of(training, 12), full_matrices=False)
    ours = movielens.svd_embedding(training, 12, d=4)
    same_up_to_sign(ours, right[:4].T * np.sqrt(values[:4]), 1e-9)
    np.testing.assert_array_equal(ours, movielens.svd_embedding(training, 12, d=4))
    twice = [np.concatenate([s, s[:2]]) for s in training]
    same_up_to_sign(movielens.svd_embedding(twice, 12, d=4), ours, 1e-9)


def pair_counts(training, n_items, window):
    counts = np.zeros((n_items, n_items))
    for codes in training:
        for i in range(len(codes)):
            for j in range(len(codes)):
                if i != j and abs(i - j) <= window:
                    counts[codes[i], codes[j]] += 1
    return counts


def naive_ppmi(training, n_items, window):
    counts = pair_counts(training, n_items, window)
    out = np.zeros_like(counts)
    for a in range(n_items):
        for b in range(n_items):
            if counts[a, b]:
                ratio = counts[a, b] * counts.sum() / (counts[a].sum() * counts[b].sum())
                out[a, b] = max(0, np.log(ratio))
    return out


@pytest.mark.parametrize("window", [1, 2, 50])
def test_ppmi_is_the_naive_double_loop(window):
    training = walks(n_users=15, n_items=14, least=1)
    ours = movielens._ppmi(training, 16, window=window)
    np.testing.assert_allclose(ours.toarray(), naive_ppmi(training, 16, window), atol=1e-12)
    assert (ours != ours.T).nnz == 0 and (ours.data > 0).all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=7), min_size=1, max_size=6),
    st.integers(1, 8),
)
def test_ppmi_of_any_sequences(lists, window):
    training = [np.array(s) for s in lists]
    ours = movielens._ppmi(training, 6, window=window).toarray()
    np.testing.assert_allclose(ours, naive_ppmi(training, 6, window), atol=1e-12)


def test_ppmi_svd_embedding_is_that_of_numpy():
    training = walks()
    _, values, right = np.linalg.svd(naive_ppmi(training, 12, 3))
    ours = movielens.ppmi_svd_embedding(training, 12, d=3, window=3)
    same_up_to_sign(ours, right[:3].T * np.sqrt(values[:3]), 1e-9)


# Skip-gram


def skip_gram_loss(single, output, training, n_negative, window):
    """Return the mean over pairs of the expected loss of skip-gram, pair by pair."""
    n_items = len(single)
    counts = pair_counts(training, n_items, window)
    draw = np.array([sum(np.sum(s == i) for s in training) for i in range(n_items)]) ** 0.75
    draw = torch.from_numpy(draw / draw.sum())
    loss = 0
    for a in range(n_items):
        logits = output @ single[a]
        negative = (draw * torch.nn.functional.softplus(logits)).sum()
        for b in range(n_items):
            own = torch.nn.functional.softplus(-logits[b])
            loss = loss + counts[a, b] * (own + n_negative * negative)
    return loss / counts.sum()


@pytest.mark.parametrize("n_steps", [1, 2, 12])
def test_item2vec_is_torchs_adam_on_the_expected_loss(n_steps):
    training, options = walks(20, 8, most=8), {"d": 3, "window": 2, "n_negative": 4, "seed": 5}
    start = np.random.default_rng(5).standard_normal((9, 3)) / np.sqrt(3)
    single = torch.tensor(start, requires_grad=True)
    output = torch.zeros(9, 3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([single, output], lr=0.05, eps=1e-12)
    losses = []
    for _ in range(n_steps):
        adam.zero_grad()
        loss = skip_gram_loss(single, output, training, 4, 2)
        losses.append(loss.item())
        loss.backward()
        adam.step()
    ours = movielens.item2vec_embedding(training, 9, n_steps=n_steps, **options)
    # In the first step Adam divides gradients of zero (the input's, against outputs of zero).
    np.testing.assert_allclose(ours["single"], single.detach(), atol=2e-4)
    np.testing.assert_allclose(ours["combined"], ((single + output) / 2).detach(), atol=2e-4)
    # Item 8 was never seen: its input vector stays where it began.
    np.testing.assert_allclose(ours["single"][8], start[8], atol=1e-6)
    assert losses == sorted(losses, reverse=True)


def test_item2vec_lowers_its_loss_and_finds_the_circle():
    n_items = 10
    training = [(start + np.arange(5)) % n_items for start in np.tile(range(n_items), 4)]
    losses = []
    for n_steps in (1, 10, 60):
        found = movielens.item2vec_embedding(training, n_items, d=6, window=1, n_steps=n_steps)
        single = torch.from_numpy(found["single"])
        output = torch.from_numpy(2 * found["combined"] - found["single"])
        losses.append(float(skip_gram_loss(single, output, training, 5, 1)))
    assert losses[0] > losses[1] > losses[2]
    scores = single @ output.T
    for item in range(n_items):
        near = {(item - 1) % n_items, (item + 1) % n_items}
        assert set(scores[item].topk(2).indices.tolist()) == near


def test_item2vec_depends_on_the_seed_alone():
    training = walks()
    first = movielens.item2vec_embedding(training, 12, d=4, n_steps=5, seed=1)
    again = movielens.item2vec_embedding(training, 12, d=4, n_steps=5, seed=1)
    other = movielens.item2vec_embedding(training, 12, d=4, n_steps=5, seed=2)
    for name in ("single", "combined"):
        assert first[name].shape == (12, 4) and first[name].dtype == np.float64
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.allclose(first[name], other[name])


# The transformer


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40])
def test_stretches_hold_every_step_once(length):
    training = walks(30, 60, least=1, most=50)
    rows = movielens._stretches(training, length, 60, np.random.default_rng(0))
    assert rows.shape[1] == length + 1 and rows.dtype == np.int64
    steps = [(a, b) for row in rows for a, b in zip(row, row[1:], strict=False) if b < 60]
    wanted = [(a, b) for s in training for a, b in zip(s, s[1:], strict=False)]
    assert sorted(steps) == sorted(wanted)
    for row in rows:
        n = int((row < 60).sum())
        assert n >= 2 and (row[:n] < 60).all()


SMALL = {"d": 16, "length": 6, "n_layers": 1, "batch_size": 32, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def trained():
    training, held_out = cycles()
    options = SMALL | {"epochs": (1, 3, 40), "k": 1, "seed": 3}
    return movielens.sasrec_checkpoints(training, held_out, 12, **options)


def test_sasrec_learns_what_comes_next(trained):
    assert list(trained) == [1, 3, 40]
    for found in trained.values():
        assert found.embedding.shape == (12, 16) and found.embedding.dtype == np.float64
        assert found.hits.shape == (120,) and found.hits.dtype == bool
    # Of the eight items that a user has not seen one is right: chance is 1/8.
    assert trained[1].hits.mean() < 0.8 < 0.95 < trained[40].hits.mean()
    assert not np.allclose(trained[1].embedding, trained[3].embedding)


def test_sasrec_repeats_and_leaves_the_random_states_alone(trained):
    training, held_out = cycles()
    torch.manual_seed(7)
    np.random.seed(7)
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    options = SMALL | {"epochs": [3], "k": 1}
    again = movielens.sasrec_checkpoints(training, held_out, 12, seed=3, **options)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)
    # The run up to the third epoch does not hang on what is asked for later, or before.
    np.testing.assert_array_equal(again[3].embedding, trained[3].embedding)
    np.testing.assert_array_equal(again[3].hits, trained[3].hits)
    other = movielens.sasrec_checkpoints(training, held_out, 12, seed=4, **options)
    assert not np.allclose(again[3].embedding, other[3].embedding)


def test_sasrec_sees_no_later_item(monkeypatch):
    """A batch whose last items differ gives the same states before them, in training and after."""
    seen = []
    linear = torch.nn.LayerNorm.forward

    def spy(self, x):
        out = linear(self, x)
        seen.append((self, out.detach().clone()))
        return out

    monkeypatch.setattr(torch.nn.LayerNorm, "forward", spy)
    monkeypatch.setattr(movielens, "_stretches", lambda *_: rows.copy())
    states = []
    for last in (4, 9):
        rows = np.array([[0, 1, 2, 3, last, 5]])
        seen.clear()
        options = SMALL | {"length": 5, "dropout": 0.0}
        movielens.sasrec_checkpoints([rows[0]], [11], 12, epochs=[1], **options)
        # The final norm is the last one of the first, the training, pass: its input is a layer's.
        states.append(seen[2][1][0])
    torch.testing.assert_close(states[0][:4], states[1][:4])
    assert not torch.allclose(states[0][4], states[1][4])


def test_sasrec_reads_the_end_of_a_long_sequence():
    rng = np.random.default_rng(0)
    training = [rng.permutation(30)[:20] for _ in range(10)]
    held_out = [int(np.setdiff1d(range(30), s)[0]) for s in training]
    options = SMALL | {"length": 4, "epochs": [2], "k": 3}
    found = movielens.sasrec_checkpoints(training, held_out, 30, **options)[2]
    assert np.isfinite(found.embedding).all() and found.hits.shape == (10,)
    everything = movielens.sasrec_checkpoints(training, held_out, 30, **options | {"k": 10})[2]
    assert everything.hits.all()  # ten candidates are left
    circle, last = cycles(60, 16, n=9)
    options = SMALL | {"length": 4, "epochs": [30], "k": 1}
    assert movielens.sasrec_checkpoints(circle, last, 16, **options)[30].hits.mean() > 0.9


# Controls and hits


def test_popularity_lies_along_one_direction():
    rng = np.random.default_rng(1)
    training = [np.flatnonzero(rng.random(300) < np.linspace(0.01, 0.9, 300)) for _ in range(60)]
    found = movielens.popularity_embedding(training, 300, d=8, seed=2)
    noise = np.random.default_rng(2).standard_normal((300, 8))
    values = np.linalg.svd(found - noise, compute_uv=False)
    assert values[1] < 1e-9 * values[0]
    count = np.log1p(np.sum([np.isin(range(300), s) for s in training], axis=0))
    left = (found - noise)[:, 0]
    assert abs(np.corrcoef(left, count)[0, 1]) == pytest.approx(1)
    # The direction holds as much variance as all eight of noise.
    assert np.mean(np.sum((found - noise) ** 2, axis=1)) == pytest.approx(8)
    np.testing.assert_array_equal(found, movielens.popularity_embedding(training, 300, d=8, seed=2))


def test_popularity_of_equals_is_noise():
    training = [np.arange(5)]
    found = movielens.popularity_embedding(training, 5, d=3, seed=2)
    np.testing.assert_array_equal(found, movielens.random_embedding(5, d=3, seed=2))


def test_random_embedding_is_standard_noise():
    found = movielens.random_embedding(4000, d=5, seed=1)
    np.testing.assert_array_equal(found, movielens.random_embedding(4000, d=5, seed=1))
    assert not np.allclose(found, movielens.random_embedding(4000, d=5, seed=2))
    np.testing.assert_allclose(np.cov(found.T), np.eye(5), atol=0.1)


def naive_hits(X, training, held_out, k, last):
    found = []
    for codes, wanted in zip(training, held_out, strict=True):
        unit = [x / np.linalg.norm(x) for x in X]
        query = np.mean([unit[i] for i in codes[-last:]], axis=0)
        open_items = [i for i in range(len(X)) if i not in set(codes) or i == wanted]
        better = [i for i in open_items if i != wanted and unit[i] @ query >= unit[wanted] @ query]
        found.append(len(better) < k)
    return found


@pytest.mark.parametrize(("k", "last"), [(1, 1), (2, 3), (5, 10)])
def test_hits_are_those_of_a_naive_loop(k, last):
    split = film_log.leave_last_out(walks(80, 20, most=12))
    X = np.random.default_rng(4).standard_normal((20, 5)) * np.arange(1, 21)[:, None]
    ours = movielens.hits(X, *split, k=k, last=last)
    assert ours.tolist() == naive_hits(X, *split, k, last)
    assert 0 < ours.mean() < 1
    np.testing.assert_array_equal(ours, movielens.hits(3 * X, *split, k=k, last=last))
    if last == 10:
        assert movielens.hit_rate(X, *split, k=k) == ours.mean()


def test_equal_cosines_count_against_the_held_out_item():
    X = np.eye(2)[[0, 0, 0, 0, 1]]
    training, held_out = [np.array([0])], [1]
    found = [bool(movielens.hits(X, training, held_out, k=k)[0]) for k in (1, 2, 3)]
    assert found == [False, False, True]
    # Zero vectors are as far from everything as a right angle.
    assert not movielens.hits(np.zeros((3, 2)), training, held_out, k=1).any()


def test_a_held_out_item_seen_before_is_still_ranked():
    X = np.eye(4)[[0, 0, 1, 2]] + 0.01 * np.eye(4)
    training = [np.array([2, 0])]
    for k in (1, 2, 3):
        assert movielens.hits(X, training, [2], k=k, last=1)[0] == (k == 3)
        assert naive_hits(X, training, [2], k, 1) == [k == 3]


def test_training_that_diverges_is_refused():
    cycle = [np.arange(12) % 4 for _ in range(8)]
    with pytest.raises(ValueError, match="learning_rate is 1e.30; it diverges: lower it"):
        movielens.sasrec_checkpoints(cycle, [0] * 8, 4, epochs=[2], d=8, learning_rate=1e30)
