"""Tiny GPTs of bytes: against transformers' own loss, their own samples, and plain training."""

import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import byte_gpt
from experiments.modelmap import byte_gpt_runs
from helpers import likelihood, text_sets

TEXT = "żółw a\n\t亀 é\0 ~"
DOCUMENTS = ["to be or not to be, ", "that is the question. ", "whether it is nobler "] * 2


@pytest.fixture(scope="module")
def model():
    made = byte_gpt.new_gpt(width=16, layers=1, context=48)
    byte_gpt.train(made, DOCUMENTS, 30, warm_up=3, learning_rate=1e-2)
    return made


def test_tokens_are_bytes_and_come_back():
    tokenizer = byte_gpt._byte_tokenizer()
    ids = tokenizer(TEXT)["input_ids"]
    assert ids == [byte_gpt.START, *TEXT.encode()] and len(tokenizer) == 257
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXT


def test_scores_are_those_of_the_model_with_the_start_ruled_out(model):
    found = byte_gpt.log_likelihood(model, [TEXT, "to be"])
    values = byte_gpt._byte_log_likelihoods(model, [TEXT, "to be"])
    for i, text in enumerate([TEXT, "to be"]):
        ids = torch.tensor([[byte_gpt.START, *text.encode()]])
        with torch.no_grad():
            p = model(ids).logits[0, :-1, :256].double().softmax(dim=-1)
        expected = p[range(len(text.encode())), ids[0, 1:]].log().sum().item()
        assert found[i] == pytest.approx(expected, abs=1e-4)
    assert values.sum() == pytest.approx(found.sum(), abs=1e-4)
    tables = byte_gpt.conditionals(model, [TEXT])
    np.testing.assert_allclose(tables[0].sum(axis=1), 1)
    picked = tables[0][np.arange(len(TEXT.encode())), list(TEXT.encode())]
    assert np.log(picked).sum() == pytest.approx(found[0], abs=1e-4)
    # The common scorer counts the start among the outcomes, so it can only be lower.
    table = likelihood.score_texts(model, byte_gpt._byte_tokenizer(), [TEXT])
    whole = table.log_likelihood[0] + table.first_token_log_likelihood[0]
    assert whole <= found[0] + 1e-4 and whole == pytest.approx(found[0], rel=0.05)


def test_samples_have_the_probabilities_of_the_model(model):
    n = 4000
    drawn = byte_gpt.sample(model, n, 2, seed=1)
    counted = Counter(drawn)
    assert counted.most_common(1)[0][1] > n / 20
    for text, k in counted.most_common(5):
        p = np.exp(byte_gpt.log_likelihood(model, [text])[0])
        assert abs(k / n - p) < 4.5 * np.sqrt(p * (1 - p) / n)
    assert drawn == byte_gpt.sample(model, n, 2, seed=1) != byte_gpt.sample(model, n, 2, seed=2)


def test_training_learns_repeats_and_begins_the_same_whatever_its_length():
    runs, kept = [], {}
    for steps in (6, 6, 12):
        made, number = byte_gpt.new_gpt(width=16, layers=1, context=24), len(runs)
        found = byte_gpt.train(
            made,
            DOCUMENTS,
            steps,
            warm_up=2,
            keep=(0, 6),
            at=lambda step, m=made, n=number: kept.update(
                {(n, step): m.lm_head.weight.detach().clone()}
            ),
        )
        runs.append(found)
    assert list(runs[0].step) == [1, 2, 3, 4, 5, 6]
    assert runs[0].equals(runs[1]) and list(runs[2].loss[:6]) == list(runs[0].loss)
    assert torch.equal(kept[0, 6], kept[2, 6]) and torch.equal(kept[0, 0], kept[1, 0])
    assert not torch.equal(kept[0, 0], kept[0, 6])
    assert runs[2].loss.iloc[-1] < runs[2].loss[0] == pytest.approx(np.log(256), abs=0.3)


