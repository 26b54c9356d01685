"""How well one real shard ranks names and facts, and how well random documents of a corpus do."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments import intervals
from helpers import data, validation
from helpers.retrieval.counting import NameIndex, Rule

# What is counted: the columns of a name or fact, and that of its documents.
_UNITS = {
    "objects": (["object"], "n_object"),
    "subjects": (["subject"], "n_subject"),
    "facts": (["subject", "object"], "n_both"),
}


def articles() -> list[str]:
    """Return the articles of the test part of WikiText-2, each without its title.

    Raises `data.DataError` where the file is unavailable. Source: Merity et al. (2016).
    """
    text = data.fetch("wikitext2/test.txt").read_text(encoding="utf8")
    return re.split(r"(?m)^ = [^=\n]+ = \n", text)[1:]


def against_pile(pile: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return `agreement` of the articles with as many bytes of the Pile, which has 825 GiB.

    `pile` is its table of `release.load_counts`. Source of the size: arXiv 2101.00027.
    """
    texts, once = articles(), pile.drop_duplicates(["subject", "object"], ignore_index=True)
    n_bytes = sum(len(text.encode()) for text in texts)
    n_random = round(n_bytes / (825 * 2**30) * once.n_documents.iloc[0])
    return agreement(texts, once, n_random, seed=seed)


def agreement(
    documents: Sequence[str],
    corpus: pd.DataFrame,
    n_random: int,
    *,
    least: float = 0.9,
    n_draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how a shard, and random documents, rank names and facts as the whole corpus does.

    `corpus` is the table of `release.load_counts`, `n_random` the number of documents that are
    drawn from it, by each name's share of its documents. One row each for objects, subjects and
    facts: `names`, their number; `found`, of those, in the shard; `shard`, Spearman's correlation
    of its counts with the corpus'; `random`, that of random documents, mean of `n_draws`; `gain`,
    the first less the second, with `low` and `high`, which take the documents of both as drawn
    (jackknife over those of the shard, of which there are three or more); and `needed`, the fewest
    random documents, doubled from `n_random` on, that reach `least`.
    """
    pairs = list(corpus[["subject", "object"]].itertuples(index=False, name=None))
    index, rng = NameIndex(pairs, Rule()), validation.generator(seed)
    parts = [index.table(index.tally([text])) for text in documents]
    rows = {}
    for what, (keys, column) in _UNITS.items():
        once = ~corpus.duplicated(keys)
        whole = corpus.loc[once, column].to_numpy()
        share = whole / corpus.loc[once, "n_documents"].to_numpy()
        held = np.array([part.loc[once.to_numpy(), column] for part in parts])
        total = held.sum(axis=0)
        shard, *without = _alike([total, *(total - held)], whole)
        drawn = _alike([rng.binomial(n_random, share) for _ in range(n_draws)], whole)
        low, high = intervals.jackknife(without, shard)
        gain = shard - drawn.mean()
        half = np.hypot((high - low) / 2, 1.96 * drawn.std())
        needed = n_random
        while _alike([rng.binomial(needed, share)], whole)[0] < least and needed < 2**40:
            needed *= 2
        row = {"names": len(total), "found": int((total > 0).sum()), "shard": shard}
        row |= {"random": drawn.mean(), "gain": gain, "low": gain - half, "high": gain + half}
        rows[what] = row | {"needed": needed}
    return pd.DataFrame.from_dict(rows, orient="index")


def _alike(counts: Sequence[np.ndarray], whole: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row of counts with the whole; 0 where all are equal."""
    return np.nan_to_num(intervals.rank_correlations(np.column_stack([*counts, whole])))
