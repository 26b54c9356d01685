import numpy as np
import pandas as pd
import pytest

from experiments.retrieval import audit_tables, clean_facts
from helpers.retrieval import binned_fits, smi


@pytest.fixture
def raw():
    rng = np.random.default_rng(5)
    n, s, o = 10**8, 2 ** rng.uniform(2, 19, 400), 2 ** rng.uniform(2, 19, 400)
    s, o = s.astype(int) + 1, o.astype(int) + 1
    both = np.maximum((np.minimum(s, o) * rng.random(400)).astype(int), 1)
    both[:3] = 0
    level = 0.05 * np.log2(both + 1) * rng.random(400)
    names = {
        "subject": [f"name {i}" for i in range(400)],
        "relation": "is",
        "object": ["name" if i % 10 == 0 else f"other {i % 40}" for i in range(400)],
    }
    counts = {"n_documents": n, "n_subject": s, "n_object": o, "n_both": both}
    return pd.DataFrame({**names, **counts, "accuracy": np.clip(level, 0, 1)})


@pytest.fixture
def facts(raw):
    kept = audit_tables.kept(raw)
    one = kept.assign(model="one", family="a", parameters=2e9)
    two = kept.assign(model="two", family="a", parameters=8e9)
    two["accuracy"] = np.clip(two.accuracy + 0.1, 0, 1)
    return pd.concat([one, two], ignore_index=True)


def test_a_question_that_holds_the_object_is_found_in_subject_and_template():
    table = pd.DataFrame(
        {
            "subject": ["South Africa", "Rome", "Ann"],
            "relation": ["in", "in", "plays"],
            "object": ["Africa", "Italy", "genre"],
        }
    )
    templates = {
        "in": ["[S] lies in", "Find [S] in"],
        "plays": ["The genre of [S] is", "[S] plays"],
    }
    assert clean_facts.template_share(table, templates).tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("generation", ["v2-v4", "v5-v7"])
@pytest.mark.parametrize("metric", smi.METRICS)
def test_the_axis_is_that_of_the_audit(facts, generation, metric):
    part = facts[facts.model == "one"]
    ours = clean_facts._axis(part, 2e9, generation, metric)
    assert np.allclose(ours, audit_tables.axes_of(part, 2e9, generation)[metric])
    wide = clean_facts._axis(part, 2e9, generation, metric, per_octave=1)
    assert len(set(wide)) < len(set(ours))


def test_r2_is_that_of_the_published_fit_and_of_single_facts(facts):
    part = facts[facts.model == "one"]
    weights = clean_facts.fact_weights(facts, 5)
    x = clean_facts._axis(part, 2e9)
    bins = smi.bin_statistics(smi.log_bins(part.information), part.accuracy)
    place = smi.positions(bins, 2e9, "v5-v7", "SMI")
    for fit, weighted in (("bins", False), ("bins by facts", True)):
        found = clean_facts._r2_draws(x, part.accuracy, weights[:, part.fact], fit=fit)
        fitted = smi.fit_bins(bins, place, weighted=weighted)
        assert found[0] == pytest.approx(fitted.R2) and len(found) == 6
        if not weighted:
            ends = binned_fits.end_of_line(binned_fits.bin_means(x, part.accuracy))
            assert ends == pytest.approx([fitted["upper bound"]])
    single = clean_facts._r2_draws(x, part.accuracy, weights[:, part.fact], fit="facts")
    assert single[0] == pytest.approx(np.corrcoef(x, part.accuracy)[0, 1] ** 2)
    thick = clean_facts._r2_draws(x, part.accuracy, weights[:, part.fact], least=5)
    large = bins.n >= 5
    assert thick[0] == pytest.approx(smi.fit_bins(bins[large], place[large]).R2)


def test_a_draw_is_the_same_for_all_models_and_for_the_facts_of_an_object(facts):
    weights = clean_facts.fact_weights(facts, 20, by_object=True, seed=1)
    assert (weights[0, facts.fact] == 1).all() and not weights[:, :3].any()
    one = facts[facts.model == "one"]
    for _, rows in one.groupby("object"):
        assert (np.ptp(weights[:, rows.fact], axis=1) == 0).all()
    assert np.array_equal(weights, clean_facts.fact_weights(facts, 20, by_object=True, seed=1))


