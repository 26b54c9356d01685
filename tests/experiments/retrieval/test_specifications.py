import numpy as np
import pandas as pd
import pytest

from experiments.retrieval import (
    audit_tables,
    clean_facts,
    factbook_answers,
    specifications,
)
from helpers.retrieval import factbook_facts
from helpers.specifications import combinations


@pytest.fixture
def facts():
    rng = np.random.default_rng(7)
    n = 500
    s, o = rng.integers(5, 900, n), rng.integers(5, 900, n)
    both = np.minimum(rng.geometric(0.02, n), np.minimum(s, o))
    raw = pd.DataFrame(
        {
            "subject": [f"name {i}" for i in range(n)],
            "relation": "is",
            "object": ["name" if i % 10 == 0 else f"other {i % 40}" for i in range(n)],
            "n_documents": 10_000,
            "n_subject": s,
            "n_object": o,
            "n_both": both,
            "accuracy": np.clip(0.08 * np.log2(both) * rng.random(n), 0, 1),
        }
    )
    kept = audit_tables.kept(raw)
    kept["asked"] = np.where(kept.leak, 1.0, np.where(kept.fact % 10 == 1, 0.2, 0.0))
    sizes = {"small": 5e8, "large": 7e9}
    return pd.concat(
        [kept.assign(model=m, family="f", parameters=p) for m, p in sizes.items()],
        ignore_index=True,
    )


def test_rules_leave_out_what_they_say(facts):
    sizes = [len(specifications._rest(facts, r)) for r in specifications.LEAD_CHOICES["left out"]]
    assert sizes[0] == len(facts) and sizes[0] > sizes[1] > sizes[2]


def test_a_row_is_the_mean_lead_of_its_models(facts):
    chosen = combinations(**specifications.LEAD_CHOICES)
    assert len(chosen) == 72
    rows = [c for c in chosen if c["fit"] == "bins" and c["draw"] == "facts"][-2:]
    table = specifications.lead_rows(facts, rows, 5)
    part = specifications._rest(facts, "object in any question")
    weights = clean_facts.fact_weights(part, 5)
    lead = clean_facts.draws(part, weights) - clean_facts.draws(part, weights, metric="CO-OCCUR")
    assert table.estimate.tolist() == pytest.approx([lead[0].mean(), lead[0]["large"]])
    assert (table.low <= table.high).all()


def test_r2_is_set_against_the_threshold_of_its_abstract(facts):
    chosen = combinations(**specifications.R2_CHOICES)
    assert len(chosen) == 72
    table = specifications.r2_rows(facts, chosen[::18], 5)
    part = specifications._rest(facts[facts.parameters > 1e9], chosen[0]["left out"])
    r2 = clean_facts.draws(part, clean_facts.fact_weights(part, 5), chosen[0]["generation"])
    assert table.estimate[0] == pytest.approx(r2[0].min() - 0.75)


@pytest.mark.parametrize(
    ("path", "choices"),
    [
        (specifications.LEAD, specifications.LEAD_CHOICES),
        (specifications.R2, specifications.R2_CHOICES),
    ],
)
def test_the_stored_tables_hold_every_specification_once(path, choices):
    table = pd.read_csv(path)
    assert table[list(choices)].to_dict("records") == combinations(**choices)
    assert (table.low <= table.high).all()


def test_headlines_and_doublings_are_those_of_large_models(facts):
    first = facts[facts.model == "large"].assign(model="v1-7B")
    table = specifications.headlines(facts, first, 10)
    assert table.index.names == ["facts", "generation", "measure"]
    clean = facts[(facts.model == "large") & ~facts.leak]
    weights = clean_facts.fact_weights(clean, 10)
    bound = clean_facts._bound_draws(clean, weights)[0].mean()
    assert table.estimate["clean", "v5-v7", "bound"] == pytest.approx(bound)
    assert table.estimate["all facts", "v1", "models"] in (0, 1)


def test_the_first_version_has_its_four_models(monkeypatch):
    rng = np.random.default_rng(0)
    counts = {"N": 1000, "N_s": 80, "N_o": 60, "N_so": rng.integers(1, 50, 20)}
    names = {"subject": [f"s{i}" for i in range(20)], "object": "o"}
    accuracy = {f"ACC_{size}": rng.random(20) for size in ("1.1B", "1.6B", "7B", "13B")}
    sheet = pd.DataFrame({**names, **counts, **accuracy})
    monkeypatch.setattr(specifications.release, "load_v1", lambda: sheet)
    first = specifications.load_first()
    sizes = first.groupby("model", sort=False).parameters.first()
    assert sizes.tolist() == [1.1e9, 1.6e9, 7e9, 13e9]
    seven = first[first.model == "v1-7B"].set_index("fact").accuracy
    assert seven.to_dict() == sheet["ACC_7B"][seven.index].to_dict()


def test_what_joint_documents_say_beyond_the_names_is_a_partial_rank_correlation():
    drawn = factbook_facts.draw_facts(factbook_facts.facts(), 2000)
    key = ["relation", "subject"]
    counts = pd.read_csv(factbook_facts.COUNTED).set_index(key)
    tables = {"with dictionaries": drawn.join(counts, on=key, how="inner")}
    every = combinations(**specifications.NAMES_CHOICES)
    chosen = [row for row in every if row["counts"] in tables]
    table = specifications.names_rows(tables, chosen)
    row = chosen[1]
    facts = factbook_answers.by_fact(factbook_answers.stored_answers(), tables[row["counts"]])
    facts = factbook_facts.add_signals(facts[~facts.leak])
    columns = ["log2 N(s,o)", row["answers"], *specifications.HELD[row["held fixed"]]]
    ranks = facts.groupby("relation")[columns].rank()
    size = facts.groupby("relation")["subject"].transform("size")
    ranks = (ranks - 0.5).div(size, axis=0) - 0.5
    inverse = np.linalg.inv(ranks.corr())
    partial = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert table.estimate[1] == pytest.approx(partial, abs=0.005)
    stored = pd.read_csv(specifications.NAMES)
    stored = stored[stored.counts.isin(list(tables))].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, stored, atol=1e-5)
