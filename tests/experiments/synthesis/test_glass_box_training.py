import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.retrieval import small_world
from experiments.synthesis import (
    glass_box_measures,
    glass_box_runs,
    glass_box_table,
    glass_box_training,
    glass_box_world,
)
from experiments.synthesis.glass_box_training import Run
from helpers import checkpoints, factbook_tasks, glue, storage, text_sets
from helpers.modelmap import model_map

RUN = Run("gpt", 16, 1, "even", 0)


@pytest.fixture(scope="module")
def world():
    return glass_box_world.make_world(24, n_communities=2, most=16)


@pytest.fixture(scope="module")
def documents(world):
    return list(glass_box_world._planted(world, "facts").text)


@pytest.fixture(scope="module")
def tokenizer(world, documents):
    return glass_box_world.tokenizer(world, size=420, texts=documents)


# The world


@pytest.mark.parametrize("mix", glass_box_world.MIXES)
def test_documents_state_each_fact_as_often_as_told_and_the_counter_finds_it(world, mix):
    told = glass_box_world._planted(world, mix)
    texts = Counter(told.text)
    times = glass_box_world.statements(world, mix)
    for row, fact in world.facts.iterrows():
        asked = {form.replace("{}", fact.subject) for form in world.training[fact.relation]}
        assert sum(texts[f"{form} {fact.object}."] for form in asked) == times[row]
        others = told[(told.fact == row) & (told.object != fact.object)]
        assert len(others) == (0 if fact.kind == "none" else times[row])
        assert (others.object != "").all() == (fact.kind == "competing") or others.empty


def test_the_counter_finds_what_was_planted(world, monkeypatch):
    monkeypatch.setattr(glass_box_world, "_real_texts", lambda mix, share=1.0: ["No name here."])
    for mix in glass_box_world.MIXES:
        found = glass_box_table.count_facts(world, mix)
        told = glass_box_world._planted(world, mix)
        assert (found.n_both == found.stated).all()
        assert (found.n_documents == len(told) + 1).all()
        subject = [told.text.str.contains(rf" {name} ").sum() for name in found.subject]
        assert found.n_subject.tolist() == subject


def test_mixes_state_facts_in_proportion():
    world = glass_box_world.make_world()
    base = world.facts.frequency.to_numpy()
    for mix, made in glass_box_world.MIXES.items():
        assert (glass_box_world.statements(world, mix) == np.ceil(base * made.statements)).all()
    assert 0.05 < (base == 0).mean() < 0.15
    logs = np.log2(base[base > 0])
    assert np.histogram(logs, 3, (0, 6))[0].min() > 0.25 * len(logs)


def test_people_share_objects_with_their_community_as_often_as_set():
    world = glass_box_world.make_world(6000, n_communities=6, seed=3)
    own = world.facts.person.map(world.people.community)
    places = {o: i for told in world.objects.values() for i, o in enumerate(told)}
    loyal = (world.facts.object.map(places) // 2 == own).mean()
    expected = glass_box_world.LOYALTY + (1 - glass_box_world.LOYALTY) * 2 / 12
    assert loyal == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 18_000))
    assert (world.people.community.value_counts() == 1000).all()


def test_held_out_forms_stand_in_no_document(world):
    text = "\n".join(glass_box_world._planted(world, "facts").text)
    for relation, forms in world.held_out.items():
        assert len(forms) == small_world.N_HELD_OUT
        assert not set(forms) & set(world.training[relation])
        for form in forms:
            assert not re.search(re.escape(form).replace(r"\{\}", r"\w+"), text)


