"""Runs on a reader's models: files, limits, references, rankings, and what is claimed."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from helpers import data, progress, results, storage
from helpers.commands import judge
from helpers.synthesis import (
    example_models,
    model_kinds,
    ranking,
    signal_inputs,
    signal_prose,
    signal_report,
    signals,
    your_model,
)

SIZES = {"n_shuffles": 1, "n_sentences": 40, "n_groups": 2, "n_texts": 8}
FEW = {"n_resamples": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def inputs():
    found = signal_inputs.read_inputs(corpus="factbook", n_per_label=10, n_facts=40)
    return found._replace(texts=["A river.", "Rain falls.", "The north."] * 4, missing={})


@pytest.fixture(scope="module")
def looks(folder):
    paths = {
        "random": example_models.write("causal", folder / "random"),
        "another": example_models.write("causal", folder / "another", seed=1),
        "masked": example_models.write("masked", folder / "masked"),
        "burst": example_models.diverged(folder / "burst"),
        "constant": example_models.diverged(folder / "constant", factor=0.0),
        "none": folder / "none",
    }
    return {title: model_kinds.look(path) for title, path in paths.items()}


@pytest.fixture(scope="module")
def run(looks, inputs, folder):
    known = signal_report.references()
    log = folder / "progress.log"
    return your_model.measure(
        looks, inputs, known=known, log=log, folder=folder / "kept", **SIZES, **FEW
    )


def strictly(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_nothing_is_claimed_of_models_that_learnt_nothing(run, inputs):
    assert not signal_report.favourable(run.table).any()
    assert (run.table.verdict == "undecided").sum() >= 8
    known = signal_report.references()
    for title, raw in run.found.items():
        rows = run.table[run.table.model == title]
        told = signal_prose.paragraph(title, raw, rows, inputs, known, **FEW)
        claimed = ("That is more than", "facts, more", "of its own answer", "nearest", "n-gram")
        assert not [words for words in (*claimed, "surely", "], less than the") if words in told]


def test_the_page_shows_all_rows(run):
    table = signal_prose.shown(run.table).reset_index()
    assert len(table) == len(run.table) > 50
    row = run.table[run.table.key == "first"].iloc[0]
    told = table[(table.model == row.model) & (table.measure == row.measure)].iloc[0]
    assert told.value.startswith(f"{row.value:.3g} [") and told.value.endswith("share")
    assert told.verdict.startswith("undecided (") and "expected, p" in told.verdict
    assert signal_prose.shown(run.table[:0]).empty


def test_verdicts_need_a_corrected_p_and_an_interval():
    rows = pd.DataFrame(
        {"model": list("aabc"), "signal": ["facts", "corpus", "categories", "facts"]}
    )
    rows["key"] = ["first", "SMI", "above_spelling", "first"]
    rows = rows.assign(
        value=0.5, low=0.2, high=0.8, expected=0.0, why="", place="", among="", by=""
    )
    rows = rows.assign(measure="", unit="", p=[0.01, 0.012, 0.02, 0.6])
    found = signal_report._decided(rows)
    assert found.p_adjusted.tolist() == pytest.approx([0.04, 0.04, 0.04, 0.6])
    assert found.verdict.tolist() == ["above", "above", "above", "undecided"]
    # One more test, and none of them passes; the counts fall with the answers.
    more = signal_report._decided(pd.concat([rows, rows.iloc[[3]].assign(model="d")]))
    assert set(more.verdict) == {"undecided"}
    rows.loc[0, ["p", "low"]] = [1e-9, -0.1]
    found = signal_report._decided(rows)
    assert found.verdict.tolist() == ["undecided", "undecided", "above", "undecided"]
    rows.loc[0, "p"] = 0.3
    found = signal_report._decided(rows)
    assert np.isnan(found.p[1]) and "not shown to answer" in found.why[1]


def test_groups_of_entities_stand_together():
    values = np.repeat(np.random.default_rng(0).normal(0.2, 1, 30), 8)
    groups = pd.Series(np.repeat(np.arange(30), 8))
    mean, low, high, p, n = signal_report._grouped(values, groups, 0.95)
    means = values.reshape(30, 8)[:, 0]
    half = 2.045 * means.std(ddof=1) / np.sqrt(30)
    assert (mean, n) == (pytest.approx(values.mean()), 30)
    assert (low, high) == pytest.approx((mean - half, mean + half), rel=0.02)
    assert p > 0.05 or low > 0
    assert np.isnan(signal_report._grouped(values, groups // 4, 0.95)[3])


def test_results_are_whole_strict_and_tell_where_they_come_from(run, inputs, tmp_path):
    ranks = ranking.rank(run.found, inputs, "texts", **FEW)
    files = your_model.write(tmp_path, run, inputs, ranks)
    assert [f.name for f in files] == ["results.json", "results.csv", "ranking.csv"]
    whole = strictly(files[0].read_text())
    by_name = {one["model"]: one for one in whole["models"]}
    assert whole["schema"] == 1 and whole["settings"]["n_sentences"] == 40
    assert {"torch", "transformers", "numpy"} <= set(whole["versions"])
    one = by_name["random"]
    assert len(one["digest"]) == 64 and one["digest"] != by_name["another"]["digest"]
    assert (one["dtype"], one["device"], one["kind"]) == ("float32", "cpu", "causal")
    assert (
        by_name["none"]["status"] == "refused" and "correct the name" in by_name["none"]["reason"]
    )
    assert {s["status"] for s in by_name["masked"]["signals"]} == {"computed", "cannot"}
    table = pd.read_csv(files[1], keep_default_na=False)
    assert len(table) == sum(len(m["measures"]) for m in whole["models"]) == len(run.table)
    for one in whole["models"]:
        for row in one["measures"]:
            assert {"value", "low", "high", "unit", "by", "place", "status", "reason"} <= set(row)
    assert len(whole["ranking"]) == len(ranks)


def test_a_run_that_cannot_be_written_leaves_nothing(run, inputs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(storage.CannotWrite):
        your_model.write(tmp_path / "file" / "below", run, inputs)
    for part in ("build/x", "data", "book/notebooks", "experiments"):
        with pytest.raises(ValueError, match="a folder of the book"):
            results.folder(str(data.ROOT / part), ["m"], {}, page="p")


def test_folders_are_those_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.delenv("BOOK_CALLER", raising=False)
    monkeypatch.chdir(tmp_path)
    one, two = (results.folder("", ["m"], {"seed": s}, page="p") for s in (0, 1))
    assert one.parent == tmp_path / "results" and one != two
    assert one == results.folder("", ["m"], {"seed": 0}, page="p") and one.name[:2] == "p-"
    monkeypatch.setenv("BOOK_CALLER", str(tmp_path / "there"))
    assert results.folder("mine", ["m"], {}, page="p") == tmp_path / "there" / "mine"


def test_limits_keep_what_signals_need():
    sizes = {"n_per_label": 60, "n_facts": 60, "n_sentences": 500, "n_texts": 64, "most_texts": 64}
    assert your_model.limited(0, **sizes) == sizes
    assert your_model.limited(20, **sizes) == {
        "n_per_label": 20, "n_facts": 20, "n_sentences": 40, "n_texts": 24, "most_texts": 20
    }  # fmt: skip
    assert your_model.limited(1, **sizes)["n_per_label"] == 10
    assert your_model.limited(1000, **sizes) == sizes
    with pytest.raises(ValueError, match="limit is -1"):
        your_model.limited(-1, **sizes)


def test_only_the_signals_that_were_asked_for(looks, inputs, tmp_path, capsys):
    found = signals.measure(looks["random"], inputs, only=["corpus"], folder=tmp_path, **SIZES)
    status = {name: found[name]["status"] for name in signals.SIGNALS}
    assert status.pop("facts") == status.pop("corpus") == "computed"
    assert set(status.values()) == {"not asked"}
    with pytest.raises(ValueError, match="signals is 'map texts'; choose one of"):
        signals.measure(looks["random"], inputs, only=["map texts"], folder=tmp_path, **SIZES)


def test_an_estimate_comes_first_and_what_is_kept_costs_nothing(run, looks, inputs, folder):
    before = your_model._estimate(looks, inputs, folder=folder / "none", **SIZES)
    assert "none" not in before.index and (before.loc["random"].drop("corpus") > 0).all()
    assert (before.loc["masked", ["map", "corpus"]] == 0).all()
    # What failed is tried again.
    again = your_model._estimate(looks, inputs, folder=folder / "kept", **SIZES)
    assert list(again.index) == ["constant"] and set(again.loc["constant", ["map", "facts"]]) == {0}
    lines = (folder / "progress.log").read_text().splitlines()
    assert "100%" in lines[-1] and lines[-1].endswith("done")
    assert any("burst: latent space" in line for line in lines)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_lines_in_a_log_and_a_bar_on_a_terminal(tmp_path):
    plain, bar = io.StringIO(), Terminal()
    for stream in (plain, bar):
        with progress.shown(4, "s", stream=stream, log=tmp_path / "log", every=1e6) as step:
            for name in "abcd":
                step(name, 1)
    told = plain.getvalue().splitlines()
    # The first and the last: the others came too soon after.
    assert len(told) == 2 and "25%  a; left: " in told[0] and told[1].endswith("100%  d; done")
    assert "\r" in bar.getvalue() and "\r" not in plain.getvalue()
    assert [line.split("  ")[-1][0] for line in (tmp_path / "log").read_text().splitlines()] == [
        *"abcd"
    ]
    assert progress.duration(30) == "30 seconds" and progress.duration(5400) == "1.5 hours"


def test_own_references_stand_beside_ours_where_the_same_was_asked(run, inputs, tmp_path):
    your_model.write(tmp_path, run, inputs)
    known = your_model.own_references(signal_report.references(), [str(tmp_path)], inputs, 40)
    assert {"facts", "categories", "my texts", "latent space"} <= set(known.own.signal)
    rows = signal_report.tidy("another", run.found["another"], inputs, known, **FEW)
    among = rows.set_index("key").among
    # Itself is no rival, and a masked model answers other questions.
    assert among["own_bits"] == among["first"] == "3 of yours"
    assert "reference models, 3 of yours" in among["bits_per_byte"]
    other = inputs._replace(texts=["Another text."])
    known = your_model.own_references(signal_report.references(), [str(tmp_path)], other, 30)
    assert not {"my texts", "latent space"} & set(known.own.signal)
    (tmp_path / "bad.json").write_text('{"schema": 9}')
    for path in ("bad.json", "absent.json"):
        with pytest.raises(ValueError, match=f"{path}.* could not be read .*; pass results.json"):
            your_model.own_references(known, [str(tmp_path / path)], inputs, 40)


def raw_texts(values, kind="causal", parameters=1, guess=-90):
    part = {"status": "computed", "log_likelihood": list(values), "n_bytes": [10] * len(values)}
    part |= {"read": list(range(len(values))), "guess": [guess] * len(values)}
    return {
        "model": {"status": "computed", "kind": kind, "parameters": parameters},
        "my texts": part,
    }


def test_models_are_ranked_in_pairs(inputs):
    rng = np.random.default_rng(0)
    texts, gap = rng.normal(-50, 20, 40), rng.normal(0, 0.5, 40)
    asked = inputs._replace(texts=["t"] * 40)
    found = {
        "b": raw_texts(texts - 1 + gap, parameters=9),
        "a": raw_texts(texts),
        "c": raw_texts(texts + 0.01 * gap),
        "masked": raw_texts(texts + 9, "masked"),
    }
    few = ranking.rank(found, asked._replace(texts=["t"] * 9), "texts", n_resamples=400)
    assert few.empty and "on enough of the same data" in ranking.in_words(few, "texts")
    table = ranking.rank(found, asked, "texts", n_resamples=400)
    # The spread of texts is far beyond the differences, which pairs show all the same.
    assert list(table.index)[-1] == "b" and table.loc["b", "verdict"] == "behind"
    assert set(table.verdict[:2]) == {"undecided"} and "masked" not in table.index
    assert table["first"].sum() == pytest.approx(1)
    assert table.loc["b", "value"] == pytest.approx(-sum(texts - 1 + gap) / np.log(2) / 400)
    told = ranking.in_words(table, "texts")
    assert "undecided between" in told and "parameters alone it would be b" in told
    del found["c"]
    table = ranking.rank(found, asked, "texts", n_resamples=400)
    assert table.verdict.tolist() == ["first", "behind"]
    assert "a comes first" in ranking.in_words(table, "texts")
    assert table.above_nothing.all()
    assert "fewer than two" in ranking.in_words(ranking.rank({}, asked, "facts"), "facts")
    with pytest.raises(ValueError, match="rank_for is 'size'"):
        ranking.rank(found, asked, "size")


def test_the_best_of_models_that_learnt_nothing_is_no_first(inputs):
    rng = np.random.default_rng(1)
    texts, asked = rng.normal(-50, 20, 40), inputs._replace(texts=["t"] * 40)
    # One is behind in every text; what equally likely tokens give lies between the two.
    raws = {"a": raw_texts(texts, guess=-45), "b": raw_texts(texts - 5, guess=-45)}
    table = ranking.rank(raws, asked, "texts", n_resamples=400)
    assert table.verdict.tolist() == ["undecided", "behind"] and not table.above_nothing.any()
    told = ranking.in_words(table, "texts")
    assert "undecided, because a, first in 100% of resamples, is not shown to be better" in told
    assert "a guess with equal probability" in told
    skill = rng.normal(0.5, 0.3, len(inputs.entities))
    found = {
        name: {
            "model": {"status": "computed", "kind": "encoder", "parameters": 1},
            "categories": {"status": "computed", "skill": skill - lost, "spelling": spelling},
        }
        for name, lost, spelling in (("a", 0, skill + 0.1), ("b", 0.2, skill))
    }
    table = ranking.rank(found, inputs, "categories", n_resamples=400)
    assert table.verdict.tolist() == ["undecided", "behind"]
    assert "the spelling of the names alone" in ranking.in_words(table, "categories")
    found["a"]["categories"]["spelling"] = skill - 0.3
    table = ranking.rank(found, inputs, "categories", n_resamples=400)
    assert table.verdict.tolist() == ["first", "behind"]


def test_a_ranking_stands_beside_its_gate():
    columns = {"kind": "causal", "value": [1.0, 2.0, 3.0, 4.0], "parameters": [9, 8, 7, 6]}
    table = pd.DataFrame(columns, list("abcd"))
    rows = ranking.beside_gate(table, "texts", n_resamples=20)
    # Fewer bits are better, so the order is that of the sizes.
    assert rows.rank_correlation["parameters"] == 1
    assert ranking.beside_gate(table, "facts", n_resamples=20).rank_correlation.iloc[0] == -1
    assert rows.why["tokens"] == "known of 0 of 4 models"
    pair = ranking.beside_gate(table[:2], "texts")
    assert pair.why.eq("2 models, and 3 are needed").all()
    assert ranking.beside_gate(table[:0], "texts").empty


def test_random_models_are_not_ranked_by_their_tastes(run, inputs):
    table = ranking.rank(run.found, inputs, "facts", n_resamples=500)
    assert set(table.index) <= {"random", "another", "burst", "constant"} and len(table) >= 2
    assert set(table.verdict) == {"undecided"} and table.value.abs().max() < 0.2
    for use in ("texts", "categories"):
        assert "first" not in set(ranking.rank(run.found, inputs, use, n_resamples=500).verdict)
    shown = ranking.shown(table)
    first = table.iloc[0]
    assert set(shown["above nothing"]) <= {"yes", "no"} and "behind_low" not in shown
    assert shown["value"].iloc[0] == f"{first.value:.3g} [{first.low:.3g}, {first.high:.3g}]"
    entities = ranking.rank(run.found, inputs, "categories", **FEW)
    assert "masked" in entities.index and set(entities.kind) == {"all"}


def test_the_command(folder, looks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "t.txt").write_text("A river.\nRain falls.\nThe north.\n" * 4)
    words = ["--texts", "t.txt", "--signals", "my texts", "--limit", "12", "--text"]
    both = [looks["random"].name, looks["another"].name, *words, "--rank-for", "texts"]
    assert judge.main([*both, "--out", "mine"]) == 0
    told = capsys.readouterr()
    assert "estimated time without a GPU: " in told.err and "2 causal models" in told.out
    whole = strictly((tmp_path / "mine" / "results.json").read_text())
    assert [m["signal"] for m in whole["models"][0]["measures"]] == ["my texts"]
    assert whole["settings"]["limit"] == 12 and (tmp_path / "mine" / "progress.log").is_file()
    half = ["--out", "half", "--dtype", "bfloat16", "--device", "cpu", "--batch-tokens", "64"]
    assert judge.main([*both, *half]) == 0
    other = strictly((tmp_path / "half" / "results.json").read_text())
    assert other["settings"] | {"dtype": "bfloat16", "batch_tokens": 64} == other["settings"]
    assert other["models"][0]["dtype"] == "bfloat16" != whole["models"][0]["dtype"]
    values = [run["models"][0]["measures"][0]["value"] for run in (whole, other)]
    # Eight bits of a mantissa: near, and not the same.
    assert values[1] == pytest.approx(values[0], rel=0.01) and values[0] != values[1]
    capsys.readouterr()
    assert judge.main([*both, "--json", "--quiet", "--out", "judged"]) == 0
    out, err = capsys.readouterr()
    assert "left" not in err and "done" not in err
    judged, kept = strictly(out), tmp_path / "judged" / "results.json"
    assert judged["models"][0]["measures"] == whole["models"][0]["measures"]
    assert judged["ranking"] and strictly(kept.read_text())["models"] == judged["models"]
    written = sorted(path.name for path in tmp_path.iterdir())
    assert judge.main([*both, "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "bits per byte, my texts" in out and "is kept from before" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == written
    assert judge.main(["no/where", *words]) == 1
    assert "no model could be read" in capsys.readouterr().err
    assert judge.main([*both, "--device", "abacus"]) == 2
    assert "device is 'abacus'" in (told := capsys.readouterr().err) and "; choose cpu" in told
    assert judge.main([*both, "--signals", "size"]) == 2
    assert "signals is 'size'" in capsys.readouterr().err
