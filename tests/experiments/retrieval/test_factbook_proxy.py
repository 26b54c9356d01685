import numpy as np
import pandas as pd
import pytest

from experiments.retrieval import factbook_proxy


@pytest.fixture
def released(monkeypatch):
    """Put released facts, models and a Factbook in place of the real ones; return the facts."""
    rng = np.random.default_rng(3)
    n = 240
    s, o = rng.integers(20, 90, n), rng.integers(20, 90, n)
    own = pd.DataFrame(
        {
            "relation": rng.choice(["a", "b"], n),
            "subject": [f"name {i % 80}" for i in range(n)],
            "object": ["name" if i % 12 == 0 else f"other {i % 9}" for i in range(n)],
            "n_documents": 1000,
            "n_subject": s,
            "n_object": o,
            "n_both": rng.integers(0, 20, n),
        }
    )
    own["accuracy"] = np.clip(own.n_both / own.n_subject + 0.1 * rng.random(n), 0, 1)
    book = own.assign(n_both=rng.integers(0, 4, n))
    sizes = pd.DataFrame({"parameters": [1e8, 2e9]}, index=["small", "large"])
    monkeypatch.setattr(factbook_proxy.release, "load_models", lambda: sizes)
    monkeypatch.setattr(factbook_proxy.release, "load_facts", lambda model: own)
    monkeypatch.setattr(factbook_proxy.factbook_facts, "count_facts", lambda *_: book)
    return own, book


def test_a_loss_is_the_difference_of_two_prices(released):
    price = factbook_proxy.proxy_price(n_resamples=5).set_index(["model", "counts", "signal"]).rho
    losses = factbook_proxy._proxy_losses(n_resamples=30).set_index("model")
    for model in ("small", "large"):
        own, book = (price[model, counts, "P(o|s)"] for counts in ("own corpus", "Factbook"))
        assert losses.loss[model] == pytest.approx(own - book)
    assert (losses.low < losses.loss).all() and (losses.loss < losses.high).all()
    assert list(factbook_proxy._proxy_losses(["large"], n_resamples=5).model) == ["large"]


def test_leaks_and_facts_that_the_book_never_has_are_left_out(released):
    own, book = released
    table = factbook_proxy.proxy_price(["small"], n_resamples=5).groupby("counts").facts.first()
    clean = own.object != "name"
    assert table["own corpus, all facts"] == clean.sum()
    assert table["Factbook"] == table["own corpus"] == (clean & (book.n_both > 0)).sum()


def test_the_stored_tables_agree():
    price = (
        pd.read_csv(factbook_proxy.PRICE).set_index(["counts", "signal", "model"]).rho.sort_index()
    )
    losses = pd.read_csv(factbook_proxy.LOSSES).set_index("model")
    apart = price["own corpus", "P(o|s)"] - price["Factbook", "P(o|s)"]
    assert np.abs(losses.loss - apart[losses.index]).max() < 2e-4
