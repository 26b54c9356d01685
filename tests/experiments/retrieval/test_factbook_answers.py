"""Facts asked of a model, against one question at a time; ranks and links against SciPy."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from scipy import stats as scipy_stats

from experiments.retrieval import factbook_answers
from experiments.synthesis import glass_box_runs
from helpers.retrieval import closed_book, factbook_facts


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a tokenizer and a tiny random causal model, and the folder where they are saved."""
    tokenizer = glass_box_runs.stored_tokenizer()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.3,
    )
    causal = transformers.AutoModelForCausalLM.from_config(config).eval()
    folder = tmp_path_factory.mktemp("causal")
    causal.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer, causal, folder


@pytest.fixture(scope="module")
def table():
    return factbook_facts.facts()


@pytest.fixture
def frame():
    rng = np.random.default_rng(5)
    n = 400
    x = rng.integers(0, 30, n).astype(float)
    relation = rng.choice(["a", "b", "c"], n)
    y = x + rng.normal(0, 20, n) + 100 * (relation == "b")
    subject = rng.integers(0, 90, n)
    return pd.DataFrame(
        {"relation": relation, "subject": subject, "x": x, "y": y, "z": rng.random(n)}
    )


def test_answers_are_those_of_each_question_alone(model, table):
    tokenizer, causal, _ = model
    rows = factbook_facts.draw_facts(table, 6)
    ours = factbook_answers._ask(tokenizer, causal, rows, 1, table, n_choices=5)
    options = factbook_facts.choices(table, rows, 5)
    for i, row in enumerate(ours.itertuples()):
        relation, subject = [row.relation], [row.subject]
        (text,) = factbook_facts.prompts(relation, subject, 1)
        (nobody,) = factbook_facts.prompts(relation, [factbook_facts.NEUTRAL], 1)
        names = factbook_facts.answers(options[i])
        asked, bare = (
            closed_book.answer_log_probability(causal, tokenizer, [t], [names])
            for t in (text, nobody)
        )
        p, q, n = asked.log_probability, bare.log_probability, asked.n_tokens
        assert row.log_probability == pytest.approx(p[0], abs=1e-3)
        assert row.neutral == pytest.approx(q[0], abs=1e-3) and row.n_tokens == n[0]
        for column, scores in (("beaten", p), ("beaten_per_token", p / n), ("beaten_pmi", p - q)):
            assert getattr(row, column) == np.mean(scores[0] > scores[1:])


def test_samples_are_graded_without_and_with_the_question(model, table):
    tokenizer, causal, _ = model
    rows = table[table.leak & (table.relation == "neighbour")][:3]
    ours = factbook_answers._sample(tokenizer, causal, rows, 0, n=2)
    within = [o in s for s, o in zip(rows.subject, rows.object, strict=True)]
    assert (ours.sampled == 0).all()
    assert ours.sampled_with_prompt.tolist() == [float(w) for w in within] and any(within)


def test_all_forms_of_all_facts_are_answered(model, table):
    folder = model[2]
    rows = factbook_facts.draw_facts(table, 3)
    ours = factbook_answers.ask_all(folder, rows, table, templates=[0, 3], n_samples=1)
    assert len(ours) == 6 and not ours.duplicated(factbook_answers.KEY).any()
    assert set(ours.columns) == set(factbook_answers.stored_answers().columns)
    assert factbook_answers.n_parameters(folder) == sum(p.numel() for p in model[1].parameters())


def test_the_means_over_forms_are_joined_to_the_facts(table):
    rows = factbook_facts.draw_facts(table, 4)
    parts = [rows[["relation", "subject"]].assign(template=k) for k in range(2)]
    answers = pd.concat(parts, ignore_index=True)
    answers = answers.assign(log_probability=np.arange(8.0), neutral=-1.0, sampled=0.5)
    ours = factbook_answers.by_fact(answers[answers.subject != rows.subject.iloc[3]], rows)
    assert ours.index.tolist() == rows.index[:3].tolist()
    np.testing.assert_allclose(ours["log P"], [2, 3, 4])
    np.testing.assert_allclose(ours["calibrated"], [3, 4, 5])


def test_stored_tables_belong_to_the_facts_of_the_package(table):
    known = table.set_index(["relation", "subject"]).index
    for file in (factbook_answers.STORED, factbook_facts.COUNTED):
        stored = pd.read_csv(file)
        assert len(stored) >= 1000 and stored.notna().all(axis=None)
        assert pd.MultiIndex.from_frame(stored[["relation", "subject"]]).isin(known).all()
    stored = factbook_answers.stored_answers()
    assert (stored.groupby(["relation", "subject"]).template.nunique() == 5).all()
    assert stored[["beaten", "beaten_pmi", "sampled"]].stack().between(0, 1).all()
    assert (stored.sampled_with_prompt >= stored.sampled).all() and (
        stored.log_probability < 0
    ).all()


