"""What a proxy costs: released accuracies against counts in the own corpus and the Factbook."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence

import pandas as pd

from experiments.command import Written, command
from experiments.retrieval.factbook_answers import lead, links
from helpers import data
from helpers.retrieval import factbook_facts, release, smi

PRICE = data.PUBLISHED / "real_proxy.csv"
LOSSES = data.PUBLISHED / "real_proxy_losses.csv"
# Of released facts: joint documents, their share of the subject's, documents with the object.
SIGNALS = {
    "N(s,o)": lambda t: t.n_both,
    "P(o|s)": lambda t: (t.n_both + 0.5) / (t.n_subject + 1),
    "N(o)": lambda t: t.n_object,
}


def proxy_price(names: Sequence[str] | None = None, *, n_resamples: int = 1000) -> pd.DataFrame:
    """Return how far counts in a model's own corpus, and in the Factbook, follow what it knows.

    For each model of arXiv 2502.04066, or those of `names`, over its released facts without those
    whose object stands in the subject. One row per model, signal and way of counting: `model`,
    `parameters`; `signal`, N(s,o), P(o|s) or N(o); `counts`, *own corpus, all facts*, or over the
    facts whose names meet in a paragraph of the Factbook (entries named) *own corpus* and
    *Factbook*; `facts`, their number; `rho` with the released accuracy, and `low` and `high`, as
    `links` gives them. Raises `data.DataError` where the files are unavailable.
    """
    parts = []
    for model, size, cases in _counted_twice(names):
        for counts, facts in cases.items():
            found = links(facts, list(SIGNALS), ["accuracy"], n_resamples=n_resamples)
            row = {"model": model, "parameters": size, "counts": counts, "facts": len(facts)}
            parts.append(found.assign(**row))
    return pd.concat(parts, ignore_index=True).drop(columns="outcome")


def _proxy_losses(names: Sequence[str] | None = None, *, n_resamples: int = 1000) -> pd.DataFrame:
    """Return how much rho of P(o|s) with accuracy falls when counted in the Factbook, by model.

    Over the facts whose names meet in the Factbook, as in `proxy_price`. Columns: `model`,
    `parameters`, `loss` (rho in the own corpus less rho in the Factbook), `low` and `high`, its
    95 % interval from drawing subjects, the same for both.
    """
    rows = []
    for model, size, cases in _counted_twice(names):
        own, book = cases["own corpus"], cases["Factbook"]
        both = own.assign(book=book["P(o|s)"])
        pairs = ("P(o|s)", "accuracy"), ("book", "accuracy")
        found = lead(both, *pairs, n_resamples=n_resamples)
        ends = {"loss": found.gain, "low": found.low, "high": found.high}
        rows.append({"model": model, "parameters": size, **ends})
    return pd.DataFrame(rows)


def _counted_twice(
    names: Sequence[str] | None,
) -> Iterator[tuple[str, float, dict[str, pd.DataFrame]]]:
    """Yield model, size and its facts without leaks, with signals by each way of counting."""
    sizes, book = release.load_models().parameters, None
    for model, size in (sizes if names is None else sizes[list(names)]).items():
        own = release.load_facts(model)
        if book is None:
            pairs = own[["relation", "subject", "object"]]
            book = factbook_facts.count_facts(pairs, factbook_facts.paragraphs(named=True))
        clean = ~smi.object_in_subject(own.subject, own.object)
        named = clean & (book.n_both > 0)
        cases = {
            "own corpus, all facts": (own, clean),
            "own corpus": (own, named),
            "Factbook": (book, named),
        }
        parts = {
            counts: own.assign(**{name: made(table) for name, made in SIGNALS.items()})[chosen]
            for counts, (table, chosen) in cases.items()
        }
        yield model, float(size), parts


@command("factbook_proxy")
def main(_: Namespace) -> Written:
    """Write the correlations of all released models, and what the Factbook loses of them."""
    yield PRICE, proxy_price().round(4).to_csv(index=False)
    yield LOSSES, _proxy_losses().round(4).to_csv(index=False)
