"""The saved map on which a reader's own model is placed, and the table of its models.

`python -m experiments reference_map` makes both from the stored families and from n-gram
models.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from experiments import ngrams
from experiments.command import Written, command, to_folder
from experiments.modelmap import smollm2_family
from helpers import likelihood, text_sets
from helpers.modelmap import held_out_texts, stored_families

# Few bytes of these genres are left once the texts of the scores are taken out.
_FEWER = {"romance": (3_000, 10_000, 30_000)}


def _ngram_models(n_texts: int, *, sizes: Sequence[int] | None = None) -> stored_families.Gathered:
    """Train n-gram models and return their log-likelihoods on the map's texts, with their scores.

    Neither the texts of the map nor those of the scores are trained on. `sizes` keeps some of
    `ngrams.SIZES`. A family is what was trained on one genre.
    """
    asked = held_out_texts.load()
    texts = text_sets.load_texts(max(n_texts, 128) + 56)
    keys = [*texts.index, *(f"asked-{i}" for i in range(len(asked.every_text)))]
    every = pd.DataFrame({"text": [*texts["text"], *asked.every_text]}, index=keys)
    zoos = []
    for corpus in ngrams.SIZES:
        chosen = _FEWER.get(corpus, ngrams.SIZES[corpus])
        chosen = [n for n in chosen if sizes is None or n in sizes]
        if chosen:
            zoos.append(ngrams.zoo(every, corpora=[corpus], sizes=chosen))
    values = pd.concat([zoo.log_likelihoods for zoo in zoos])
    models = pd.concat([zoo.models for zoo in zoos]).set_index("model")
    rows = values.iloc[:, len(texts) :].to_numpy()
    scores = pd.DataFrame([held_out_texts.scores(row, asked) for row in rows], values.index)
    models = models.assign(family="n-grams, " + models["corpus"], parent="", kind="n-gram")
    models["level"] = models["order"]
    return stored_families.Gathered(
        values.iloc[:, :n_texts], models.join(scores)[stored_families.COLUMNS]
    )


def stand_in(kind: str, dropped: int = 3) -> tuple[str, Callable[[Sequence[str]], np.ndarray]]:
    """Return the name of a model that is not on the map, and what scores texts by it, in nats.

    `kind` is "smollm2", the model without `dropped` layers, or "n-gram", of order 4, trained on
    facts and Python. None of the texts of the map or of `held_out_texts` is trained on.
    """
    if kind == "n-gram":
        unwanted = text_sets.load_texts(184)["text"]
        documents = [
            text
            for genre in ("facts", "python")
            for text in text_sets.training_texts(genre, 30_000, without=unwanted)
        ]
        counted = ngrams.fit(documents, 4)
        return "n-grams of facts and Python", lambda texts: ngrams.log_likelihood(counted, texts)
    tokenizer, parent = smollm2_family.load_parent()
    child = smollm2_family.layers_dropped(parent, dropped)

    def score(texts: Sequence[str]) -> np.ndarray:
        table = likelihood.score_texts(child, tokenizer, texts, batch_tokens=1024)
        return table["log_likelihood"].to_numpy()

    return f"SmolLM2 without {dropped} layers", score


@command("reference_map", to_folder("--folder"))
def main(given: Namespace) -> Written:
    """Make the reference map of the book from its stored families and n-gram models."""
    parts = [stored_families.stored(name) for name in ("smollm2", "tiny_gpts")]
    n_texts = min(part.log_likelihoods.shape[1] for part in parts)
    made = stored_families.gather([*parts, _ngram_models(n_texts)])
    made = stored_families.save(made, given.folder)
    print(f"{len(made.names)} models by {len(made.texts)} texts")
