"""The gap between two scorers against the distances of the map itself."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from experiments import tiny_gpt
from helpers import data, decoders, likelihood
from helpers.modelmap import conformance, model_map, placement, stored_families

RNG = np.random.default_rng(0)
ROWS = RNG.normal(-300, 80, (6, 40))
TOKENS = RNG.integers(50, 200, 40)


@pytest.mark.parametrize("clip", [0, 0.1])
def test_the_distance_is_that_of_the_map_on_which_both_are_placed(clip):
    made = model_map.fit_map(ROWS, list("abcdef"), clip=clip)
    other = ROWS[2] + RNG.normal(1, 2, 40)
    found = conformance.compare(ROWS[2], other, TOKENS, 8.0, threshold=made.threshold)
    expected = made.place(other).distances[0, 2]
    assert found.squared == pytest.approx(expected) and found.share == pytest.approx(expected / 8)


def test_the_interval_is_that_of_the_distance_to_a_model_on_the_map():
    made = model_map.fit_map(ROWS, list("abcdef"), clip=0)
    other = ROWS[2] + RNG.normal(1, 2, 40)
    found = conformance.compare(ROWS[2], other, TOKENS, 8.0)
    expected = placement.neighbours(made, other, k=1).loc["c"]
    assert found.low < found.share < found.high
    assert [8 * found.low, 8 * found.high] == pytest.approx([expected.low, expected.high])
    again = conformance.compare(ROWS[2], ROWS[2] + 1, TOKENS, 8.0)
    assert [again.low, again.share, again.high] == pytest.approx([0, 0, 0])


def test_one_text_that_is_off_is_named_and_a_shift_of_all_moves_no_point():
    other = ROWS[0].copy()
    other[7] -= 3
    found = conformance.compare(ROWS[0], other, TOKENS, 1.0)
    assert (found.worst, found.median) == (7, 0)
    assert found.largest == pytest.approx(3)
    assert found.per_token == pytest.approx(3 / TOKENS.sum())
    assert found.squared == pytest.approx(9 * (1 / 40 - 1 / 40**2))
    shifted = conformance.compare(ROWS[0], ROWS[0] + 2, TOKENS, 1.0)
    assert shifted.median == pytest.approx(2) and shifted.squared == pytest.approx(0, abs=1e-9)


def test_it_refuses():
    compare = conformance.compare
    with pytest.raises(ValueError, match="shapes"):
        compare(ROWS[0], ROWS[1][:39], TOKENS, 1.0)
    with pytest.raises(ValueError, match=r"other\[3\] is nan"):
        compare(ROWS[0], np.where(np.arange(40) == 3, np.nan, ROWS[1]), TOKENS, 1.0)


KEYS = ["c++-1", "007", "e-2"]
VALUES = [-10.5, -20.0, -30.25]


def written(folder, rows, name="own.csv", columns=("key", "log_likelihood")):
    """Write what an engine gave, and return the path."""
    table = pd.DataFrame(rows, columns=columns)
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    else:
        table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_output_of_another_engine_is_put_into_the_order_of_the_texts(tmp_path, name):
    rows = list(zip(KEYS, VALUES, strict=True))[::-1]
    found = conformance.read_scores(written(tmp_path, rows, name), KEYS)
    assert found == pytest.approx(VALUES)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([("c++-1", -1), ("007", -2)], ("key", "log_likelihood"), "own lacks 'e-2'; score the 3"),
        ([(key, -1) for key in [*KEYS, "x"]], ("key", "log_likelihood"), "unknown here, 'x'"),
        ([(key, -1) for key in [*KEYS, "007"]], ("key", "log_likelihood"), "names twice '007'"),
        ([(key, -1) for key in KEYS], ("key", "score"), r"own has no column \['log_likelihood'\]"),
        ([(key, "NaN") for key in KEYS], ("key", "log_likelihood"), "no finite log_likelihood"),
        ([(key, "a") for key in KEYS], ("key", "log_likelihood"), "likelihood of 'c\\+\\+-1'"),
    ],
)
def test_output_that_does_not_fit_is_refused(tmp_path, rows, columns, message):
    for name in ("own.csv", "own.jsonl"):
        with pytest.raises(ValueError, match=message):
            conformance.read_scores(written(tmp_path, rows, name, columns), KEYS)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bad.jsonl").write_text("{")
    for name in ("absent.csv", "empty.csv", "bad.jsonl"):
        with pytest.raises(ValueError, match=f"{name}.*cannot be read"):
            conformance.read_scores(tmp_path / name, KEYS)


def test_the_yardstick_is_the_least_distance_of_two_seeds_that_is_stored():
    stored = stored_families.stored("tiny_gpts").log_likelihoods
    others = [
        stored.loc[f"gpt-{size}-seed0-step0512"] - stored.loc[f"gpt-{size}-seed1-step0512"]
        for size in ("small", "large")
    ]
    assert 0 < conformance.seed_distance() < min(other.var(ddof=0) for other in others)


def test_the_other_yardstick_is_what_ten_steps_of_training_move_smollm2():
    stored = stored_families.stored("smollm2").log_likelihoods
    apart = model_map.fit_map(stored, clip=0).distances()[list(stored.index).index("smollm2")]
    tuned = [d for d, name in zip(apart, stored.index, strict=True) if "tuned" in name]
    assert len(tuned) == 2 and conformance.stage_distance() == pytest.approx(min(tuned))


@pytest.fixture
def script(monkeypatch):
    """Return the module of the benchmark."""
    monkeypatch.syspath_prepend(data.ROOT / "benchmarks")
    monkeypatch.delitem(sys.modules, "conformance", raising=False)
    import conformance as benchmark

    yield benchmark
    sys.modules.pop("conformance")


TEXTS = [f"{a} likes {b}." + " So it is." * n for n, a in enumerate("ABC") for b in "UV"]


@pytest.mark.parametrize("bos", ["none", "add"])
def test_padding_on_the_left_gives_the_scores_of_texts(script, bos):
    tokenizer = tiny_gpt.word_tokenizer(TEXTS)
    model = tiny_gpt.new_gpt(tokenizer, width=16, layers=1)
    table = likelihood.score_texts(model, tokenizer, TEXTS, bos=bos)
    start = likelihood.start_tokens(tokenizer, bos)
    rows = [start + ids for ids in tokenizer(TEXTS, add_special_tokens=False)["input_ids"]]
    found = script.left_padded(decoders.with_output(model), rows, len(start))
    assert found == pytest.approx(table.log_likelihood.tolist(), rel=1e-5)


def test_an_engine_is_compared_by_the_command(script, tmp_path, monkeypatch, capsys):
    texts = pd.DataFrame({"text": TEXTS}, index=[f"t{i}" for i in range(len(TEXTS))])
    tokenizer = tiny_gpt.word_tokenizer(TEXTS)
    tokenizer.save_pretrained(tmp_path / "model")
    tiny_gpt.new_gpt(tokenizer, width=16, layers=1).save_pretrained(tmp_path / "model")
    monkeypatch.setattr(script.text_sets, "load_texts", lambda n: texts)
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "cache"))
    ours = likelihood.score_texts(
        *script.decoders.load_causal(tmp_path / "model")[::-1], TEXTS
    ).log_likelihood
    ours[2] -= 3
    own = written(tmp_path, list(zip(texts.index, ours, strict=True)))
    words = ["--model", str(tmp_path / "model"), "--own", str(own)]
    assert script.main(words) == 0
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert (line[0], line[-1]) == ("own", "t2") and float(line[2]) == pytest.approx(3)

    monkeypatch.setattr(script, "STORED", tmp_path / "table.csv")
    monkeypatch.setattr(script, "keep", lambda given: None)
    more = [own.rename(tmp_path / "engine 1.csv"), tmp_path / "engine 2.csv"]
    more[1].write_text(more[0].read_text())
    for paths in (more, more[:1]):
        assert script.main([*words[:2], "--own", *map(str, paths), "--keep"]) == 0
    kept = pd.read_csv(tmp_path / "table.csv", index_col="setting")
    assert list(kept.index) == ["engine 2", "engine 1"] and kept.worst.tolist() == ["t2", "t2"]
    assert kept.largest.tolist() == pytest.approx([3, 3], rel=1e-3)
    own.write_text("key,log_likelihood\nt0,-1\n")
    assert script.main(words) == 2
    assert "own lacks 't1'" in capsys.readouterr().err


def test_what_the_script_for_engines_makes_of_logits_is_the_score_of_the_text(script):
    import _engines

    tokenizer = tiny_gpt.word_tokenizer(TEXTS)
    model = decoders.with_output(tiny_gpt.new_gpt(tokenizer, width=16, layers=1))
    expected = likelihood.score_texts(model, tokenizer, TEXTS, bos="none").log_likelihood
    for text, value in zip(TEXTS, expected, strict=True):
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        # llama.cpp's array has room for longer texts.
        logits = np.pad(model(input_ids=ids).logits[0].detach().numpy(), ((0, 3), (0, 0)))
        assert _engines.log_likelihood(logits, ids[0].tolist()) == pytest.approx(value, rel=1e-5)


def test_the_stored_table_has_every_setting_and_what_it_was_measured_on():
    table = pd.read_csv(data.PUBLISHED / "conformance.csv", index_col="setting")
    engines = table.index[table.index.str.contains("llama.cpp|CTranslate2", regex=True)]
    assert (len(table), len(engines)) == (12, 3) and (table.n_texts >= 8).all()
    measured = table.dropna(subset=["low", "high"])
    assert np.isfinite(table.drop(columns=["low", "high"]).select_dtypes("number")).all(axis=None)
    assert set(table.index[table.n_texts == 64]) | set(engines) <= set(measured.index)
    assert {"machine", "date", "torch version", "transformers version"} <= set(table)
    for column, unit in {"share": "seed_distance", "of stages": "stage_distance"}.items():
        expected = table.squared / getattr(conformance, unit)()
        np.testing.assert_allclose(table[column], expected, rtol=1e-3)
    assert measured.share.between(measured.low, measured.high).all()
    assert table.loc["padding on the left", "share"] < table.loc["bfloat16", "share"]
    assert table.loc["CTranslate2 4.8.5, float32", "high"] < table.loc["float16", "share"]