def test_generations_count_models_and_average_bounds(facts):
    weights = clean_facts.fact_weights(facts, 30)
    table = clean_facts.generations(facts, weights, {"v2-v4": 0.0, "v5-v7": 1.0})
    assert table.estimate["v2-v4", "models"] == 2 and table.estimate["v5-v7", "models"] == 0
    assert (table.low <= table.high).all()
    bound = []
    for model, size in (("one", 2e9), ("two", 8e9)):
        part = facts[facts.model == model]
        bins = smi.bin_statistics(smi.log_bins(part.information), part.accuracy)
        bound.append(smi.fit_bins(bins, smi.positions(bins, size, "v5-v7", "SMI"))["upper bound"])
    assert table.estimate["v5-v7", "bound"] == pytest.approx(np.mean(bound))
    r2 = clean_facts.draws(facts, weights)
    sentence = clean_facts._headline(r2, 0.1)
    assert sentence["least"].gain == pytest.approx(r2[0].min())
    assert sentence["where"] == r2[0].idxmin()


def test_doublings_are_those_that_were_put_in(facts):
    weights = clean_facts.fact_weights(facts, 40)
    planted = facts.assign(
        accuracy=0.03 * np.log2(facts.n_both) - 0.02 * np.log2(facts.n_subject)
        + 0.05 * np.log2(facts.parameters)
    )  # fmt: skip
    slope = clean_facts._doubling_of_documents(planted, weights, given=["n_subject", "n_object"])
    assert slope == pytest.approx(np.full(41, 0.03))
    assert clean_facts._doubling_of_size(planted, weights) == pytest.approx(np.full(41, 0.05))
    alone = clean_facts._doubling_of_documents(planted, weights)
    part = planted[planted.model == "one"]
    assert alone[0] == pytest.approx(np.polyfit(np.log2(part.n_both), part.accuracy, 1)[0])


def test_bands_of_the_axis_hold_every_fact_once(facts):
    table = clean_facts._along_the_axis(facts, clean_facts.fact_weights(facts, 20), (0, 6, 10))
    documents = table[table["doubling of"] == "documents"]
    assert documents["from"].tolist() == [1, 64, 1024]
    assert documents.facts.sum() == len(facts) / 2
    assert (table.low <= table.high).all()


def test_the_table_of_doublings_holds_differences_of_its_parts(facts):
    weights = clean_facts.fact_weights(facts, 20)
    table = clean_facts.doublings(facts, weights).set_index("doubling of")
    whole = table[table["from"] == 0].estimate
    apart = whole["documents"] - whole["size"]
    assert whole["documents less size"] == pytest.approx(apart)
    assert set(table["from"]) == {0, 1, 16, 256, 4096, 65536}


def test_documents_less_size_by_family_is_that_of_the_table(facts):
    other = facts.assign(model=facts.model + " b", family="b", accuracy=facts.accuracy / 2)
    single = facts[facts.model == "one"].assign(model="alone", family="c")
    both = pd.concat([facts, other, single], ignore_index=True)
    weights = clean_facts.fact_weights(both, 20)
    found = clean_facts.data_over_size(both, weights)
    assert list(found.index) == ["all", "a", "b"]
    for name, part in {"all": both, "a": facts, "b": other}.items():
        table = clean_facts.doublings(part, weights).set_index("doubling of")
        row = table[table["from"] == 0].loc["documents less size"]
        assert found.loc[name].tolist() == pytest.approx(row[list(found)].tolist())


def test_the_least_r2_is_that_of_the_worst_model(facts):
    least = clean_facts.least_r2(facts, 10, fit="facts")
    r2 = clean_facts.draws(facts, clean_facts.fact_weights(facts, 10), fit="facts")
    assert least.gain == pytest.approx(r2[0].min()) and least.low <= least.high
