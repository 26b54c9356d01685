"""The small world: what was written is what is counted, and what a perfect reader would answer."""

import functools
import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.retrieval import small_world, small_world_runs
from helpers.retrieval import smi

SMALL = {"n_facts": 60, "most": 16, "n_unseen": 6, "n_frequent": 4, "n_objects": 8}


@pytest.fixture(scope="module")
def world():
    return small_world.make_world(**SMALL)


def holds(text: str, name: str, *, whole: bool) -> bool:
    """Tell whether a document has a name after a space, as a whole word or as any beginning."""
    at = text.find(f" {name}")
    while at >= 0:
        after = text[at + 1 + len(name) :][:1]
        if not whole or not after.isalnum():
            return True
        at = text.find(f" {name}", at + 1)
    return False


def test_documents_state_each_fact_as_often_as_set(world):
    facts, documents = world.facts, world.documents
    stated = documents[documents.object == facts.object[documents.fact].to_numpy()]
    told = stated.fact.value_counts().reindex(facts.index, fill_value=0)
    assert told.tolist() == facts.frequency.tolist()
    every = documents.fact.value_counts().reindex(facts.index, fill_value=0)
    assert every.tolist() == (facts.frequency + facts.others).tolist()
    rivals = documents[(documents.object != "") & ~documents.index.isin(stated.index)]
    assert set(facts.kind[rivals.fact]) == {"competing"}
    for document in documents.itertuples():
        fact = facts.loc[document.fact]
        assert fact.subject in document.text
        assert not document.object or document.text.endswith(f" {document.object}.")
        assert document.object in ["", *world.objects[fact.relation]]


@pytest.mark.parametrize("whole", [True, False])
def test_counts_are_those_of_a_loop_over_documents(world, whole):
    found = small_world.counted(world, right_boundary=whole)
    texts = list(world.documents.text)
    assert (found.n_documents == len(texts)).all()

    @functools.cache
    def documents(name):
        return {i for i, text in enumerate(texts) if holds(text, name, whole=whole)}

    for fact in found.itertuples():
        subject = documents(fact.subject)
        both = {name: len(subject & documents(name)) for name in world.objects[fact.relation]}
        assert fact.n_object == len(documents(fact.object))
        assert (fact.n_subject, fact.n_both) == (len(subject), both[fact.object])
        total = sum(both.values())
        assert fact.share == pytest.approx(both[fact.object] / total if total else 0)


def test_whole_names_are_counted_as_written_and_nested_ones_too_often_by_the_released_rule(world):
    whole = small_world.counted(world)
    facts = world.facts
    assert whole.n_subject.tolist() == (facts.frequency + facts.others).tolist()
    clean = ~facts.leaked
    assert whole.n_both[clean].tolist() == facts.frequency[clean].tolist()
    assert whole.n_both[facts.leaked].tolist() == whole.n_subject[facts.leaked].tolist()
    loose = small_world.counted(world, right_boundary=False)
    assert (loose.n_subject > whole.n_subject).tolist() == facts.nested.tolist()
    assert facts.nested.sum() == facts.leaked.sum() == round(0.05 * len(facts))


def test_leaked_facts_are_those_with_the_object_in_the_subject(world):
    leaked = smi.object_in_subject(world.facts.subject, world.facts.object)
    assert leaked.tolist() == world.facts.leaked.tolist()


def test_subjects_are_distinct_and_no_document_begins_with_a_name(world):
    assert world.facts.subject.is_unique
    begins = {text.split()[0] for text in world.documents.text}
    assert not begins & {word for s in world.facts.subject for word in s.split()}


def test_held_out_forms_stand_in_no_document(world):
    texts = "\n".join(world.documents.text)
    for fact in world.facts[world.facts.frequency > 0].itertuples():
        for form in world.held_out[fact.relation]:
            assert f"{form.format(fact.subject)} {fact.object}" not in texts
    for relation, forms in world.training.items():
        assert len(forms) == 8 and len(set(forms + world.held_out[relation])) == 12


def test_frequencies_are_log_uniform_objects_zipfian_and_arms_even():
    world = small_world.make_world(3000, most=64, n_unseen=0, n_frequent=0)
    facts = world.facts
    # The log of a frequency above 8 is uniform; below, rounding is coarse.
    high = np.log(facts.frequency[facts.frequency > 8])
    ends = np.log(8.5), np.log(64.5)
    assert stats.kstest(high, "uniform", args=(ends[0], ends[1] - ends[0])).pvalue > 0.001
    ranks = [world.objects[f.relation].index(f.object) for f in facts.itertuples()]
    expected = np.arange(1, 41) ** -0.7
    seen = np.bincount(ranks, minlength=40)
    assert stats.chisquare(seen, expected / expected.sum() * seen.sum()).pvalue > 0.001
    ratio = (facts.others / facts.frequency).astype(int)
    assert set(zip(ratio, facts.kind, strict=True)) == set(small_world.ARMS)
    assert np.ptp(np.unique(ratio.astype(str) + facts.kind, return_counts=True)[1]) <= 1


