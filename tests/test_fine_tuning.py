"""Probe and fine-tuning on tiny models: what they learn, and that a stopped run is the same run."""

import json
import os
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from helpers import checkpoints, encoding, fine_tuning, glue, probing

WORDS = "a river runs to the sea many people live near large today".split()
STEPS = 7


def built(dropout=0.1, layers=2):
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    config = BertConfig(
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=layers,
        vocab_size=len(vocabulary),
        max_position_embeddings=32,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tokenizer, BertModel(config).eval()


@pytest.fixture(scope="module")
def pair():
    return built()


def toy(kind="binary", n=240, pairs=False, seed=0):
    """Make a task whose label is told by the words "sea" (and "river") of the first text."""
    rng = np.random.default_rng(seed)
    plain = [w for w in WORDS if w not in ("sea", "river")]
    texts = [" ".join(rng.choice(plain, rng.integers(3, 9))) for _ in range(n)]
    codes = rng.integers(0, 3 if kind == "classes" else 2, n)
    texts = [f"{t} {['a', 'sea', 'river'][c]} today" for t, c in zip(texts, codes, strict=True)]
    label = {
        "binary": codes,
        "classes": np.array(["none", "salt", "sweet"])[codes],
        "regression": 5.0 * codes + rng.random(n) / 10,
    }[kind]
    frame = pd.DataFrame({"sentence1": texts})
    if pairs:
        frame["sentence2"] = [texts[i] for i in rng.permutation(n)]
    frame["label"] = label
    metric = "pearson_spearman" if kind == "regression" else "accuracy"
    cut = n * 2 // 3
    return glue.Task("toy", frame[:cut], frame[cut:].reset_index(drop=True), kind, metric)


def weights(result):
    state = {f"model.{k}": v for k, v in result.model.state_dict().items()}
    return state | {f"head.{k}": v for k, v in result.head.state_dict().items()}


def assert_same(one, other):
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    assert one.score == other.score


# The probe


@pytest.mark.parametrize("kind", ["binary", "classes", "regression"])
@pytest.mark.parametrize("pairs", [False, True])
def test_probe_finds_a_planted_signal_and_nothing_in_shuffled_labels(pair, kind, pairs):
    tokenizer, model = pair
    task = toy(kind, n=900, pairs=pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = probing.probe_features(model, tokenizer, task)
        found = probing.probe_score(task, features)
        # One direction rules these vectors, so that a single shuffle may hit it either way.
        rng = np.random.default_rng(0)
        shuffled = [features._replace(y_train=rng.permutation(features.y_train)) for _ in range(16)]
        lost = np.mean([probing.probe_score(task, f) for f in shuffled])
    chance = {"binary": 1 / 2, "classes": 1 / 3, "regression": 0}[kind]
    assert found > (0.75 if kind == "regression" else 0.85)
    assert abs(lost - chance) < 0.15


def test_probe_features_are_the_mean_vectors_and_their_pairs(pair):
    tokenizer, model = pair
    task = toy(pairs=True)
    found = probing.probe_features(model, tokenizer, task, n_train=50, n_test=20, seed=3)
    assert found.X_train.shape == (50, 64) and found.X_test.shape == (20, 64)
    chosen = task.train.iloc[probing.train_order(task, 3)[:50]]
    assert (found.y_train == chosen["label"]).all()
    u, v = (
        encoding.layer_embeddings(model, tokenizer, chosen[c].tolist(), layers=[2])[0]
        for c in ("sentence1", "sentence2")
    )
    expected = np.hstack([u, v, np.abs(u - v), u * v])
    np.testing.assert_allclose(found.X_train, expected, atol=1e-5)
    single = probing.probe_features(model, tokenizer, toy(), n_train=30)
    assert single.X_train.shape == (30, 16) and len(single.y_test) == len(toy().test)


def test_a_text_is_encoded_once(pair, monkeypatch):
    tokenizer, model = pair
    seen, real = [], encoding.layer_embeddings

    def spy(model, tokenizer, texts, **options):
        seen.append(texts)
        return real(model, tokenizer, texts, **options)

    monkeypatch.setattr(encoding, "layer_embeddings", spy)
    task = toy(pairs=True)
    task = task._replace(train=task.train.assign(sentence2=task.train["sentence1"]))
    probing.probe_features(model, tokenizer, task)
    assert len(seen) == 1 and len(seen[0]) == len(set(seen[0]))


def test_rows_keep_the_shares_of_classes_and_grow_without_change():
    labels = np.repeat(["many", "some", "few"], [600, 300, 100])
    frame = pd.DataFrame({"sentence1": "a sea", "label": labels})
    task = glue.Task("toy", frame, frame, "classes", "accuracy")
    order = probing.train_order(task, seed=5)
    assert sorted(order) == list(range(1000))
    for n in (10, 100, 400):
        drawn = pd.Series(labels[order[:n]]).value_counts()
        for name, share in [("many", 0.6), ("some", 0.3), ("few", 0.1)]:
            assert abs(drawn[name] - share * n) <= 1
    assert (probing.train_order(task, seed=5) == order).all()
    assert (probing.train_order(task, seed=6) != order).any()
    assert sorted(probing.test_order(task)) == list(range(1000))


def test_probe_repeats_and_meets_one_test_whatever_the_seed(pair):
    tokenizer, model = pair
    task = toy("classes", n=300)
    options = {"n_train": 40, "n_test": 25}
    first, again, other = (
        probing.probe_features(model, tokenizer, task, seed=seed, **options) for seed in (1, 1, 2)
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(first.y_test, other.y_test)
    np.testing.assert_allclose(first.X_test, other.X_test, atol=1e-5)
    assert not np.allclose(first.X_train, other.X_train)


def test_the_probe_converges_on_collapsed_and_on_wild_features():
    rng = np.random.default_rng(0)
    wild = rng.standard_normal((300, 400)) * np.exp(rng.normal(0, 8, 400))
    flat = 1 + 1e-7 * rng.standard_normal((300, 400))
    for X in (wild, flat, np.ones((300, 400))):
        y = rng.integers(0, 3, 300)
        features = probing._Features(X[:200].astype(np.float32), y[:200], X[200:], y[200:])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            task = toy("classes")
            assert 0 <= probing.probe_score(task, features) <= 1
            assert -1 <= probing.probe_score(toy("regression"), features) <= 1


# Fine-tuning


@pytest.mark.parametrize("kind", ["binary", "classes", "regression", "pairs"])
def test_fine_tuning_learns(kind):
    tokenizer, model = built(dropout=0.0, layers=1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(11)
    state = torch.get_rng_state()
    task = toy("binary", pairs=True) if kind == "pairs" else toy(kind)
    result = fine_tuning.fine_tune(model, tokenizer, task, steps=60, learning_rate=1e-2)
    loss = result.history["loss"]
    assert loss[-10:].mean() < 0.5 * loss[:5].mean()
    assert result.score > 0.8
    assert list(result.history["step"]) == list(range(1, 61))
    assert result.history["penalty"].isna().all()
    rate = result.history["learning_rate"]
    assert rate.idxmax() == 5 and rate.max() == 1e-2 and 0 < rate.iloc[-1] < rate.iloc[0]
    assert not result.model.training and result.model is not model and not model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_score_is_that_of_each_test_text_alone(pair):
    tokenizer, model = pair
    task = toy("classes")
    result = fine_tuning.fine_tune(model, tokenizer, task, steps=20, learning_rate=1e-3, n_test=40)
    rows = task.test.iloc[probing.test_order(task)[:40]]
    found = []
    for text in rows["sentence1"]:
        with torch.no_grad():
            states = result.model(**tokenizer(text, return_tensors="pt")).last_hidden_state
            found.append(int(result.head(states.mean(dim=1)).argmax()))
    names = np.array(["none", "salt", "sweet"])
    assert result.score == (names[found] == rows["label"]).mean()


def test_rows_are_drawn_evenly_and_grouped_by_length():
    rng = np.random.default_rng(0)
    drawn = fine_tuning.draw_rows(10, 35, rng)
    assert set(np.bincount(drawn)) == {3, 4} and sorted(drawn[:10]) == list(range(10))
    lengths = rng.integers(3, 40, 640)
    batches = fine_tuning._grouped(
        np.arange(640), {"input_ids": [[0] * n for n in lengths]}, 8, rng
    )
    assert sorted(np.concatenate(batches)) == list(range(640))
    padded = sum(8 * lengths[batch].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()
    first = [lengths[batch].mean() for batch in batches[:16]]
    assert first != sorted(first)


def test_runs_repeat_by_seed(pair):
    tokenizer, model = pair
    one, same, other = (
        fine_tuning.fine_tune(model, tokenizer, toy(), steps=4, seed=seed) for seed in (1, 1, 2)
    )
    assert_same(one, same)
    assert one.history["loss"].tolist() != other.history["loss"].tolist()


# The penalty


def length(states, mask):
    """Mean squared length of the tokens, and a draw from torch's random state."""
    torch.rand(3)
    return (states.square().mean(dim=2) * mask).sum() / mask.sum()


def test_a_penalty_without_weight_changes_nothing_and_with_one_it_falls(pair):
    tokenizer, model = pair
    options = {"steps": 15, "learning_rate": 1e-2}
    none, idle, heavy, reward = (
        fine_tuning.fine_tune(
            model, tokenizer, toy(), layer_penalty=penalty, penalty_weight=weight, **options
        )
        for penalty, weight in [(None, 0.0), (length, 0.0), (length, 50.0), (length, -50.0)]
    )
    assert idle.history["penalty"].notna().all()
    assert idle.history["loss"].tolist() == none.history["loss"].tolist()
    for name, tensor in weights(none).items():
        assert torch.equal(tensor, weights(idle)[name])
    last = [r.history["penalty"].iloc[-5:].mean() for r in (heavy, idle, reward)]
    assert last[0] < 0.9 * last[1] < 0.9 * last[2]


def test_the_penalty_sees_the_last_layer_and_the_mask(pair):
    tokenizer, model = pair
    seen = []

    def spy(states, mask):
        seen.append((states.detach().clone(), mask.clone()))
        return states.sum() * 0

    fine_tuning.fine_tune(model, tokenizer, toy(), steps=3, batch_size=5, layer_penalty=spy)
    assert len(seen) == 3
    for states, mask in seen:
        assert states.shape == (*mask.shape, 16) and mask.shape[0] == 5
        assert set(mask.unique().tolist()) <= {0, 1} and mask[:, 0].all()


# Checkpoints


def test_checkpoints_give_back_what_was_written_or_leave_no_part(tmp_path, monkeypatch):
    path, tied = tmp_path / "a.safetensors", torch.arange(4.0)
    notes = [{"step": 1, "loss": 0.1 + 0.2, "penalty": float("nan")}]
    checkpoints.write(path, "run", {"a": tied, "b": tied, "c": torch.tensor(True)}, notes)
    tensors, told = checkpoints.read(path, "run")
    assert torch.equal(tensors["a"], tied) and torch.equal(tensors["b"], tied) and tensors["c"]
    assert json.dumps(told) == json.dumps(notes)
    assert checkpoints.read(tmp_path / "none.safetensors", "run") is None
    content = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoints.write(path, "run", {"a": tied + 1}, [])
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"layer_penalty": lambda states, mask: states},
            "layer_penalty gave Tensor of shape",
        ),
        (
            {"layer_penalty": lambda states, mask: states.sum() / 0, "penalty_weight": 1.0},
            "in step 1; lower learning_rate or penalty_weight",
        ),
    ],
)
def test_fine_tune_refuses(pair, options, message):
    tokenizer, model = pair
    with pytest.raises(ValueError, match=message):
        fine_tuning.fine_tune(model, tokenizer, toy(), **{"steps": 2, **options})
