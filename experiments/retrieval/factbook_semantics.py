"""Facts of the Factbook against paragraphs that mean the same, whether or not they name them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.command import Written, command, option
from experiments.retrieval import factbook_answers
from helpers import data
from helpers.retrieval import factbook_facts

STORED = data.PUBLISHED / "real_semantics.csv"
# A paragraph counts as close from this cosine on; the other values are stored for comparison.
CLOSE = (0.5, 0.6, 0.7)


def _statements(facts: pd.DataFrame, options: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return each fact as a sentence, first with its own object, then with the other options.

    `facts` has the columns `relation` and `subject`, `options` is a result of
    `factbook_facts.choices`.
    """
    texts = factbook_facts.prompts(facts.relation, facts.subject, 0)
    return [
        [f"{text}{answer}." for answer in factbook_facts.answers(row)]
        for text, row in zip(texts, options, strict=True)
    ]


def _latent_vectors(
    corpus: Sequence[str], texts: Sequence[str], *, dimensions: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors of the texts of a corpus and of other texts in its latent space.

    Words in two texts of the corpus or more, without English function words, are weighted by
    TF-IDF and reduced to `dimensions` by a truncated singular value decomposition. A text without
    a known word has the zero vector. Source: Deerwester et al. (1990).
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = TfidfVectorizer(min_df=2, sublinear_tf=True, stop_words="english", dtype=np.float32)
    table = words.fit_transform(corpus)
    space = TruncatedSVD(dimensions, random_state=0).fit(table)
    return normalize(space.transform(table)), normalize(space.transform(words.transform(texts)))


def _closeness(
    sentences: Sequence[np.ndarray], paragraphs: np.ndarray, close: Sequence[float] = CLOSE
) -> pd.DataFrame:
    """Return how much of a corpus is close in meaning to each fact, one row per fact.

    `sentences` holds one array of unit vectors per fact, its own statement first, then those with
    other objects; `paragraphs` holds the corpus, shape (m, width). Columns: `nearest`, the largest
    cosine of the fact with any paragraph; `close 0.6` and the like, the number of paragraphs with
    at least that cosine; `semantic rank`, the share of other objects whose statement has a smaller
    largest cosine (ties count half; 0.5 without others).
    """
    rows = []
    for of_fact in sentences:
        cosine = of_fact @ paragraphs.T
        nearest = cosine.max(axis=1)
        others = (nearest[0] > nearest[1:]) + 0.5 * (nearest[0] == nearest[1:])
        row = {"nearest": float(nearest[0])}
        row |= {f"close {limit}": int((cosine[0] >= limit).sum()) for limit in close}
        rows.append(row | {"semantic rank": float(others.mean()) if len(others) else 0.5})
    return pd.DataFrame(rows)


def _measured(rows: pd.DataFrame, corpus: Sequence[str]) -> pd.DataFrame:
    """Return facts with the columns of `_closeness` to a corpus, beside `relation` and `subject`.

    `rows` are facts of `factbook_facts.facts`.
    """
    options = factbook_facts.choices(factbook_facts.facts(), rows, 12, 0)
    texts = _statements(rows, options)
    paragraphs, vectors = _latent_vectors(corpus, [text for row in texts for text in row])
    parts = np.split(vectors, np.cumsum([len(row) for row in texts])[:-1])
    found = _closeness(parts, paragraphs).set_index(rows.index)
    return pd.concat([rows[["relation", "subject"]], found], axis=1)


@command("factbook_semantics", option("--out", type=Path, default=STORED, help="CSV file to write"))
def main(given: Namespace) -> Written:
    """Compare the facts that have stored answers with every paragraph of the Factbook."""
    asked = factbook_answers.stored_answers()[["relation", "subject"]].drop_duplicates()
    rows = factbook_facts.facts().merge(asked, on=["relation", "subject"])
    corpus = list(dict.fromkeys(factbook_facts.paragraphs(named=True)))
    yield given.out, _measured(rows, corpus).round(4).to_csv(index=False)
    print(f"{len(rows)} facts, {len(corpus):,} paragraphs")
