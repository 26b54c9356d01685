"""Scoring many models: the chunk rule, pieces that are kept, failures as rows, a cluster."""

import json

import numpy as np
import pandas as pd
import pytest
from forked import START
from hypothesis import given
from hypothesis import strategies as st

from experiments import tiny_gpt
from helpers import decoders, likelihood, text_sets
from helpers.commands import score
from helpers.modelmap import model_map, scoring

TEXTS = [f"{a} {verb} {b}." for a in "ABCD" for verb in ("likes", "knows") for b in "UVW"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folders of three tiny models with weights of their own."""
    tokenizer = tiny_gpt.word_tokenizer(TEXTS)
    found = []
    for seed in range(3):
        folder = tmp_path_factory.mktemp("models") / f"tiny-{seed}"
        tiny_gpt.new_gpt(tokenizer, width=16, layers=1, seed=seed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        found.append(str(folder))
    return found


# Texts


@given(st.lists(st.text("aé漢😀", max_size=12), max_size=5), st.integers(1, 120))
def test_chunks_are_the_documents_cut_between_characters(parts, times):
    most, above, documents = 1024, 256, [part * times for part in parts]
    found = list(text_sets.chunk_texts(documents))
    assert all(above < len(text.encode()) <= most for text in found)
    expected = []
    for document in documents:
        rest = document
        while rest:
            n = max(i for i in range(1, len(rest) + 1) if len(rest[:i].encode()) <= most)
            expected.append(rest[:n])
            rest = rest[n:]
    assert found == [text for text in expected if len(text.encode()) > above]


def test_the_papers_chunks_have_257_to_1024_bytes():
    found = list(text_sets.chunk_texts(["x" * 2500, "y" * 256, "z" * 257]))
    assert [len(text) for text in found] == [1024, 1024, 452, 257]


def test_samples_are_different_texts_each_as_likely_as_another():
    texts = [str(i) for i in range(10)]
    times = np.zeros(10)
    for seed in range(600):
        drawn = text_sets.sample_texts(iter(texts), 4, seed=seed)
        assert len(set(drawn)) == 4
        times[[int(text) for text in drawn]] += 1
    # 240 expected; the standard deviation of a count is 12.
    assert np.abs(times - 240).max() < 4.5 * 12
    assert text_sets.sample_texts(texts, 4, seed=1) == text_sets.sample_texts(texts, 4, seed=1)
    assert sorted(text_sets.sample_texts(texts, 10)) == texts
    with pytest.raises(ValueError, match="there are 10 texts"):
        text_sets.sample_texts(texts, 11)


# Models


def test_scores_are_those_of_each_model_alone_and_make_a_map(folders, tmp_path):
    found = scoring.score_models(folders, TEXTS, tmp_path, piece=10)
    for name in folders:
        tokenizer, model = decoders.load_causal(name)
        alone = likelihood.score_texts(model, tokenizer, TEXTS)
        part = found.scores[found.scores.model == name].reset_index(drop=True)
        assert part.log_likelihood.to_numpy() == pytest.approx(alone.log_likelihood, abs=1e-4)
        assert part.text.tolist() == list(range(len(TEXTS)))
        assert part.n_bytes.tolist() == alone.n_bytes.tolist()
    assert found.report.status.tolist() == ["scored"] * 3
    assert found.report.bos.tolist() == [tiny_gpt.END] * 3
    made = model_map.fit_map(found.matrix())
    assert made.names == tuple(folders) and made.distances()[0, 1] > 0


def test_a_run_that_was_stopped_scores_only_what_is_missing(folders, tmp_path, monkeypatch):
    whole = scoring.score_models(folders[:2], TEXTS, tmp_path / "a", piece=6)
    score, calls = likelihood.score_texts, []

    def stops(*args, **options):
        calls.append(1)
        if len(calls) == 6:  # in the second model
            raise KeyboardInterrupt
        return score(*args, **options)

    monkeypatch.setattr(likelihood, "score_texts", stops)
    with pytest.raises(KeyboardInterrupt):
        scoring.score_models(folders[:2], TEXTS, tmp_path / "b", piece=6)
    del calls[:]
    loads, load = [], decoders.load_causal
    monkeypatch.setattr(decoders, "load_causal", lambda n, **o: loads.append(n) or load(n, **o))
    again = scoring.score_models(folders[:2], TEXTS, tmp_path / "b", piece=6)
    assert len(calls) == 8 - 5 and loads == [folders[1]]
    pd.testing.assert_frame_equal(again.scores, whole.scores, rtol=0, atol=1e-12)
    assert again.report.seconds[0] == 0


def test_a_damaged_piece_is_made_anew_and_other_settings_share_none(folders, tmp_path):
    first = scoring.score_models(folders[:1], TEXTS, tmp_path)
    piece = next(tmp_path.glob("*.json"))
    piece.write_text(piece.read_text()[:-30])
    again = scoring.score_models(folders[:1], TEXTS, tmp_path)
    assert again.scores.equals(first.scores)
    bare = scoring.score_models(folders[:1], TEXTS, tmp_path, bos="none")
    assert bare.scores.first_token_log_likelihood.isna().all()
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_model_that_cannot_be_loaded_is_a_row_of_the_report(folders, tmp_path):
    models = [folders[0], str(tmp_path / "none.gguf"), folders[1]]
    found = scoring.score_models(models, TEXTS, tmp_path)
    assert found.report.status.tolist() == ["scored", "failed", "scored"]
    assert "none.gguf" in found.report.error[1] and found.report.n_texts[1] == 0
    assert found.matrix().index.tolist() == [folders[0], folders[1]]
    none = scoring.score_models(models[1:2], TEXTS, tmp_path)
    assert none.scores.empty and none.matrix().empty


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (IndexError("index out of range in self"), "index out of range in self"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("shapes\ndo not fit"), "shapes do not fit"),
        (TypeError("None"), "None"),
    ],
)
def test_a_model_that_fails_while_scoring_stops_no_other(
    error, reason, folders, tmp_path, monkeypatch
):
    known, calls = likelihood.score_texts, []

    def score(*words, **options):
        calls.append(words)
        if len(calls) == 1:
            raise error
        return known(*words, **options)

    monkeypatch.setattr(likelihood, "score_texts", score)
    found = scoring.score_models(folders[:2], TEXTS, tmp_path)
    assert found.report.status.tolist() == ["failed", "scored"]
    assert found.report.error[0] == reason


@pytest.mark.parametrize(
    ("models", "texts", "options", "message"),
    [
        ([], TEXTS, {}, "models is empty"),
        (["a", "a"], TEXTS, {}, "twice"),
        (["a"], [], {}, "texts is empty"),
        (["a"], ["x", ""], {}, "empty text"),
        (["a"], TEXTS, {"bos": "maybe"}, "bos"),
        (["a"], TEXTS, {"piece": 0}, "piece"),
    ],
)
def test_bad_arguments_are_refused_by_name(models, texts, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        scoring.score_models(models, texts, tmp_path, **options)


def test_a_cluster_gives_the_same_scores(folders, tmp_path):
    import dask
    from distributed import LocalCluster

    here = scoring.score_models(folders[:2], TEXTS, tmp_path / "here")
    # A worker that is forked need not import the libraries anew.
    forked = {"distributed.worker.multiprocessing-method": START}
    size = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with dask.config.set(forked), LocalCluster(**size) as cluster:
        there = scoring.score_models(
            folders[:2], TEXTS, tmp_path / "there", scheduler=cluster.scheduler_address
        )
    pd.testing.assert_frame_equal(there.scores, here.scores)


def test_the_command_writes_a_matrix_and_tells_which_models_failed(folders, tmp_path, capsys):
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    out = tmp_path / "out"
    words = ["--models", *folders[:2], "--texts", str(texts), "--out", str(out)]
    assert score.main(words) == 0
    matrix = pd.read_csv(out / "matrix.csv", index_col="model")
    assert matrix.shape == (2, len(TEXTS))
    assert len(pd.read_csv(out / "scores.csv")) == 2 * len(TEXTS)
    kept = [json.loads(line) for line in (out / "texts.jsonl").read_text().splitlines()]
    assert [row["text"] for row in kept] == list(TEXTS)
    whole = json.loads((out / "results.json").read_text(), parse_constant=pytest.fail)
    one, n_bytes = whole["models"][0], sum(len(text.encode()) for text in TEXTS)
    assert one["value"] == pytest.approx(-matrix.iloc[0].sum() / np.log(2) / n_bytes)
    assert one["low"] <= one["value"] <= one["high"] and len(one["digest"]) == 64
    assert (one["dtype"], one["device"]) == ("float32", "cpu") and "torch" in whole["versions"]
    assert "100%" in (out / "progress.log").read_text().splitlines()[-1]
    told = capsys.readouterr().err
    assert "estimated time without a GPU: " in told and "\r" not in told
    assert score.main([*words[:-1], str(tmp_path / "few"), "--limit", "2"]) == 0
    assert pd.read_csv(tmp_path / "few" / "matrix.csv", index_col="model").shape == (2, 2)
    cut = [*words[:-1], str(tmp_path / "cut"), "--max-tokens", "3"]
    assert score.main(cut) == 0
    report = json.loads((tmp_path / "cut" / "results.json").read_text())["models"]
    # Of a beginning no bits per byte are told, as if the whole text had cost no more.
    assert all(row["n_truncated"] == len(TEXTS) and "value" not in row for row in report)
    words[2] = str(tmp_path / "none.gguf")
    assert score.main(words) == 1
    assert "none.gguf" in capsys.readouterr().err
    assert pd.read_csv(out / "report.csv").status.tolist() == ["scored", "failed"]
    words[1] = str(tmp_path / "absent.gguf")
    assert score.main(words) == 1
    assert "no model could be scored" in capsys.readouterr().err
    assert pd.read_csv(out / "report.csv").status.tolist() == ["failed", "failed"]
    words[4] = str(tmp_path / "no.jsonl")
    assert score.main(words) == 2
    assert "nothing written" in capsys.readouterr().err


def test_without_texts_the_default_set_is_scored_under_its_keys(folders, tmp_path):
    out = tmp_path / "out"
    words = ["--models", folders[0], "--out", str(out), "--n-texts", "8"]
    assert score.main(words) == 0
    matrix = pd.read_csv(out / "matrix.csv", index_col="model")
    assert list(matrix.columns) == list(text_sets.load_texts(8).index)
    assert json.loads((out / "texts.jsonl").read_text().splitlines()[0])["key"] == matrix.columns[0]
    # Eight genres make the number of texts.
    assert score.main([*words[:-1], "9"]) == 2


def test_without_models_the_texts_alone_are_written(tmp_path, capsys):
    assert score.main(["--out", str(tmp_path / "out"), "--n-texts", "8"]) == 0
    assert "8 texts alone" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["texts.jsonl"]
    lines = (tmp_path / "out" / "texts.jsonl").read_text().splitlines()
    expected = text_sets.load_texts(8).text
    assert {row["key"]: row["text"] for row in map(json.loads, lines)} == expected.to_dict()