def test_the_same_seed_makes_the_same_world_and_another_does_not(world):
    again = small_world.make_world(**SMALL)
    assert again.documents.equals(world.documents) and again.facts.equals(world.facts)
    other = small_world.make_world(**SMALL, seed=1)
    assert not other.documents.text.equals(world.documents.text)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"n_facts": 5}, "n_facts"),
        ({"most": 1}, "most"),
        ({"n_objects": 1}, "n_objects"),
        ({"n_objects": 101}, "n_objects"),
    ],
)
def test_sizes_that_cannot_be_made_are_refused_by_name(wrong, name):
    with pytest.raises(ValueError, match=name):
        small_world.make_world(**{**SMALL, **wrong})


def test_a_perfect_reader_gives_an_object_as_often_as_documents_do_sharpened_by_temperature():
    counts = [[3, 1, 0], [0, 5, 0], [2, 2, 4], [0, 0, 0]]
    true = [0, 1, 2, 0]
    plain = small_world.sampled_share(counts, true)
    assert plain[:3] == pytest.approx([0.75, 1.0, 0.5]) and np.isnan(plain[3])
    cold = small_world.sampled_share(counts, true, temperature=0.5)
    assert cold[:3] == pytest.approx([9 / 10, 1.0, 16 / 24])
    # The softmax of log counts over the temperature, as a model samples.
    logits = np.log(np.array([2.0, 2.0, 4.0])) / 0.7
    softmax = np.exp(logits) / np.exp(logits).sum()
    assert small_world.sampled_share([[2, 2, 4]], [2], temperature=0.7)[0] == pytest.approx(
        softmax[2]
    )
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 50, (30, 7)) + 1
    shares = [small_world.sampled_share(drawn, np.full(30, k), temperature=0.7) for k in range(7)]
    assert np.sum(shares, axis=0) == pytest.approx(np.ones(30))


def test_candidates_are_every_object_of_the_facts_own_relation(world):
    pairs = small_world._candidates(world)
    grouped = itertools.groupby(pairs, key=lambda pair: pair[0])
    for (subject, found), fact in zip(grouped, world.facts.itertuples(), strict=True):
        assert subject == fact.subject
        assert [name for _, name in found] == world.objects[fact.relation]


# Training on it


def test_a_ladder_stopped_on_the_way_gives_what_an_uninterrupted_one_gives(
    tmp_path, monkeypatch, caplog
):
    few = {"n_facts": 30, "most": 8, "n_unseen": 2, "n_frequent": 2, "n_objects": 4}
    settings = [{"width": 16, "layers": 1, "epochs": 2, "seed": seed} for seed in (0, 1)]
    accuracy, course = small_world_runs._ladder(settings, tmp_path / "a", world=few)
    assert list(accuracy) == ["16-0", "16-1"] and len(accuracy) == 30 + 2 + 2
    assert course.epoch.tolist() == [1, 2, 1, 2] and (course.parameters > 1000).all()
    assert (accuracy.to_numpy() >= 0).all() and (accuracy.to_numpy() <= 1).all()

    ask, asked = small_world_runs._ask, []

    def stops(*args, **options):
        asked.append(1)
        if len(asked) == 5:  # in the second model's second epoch
            raise KeyboardInterrupt
        return ask(*args, **options)

    monkeypatch.setattr(small_world_runs, "_ask", stops)
    with pytest.raises(KeyboardInterrupt):
        small_world_runs._ladder(settings, tmp_path / "b", world=few)
    monkeypatch.setattr(small_world_runs, "_ask", ask)
    caplog.set_level("INFO", "experiments")
    caplog.clear()
    again, course_again = small_world_runs._ladder(settings, tmp_path / "b", world=few)
    assert again.equals(accuracy) and len(caplog.messages) == 1
    same = ["epoch", "loss", "training", "held_out"]
    assert course_again[same].equals(course[same])
    assert not list(tmp_path.glob("*/*.safetensors"))


def test_answers_are_the_mean_over_forms_of_the_models_own_probability(world):
    import torch

    trained = small_world_runs.run(world, width=16, layers=1, epochs=1)
    for row in (0, 7):
        fact = world.facts.loc[row]
        for kind in ("training", "held_out"):
            shares = []
            for form in getattr(world, kind)[fact.relation]:
                ids = trained.tokenizer(form.format(fact.subject))["input_ids"]
                with torch.no_grad():
                    logits = trained.model(torch.tensor([ids])).logits[0, -1].double()
                wanted = trained.tokenizer.convert_tokens_to_ids(fact.object)
                shares.append(torch.softmax(logits / 0.7, dim=-1)[wanted].item())
            assert trained.accuracy[kind][row] == pytest.approx(np.mean(shares), abs=1e-6)
