"""A model on a device apart from the CPU gives what it gives on the CPU, whatever is asked."""

import far_device
import numpy as np
import pytest
import torch
from PIL import Image

from experiments.geometry import noise_sweep
from experiments.posterior import images
from helpers import devices, encoding, likelihood
from helpers.modelmap import logit_lens, scoring
from helpers.retrieval import closed_book
from helpers.synthesis import example_models, masked_likelihood, model_kinds

TEXTS = ["The river is long.", "Rain on the hills of the north, and sun.", "A coast."]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: example_models.write(kind, folder / kind) for kind in example_models.READ}


def vectors(one):
    asked = [one.body, one.tokenizer, TEXTS]
    yield encoding.token_vectors(*asked, tokens_per_sentence=2)
    yield encoding.token_vectors(*asked, pooling="mean", layer=1)
    for pooling in ("mean", "last"):
        yield encoding.layer_embeddings(*asked, pooling=pooling)


def filled(one):
    asked = [one.model, one.tokenizer]
    yield masked_likelihood.score_texts(*asked, TEXTS).log_likelihood
    texts = [f"{text} {one.tokenizer.mask_token}." for text in TEXTS]
    word = min(w for w in one.tokenizer.get_vocab() if w.isalpha() and len(w) > 1)
    yield masked_likelihood.fill_log_probability(*asked, texts, [word] * len(TEXTS))


def said(one):
    asked = [one.model, one.tokenizer]
    yield likelihood.score_texts(*asked, TEXTS, bos="none", batch_tokens=20).log_likelihood
    answers = [[" rain", " the sun of the north"], [" the"], [" long", " no"]]
    yield closed_book.answer_log_probability(*asked, TEXTS, answers).log_probability
    drawn = closed_book.sample_continuations(*asked, TEXTS, n=2, max_new_tokens=3)
    yield np.array([[list(text.encode()[:1]) for text in row] for row in drawn])
    yield likelihood.draw_tokens(one.model, [1], 2, 4)
    yield logit_lens.layer_scores(*asked, TEXTS[:2])


ASKED = {"encoder": [vectors], "masked": [vectors, filled], "causal": [vectors, said]}


@pytest.mark.parametrize("kind", example_models.READ)
def test_a_model_on_another_device_gives_the_same(kind, paths, monkeypatch):
    def everything(device):
        one = model_kinds.load(model_kinds.look(paths[kind], how=devices.How(device)))
        assert one.model.device.type == device and one.kind in ASKED
        return [np.asarray(part) for ask in ASKED[one.kind] for part in ask(one)]

    here = everything("cpu")
    with far_device.there(monkeypatch):
        away = everything(far_device.NAME)
    assert len(here) == len(away) >= 4
    for ours, theirs in zip(here, away, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_runs_take_the_device(paths, monkeypatch, tmp_path):
    names, how = [str(paths["causal"])], devices.How(far_device.NAME, batch_tokens=16)
    here = scoring.score_models(names, TEXTS, tmp_path / "a")
    with far_device.there(monkeypatch):
        away = scoring.score_models(names, TEXTS, tmp_path / "b", how=how)
    assert (away.report.status[0], away.report.device[0]) == ("scored", far_device.NAME)
    np.testing.assert_allclose(here.matrix(), away.matrix(), rtol=1e-5)


def test_vectors_take_the_device_and_the_type(paths, clip, monkeypatch, tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (32, 32), "green").save(picture)

    def both(how, folder, **options):
        options |= {"n_layers": 2, "folder": tmp_path / folder, "how": how}
        layers = encoding.cached_layer_embeddings(paths["causal"], TEXTS, **options)
        return [*layers.values(), images.clip_embeddings(clip, [picture], how=how)]

    for options in ({}, {"control_seed": 1}):
        here = both(devices.DEFAULT, "a", **options)
        half = both(devices.How("cpu", "bfloat16"), "a", **options)
        with far_device.there(monkeypatch):
            away = both(devices.How(far_device.NAME), "b", **options)
        for one, near, same in zip(here, half, away, strict=True):
            np.testing.assert_allclose(one, same, rtol=1e-5, atol=1e-5)
            # Kept apart from the whole numbers, and near them.
            assert 0 < np.abs(one - near).max() < 0.03 * np.abs(one).max()


def test_tensors_of_two_devices_do_not_meet(monkeypatch):
    with far_device.there(monkeypatch):
        one = torch.arange(6.0).to(far_device.NAME)
        for wrong in (lambda: one + torch.ones(6), one.numpy, lambda: torch.ones(6)[one.long()]):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()
        assert (one + 1).cpu().numpy().sum() == 21 and one.device.type == far_device.NAME


def test_a_device_or_type_that_is_not_there_is_refused_by_name(paths):
    for how, reason in [
        (devices.How("abacus"), "device is 'abacus' .*; choose cpu, cuda or cuda:1"),
        (devices.How("meta:x"), "device is 'meta:x'"),
        (devices.How(dtype="float8"), "dtype is 'float8'; choose"),
        (devices.How(batch_tokens=0), "batch_tokens is 0"),
    ]:
        with pytest.raises(ValueError, match=reason):
            model_kinds.look(paths["encoder"], how=how)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device is 'cuda' \(.*CUDA.*; choose cpu"):
            devices._find("cuda")
        assert devices._find("") == devices._find(None) == "cpu"


@pytest.mark.parametrize("kind", ["encoder", "masked", "causal"])
def test_half_the_bits_change_numbers_but_little(kind, paths):
    def first(dtype):
        one = model_kinds.load(model_kinds.look(paths[kind], how=devices.How("cpu", dtype)))
        assert str(one.model.dtype) == f"torch.{dtype}"
        # Angles of positions are no weights: fewer digits would turn far places by much.
        angles = [b.dtype for name, b in one.model.named_buffers() if "inv_freq" in name]
        assert angles == [torch.float32] * len(angles) and bool(angles) == (kind == "causal")
        return np.asarray(next(ASKED[kind][-1](one)), float)

    whole, half = first("float32"), first("bfloat16")
    # Eight bits of a mantissa: near, and not the same.
    assert 0 < np.abs(whole - half).max() < 0.03 * np.abs(whole).max()


SMALL = {"n_sentences": 40, "bits": 3, "n_train": 40, "n_test": 20}


def test_sweeps_take_the_type(paths, tmp_path, monkeypatch):
    setting = noise_sweep.settings_of("published", [0], 1)
    size = dict(noise_sweep.SIZES["small"])
    size |= SMALL | {"tasks": size["tasks"][:1]}
    monkeypatch.setitem(noise_sweep.SIZES, "small", size)
    rows = [
        noise_sweep.noise_rows(
            str(paths["encoder"]), setting, size="small", folder=tmp_path, how=devices.How("cpu", t)
        )
        for t in ("float32", "bfloat16", "float32")
    ]
    values = [row.rankme[0] for row in rows]
    assert values[0] == values[2] != values[1] and len(list(tmp_path.iterdir())) == 2