def test_the_same_seed_makes_the_same_world_and_another_does_not(world):
    again, other = (
        glass_box_world.make_world(24, n_communities=2, most=16, seed=s) for s in (0, 1)
    )
    assert again.facts.equals(world.facts) and not other.facts.equals(world.facts)
    one, two = (glass_box_world._planted(w, "code") for w in (world, again))
    assert one.equals(two)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"n_people": 7}, "n_people is 7"),
        ({"n_people": 25}, "n_people is 25"),
        ({"n_communities": 1}, "n_communities is 1"),
        ({"most": 1}, "most is 1"),
        ({"unseen": 1.0}, "unseen 1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_worlds_that_cannot_be_made_are_refused(wrong, name):
    with pytest.raises(ValueError, match=name):
        glass_box_world.make_world(**{"n_people": 24, "n_communities": 2, **wrong})
    with pytest.raises(ValueError, match="mix is 'other'"):
        glass_box_world.statements(glass_box_world.make_world(24, n_communities=2), "other")


def test_names_and_objects_are_one_token_each(world, documents, tokenizer):
    for word in [*world.people.name, *sum(world.objects.values(), [])]:
        assert len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1
    ids = tokenizer(documents[0])["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == 0 and tokenizer.mask_token_id == 1
    assert tokenizer.decode(ids[1:]) == documents[0]
    with pytest.raises(ValueError, match="size is 280"):
        glass_box_world.tokenizer(world, size=280, texts=documents)


def test_real_texts_hold_neither_unseen_texts_nor_tests():
    hidden = set(text_sets.load_texts(128, genres=glass_box_world.GENRES).text)
    tested = factbook_tasks.sentences(test=True)
    assert len(tested) > 1000 and not set(tested) & set(factbook_tasks.sentences(test=False))
    for mix, made in glass_box_world.MIXES.items():
        texts = glass_box_world._real_texts(mix, share=0.2)
        assert not hidden & set(texts)
        whole = "\0".join(texts)
        assert not any(sentence in whole for sentence in tested)
        total = sum(len(text.encode()) for text in texts)
        assert 0 <= total - 0.2 * sum(made.n_bytes.values()) < 1024 * len(made.n_bytes)
    unseen = glass_box_world.unseen_texts()
    assert unseen.n_bytes.between(150, 160).all() and len(unseen) == 128


# Models and training


@pytest.mark.parametrize("kind", glass_box_training.KINDS)
def test_models_are_drawn_by_their_seed(kind, tokenizer):
    made = [
        glass_box_training.new_model(kind, tokenizer, width=32, layers=1, seed=s) for s in (0, 0, 1)
    ]
    one, same, other = (checkpoints.digest(model.state_dict()) for model in made)
    assert one == same != other
    output = made[0].get_output_embeddings().weight
    assert output is made[0].get_input_embeddings().weight
    with pytest.raises(ValueError, match="width is 24"):
        glass_box_training.new_model(kind, tokenizer, width=24)
    with pytest.raises(ValueError, match="kind is 't5'"):
        glass_box_training.new_model("t5", tokenizer)


def test_rows_are_documents_after_an_end_and_long_ones_go_on(tokenizer, documents):
    long = " ".join(documents[:40])
    rows = glass_box_training._token_rows(tokenizer, [documents[0], long])
    assert rows[0].tolist() == tokenizer(documents[0])["input_ids"]
    assert max(map(len, rows)) == glass_box_training.CONTEXT and all(row[0] == 0 for row in rows)
    joined = np.concatenate([row[1:] for row in rows[1:]])
    whole = tokenizer(long, add_special_tokens=False)["input_ids"]
    assert 0 <= len(whole) - len(joined) < 8
    assert joined.tolist() == whole[: len(joined)]


def test_every_epoch_reads_every_row_once_in_another_order(tokenizer, documents):
    batches = glass_box_training._Batches(tokenizer, documents, 512, seed=0)
    first, n = [batches.at(0)], 1
    while batches.epoch == 0:
        rows = batches.at(n)
        n += 1
        if batches.epoch == 0:
            first.append(rows)
    assert all(rows.size <= 512 for rows in first)
    read = sorted(tuple(row[row >= 0]) for rows in first for row in rows)
    assert read == sorted(
        tuple(row) for row in glass_box_training._token_rows(tokenizer, documents)
    )
    assert len({len(rows[0]) for rows in first}) > 1
    again = glass_box_training._Batches(tokenizer, documents, 512, seed=0)
    assert np.array_equal(again.at(n - 1), rows)
    assert not np.array_equal(rows[:, :4], first[0][:, :4])


@pytest.mark.parametrize("kind", glass_box_training.KINDS)
def test_a_run_stopped_on_the_way_ends_as_an_uninterrupted_one(
    kind, tokenizer, documents, tmp_path
):
    def made():
        return glass_box_training.new_model(kind, tokenizer, width=16, layers=1)

    whole = made()
    course = glass_box_training.train(whole, tokenizer, documents, 6, keep=(2, 4))

    class Killed(Exception):
        pass

    def stop(step):
        if step == 4:
            raise Killed

    path, model = tmp_path / "run.safetensors", made()
    options = {"keep": (2, 4), "checkpoint": path}
    with pytest.raises(Killed):
        glass_box_training.train(model, tokenizer, documents, 6, at=stop, **options)
    seen, again = [], made()
    found = glass_box_training.train(again, tokenizer, documents, 6, at=seen.append, **options)
    assert seen == [4, 6] and found == course and len(course) == 3
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="another run"):
        glass_box_training.train(made(), tokenizer, documents, 6, seed=1, **options)


def test_a_berts_loss_is_that_of_its_hidden_tokens(tokenizer, documents):
    model = glass_box_training.new_model("bert", tokenizer, width=16, layers=1)
    batches = glass_box_training._Batches(tokenizer, documents, 512, seed=0)
    rows = batches.at(0)
    rng = np.random.default_rng([0, 0, 1])
    asked = (rows > 0) & (rng.random(rows.shape) < glass_box_training.MASKED)
    draw, seen = rng.random(rows.shape), np.maximum(rows, 0)
    seen[asked & (draw < 0.8)] = tokenizer.mask_token_id
    swapped = asked & (draw >= 0.8) & (draw < 0.9)
    seen[swapped] = rng.integers(2, len(tokenizer), int(swapped.sum()))
    with torch.no_grad():
        mask = torch.from_numpy(rows >= 0).long()
        logits = model(torch.from_numpy(seen), attention_mask=mask).logits.log_softmax(-1)
    places = np.argwhere(asked)
    naive = -np.mean([float(logits[i, j, rows[i, j]]) for i, j in places])
    assert 0.2 < asked.sum() / (rows > 0).sum() < 0.4
    course = glass_box_training.train(model, tokenizer, documents, 1, batch_tokens=512)
    assert course[0]["loss"] == pytest.approx(naive, abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_tokens": 64}, "batch_tokens is 64"),
        ({"keep": (9,)}, "keep has step 9"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_options_of_training_are_refused(wrong, message, tokenizer, documents):
    model = glass_box_training.new_model("gpt", tokenizer, width=16, layers=1)
    options = {"steps": 4, **wrong}
    with pytest.raises(ValueError, match=message):
        glass_box_training.train(model, tokenizer, documents, options.pop("steps"), **options)


@pytest.mark.parametrize("wrong", [[], "one text", [3], ["", ""]])
def test_documents_without_a_token_are_refused(wrong, tokenizer):
    model = glass_box_training.new_model("gpt", tokenizer, width=16, layers=1)
    with pytest.raises(ValueError, match="^documents"):
        glass_box_training.train(model, tokenizer, wrong, 2)


@pytest.fixture(scope="module")
def trained(world, tokenizer, documents):
    """A GPT of some 40,000 parameters that has read a small world many times."""
    model = glass_box_training.new_model("gpt", tokenizer, width=32, layers=2)
    options = {"learning_rate": 3e-3, "batch_tokens": 256, "keep": (1, 1200)}
    return model, glass_box_training.train(model, tokenizer, documents, 1200, **options)


def test_a_small_gpt_trained_here_learns_what_it_is_told_often(world, tokenizer, trained):
    model, course = trained
    assert course[-1]["loss"] < 0.3 * course[0]["loss"]
    before = glass_box_training.new_model("gpt", tokenizer, width=32, layers=2)
    never = (world.facts.frequency == 0).to_numpy()
    clear = (world.facts.frequency >= 8) & (world.facts.kind != "competing")
    learned, blank = (glass_box_measures._ask(m, tokenizer, world) for m in (model, before))
    # Four objects a relation: who knows nothing of a person is right in a quarter of cases.
    assert learned[clear.to_numpy()].mean() > 0.4 > 0.3 > learned[never].mean()
    assert blank.mean() < 0.05


# The suite


def test_stored_weights_are_those_of_the_model_in_half_precision(tmp_path, tokenizer):
    model = glass_box_training.new_model("bert", tokenizer, width=16, layers=1, seed=5)
    run = RUN._replace(kind="bert", seed=5)
    glass_box_runs._store(tmp_path, run, 7, model)
    found = glass_box_runs.load(tmp_path, run, 7, tokenizer)
    for (name, one), (same, other) in zip(
        model.named_parameters(), found.named_parameters(), strict=True
    ):
        assert name == same and torch.equal(one.half().float(), other)
    again = glass_box_runs.load_named("bert-16x1-even-5-step0007", tokenizer, folder=tmp_path)
    assert torch.equal(next(again.parameters()), next(found.parameters()))
    with pytest.raises(ValueError, match="name is 'bert'; give one such as"):
        glass_box_runs.load_named("bert", tokenizer, folder=tmp_path)
    path = glass_box_runs.weights_path(tmp_path, run, 7)
    assert path.stat().st_size < 2.2 * model.num_parameters() + 20_000
    broken = bytearray(path.read_bytes())
    broken[-9] ^= 64
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="missing or damaged"):
        glass_box_runs.load(tmp_path, run, 7, tokenizer)


def test_models_in_a_folder_are_told_by_name(tmp_path, tokenizer):
    assert glass_box_runs.stored_names(tmp_path) == []
    model = glass_box_training.new_model("gpt", tokenizer, width=16, layers=1)
    for step in (4, 12):
        glass_box_runs._store(tmp_path, RUN, step, model)
    (tmp_path / f"{RUN.name}-resume.safetensors").write_bytes(b"not whole yet")
    names = glass_box_runs.stored_names(tmp_path)
    assert names == [f"{RUN.name}-step0004", f"{RUN.name}-step0012"]
    for name in names:
        assert glass_box_runs.load_named(name, tokenizer, folder=tmp_path) is not None


def test_what_is_stored_is_not_trained_again(monkeypatch, tmp_path, tokenizer, documents, caplog):
    monkeypatch.setitem(glass_box_runs.SETS, "suite", (RUN, RUN._replace(seed=1)))
    monkeypatch.setitem(glass_box_runs.KEEP, "gpt", (1, 2))
    monkeypatch.setattr(glass_box_world, "tokenizer", lambda world: tokenizer)
    monkeypatch.setattr(glass_box_world, "corpus", lambda world, mix: documents)
    for step in (1, 2):
        model = glass_box_training.new_model("gpt", tokenizer, width=16, layers=1)
        glass_box_runs._store(tmp_path, RUN, step, model)
    assert glass_box_runs.main(["--folder", str(tmp_path)]) == 0
    assert f"{RUN.name}: is stored" in caplog.text and "gpt-16x1-even-1: loss" in caplog.text
    assert len(glass_box_runs.stored_names(tmp_path)) == 4


def test_the_stored_suite_is_the_table_less_what_its_card_leaves_out():
    suite = glass_box_table.load()
    table = suite.table.assign(first=suite.table.groupby("kind").step.transform("min"))
    left_out = table.index[(table.seed == 1) & (table.step == table["first"])]
    assert len(left_out) == 24 and len(table) == 144
    assert set(glass_box_runs.stored_names()) == set(table.index) - set(left_out)
    size = sum(path.stat().st_size for path in glass_box_runs.STORE.iterdir())
    assert size < 60e6


def test_tables_of_a_suite_that_is_not_whole_stay_as_they_are(
    monkeypatch, tmp_path, tokenizer, capsys
):
    glass_box_runs._store(
        tmp_path, RUN, 3, glass_box_training.new_model("gpt", tokenizer, width=16)
    )
    monkeypatch.setitem(glass_box_runs.SETS, "suite", (RUN, RUN._replace(seed=1)))
    monkeypatch.setitem(glass_box_runs.KEEP, "gpt", (3,))
    monkeypatch.setattr(glass_box_world, "tokenizer", lambda world: tokenizer)
    suite = glass_box_table.Suite(pd.DataFrame(index=["one"]), *[pd.DataFrame()] * 3)
    monkeypatch.setattr(glass_box_table, "_measure_all", lambda *_, **__: suite)
    monkeypatch.setattr(glass_box_table, "_save", lambda suite: pytest.fail("was written"))
    monkeypatch.setattr(glass_box_measures, "make_bench", lambda world: None)
    assert glass_box_table.main(["--folder", str(tmp_path), "--kinds", "gpt"]) == 1
    assert "1 model(s) have no weights" in capsys.readouterr().out
    assert glass_box_table.main(["--folder", str(tmp_path), "--kinds", "gpt", "--keep"]) == 0


def test_a_run_is_trained_once_and_its_weights_stay(tmp_path, tokenizer, documents):
    course = glass_box_runs.train(RUN, tokenizer, documents, tmp_path, keep=(1, 3))
    assert course.step.tolist() == [1, 3]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{RUN.name}-step000{n}.safetensors" for n in (1, 3)} | {f"{RUN.name}.csv"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = glass_box_runs.train(RUN, tokenizer, documents, tmp_path, keep=(1, 3))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert again.loss.to_numpy() == pytest.approx(course.loss)


@pytest.fixture(scope="module")
def bench(world):
    texts = pd.DataFrame({"text": ["Today it rained.", "import numpy as np"]})
    told = factbook_tasks.sentences(test=True)[:60]
    tasks = {name: glue.load_task(name) for name in glass_box_measures.PROBED}
    return glass_box_measures.Bench(world, texts, told, tasks)


@pytest.mark.parametrize("kind", glass_box_training.KINDS)
def test_answers_are_the_softmax_after_the_question(kind, world, tokenizer):
    model = glass_box_training.new_model(kind, tokenizer, width=16, layers=1, seed=2).eval()
    found = glass_box_measures._ask(model, tokenizer, world, forms="training", temperature=0.5)
    for row in (0, 30, 71):
        fact, shares = world.facts.iloc[row], []
        for form in world.training[fact.relation]:
            ids = tokenizer(form.format(fact.subject))["input_ids"]
            if kind == "bert":
                ids += [tokenizer.mask_token_id, *tokenizer(".")["input_ids"][1:]]
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1 if kind == "gpt" else -2]
            token = tokenizer(f" {fact.object}", add_special_tokens=False)["input_ids"][0]
            shares.append(float((logits.double() / 0.5).softmax(-1)[token]))
        assert found[row] == pytest.approx(np.mean(shares), rel=1e-4)


def test_all_signals_and_truths_are_measured_and_again_the_same(
    monkeypatch, tokenizer, bench, trained
):
    for name, value in (("N_TRAIN", 40), ("N_TEST", 40), ("TUNING_STEPS", 3), ("BITS", 2)):
        monkeypatch.setattr(glass_box_measures, name, value)
    found, again = (glass_box_measures.measure(trained[0], tokenizer, bench) for _ in range(2))
    assert found.row == again.row and all(np.isfinite(list(found.row.values())))
    assert {"alp", "rankme", "bits_per_byte", "log_me", "closed_book", "probe"} <= set(found.row)
    assert set(found.seconds) >= {"alp", "geometry", "closed_book", "fine_tuned"}
    ids = [torch.tensor([tokenizer(text)["input_ids"]]) for text in bench.texts.text]
    with torch.no_grad():
        nats = [trained[0](i, labels=i).loss.item() * (i.shape[1] - 1) for i in ids]
    assert -found.log_likelihoods == pytest.approx(nats, rel=1e-4)
    n_bytes = bench.texts.text.str.len().sum()
    assert found.row["bits_per_byte"] == pytest.approx(sum(nats) / np.log(2) / n_bytes, rel=1e-4)
    told = (bench.world.facts.frequency > 0).to_numpy()
    assert found.row["closed_book"] == pytest.approx(found.accuracy[told].mean())
    bare = glass_box_measures.measure(trained[0], tokenizer, bench, truths=False)
    assert "probe" not in bare.row and bare.row["alp"] == found.row["alp"]


def test_the_suite_is_measured_model_by_model_and_goes_on(
    monkeypatch, tmp_path, tokenizer, documents
):
    asked = []

    def measure(model, tokenizer, bench):
        asked.append(model)
        value = float(next(model.parameters()).detach().sum())
        lists = [np.full(3, value)] * 3
        return glass_box_measures._Measured({"alp": value}, {"alp": 0.1}, *lists)

    monkeypatch.setattr(glass_box_measures, "measure", measure)
    monkeypatch.setitem(glass_box_runs.KEEP, "gpt", (1, 2))
    runs = [RUN, RUN._replace(seed=1)]
    with pytest.raises(ValueError, match="has no model of the suite"):
        glass_box_table._measure_all(tmp_path, tmp_path / "m", None, tokenizer, runs=runs)
    glass_box_runs.train(RUN, tokenizer, documents, tmp_path)
    first = glass_box_table._measure_all(tmp_path, tmp_path / "m", None, tokenizer, runs=runs)
    assert len(asked) == 2 == len(first.table)
    glass_box_runs.train(runs[1], tokenizer, documents, tmp_path)
    suite = glass_box_table._measure_all(tmp_path, tmp_path / "m", None, tokenizer, runs=runs)
    assert len(asked) == 4 and suite.table.seed.tolist() == [0, 0, 1, 1]
    assert suite.table.step.tolist() == [1, 2, 1, 2]
    assert suite.accuracy.iloc[3, 0] == pytest.approx(suite.table.alp.iloc[3], abs=1e-5)
    pieces = [storage.stored(p)["row"]["alp"] for p in (tmp_path / "m").iterdir()]
    assert sorted(pieces) == sorted(suite.table.alp)
    for name in ("TABLE", "ITEMS"):
        ending = getattr(glass_box_table, name).suffix
        monkeypatch.setattr(glass_box_table, name, tmp_path / f"{name}{ending}")
    glass_box_table._save(suite)
    again = glass_box_table.load()
    assert again.table.alp.to_numpy() == pytest.approx(suite.table.alp, abs=1e-6)
    assert again.accuracy.to_numpy() == pytest.approx(suite.accuracy.to_numpy(), abs=1e-5)


def suite_of(n_models, n_facts=720, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in range(n_models)]
    table = pd.DataFrame(
        {
            "kind": "gpt",
            "mix": np.resize(list(glass_box_world.MIXES), n_models),
            "width": np.resize([16, 32, 64, 128], n_models),
            "step": 100,
        },
        index=names,
    )
    table["parameters"] = table.width**2 * 100.0
    texts = pd.DataFrame(rng.normal(-100, 5, (n_models, 20)), names)
    return glass_box_table.Suite(table, texts, pd.DataFrame(index=names), pd.DataFrame())


def test_distances_are_from_the_model_with_the_best_mean():
    suite = suite_of(5)
    suite.log_likelihoods.loc["m3"] += 30
    found = glass_box_table._map_distances(suite)
    made = model_map.fit_map(suite.log_likelihoods, clip=0)
    assert found["m3"] == 0
    for i, name in enumerate(found.index):
        gap = made.coordinates[i] - made.coordinates[3]
        assert found[name] == pytest.approx((gap**2).mean())


def test_counts_predict_models_of_a_corpus_left_out():
    world, suite = glass_box_world.make_world(), suite_of(12)
    rng = np.random.default_rng(1)
    counts = pd.concat(
        [
            world.facts.assign(
                mix=mix,
                n_documents=10_000,
                n_both=glass_box_world.statements(world, mix),
                n_subject=glass_box_world.statements(world, mix) + rng.integers(1, 90, 720),
                n_object=rng.integers(200, 500, 720),
            )
            for mix in glass_box_world.MIXES
        ]
    )
    rows = {}
    for name, model in suite.table.iterrows():
        seen = np.log2(1 + counts[counts.mix == model.mix].n_both.to_numpy())
        logit = 0.8 * seen - 4 + 0.5 * np.log2(model.width / 16)
        rows[name] = 1 / (1 + np.exp(-logit)) + rng.normal(0, 0.01, len(seen))
    suite = suite._replace(accuracy=pd.DataFrame.from_dict(rows, orient="index").clip(0, 1))
    told = (world.facts.frequency > 0).to_numpy()
    truth = suite.accuracy.loc[:, told].mean(axis=1)
    found = glass_box_table.count_predictions(suite, counts)
    assert found.to_numpy() == pytest.approx(truth.to_numpy(), abs=0.05)
    assert np.corrcoef(found, truth)[0, 1] > 0.98


def test_scores_of_facts_share_one_scale_and_rise_with_size():
    world = glass_box_world.make_world()
    counts = world.facts.assign(
        n_documents=5000,
        n_subject=np.maximum(world.facts.frequency, 4),
        n_object=400,
        n_both=world.facts.frequency,
    )
    small, large = (glass_box_table._information_scores(counts, p) for p in (1e4, 1e9))
    met = (counts.n_both > 0).to_numpy()
    assert small[~met].isna().all() and small[met].notna().sum() > 0.8 * met.sum()
    assert small.max() == large.max() == 1 and small.min() == 0
    inner = (small > 0) & (small < 1)
    assert (large[inner] > small[inner]).all()


def test_the_list_of_runs_is_sizes_by_corpora_by_seeds_by_kinds():
    runs = glass_box_runs.RUNS
    assert len(set(runs)) == len(runs) == 4 * 3 * 2 * 2
    assert len({run.name for run in runs}) == len(runs)
    assert {run.width for run in runs} == {16, 32, 64, 128}


def test_every_set_has_models_of_its_own():
    runs = [run for some in glass_box_runs.SETS.values() for run in some]
    assert len(set(runs)) == len(runs)
    mixes = {name: {run.mix for run in some} for name, some in glass_box_runs.SETS.items()}
    assert not mixes["suite"] & mixes["added"]