def test_forms_are_compared_within_relations(frame):
    parts = []
    for k in range(3):
        rows = frame.drop_duplicates(["relation", "subject"])
        parts.append(rows.assign(template=k, sampled=rows.y if k < 2 else -rows.y))
    alike, spread = factbook_answers.form_spread(pd.concat(parts))
    assert alike == pytest.approx(-1 / 3)
    means = parts[0].groupby("relation").y.mean()
    np.testing.assert_allclose(spread.best, means.abs())
    np.testing.assert_allclose(spread.worst, -means.abs())
    assert np.isnan(factbook_answers.form_spread(parts[0])[0])


def test_links_by_form_are_those_of_each_form_alone(frame):
    frame = frame.drop_duplicates(["relation", "subject"])
    rng = np.random.default_rng(1)
    parts = [
        frame[["relation", "subject"]].assign(template=k, y=rng.random(len(frame))) for k in (0, 3)
    ]
    table = factbook_answers.form_links(frame, pd.concat(parts), "x", ["y"])
    assert list(table) == ["form 1", "form 4"]
    second = frame[["relation", "subject", "x"]].merge(parts[1], on=["relation", "subject"])
    rho = factbook_answers.links(second, ["x"], ["y"], n_resamples=1).rho[0]
    assert table["form 4"].tolist() == pytest.approx([parts[1].y.mean(), rho])


def test_ranks_within_relations_are_those_of_each_alone(frame):
    ours = factbook_facts.ranks(frame[["x", "y"]], frame.relation)
    for name, part in frame.groupby("relation"):
        expected = (scipy_stats.rankdata(part.x) - 0.5) / len(part) - 0.5
        np.testing.assert_allclose(ours.x[part.index], expected, err_msg=name)
    assert ours.groupby(frame.relation).mean().abs().max().max() < 1e-12
    whole = factbook_facts.ranks(frame[["x"]])
    np.testing.assert_allclose(whole.x, (scipy_stats.rankdata(frame.x) - 0.5) / len(frame) - 0.5)


def test_links_are_spearmans_and_relations_do_not_add(frame):
    pooled = factbook_answers.links(frame, ["x", "z"], ["y"], within=False, n_resamples=200)
    for row in pooled.itertuples():
        expected = scipy_stats.spearmanr(frame[row.signal], frame.y).statistic
        assert row.rho == pytest.approx(expected) and row.low < row.rho < row.high
    within = factbook_answers.links(frame, ["x", "z"], ["y"], n_resamples=200)
    moved = frame.assign(y=frame.y + 1000 * (frame.relation == "c"))
    again = factbook_answers.links(moved, ["x", "z"], ["y"], n_resamples=200)
    pd.testing.assert_frame_equal(within, again)
    assert within.rho[0] > 0.3 and within.low[1] < 0 < within.high[1]
    one = frame[frame.relation == "a"]
    alone = factbook_answers.links(one, ["x"], ["y"], n_resamples=50).rho[0]
    assert alone == pytest.approx(scipy_stats.spearmanr(one.x, one.y).statistic)


def test_intervals_draw_subjects_and_repeat(frame):
    doubled = pd.concat([frame, frame], ignore_index=True)
    one, two = (
        factbook_answers.links(f, ["x"], ["y"], n_resamples=400, seed=1) for f in (frame, doubled)
    )
    assert (two.high - two.low)[0] == pytest.approx((one.high - one.low)[0], rel=0.02)
    pd.testing.assert_frame_equal(
        one, factbook_answers.links(frame, ["x"], ["y"], n_resamples=400, seed=1)
    )


def test_a_partial_link_is_that_of_what_a_fit_leaves_of_the_ranks(frame):
    facts = frame.assign(hint=frame.z > 0.7, w=frame.x + 5 * frame.z)
    ours = factbook_answers.partial_link(facts, "w", "y", ["x", "hint"])
    table = factbook_facts.ranks(facts[["w", "y", "x", "hint"]].astype(float), facts.relation)
    design = np.column_stack([np.ones(len(table)), table.x, table.hint])
    left = table[["w", "y"]] - design @ np.linalg.lstsq(design, table[["w", "y"]], rcond=None)[0]
    assert ours.r == pytest.approx(left.w.corr(left.y)) and ours.low < ours.r < ours.high
    alone = factbook_answers.partial_link(facts, "x", "y", [])
    assert alone.r == pytest.approx(
        factbook_answers.links(frame, ["x"], ["y"], n_resamples=5).rho[0]
    )


def test_a_lead_is_the_difference_of_two_links(frame):
    found = factbook_answers.links(frame, ["x", "z"], ["y"], n_resamples=50)
    ours = factbook_answers.lead(frame, ("x", "y"), ("z", "y"), n_resamples=300)
    assert ours.gain == pytest.approx(found.rho[0] - found.rho[1])
    assert 0 < ours.low < ours.gain < ours.high
    assert factbook_answers.lead(frame, ("x", "y"), ("x", "y"), n_resamples=20).gain == 0


