"""Embeddings by layer against one text at a time, and what the cache survives."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

from helpers import encoding
from helpers import models as loader

WORDS = "a river runs to the sea many people live near large today".split()
TEXTS = [
    "a river runs to the sea",
    "the sea",
    "many people live near the large river today",
    "sea",
    "today a large river",
    "people",
    "unknown words live near",
]
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
ROOM = {"vocab_size": len(WORDS) + 4, "max_position_embeddings": 32}


def word_tokenizer(special):
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        backend.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )


def built(kind, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "encoder":
            model = BertModel(BertConfig(num_hidden_layers=3, **SHAPE, **ROOM))
        else:
            model = LlamaModel(
                LlamaConfig(num_hidden_layers=4, initializer_range=0.3, **SHAPE, **ROOM)
            )
        return word_tokenizer(kind == "encoder"), model.eval()


def saved(path, kind, seed=0):
    tokenizer, model = built(kind, seed)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=["encoder", "decoder"])
def pair(request):
    return built(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("decoder"), "decoder")


@pytest.fixture(autouse=True)
def fresh(clean_data):
    """No model in memory, and an empty cache."""
    encoding._loaded.cache_clear()
    yield
    encoding._loaded.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """Count the texts that go through a model, a list entry a call."""
    seen, real = [], encoding.layer_embeddings

    def spy(model, tokenizer, texts, **options):
        seen.append(list(texts))
        return real(model, tokenizer, texts, **options)

    monkeypatch.setattr(encoding, "layer_embeddings", spy)
    return seen


def one_at_a_time(model, tokenizer, texts, pooling, max_length=None):
    columns = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:max_length]])
        with torch.no_grad():
            states = torch.stack(model(input_ids=ids, output_hidden_states=True).hidden_states)
        columns.append(states[:, 0].mean(dim=1) if pooling == "mean" else states[:, 0, -1])
    return torch.stack(columns, dim=1).numpy()


# One model


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_layer_is_that_of_each_text_alone(pair, pooling, batch_size):
    tokenizer, model = pair
    ours = encoding.layer_embeddings(
        model, tokenizer, TEXTS, pooling=pooling, batch_size=batch_size
    )
    wanted = one_at_a_time(model, tokenizer, TEXTS, pooling)
    assert ours.dtype == np.float32
    assert ours.shape == (model.config.num_hidden_layers + 1, len(TEXTS), 16)
    np.testing.assert_allclose(ours, wanted, atol=2e-5)
    assert np.ptp(wanted, axis=1).max() > 0.1


def test_the_two_poolings_differ_but_for_one_token(pair):
    tokenizer, model = pair
    mean, last = (
        encoding.layer_embeddings(model, tokenizer, ["the sea", "sea"], pooling=p)
        for p in ("mean", "last")
    )
    assert not np.allclose(mean[:, 0], last[:, 0], atol=1e-3)
    single = model.config.model_type == "llama"
    assert np.allclose(mean[:, 1], last[:, 1], atol=1e-6) == single


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_padding_side_does_not_matter(pair, pooling):
    tokenizer, model = pair
    found = []
    for side in ("left", "right"):
        tokenizer.padding_side = side
        found.append(encoding.layer_embeddings(model, tokenizer, TEXTS, pooling=pooling))
    np.testing.assert_array_equal(*found)


def test_order_and_company_do_not_matter(pair):
    tokenizer, model = pair
    ours = encoding.layer_embeddings(model, tokenizer, TEXTS)
    back = encoding.layer_embeddings(model, tokenizer, TEXTS[::-1])
    np.testing.assert_allclose(ours, back[:, ::-1], atol=2e-5)
    alone = encoding.layer_embeddings(model, tokenizer, [TEXTS[1]])
    np.testing.assert_allclose(ours[:, [1]], alone, atol=2e-5)
    np.testing.assert_array_equal(ours, encoding.layer_embeddings(model, tokenizer, TEXTS))


def test_layers_are_picked_in_their_order(pair):
    tokenizer, model = pair
    every = encoding.layer_embeddings(model, tokenizer, TEXTS)
    some = encoding.layer_embeddings(model, tokenizer, TEXTS, layers=[3, 0, 3])
    np.testing.assert_array_equal(some, every[[3, 0, 3]])


def test_a_model_without_layers_gives_its_embeddings():
    model = BertModel(BertConfig(num_hidden_layers=0, **SHAPE, **ROOM)).eval()
    found = encoding.layer_embeddings(model, word_tokenizer(True), TEXTS)
    ids = torch.tensor(word_tokenizer(True)(TEXTS[0])["input_ids"])[None]
    alone = model.embeddings(ids)[0].mean(dim=0).detach().numpy()
    assert found.shape == (1, len(TEXTS), SHAPE["hidden_size"])
    np.testing.assert_allclose(found[0, 0], alone, atol=1e-5)


def test_long_texts_are_cut(pair):
    tokenizer, model = pair
    longest = " ".join(WORDS * 9)
    for max_tokens, wanted in ((5, 5), (256, 32)):
        ours = encoding.layer_embeddings(model, tokenizer, [longest, "sea"], max_tokens=max_tokens)
        ids = tokenizer(longest, truncation=True, max_length=wanted)["input_ids"]
        assert len(ids) == wanted
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        np.testing.assert_allclose(ours[-1, 0], states[-1][0].mean(dim=0), atol=2e-5)


def test_the_limit_of_the_tokenizer_holds_too():
    tokenizer = word_tokenizer(special=True)
    tokenizer.model_max_length = 8
    shape = SHAPE | {"vocab_size": len(WORDS) + 4, "max_position_embeddings": 10}
    model = RobertaModel(RobertaConfig(num_hidden_layers=1, pad_token_id=1, **shape)).eval()
    found = encoding.layer_embeddings(model, tokenizer, [" ".join(WORDS)])
    assert found.shape == (2, 1, 16)


def test_of_an_encoder_and_decoder_the_encoder_is_read():
    tokenizer = word_tokenizer(special=True)
    config = T5Config(
        vocab_size=len(WORDS) + 4, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    model = T5Model(config).eval()
    ours = encoding.layer_embeddings(model, tokenizer, TEXTS)
    wanted = one_at_a_time(model.encoder, tokenizer, TEXTS, "mean")
    assert ours.shape == (3, len(TEXTS), 16)
    np.testing.assert_allclose(ours, wanted, atol=2e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_random_state_stay_as_they_were(training):
    tokenizer, model = built("encoder")
    model.train(training)
    before = torch.get_rng_state()
    first = encoding.layer_embeddings(model, tokenizer, TEXTS)
    assert model.training == training and torch.equal(torch.get_rng_state(), before)
    model.eval()
    np.testing.assert_array_equal(first, encoding.layer_embeddings(model, tokenizer, TEXTS))


def test_layer_embeddings_refuses(pair):
    tokenizer, model = pair
    for options, message in [
        ({"pooling": "max"}, "pooling is 'max'; choose one of mean, last"),
        ({"layers": [0, 9, -1]}, r"layers has \[9, -1\]; this model has layers 0 to"),
        ({"layers": [0.5]}, r"layers has \[0\.5\]; this model"),
        ({"layers": []}, r"layers is \[\]; pass a list"),
        ({"batch_size": 0}, "batch_size is 0; give a whole number, at least 1"),
        ({"max_tokens": 0}, "max_tokens is 0; give a whole number, at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            encoding.layer_embeddings(model, tokenizer, TEXTS, **options)
    for texts in ([], "the sea"):
        with pytest.raises(ValueError, match="texts is empty or one string; pass a list"):
            encoding.layer_embeddings(model, tokenizer, texts)


def test_a_text_without_tokens_is_named():
    tokenizer, model = built("decoder")
    with pytest.raises(ValueError, match=r"texts\[1\] \(' '\) has no tokens; leave it out"):
        encoding.layer_embeddings(model, tokenizer, ["sea", " "])


def test_states_that_are_not_finite_are_refused():
    tokenizer, model = built("decoder")
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="model gives states that are not finite; load it in"):
        encoding.layer_embeddings(model, tokenizer, TEXTS)


# Random weights


def test_randomised_weights_are_those_of_an_untrained_model():
    _, model = built("encoder")
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1
    torch.manual_seed(9)
    state = torch.get_rng_state()
    control = encoding.randomised(model, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(control) is BertModel and not control.training
    pairs = zip(model.named_parameters(), control.named_parameters(), strict=True)
    for (name, old), (_, new) in pairs:
        assert new.shape == old.shape and new.dtype == torch.float32
        if "LayerNorm.weight" in name:
            assert (new == 1).all()
        elif name.endswith("bias"):
            assert (new == 0).all()
        else:
            assert 0.01 < new.std() < 0.03 and abs(new.mean()) < 0.01
    again, other = (dict(encoding.randomised(model, s).named_parameters()) for s in (1, 2))
    for name, new in control.named_parameters():
        assert torch.equal(new, again[name])
    assert not torch.equal(control.pooler.dense.weight, other["pooler.dense.weight"])


# The cache


def files_in(folder):
    return sorted(folder.glob("*"))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_cached_embeddings_are_those_of_the_model(folder, tmp_path, calls, pooling):
    options = {"pooling": pooling, "shard_size": 3, "folder": tmp_path}
    ours = encoding.cached_layer_embeddings(folder, TEXTS, **options)
    tokenizer, model = built("decoder")
    wanted = one_at_a_time(model, tokenizer, TEXTS, pooling)
    assert list(ours) == [0, 1, 2, 3, 4]
    for layer, vectors in ours.items():
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, wanted[layer], atol=2e-5)
    assert calls == [TEXTS[:3], TEXTS[3:6], TEXTS[6:]]
    again = encoding.cached_layer_embeddings(str(folder), TEXTS, **options)
    assert len(calls) == 3
    for layer in ours:
        np.testing.assert_array_equal(ours[layer], again[layer])
    # More texts need no more than the shards that are new.
    encoding.cached_layer_embeddings(folder, TEXTS[:6] + ["near", "sea"], **options)
    assert calls[3:] == [["near", "sea"]]


def test_a_full_cache_needs_no_model(folder, monkeypatch, clean_data):
    ours = encoding.cached_layer_embeddings(folder, TEXTS)
    (kept,) = files_in(clean_data / "embeddings")
    assert kept.suffix == ".npz" and len(kept.stem) == 64
    encoding._loaded.cache_clear()
    monkeypatch.setattr(loader, "load_model", lambda name: pytest.fail("the model was loaded"))
    again = encoding.cached_layer_embeddings(folder, TEXTS)
    np.testing.assert_array_equal(list(ours.values()), list(again.values()))


def test_a_run_that_was_stopped_goes_on(folder, tmp_path, monkeypatch):
    options = {"shard_size": 2, "folder": tmp_path / "kept"}
    whole = encoding.cached_layer_embeddings(folder, TEXTS, shard_size=2, folder=tmp_path / "a")
    real, seen = encoding.layer_embeddings, []

    def stops(model, tokenizer, texts, **rest):
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(list(texts))
        return real(model, tokenizer, texts, **rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoding, "layer_embeddings", stops)
        encoding.cached_layer_embeddings(folder, TEXTS, **options)
    (first,) = files_in(tmp_path / "kept")
    written = first.stat().st_mtime_ns

    def counts(model, tokenizer, texts, **rest):
        seen.append(list(texts))
        return real(model, tokenizer, texts, **rest)

    monkeypatch.setattr(encoding, "layer_embeddings", counts)
    rest = encoding.cached_layer_embeddings(folder, TEXTS, **options)
    assert seen == [TEXTS[:2], TEXTS[2:4], TEXTS[4:6], TEXTS[6:]]
    assert first.stat().st_mtime_ns == written
    for layer in whole:
        np.testing.assert_array_equal(whole[layer], rest[layer])


@pytest.mark.parametrize("stage", ["write", "rename"])
def test_no_half_written_file_is_left(folder, tmp_path, monkeypatch, stage):
    def half(file, **arrays):
        file.write(b"PK\x03\x04 half")
        raise OSError("no space left")

    def fails(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(*((np, "savez", half) if stage == "write" else (os, "replace", fails)))
        encoding.cached_layer_embeddings(folder, TEXTS, folder=tmp_path)
    assert files_in(tmp_path) == []
    assert len(encoding.cached_layer_embeddings(folder, TEXTS, folder=tmp_path)) == 5


class Marks:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def damages(path):
    """Name ways to spoil a shard: a function of its bytes to other bytes."""
    layers = np.arange(5)
    good = np.zeros((5, 3, 16), dtype=np.float32)
    bare = io.BytesIO()
    np.save(bare, good)
    return {
        "empty": lambda old: b"",
        "cut": lambda old: old[: len(old) // 2],
        "no end": lambda old: old[:-30],
        "flipped": lambda old: old[:700] + bytes([old[700] ^ 1]) + old[701:],
        "text": lambda old: b"<html>not found</html>",
        "bare array": lambda old: bare.getvalue(),
        "other names": lambda old: npz(a=layers, b=good),
        "too few texts": lambda old: npz(layers=layers, vectors=good[:, :2]),
        "too few layers": lambda old: npz(layers=layers, vectors=good[:4]),
        "flat": lambda old: npz(layers=layers, vectors=good[0]),
        "not finite": lambda old: npz(layers=layers, vectors=good * np.nan),
        "words": lambda old: npz(layers=layers, vectors=good.astype(str)),
        "objects": lambda old: npz(
            layers=layers, vectors=np.array([[[Marks(path)] * 3] * 5], dtype=object)
        ),
        "pickle": lambda old: pickle.dumps(Marks(path)),
    }


@pytest.mark.parametrize("damage", list(damages(None)))
def test_a_damaged_shard_is_made_anew_and_nothing_unpickled(folder, tmp_path, calls, damage):
    mark = tmp_path / "mark"
    options = {"shard_size": 3, "folder": tmp_path / "kept"}
    ours = encoding.cached_layer_embeddings(folder, TEXTS, **options)
    before = {file: file.read_bytes() for file in files_in(tmp_path / "kept")}
    spoilt = next(file for file in before if encoding._stored(file, 3))
    spoilt.write_bytes(damages(mark)[damage](before[spoilt]))
    assert spoilt.read_bytes() != before[spoilt]
    calls.clear()
    again = encoding.cached_layer_embeddings(folder, TEXTS, **options)
    assert len(calls) == 1 and calls[0] in (TEXTS[:3], TEXTS[3:6])
    np.testing.assert_array_equal(list(ours.values()), list(again.values()))
    assert files_in(tmp_path / "kept") == list(before) and not mark.exists()
    calls.clear()
    encoding.cached_layer_embeddings(folder, TEXTS, **options)
    assert calls == []


def test_no_flipped_byte_changes_a_number(tmp_path):
    rng = np.random.default_rng(0)
    layers, vectors = np.array([0, 2]), rng.standard_normal((2, 3, 4)).astype(np.float16)
    path = tmp_path / "shard.npz"
    encoding._store(path, layers, vectors)
    whole, refused = path.read_bytes(), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.integers(8))]) + whole[at + 1 :])
        found = encoding._stored(path, 3)
        refused += found is None
        if found is not None:
            np.testing.assert_array_equal(found[0], layers)
            np.testing.assert_array_equal(found[1], vectors)
    assert refused > len(whole) / 2


def test_the_files_hold_arrays_and_no_pickle(folder, tmp_path):
    encoding.cached_layer_embeddings(folder, TEXTS, folder=tmp_path)
    (path,) = files_in(tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["layers.npy", "vectors.npy"]
    with np.load(path, allow_pickle=False) as file:
        assert file["layers"].tolist() == [0, 1, 2, 3, 4]
        assert file["vectors"].shape == (5, len(TEXTS), 16)


def test_each_option_has_files_of_its_own(folder, tmp_path, calls):
    for i, options in enumerate(
        [
            {},
            {"pooling": "last"},
            {"n_layers": 2},
            {"control_seed": 0},
            {"control_seed": 1},
            {"max_tokens": 2},
            {"shard_size": 4},
        ]
    ):
        calls.clear()
        first = encoding.cached_layer_embeddings(folder, TEXTS, folder=tmp_path, **options)
        assert len(calls) == (2 if "shard_size" in options else 1)
        again = encoding.cached_layer_embeddings(folder, TEXTS, folder=tmp_path, **options)
        assert len(calls) == (2 if "shard_size" in options else 1)
        np.testing.assert_array_equal(list(first.values()), list(again.values()))
        assert len(files_in(tmp_path)) == i + 1 + ("shard_size" in options)


@pytest.mark.parametrize(
    ("n_layers", "wanted"), [(1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_layers_are_spread_evenly(folder, n_layers, wanted):
    every = encoding.cached_layer_embeddings(folder, TEXTS)
    some = encoding.cached_layer_embeddings(folder, TEXTS, n_layers=np.int64(n_layers))
    assert list(some) == wanted
    for layer in wanted:
        np.testing.assert_array_equal(some[layer], every[layer])


def test_a_control_has_drawn_weights(folder):
    tokenizer, model = built("decoder")
    ours = encoding.cached_layer_embeddings(folder, TEXTS, control_seed=np.int64(3))
    control = encoding.randomised(model, 3)
    wanted = encoding.layer_embeddings(control, tokenizer, TEXTS)
    np.testing.assert_array_equal(list(ours.values()), wanted)
    trained = encoding.cached_layer_embeddings(folder, TEXTS)
    assert not np.allclose(ours[4], trained[4], atol=1e-2)


def test_a_changed_model_is_read_again(tmp_path, calls):
    path = saved(tmp_path / "model", "decoder", seed=0)
    before, name = encoding.cached_layer_embeddings(path, TEXTS), encoding.identity(path)
    saved(path, "decoder", seed=1)
    assert encoding.identity(path) != name
    after = encoding.cached_layer_embeddings(path, TEXTS)
    tokenizer, model = built("decoder", seed=1)
    np.testing.assert_allclose(
        list(after.values()), one_at_a_time(model, tokenizer, TEXTS, "mean"), atol=2e-5
    )
    assert not np.allclose(before[4], after[4])
    assert len(calls) == 2
    # A copy at another place is the same model.
    encoding.cached_layer_embeddings(saved(tmp_path / "copy", "decoder", seed=1), TEXTS)
    assert len(calls) == 2


def test_the_identity_covers_the_tokenizer_and_the_configuration(tmp_path):
    path = saved(tmp_path / "model", "encoder")
    names = {encoding.identity(path)}
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        told = json.loads((path / file).read_text())
        (path / file).write_text(json.dumps(told | {"comment": "changed"}))
        names.add(encoding.identity(path))
    (path / "README.md").write_text("of no weight")
    assert encoding.identity(path) in names and len(names) == 4


def test_cached_layer_embeddings_refuses(folder, tmp_path):
    for texts in ([], "the sea"):
        with pytest.raises(ValueError, match="texts is empty or one string; pass a list"):
            encoding.cached_layer_embeddings(folder, texts, folder=tmp_path)
    with pytest.raises(ValueError, match="name_or_path .*could not be loaded"):
        encoding.cached_layer_embeddings(tmp_path, TEXTS, folder=tmp_path)
    assert files_in(tmp_path) == []