def test_a_run_is_kept_and_read_again(tmp_path):
    run = byte_gpt_runs._Run("tiny", 16, 1, 0)
    byte_gpt_runs.train(run, DOCUMENTS, tmp_path, keep=(0, 2))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["tiny-seed0-step0000.safetensors", "tiny-seed0-step0002.safetensors"]
    before = (tmp_path / files[1]).stat().st_mtime_ns
    byte_gpt_runs.train(run, DOCUMENTS, tmp_path, keep=(0, 2))
    assert (tmp_path / files[1]).stat().st_mtime_ns == before
    texts = text_sets.load_texts(4, genres=["python", "c++"])
    table, about = byte_gpt_runs._score(tmp_path, texts, runs=[run], keep=(0, 2), bits=(3,))
    last = "gpt-tiny-seed0-step0002"
    assert list(table.index) == ["gpt-tiny-seed0-step0000", last, f"{last}-3-bits"]
    assert list(about.index) == list(table.index) and list(about.parent) == ["", "", last]
    assert list(about.kind) == ["training", "training", "rounded"]
    expected = byte_gpt.log_likelihood(byte_gpt_runs._load(tmp_path, run, 2), list(texts.text))
    np.testing.assert_allclose(table.iloc[1], expected, atol=1e-3)
    (tmp_path / files[0]).write_bytes(b"")
    with pytest.raises(ValueError, match="missing or damaged"):
        byte_gpt_runs._load(tmp_path, run, 0)


def test_other_weights_or_texts_are_read_anew(tmp_path, monkeypatch):
    runs = [byte_gpt_runs._Run("tiny", 16, 1, seed) for seed in (0, 1)]
    monkeypatch.setattr(byte_gpt_runs, "_pair_list", lambda: [("seed", runs[0], 1, runs[1], 1)])
    texts = text_sets.load_texts(8, genres=["python", "c++"])

    def trained(folder, documents):
        for run in runs:
            byte_gpt_runs._checkpoint(folder, run, 1).unlink(missing_ok=True)
            byte_gpt_runs.train(run, documents, folder, keep=(1,))

    def read(folder, texts):
        scores, _ = byte_gpt_runs._score(folder, texts, runs=runs, keep=(1,), bits=(3,))
        return scores, byte_gpt_runs._compare_pairs(folder, texts, n=2, n_bytes=16)

    trained(tmp_path / "a", DOCUMENTS)
    read(tmp_path / "a", texts[:4])
    for documents, some in ((DOCUMENTS, texts[4:]), (["other words. "] * 3, texts[4:])):
        trained(tmp_path / "a", documents)
        trained(tmp_path / "b", documents)
        found = read(tmp_path / "a", some)
        for ours, fresh in zip(found, read(tmp_path / "b", some), strict=True):
            pd.testing.assert_frame_equal(ours, fresh)
        shutil.rmtree(tmp_path / "b")
    # A piece with another digit is made anew.
    for piece in (tmp_path / "a").glob("*.json"):
        piece.write_text(piece.read_text().replace("1", "2"))
    for again, before in zip(read(tmp_path / "a", some), found, strict=True):
        pd.testing.assert_frame_equal(again, before)
    byte_gpt_runs._checkpoint(tmp_path / "a", runs[1], 1).unlink()
    with pytest.raises(ValueError, match="missing or damaged"):
        read(tmp_path / "a", texts)


def test_pairs_differ_in_one_thing():
    for kind, run, step, other, later in byte_gpt_runs._pair_list():
        differ = {
            "training": run.seed == other.seed and run.size == other.size and step < later,
            "far": run == other and step < later,
            "seed": run.size == other.size and run.seed != other.seed and step == later,
            "size": run.size != other.size and run.seed == other.seed and step == later,
        }
        assert differ[kind]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: byte_gpt.log_likelihood(m, ["a" * 48]), "has 48 bytes, and the model reads 47"),
    ],
)
def test_bad_requests_are_refused_by_name(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