def test_leads_by_rule_leave_leaks_out_of_each_way_of_counting(table):
    rows = factbook_facts.draw_facts(table, 80)
    rng = np.random.default_rng(0)
    answers = rows[["relation", "subject"]].assign(template=0, sampled=rng.random(len(rows)))
    answers = answers.assign(log_probability=-1.0, neutral=-1.0)
    both = rng.integers(1, 9, len(rows))
    counts = {"n_documents": 1000, "n_subject": both + 5, "n_object": both + 50, "n_both": both}
    counted = {"a": rows.assign(**counts), "b": rows.assign(**counts).iloc[:50]}
    pair = "log2 N(s,o)", "sampled"
    ours = factbook_answers.leads_by_rule(answers, counted, "MI", *pair, n_resamples=20)
    assert list(ours) == list(counted)
    for rule, part in counted.items():
        facts = factbook_facts.add_signals(factbook_answers.by_fact(answers, part))
        one = facts[~facts.leak]
        assert ours[rule] == factbook_answers.lead(one, ("MI", "sampled"), pair, n_resamples=20)


def test_shuffled_facts_are_linked_by_chance_only(frame):
    ours = factbook_answers.shuffled(frame, "x", "y", n=300)
    assert abs(ours.mean()) < 0.02 and ours.std() == pytest.approx(1 / np.sqrt(len(frame)), rel=0.2)
    np.testing.assert_array_equal(ours[:20], factbook_answers.shuffled(frame, "x", "y", n=20))


def test_the_table_is_made_in_pieces_that_are_kept(model, once):
    one, place = once
    assert len(one) == 4 * 2 and len(list(place.iterdir())) == 4
    pd.testing.assert_frame_equal(one, made(place, model[2]))
    assert len(list(place.iterdir())) == 4


def test_a_model_that_fails_later_is_told_too(model, tmp_path, capsys):
    config = transformers.GPT2Config(
        vocab_size=len(model[0]), n_embd=16, n_layer=1, n_head=2, n_positions=2
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "short")
    model[0].save_pretrained(tmp_path / "short")
    words = ["--model", str(tmp_path / "short"), "--facts", "2", "--out", str(tmp_path / "a.csv")]
    assert factbook_answers.main([*words, "--pieces", str(tmp_path / "p")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("nothing written: ") and said.count("\n") == 1
    assert not (tmp_path / "a.csv").exists()


def test_the_first_model_that_answers_something_is_studied():
    def table(*sampled):
        return pd.DataFrame({"sampled": sampled, "leak": [False, False, True]})

    known = {"none": table(0, 0, 1), "all": table(1, 1, 0), "some": table(0, 1, 1)}
    assert factbook_answers.first_to_study(known | {"more": table(1, 0, 0)}) == "some"
    with pytest.raises(ValueError, match="all wrong, or all right.*; ask more facts"):
        factbook_answers.first_to_study({name: known[name] for name in ("none", "all")})


def made(place, folder, facts=4, size=3):
    """Ask facts in two forms, keep the pieces in a folder, and return the table."""
    words = ["--model", str(folder), "--facts", str(facts), "--size", str(size)]
    words += ["--pieces", str(place), "--out", str(place.with_suffix(".csv"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factbook_answers, "N_TEMPLATES", 2)
        assert factbook_answers.main(words) == 0
    return pd.read_csv(place.with_suffix(".csv"))


@pytest.fixture(scope="module")
def once(model, tmp_path_factory):
    """The table of one run, and the folder of its pieces."""
    place = tmp_path_factory.mktemp("answers") / "old"
    return made(place, model[2]), place


@pytest.mark.parametrize("change", ["facts", "size", "model", "damage"])
def test_pieces_of_another_run_or_damaged_ones_are_made_anew(model, once, tmp_path, change):
    table, kept = once
    shutil.copytree(kept, tmp_path / "old")
    pieces = sorted((tmp_path / "old").iterdir())
    options = {"folder": model[2], **{"facts": {"facts": 5}, "size": {"size": 2}}.get(change, {})}
    if change == "model":
        options["folder"] = tmp_path / "other"
        shutil.copytree(model[2], options["folder"])
        weights = load_file(options["folder"] / "model.safetensors")
        changed = {name: 2 * w if w.ndim > 1 else w for name, w in weights.items()}
        save_file(changed, options["folder"] / "model.safetensors", {"format": "pt"})
    elif change == "damage":
        for piece in pieces:
            piece.write_bytes(piece.read_bytes()[:-40])
    new = table if change == "damage" else made(tmp_path / "new", **options)
    pd.testing.assert_frame_equal(made(tmp_path / "old", **options), new)
