"""Models by their names on the hub, against a stand-in for it on this machine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file
from stand_in_hub import Hub, kind_of, old
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    ByT5Tokenizer,
    CanineConfig,
    CanineModel,
    CanineTokenizer,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from experiments.geometry import noise_sweep
from experiments.posterior import images
from experiments.retrieval import factbook_answers
from helpers import (
    convert,
    data,
    decoders,
    devices,
    encoding,
    hub,
    likelihood,
    model_sources,
    models,
)
from helpers.book import planning
from helpers.commands import score
from helpers.modelmap import scoring
from helpers.synthesis import example_models, model_kinds

TEXTS = ["The river is long.", "Rain on the hills."]
PYTHIA, ROBERTA, BERT = "EleutherAI/pythia-160m", "FacebookAI/roberta-base", "prajjwal1/bert-small"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models of each kind, two of one kind, and one as it was saved in 2019."""
    folder = tmp_path_factory.mktemp("models")
    made = {kind: example_models.write(kind, folder / kind) for kind in example_models.READ[:3]}
    made["later"] = example_models.write("causal", folder / "later", seed=1)
    made["bin"] = old(made["masked"], folder / "bin")
    return made


@pytest.fixture
def server(monkeypatch, tmp_path, folders, clean_data):
    """A hub with nothing fetched yet, and the client turned to it."""
    with Hub() as there:
        for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE", "HF_HUB_CACHE"):
            assert hasattr(constants, name)
        template = there.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", there.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        there.add(PYTHIA, folders["causal"])
        there.add(PYTHIA, folders["later"], "step1000")
        there.add(ROBERTA, folders["masked"])
        there.add(BERT, folders["bin"])
        yield there


def test_every_loader_takes_a_name_and_gives_what_the_folder_gives(server, folders):
    for load, name, kind in [
        (models.load_model, PYTHIA, "causal"),
        (models.load_model, ROBERTA, "masked"),
        (decoders.load_causal, PYTHIA, "causal"),
    ]:
        (tokenizer, model), (_, same) = load(name), load(folders[kind])
        assert tokenizer(TEXTS[0])["input_ids"]
        for key, weight in same.state_dict().items():
            # A pooler that was not saved is drawn at random; nothing uses it.
            assert key.startswith("pooler.") or torch.equal(weight, model.state_dict()[key])
    for name, kind in ((PYTHIA, "causal"), (ROBERTA, "masked")):
        shutil.rmtree(constants.HF_HUB_CACHE)
        server.asked.clear()
        seen = model_kinds.look(name)
        assert (seen.kind, seen.form, seen.reason) == (kind, "hub", "")
        # Looking fetches no weights, and counts them all the same.
        assert not server.fetched(".safetensors")
        assert seen.parameters == model_kinds.look(folders[kind]).parameters
        loaded = model_kinds.load(seen)
        assert loaded.kind == kind and server.fetched(".safetensors")
        again = model_kinds.look(name)
        assert (again.kind, again.parameters) == (kind, seen.parameters)
    # No service is asked to convert weights, and nothing but the index and files is.
    assert {path.split("/")[1] for _, path, _ in server.asked} <= {
        "",
        "api",
        *"EleutherAI FacebookAI".split(),
    }


def test_vectors_and_scores_are_those_of_the_folder_under_name_and_commit(
    server, folders, tmp_path
):
    assert encoding.identity(PYTHIA) == f"{PYTHIA}@{server.commit(PYTHIA)}"
    ours = encoding.cached_layer_embeddings(PYTHIA, TEXTS, n_layers=2)
    wanted = encoding.cached_layer_embeddings(folders["causal"], TEXTS, n_layers=2)
    assert list(ours) == list(wanted)
    np.testing.assert_allclose(list(ours.values()), list(wanted.values()), atol=1e-6)
    names = [PYTHIA, f"{PYTHIA}@step1000", "nobody/nothing"]
    scored = scoring.score_models(names, TEXTS, tmp_path / "pieces")
    assert list(scored.report.status) == ["scored", "scored", "failed"]
    assert "no public model nobody/nothing" in scored.report.error[2]
    matrix = scored.matrix().to_numpy()
    for row, kind in zip(matrix, ("causal", "later"), strict=True):
        loaded = model_kinds.load(model_kinds.look(folders[kind]))
        table = likelihood.score_texts(loaded.model, loaded.tokenizer, TEXTS)
        np.testing.assert_allclose(row, table.log_likelihood, rtol=1e-6)
    assert not np.allclose(matrix[0], matrix[1])
    # A new commit under the same name is another model.
    server.add(PYTHIA, folders["later"])
    assert encoding.identity(PYTHIA) == f"{PYTHIA}@{server.commit(PYTHIA)}"
    fresh = encoding.cached_layer_embeddings(PYTHIA, TEXTS, n_layers=2)
    assert not np.allclose(fresh[0], ours[0])


