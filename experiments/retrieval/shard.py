"""How well one real shard ranks names and facts, and how well random documents of a corpus do."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

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
    (jackknife over those of the shard); and `needed`, the fewest random documents, doubled from
    `n_random` on, that reach `least`.
    """
    pairs = list(corpus[["subject", "object"]].itertuples(index=False, name=None))
    index, rng = NameIndex(pairs, Rule()), validation.generator(seed)
    parts = [index.table(index.tally([text])) for text in documents]
    rows = {}
    for what, (keys, column) in _UNITS.items():
        once = ~corpus.duplicated(keys)
        whole = _ranks(corpus.loc[once, column].to_numpy())
        held = np.array([part.loc[once.to_numpy(), column] for part in parts])
        total, n = held.sum(axis=0), len(held)
        shard = _alike(total, whole)
        without = np.array([_alike(total - one, whole) for one in held])
        share = (corpus.loc[once, column] / corpus.loc[once, "n_documents"]).to_numpy()
        drawn = [_alike(rng.binomial(n_random, share), whole) for _ in range(n_draws)]
        gain = shard - np.mean(drawn)
        spread = (n - 1) / n * ((without - without.mean()) ** 2).sum() + np.var(drawn)
        needed = n_random
        while _alike(rng.binomial(needed, share), whole) < least and needed < 2**40:
            needed *= 2
        row = {"names": len(total), "found": int((total > 0).sum()), "shard": shard}
        row |= {"random": np.mean(drawn), "gain": gain, "low": gain - 1.96 * spread**0.5}
        rows[what] = row | {"high": gain + 1.96 * spread**0.5, "needed": needed}
    return pd.DataFrame.from_dict(rows, orient="index")


def _ranks(counts: np.ndarray) -> np.ndarray:
    ranks = pd.Series(counts).rank().to_numpy()
    return (ranks - ranks.mean()) / ranks.std()


def _alike(counts: np.ndarray, ranks: np.ndarray) -> float:
    """Return Spearman's correlation of counts with standard ranks; 0 where all counts are equal."""
    return float((_ranks(counts) * ranks).mean()) if np.ptp(counts) else 0.0
