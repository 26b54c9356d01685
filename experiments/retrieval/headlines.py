"""The sentences of the retrieval part that carry a number, under other choices."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from experiments.headlines import command_of, rows
from experiments.retrieval import audit_tables, clean_facts, factbook_proxy, specifications

Ends = tuple[float, float, float]
_RESAMPLES = 400
# Which column of `audit_tables.leads` must lie above zero, and what is drawn for it.
_TESTS = {
    "facts drawn, percentiles": (None, "low"),
    "facts drawn, reflected interval": (None, "reflected_low"),
    "objects drawn": ("object", "low"),
    "objects drawn, reflected interval": ("object", "reflected_low"),
    "subjects drawn": ("subject", "low"),
    "subjects drawn, reflected interval": ("subject", "reflected_low"),
    "no interval": (None, "gain"),
}
_LEAKS = {"object in subject": "leak", "object in any question": "asked"}


@cache
def _facts() -> pd.DataFrame:
    return specifications.load()


@cache
def _leads(groups: str | None, weighted: bool, leak: str) -> pd.DataFrame:
    facts = _facts().assign(leak=_facts()[leak] > 0)
    return audit_tables.leads(facts, _RESAMPLES, groups=groups, weighted=weighted)


def _leading(version: str) -> pd.DataFrame:
    """Return how many of 24 models have a lead above zero, by what is drawn and how bins count."""

    def measure(leaks: str, test: tuple[str | None, str], weighted: bool) -> float:
        table = _leads(test[0], weighted, leaks)
        return float((table.loc[table["facts"] == version, test[1]] > 0).sum())

    leaks = _LEAKS if version == "clean" else {"all facts": "leak"}
    weighted = {"each bin once": False, "bins by their facts": True}
    return rows(measure, {"leaks": leaks, "test": _TESTS, "weighted": weighted})


def _above_threshold() -> pd.DataFrame:
    """Return how many models above a billion parameters keep the R² of the abstract on clean facts.

    The choices are those of the stored curve on the smallest R².
    """
    facts, generation = _facts(), "v5-v7"
    large = facts[facts["parameters"] > 1e9]

    @cache
    def given(leaks: str) -> tuple[pd.DataFrame, np.ndarray]:
        part = large[~(large[leaks] > 0)]
        return part, clean_facts.fact_weights(part, _RESAMPLES)

    def measure(leaks: str, bins: dict[str, int], fit: str) -> Ends:
        r2 = clean_facts.draws(*given(leaks), generation, fit=fit, **bins)
        above = (r2.to_numpy() > specifications.THRESHOLDS[generation]).sum(axis=0)
        return audit_tables.of_row(above)[:3]

    fits = [fit for fit in clean_facts.FITS if fit != "facts"]
    return rows(measure, {"leaks": _LEAKS, "bins": specifications.BINS, "fit": fits})


def _proxy_costs() -> pd.DataFrame:
    """Return what counting in the Factbook costs, from the stored correlations of each model."""
    losses = pd.read_csv(factbook_proxy.LOSSES).set_index("model")
    price = pd.read_csv(factbook_proxy.PRICE)
    wide = price.pivot(index="model", columns=["signal", "counts"], values="rho")
    own, book = (wide.xs(counts, axis=1, level="counts") for counts in ("own corpus", "Factbook"))
    by_signal = (own - book).drop(columns="P(o|s)").join(losses["loss"].rename("P(o|s)"))
    size, family = losses["parameters"], losses.index.str.split("-").str[0]
    sets = {"above 1 B": size > 1e9, "all 24": size > 0, "above 2 B": size > 2e9}
    sets["above 6 B"] = size > 6e9
    sets |= {f"without {name}": (size > 1e9) & (family != name) for name in family.unique()}

    def measure(summary: str, models: pd.Series, signal: str) -> Ends:
        found = by_signal.loc[models, signal]
        if summary != "smallest":
            return getattr(found, summary)(), np.nan, np.nan
        row = losses.loc[found.idxmin()]
        known = signal == "P(o|s)"
        return found.min(), *((row["low"], row["high"]) if known else (np.nan, np.nan))

    choices = {"summary": ["smallest", "median", "mean"], "models": sets}
    return rows(measure, choices | {"signal": ["P(o|s)", "N(s,o)"]})


CLAIMS = {
    "smi-real-proxy-costs": _proxy_costs,
    "smi-clean-r2-v5": _above_threshold,
    "smi-beats-cooccurrence-significantly": lambda: _leading("all facts"),
    "smi-audit-clean-lead": lambda: _leading("clean"),
}
main = command_of("retrieval", CLAIMS)