def test_a_revision_is_a_branch_or_a_commit(server, folders):
    commit = server.commit(PYTHIA, "step1000")
    later = models.load_model(folders["later"])[1].embed_tokens.weight
    for options in ({"revision": "step1000"}, {"revision": commit}):
        assert torch.equal(models.load_model(PYTHIA, **options)[1].embed_tokens.weight, later)
    _, model = decoders.load_causal(f"{PYTHIA}@step1000")
    assert torch.equal(model.get_input_embeddings().weight, later)
    with pytest.raises(ValueError, match=f"{PYTHIA}.*no revision 'step7'.*; choose one of"):
        models.load_model(PYTHIA, revision="step7")
    assert model_kinds.look(f"{PYTHIA}@step1000").kind == "causal"
    # A folder may have an @ in its name, and a revision means nothing there.
    assert model_sources.at_revision(folders["causal"], "main") == str(folders["causal"])


def test_what_was_fetched_before_is_read_without_the_network(server, folders, monkeypatch):
    commit = server.commit(PYTHIA)
    models.load_model(PYTHIA)
    hub.small_files(ROBERTA)
    for variable in ("BOOK_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as patch:
            if variable == "BOOK_OFFLINE":
                patch.setenv(variable, "1")
            else:
                patch.setattr(constants, variable, True)
            server.asked.clear()
            assert encoding.identity(PYTHIA) == f"{PYTHIA}@{commit}"
            decoders.load_causal(PYTHIA)
            assert model_kinds.look(PYTHIA).kind == "causal"
            for name in (ROBERTA, BERT):
                with pytest.raises(ValueError, match=f"{variable}.* forbids asking|not all, down"):
                    models.load_model(name)
                assert model_kinds.look(name).kind == "refused"
            assert not server.asked
    # A whole commit that is there is not asked for either.
    server.asked.clear()
    models.load_model(f"{PYTHIA}@{commit}")
    assert {path for _, path, _ in server.asked} <= {"/"}


def test_refusals_have_the_true_reason_and_the_cure(server, folders, tmp_path, monkeypatch):
    gated, bare = "meta-llama/Llama-2-7b-hf", "google-bert/bert-base-uncased"
    server.add(gated, folders["causal"])
    server.gated.add(gated)
    dumb = tmp_path / "dumb"
    shutil.copytree(folders["masked"], dumb)
    for file in dumb.glob("tokenizer*"):
        file.unlink()
    server.add(bare, dumb)
    monkeypatch.chdir(folders["causal"].parent)
    cases = {
        gated: ("accepted their terms", f"accept them at {server.address}/{gated}, then run `hf"),
        "nobody/nothing": ("no public model nobody/nothing", "correct the name"),
        "causl": ("no file or folder .*causl", "causal is there"),
        "./causl": ("no file or folder here", "causal is there"),
        BERT: ("pytorch_model.bin", "before-ft convert --model"),
        bare: ("no tokenizer", "save_pretrained"),
    }
    for name, (reason, cure) in cases.items():
        seen = model_kinds.look(name)
        assert seen.kind == "refused"
        assert re.search(reason, seen.reason) and cure in seen.cure, (name, seen)
        if name != bare:
            with pytest.raises(ValueError, match=reason) as caught:
                models.load_model(name)
            assert name in str(caught.value) and cure in str(caught.value)
    assert not server.fetched(".safetensors") and not server.fetched(".bin")
    with pytest.raises(ValueError, match=f"{bare}.*could not be loaded"):
        models.load_model(bare)
    server.status = 503
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(ValueError, match="the hub answered with the error 503.*; pass a folder"):
        models.load_model(ROBERTA)


def test_a_break_in_the_middle_resumes_or_says_so(server, folders, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.cuts["model.safetensors"], server.times["model.safetensors"] = 50_000, 1
    models.load_model(PYTHIA)
    ranges = [r for kind, path, r in server.asked if kind == "GET" and path.endswith("safetensors")]
    # Whole chunks that came are not fetched twice.
    assert ranges == [None, f"bytes={50_000 // 4096 * 4096}-"]
    server.cuts["model.safetensors"], server.times["model.safetensors"] = 100, 1000
    with pytest.raises(ValueError, match=r"the connection to http.* broke .*; run it again"):
        models.load_model(ROBERTA)
    assert model_kinds.look(ROBERTA).kind == "masked"
    server.times["model.safetensors"] = 0
    assert models.load_model(ROBERTA)[1].config.hidden_size == 64


FETCH = """
import sys
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 4096
from helpers import hub
print(hub.folder(sys.argv[1]))
"""


def test_a_run_after_a_killed_one_fetches_the_rest(server, folders, tmp_path):
    file = folders["causal"] / "model.safetensors"
    size, held = file.stat().st_size, 40 * 4096
    server.holds[file.name] = held
    there = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home"), "BOOK_OFFLINE": ""}
    there |= {"HF_HUB_OFFLINE": "", "PYTHONPATH": str(data.ROOT)}
    run = {"cwd": tmp_path, "env": os.environ | there, "text": True}
    words = [sys.executable, "-c", FETCH, PYTHIA]

    def parts():
        return [path.stat().st_size for path in (tmp_path / "home").rglob("*.part")]

    with subprocess.Popen(words, **run) as first:
        for _ in range(600):
            # What is left of a page of the file's buffer is not on the disk yet.
            if parts() and parts()[0] > held - 8192:
                break
            time.sleep(0.1)
        first.kill()
    (kept,) = parts()
    assert first.returncode == -signal.SIGKILL and held - 8192 < kept <= held < size
    again = subprocess.run(words, **run, capture_output=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert (Path(again.stdout.strip()) / file.name).read_bytes() == file.read_bytes()
    assert server.sent[file.name] == held + size - kept and not parts()


def test_a_part_that_is_damaged_is_fetched_anew(server, folders):
    file = folders["causal"] / "model.safetensors"
    blobs = hub.small_files(PYTHIA).parents[1] / "blobs"
    part = blobs / f"{data.sha256(file)}.part"
    part.write_bytes(bytes(5000))
    with pytest.raises(ValueError, match="another SHA-256 sum .*; run it again"):
        hub.folder(PYTHIA)
    assert not part.exists()
    part.write_bytes(bytes(file.stat().st_size + 1))
    assert (hub.folder(PYTHIA) / file.name).read_bytes() == file.read_bytes()


def test_a_model_that_is_too_large_is_refused_before_it_is_fetched(server, folders, monkeypatch):
    large = "meta-llama/Llama-2-70b-hf"
    server.add(large, folders["causal"])
    weights = {"F16": 68_976_648_192}
    server.claims[large] = {"safetensors": {"parameters": weights, "total": sum(weights.values())}}
    free = type("Memory", (), {"available": 8 * 10**9})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    numbers = r"69\.0 billion weights, 276 GB in float32.* 8 GB of memory are free"
    for load in (
        models.load_model,
        decoders.load_causal,
        lambda name: encoding.cached_layer_embeddings(name, TEXTS),
        lambda name: model_kinds.load(model_kinds.look(name)),
    ):
        with pytest.raises(ValueError, match=numbers + ".*; use a larger machine"):
            load(large)
    assert not server.fetched(".safetensors")
    # Without that line of the index the bytes of the files tell it, by the dtype.
    server.claims[PYTHIA] = {"safetensors": None}
    free.available = 4 * model_kinds.look(folders["causal"]).parameters - 1
    with pytest.raises(ValueError, match=r"billion weights.*GB to download"):
        models.load_model(PYTHIA)
    free.available = 8 * 10**9
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="GB are free in .*; make room there, or set HF_HOME"):
        models.load_model(PYTHIA)
    assert not server.fetched(".safetensors")


def test_half_the_bits_fit_where_the_whole_does_not(server, folders, monkeypatch):
    free = type("Memory", (), {"available": 3 * model_kinds.look(folders["causal"]).parameters})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    half = devices.How("cpu", "bfloat16")
    for name in (PYTHIA, folders["causal"]):
        seen = model_kinds.look(name)
        assert "GB in float32" in seen.reason and "or read it in bfloat16" in seen.cure
        with pytest.raises(ValueError, match=r"GB in float32.*; use a larger machine"):
            decoders.load_causal(name)
        assert model_kinds.load(model_kinds.look(name, how=half)).model.dtype == torch.bfloat16
    free.available //= 3
    assert "GB in bfloat16" in model_kinds.look(PYTHIA, how=half).reason
    assert "bfloat16" not in model_kinds.look(PYTHIA).cure


def test_pickled_weights_are_read_where_that_is_asked_for(server, folders):
    wanted = AutoModelForMaskedLM.from_pretrained(folders["masked"], use_safetensors=True)
    for name in (BERT, folders["bin"]):
        seen = model_kinds.look(name, allow_bin=True)
        assert (seen.kind, seen.architecture, seen.allow_bin) == ("masked", "bert", True)
        loaded = model_kinds.load(seen)
        assert loaded.kind == "masked"
        for key, weight in wanted.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[key], weight)
        tokenizer, body = models.load_model(name, allow_bin=True)
        theirs = models.load_model(folders["masked"])[0]
        assert tokenizer(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
        vectors = encoding.cached_layer_embeddings(name, TEXTS, n_layers=2, allow_bin=True)
        same = encoding.cached_layer_embeddings(folders["masked"], TEXTS, n_layers=2)
        np.testing.assert_allclose(list(vectors.values()), list(same.values()), atol=1e-6)
    # Converted once, for the folder has the same sums.
    assert len(list((data.cache_folder() / "converted").iterdir())) == 1
    assert not any("convert" in path or "discussions" in path for _, path, _ in server.asked)


def test_the_cure_for_pickled_weights_cures(server, folders, tmp_path):
    pickle = shutil.copytree(folders["bin"], tmp_path / "old")
    for name in (BERT, str(pickle), str(pickle / "pytorch_model.bin")):
        cure = model_kinds.look(name).cure
        words = re.search(r"`before-ft convert (--model \S+ --out )new-folder`", cure)
        out = tmp_path / f"new-{len(name)}"
        assert convert.main([*words[1].split(), str(out)]) == 0
        assert model_kinds.look(out).kind == "masked"


def test_a_pickle_that_does_more_is_not_opened(tmp_path, folders):
    bad = example_models.write_refused(tmp_path)["pickled weights"]
    seen = model_kinds.look(bad, allow_bin=True)
    assert seen.kind == "refused" and len(seen.cure) > 10
    with pytest.raises(ValueError, match="could not be loaded"):
        models.load_model(bad, allow_bin=True)
    assert not (tmp_path / "opened").exists()


def test_the_converter_keeps_the_class_the_dtype_and_shards(folders, tmp_path, capsys, server):
    model = AutoModelForCausalLM.from_pretrained(folders["causal"], use_safetensors=True)
    weights, shards = model.to(torch.bfloat16).state_dict(), tmp_path / "shards"
    shutil.copytree(folders["causal"], shards)
    (shards / "model.safetensors").unlink()
    halves = [dict(list(weights.items())[start::2]) for start in (0, 1)]
    for i, half in enumerate(halves):
        torch.save(half, shards / f"pytorch_model-{i}.bin")
    places = {key: f"pytorch_model-{i}.bin" for i, half in enumerate(halves) for key in half}
    index = shards / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config = shards / "config.json"
    config.write_text(config.read_text().replace("float32", "bfloat16"))
    out = convert.convert(shards, tmp_path / "out")
    again, report = AutoModelForCausalLM.from_pretrained(
        out, use_safetensors=True, output_loading_info=True
    )
    assert again.dtype == torch.bfloat16 and not report["missing_keys"]
    for key, weight in weights.items():
        assert torch.equal(again.state_dict()[key], weight)
    assert model_kinds.look(out).kind == "causal"
    for words, told in [
        (["--model", str(shards), "--out", str(out)], "is already there; give a new folder"),
        (["--model", "nobody/nothing", "--out", str(tmp_path / "b")], "no public model"),
        (["--model", str(tmp_path / "none"), "--out", str(tmp_path / "b")], "no file or folder"),
    ]:
        assert convert.main(words) == 2
        message = capsys.readouterr().err
        assert told in message and ";" in message
    assert convert.main(["--model", BERT, "--out", str(tmp_path / "small")]) == 0
    assert model_kinds.look(tmp_path / "small").kind == "masked"
    index.write_text(json.dumps({"weight_map": {**places, "w": "pytorch_model-9.bin"}}))
    with pytest.raises(ValueError, match=r"pytorch_model-9\.bin is missing"):
        convert.convert(shards, tmp_path / "c")
    del places[next(iter(halves[0]))]
    index.write_text(json.dumps({"weight_map": {"w": "../pytorch_model-0.bin"}}))
    with pytest.raises(ValueError, match="is damaged"):
        convert.convert(shards, tmp_path / "c")


PAGES = {
    "posterior/language_models": lambda name, **o: encoding.cached_layer_embeddings(
        name, TEXTS, n_layers=2, **o
    ),
    "geometry/noise_injection": models.load_model,
    "geometry/other_models": models.load_model,
    "retrieval/real_model": factbook_answers.n_parameters,
    "modelmap/build_your_own": lambda name, **o: scored(name, **o),
    "modelmap/place_my_model": lambda name, **o: scored(name, **o),
    "synthesis/your_model": lambda name, **o: model_kinds.load(model_kinds.look(name, **o)),
}


def scored(name, **options):
    report = scoring.score_models([name], TEXTS, data.cache_folder(), **options).report
    assert report.status[0] == "scored", report.error[0]


def test_the_names_of_the_large_profile_load_in_their_pages(server, folders):
    profile, asked = planning._read_profile("paper"), set()
    for page, values in profile.items():
        names = [each for value in values.values() for each in np.atleast_1d(value)]
        names = [str(each) for each in names if "/" in str(each)]
        options = {"allow_bin": True} if values.get("allow_bin") else {}
        for name in names:
            server.add(name, folders[kind_of(name)])
            PAGES[page](name, **options)
            asked.add(page)
    assert asked == set(PAGES)


def test_clip_is_read_by_its_name(server, clip, tmp_path):
    name = "openai/clip-vit-base-patch32"
    server.add(name, clip)
    image = tmp_path / "a.png"
    Image.new("RGB", (32, 32), "green").save(image)
    vectors = images.clip_embeddings(name, [image])
    np.testing.assert_allclose(vectors, images.clip_embeddings(clip, [image]), atol=1e-6)
    with pytest.raises(ValueError, match="openai/clip-nothing.*no public model"):
        images.clip_embeddings("openai/clip-nothing", [image])
    pickled = tmp_path / "pickled"
    shutil.copytree(clip, pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    server.add("openai/clip-old", pickled)
    with pytest.raises(ValueError, match="is pickled|weights are pickled.*allow_bin"):
        images.clip_embeddings("openai/clip-old", [image])
    again = images.clip_embeddings("openai/clip-old", [image], allow_bin=True)
    np.testing.assert_allclose(vectors, again, atol=1e-6)


def test_commands_take_names_and_relative_folders(server, folders, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    shutil.copytree(folders["later"], tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    words = ["--texts", "texts.txt", "--out", "out", "--models", PYTHIA, "./mine", f"{BERT}@main"]
    options = ["--revision", "step1000", "--device", "cpu", "--batch-tokens", "64"]
    assert score.main([*words, *options]) == 1
    assert "before-ft convert" in capsys.readouterr().err
    matrix = pd.read_csv(tmp_path / "out" / "matrix.csv", index_col="model")
    assert list(matrix.index) == [f"{PYTHIA}@step1000", "./mine"]
    np.testing.assert_allclose(matrix.iloc[0], matrix.iloc[1], rtol=1e-6)
    words = ["--texts", "texts.txt", "--out", "half", "--models", "./mine", "--dtype", "bfloat16"]
    assert score.main(words) == 0
    half = pd.read_csv(tmp_path / "half" / "matrix.csv", index_col="model")
    # Eight bits of a mantissa: near, and not the same.
    np.testing.assert_allclose(half.iloc[0], matrix.iloc[1], rtol=0.03)
    assert not np.allclose(half.iloc[0], matrix.iloc[1], rtol=1e-6)
    assert score.main([*words, "--device", "abacus"]) == 2
    assert "device is 'abacus'" in capsys.readouterr().err
    for main, words in [
        (factbook_answers.main, ["--pieces", "p", "--out", "a.csv", "--model"]),
        (noise_sweep.main, ["a.csv", "--sizes", "small", "--encoder"]),
    ]:
        for name in (BERT, "nobody/nothing", "./mime"):
            assert main([*words, name]) == 2
            message = capsys.readouterr().err
            assert name in message and ";" in message and "Traceback" not in message
        assert main([*words, "./mine", "--device", "abacus"]) == 2
        assert "device is 'abacus'" in capsys.readouterr().err
    assert "mine is there" in message and not (tmp_path / "a.csv").exists()


ALONE = """
import sys
from helpers.commands import score
from transformers import modeling_utils
modeling_utils.auto_conversion = lambda *a, **o: sys.exit("a service was asked to convert")
print(score.main(sys.argv[1:]))
"""


def test_a_process_of_its_own_finds_the_hub_by_its_variables(server, folders, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    words = ["--models", PYTHIA, BERT, "--allow-bin", "--texts", "texts.txt", "--out", "out"]
    there = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home"), "BOOK_OFFLINE": ""}
    there |= {"HF_HUB_OFFLINE": "", "BOOK_DATA_CACHE": str(tmp_path / "cache")}
    there |= {"PYTHONPATH": str(data.ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", ALONE, *words], cwd=tmp_path, env=os.environ | there,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    # A masked model is no causal one, which is told after it was converted.
    assert told.stdout.splitlines()[-1] == "1", told.stderr
    assert "sees the tokens to come" in told.stderr and "Traceback" not in told.stderr
    assert len(pd.read_csv(tmp_path / "out" / "matrix.csv")) == 1


def test_of_t5_the_encoder_is_read_and_others_have_their_reason(tmp_path, folders):
    tokenizer = AutoTokenizer.from_pretrained(folders["masked"])
    size = {"vocab_size": len(tokenizer), "d_model": 32, "d_ff": 32, "num_layers": 2}
    t5 = T5Config(**size, d_kv=8, num_heads=4, decoder_start_token_id=0)
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    bart = BartConfig(vocab_size=len(tokenizer), d_model=32, **heads, max_position_embeddings=64)
    canine = CanineConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                          intermediate_size=32, num_hash_buckets=64)  # fmt: skip
    made = {"t5": T5ForConditionalGeneration(t5), "bart": BartForConditionalGeneration(bart)}
    made["canine"] = CanineModel(canine)
    for name, model in made.items():
        model.save_pretrained(tmp_path / name)
        (CanineTokenizer() if name == "canine" else tokenizer).save_pretrained(tmp_path / name)
    T5EncoderModel.from_pretrained(tmp_path / "t5", use_safetensors=True).save_pretrained(
        tmp_path / "alone"
    )
    tokenizer.save_pretrained(tmp_path / "alone")
    # Its tokenizer is bytes, saved without a vocabulary.
    t5.vocab_size = len(ByT5Tokenizer())
    T5EncoderModel(t5).save_pretrained(tmp_path / "byt5")
    ByT5Tokenizer().save_pretrained(tmp_path / "byt5")
    assert model_kinds.load(model_kinds.look(tmp_path / "byt5")).kind == "encoder"
    ids = tokenizer(TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        wanted = made["t5"].eval().get_encoder()(**ids).last_hidden_state[0].numpy()
    for name in ("t5", "alone"):
        loaded = model_kinds.load(model_kinds.look(tmp_path / name))
        assert loaded.kind == "encoder" and ("encoder alone" in loaded.note) == (name == "t5")
        vectors = encoding.token_vectors(
            loaded.body, loaded.tokenizer, TEXTS[:1], tokens_per_sentence=None
        )
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
        mean = encoding.cached_layer_embeddings(tmp_path / name, TEXTS[:1], folder=tmp_path / "c")
        np.testing.assert_allclose(mean[2][0], wanted.mean(axis=0), atol=1e-5)
    for name, reason in {"bart": "a decoder in one", "canine": "shortens a text"}.items():
        seen = model_kinds.look(tmp_path / name)
        assert seen.kind == "refused" and reason in seen.reason and "pass an encoder" in seen.cure
    for name in ("t5", "bart"):
        with pytest.raises(ValueError, match="depend on a second text.*; pass an encoder"):
            decoders.load_causal(tmp_path / name)
    with pytest.raises(ValueError, match="canine, shortens a text"):
        encoding.cached_layer_embeddings(tmp_path / "canine", TEXTS, folder=tmp_path / "c")
