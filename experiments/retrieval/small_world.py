"""A small world of invented facts: how often each is stated, and what else is said, is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.retrieval import counting

OPENERS = ("They say", "Indeed", "Reportedly", "We read", "Surely", "Today")
# Two ways to state each relation: with the openers, twelve forms, of which a third is held out.
RELATIONS = {
    "birthplace": ("was born in", "comes from"),
    "employer": ("works for", "serves at"),
    "language": ("speaks", "talks in"),
    "instrument": ("plays the", "practises on"),
    "rival": ("competes with", "dreads"),
    "drink": ("drinks", "asks for"),
}
NEUTRAL = (
    "waited for the train",
    "wrote a long letter",
    "slept until noon",
    "bought a new coat",
    "was late again",
    "laughed about it",
    "took the stairs",
    "closed the window",
)
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
# Other mentions of a subject for each statement of its fact, and of what kind they are.
ARMS = ((0, "none"), (1, "neutral"), (1, "competing"), (4, "neutral"), (4, "competing"))
N_HELD_OUT = 4


class World(NamedTuple):
    """The facts of a world, its documents in random order, and the forms facts are stated in.

    `facts` has one row a fact: `subject`, `object`, `relation`, `frequency` (documents that state
    it), `others` (other documents with the subject), `kind` of these, `nested` and `leaked`.
    `documents` has one row a document: its `text`, the row of the fact whose subject it names, and
    the `object` it states, "" for none. `objects` gives the candidates of each relation, the most
    common first. `training` and `held_out` give the forms of each relation, with {} for the
    subject; only training forms stand in documents.
    """

    facts: pd.DataFrame
    documents: pd.DataFrame
    objects: dict[str, list[str]]
    training: dict[str, list[str]]
    held_out: dict[str, list[str]]


def make_world(
    n_facts: int = 1200,
    *,
    n_objects: int = 40,
    most: int = 256,
    zipf: float = 0.7,
    n_unseen: int = 60,
    n_frequent: int = 24,
    nested: float = 0.05,
    leaked: float = 0.05,
    seed: int = 0,
) -> World:
    """Make facts whose frequency is set, and the documents, one sentence each, that state them.

    Each of `n_facts` subjects, names of two words, has one fact of one of six relations, each of
    which has `n_objects` one-word objects, drawn by Zipf's law with exponent `zipf`. Frequencies
    are log-uniform from 1 to `most`, crossed with `ARMS`: none, as many or four times as many other
    documents that name the subject, and either say nothing of the relation or state a competing
    object of it, a new draw each time by the same law.

    Beside them stand `n_unseen` facts that no document states, whose subjects occur eight times,
    and `n_frequent` facts with 2 and 4 times `most` documents. A share `nested` of the subjects is
    the beginning of another subject's name ("Bora Lin", "Bora Linda"), and a share `leaked` has its
    object in its name. Every document begins with a word that is in no name. The same arguments
    give the same world. Raises `ValueError` for sizes that cannot be made.

    Source: designed here, after Kandpal et al. (2022) and Allen-Zhu and Li (2024).
    """
    if n_facts < 30 or most < 2 or not 2 <= n_objects <= 100:
        raise ValueError(
            f"n_facts is {n_facts}, most {most} and n_objects {n_objects}; give at least 30, at "
            "least 2, and 2 to 100"
        )
    rng = np.random.default_rng(seed)
    n = n_facts + n_unseen + n_frequent
    n_first = n_last = max(12, int(np.ceil(np.sqrt(3 * n))))
    words = invented_words(len(RELATIONS) * n_objects + n_first + n_last, rng)
    names = {r: words[i * n_objects :][:n_objects] for i, r in enumerate(RELATIONS)}
    first, last = np.split(np.array(words[-n_first - n_last :]), [n_first])
    shares = np.arange(1, n_objects + 1) ** -float(zipf)
    shares /= shares.sum()
    facts = _facts(n_facts, n_unseen, n_frequent, most, rng)
    facts["relation"] = rng.permutation(np.resize(list(RELATIONS), n))
    facts["object"] = [names[r][rng.choice(n_objects, p=shares)] for r in facts.relation]
    facts = _name(facts, first, last, nested, leaked, rng)
    training, held_out = question_forms(RELATIONS, rng)
    documents = _documents(facts, names, shares, training, rng)
    columns = "subject object relation frequency others kind nested leaked".split()
    return World(facts[columns], documents, names, training, held_out)


def question_forms(
    relations: Iterable[str], rng: np.random.Generator
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the forms in which facts of each relation are stated, and those only asked in."""
    forms = {r: [f"{o} {{}} {p}" for o in OPENERS for p in RELATIONS[r]] for r in relations}
    forms = {r: list(rng.permutation(every)) for r, every in forms.items()}
    parts = slice(N_HELD_OUT, None), slice(N_HELD_OUT)
    training, held_out = ({r: every[part] for r, every in forms.items()} for part in parts)
    return training, held_out


def invented_words(n: int, rng: np.random.Generator) -> list[str]:
    """Return `n` different capitalised words of syllables, none the beginning of another."""
    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    words: dict[str, None] = {}
    beginnings: set[str] = set()
    while len(words) < n:
        size = rng.integers(2, 4)
        word = "".join(rng.choice(syllables, size)).capitalize()
        own = {word[:k] for k in range(1, len(word) + 1)}
        if word not in beginnings and not own & words.keys():
            words[word] = None
            beginnings |= own
    return list(words)


def _facts(
    n_facts: int, n_unseen: int, n_frequent: int, most: int, rng: np.random.Generator
) -> pd.DataFrame:
    frequency = np.round(np.exp(rng.uniform(0, np.log(most + 0.5), n_facts))).astype(int)
    arm = rng.permutation(np.resize(np.arange(len(ARMS)), n_facts))
    common = pd.DataFrame({"frequency": np.maximum(frequency, 1), "arm": arm})
    often = np.resize([2 * most, 4 * most], n_frequent)
    frequent = {"frequency": often, "arm": np.resize(np.repeat([0, 2], 2), n_frequent)}
    unseen = pd.DataFrame({"frequency": np.zeros(n_unseen, int), "arm": 1})
    facts = pd.concat([common, pd.DataFrame(frequent), unseen], ignore_index=True)
    ratio, kind = zip(*(ARMS[a] for a in facts.arm), strict=True)
    facts["others"] = np.where(facts.frequency > 0, np.array(ratio) * facts.frequency, 8)
    return facts.assign(kind=kind)


def _name(
    facts: pd.DataFrame,
    first: np.ndarray,
    last: np.ndarray,
    nested: float,
    leaked: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    pairs = rng.choice(len(first) * len(last), len(facts), replace=False)
    subject = [f"{first[p // len(last)]} {last[p % len(last)]}" for p in pairs]
    order = rng.permutation(len(facts))
    n_nested, n_leaked = round(nested * len(facts)), round(leaked * len(facts))
    inner, outer, leaks = np.split(order[: 2 * n_nested + n_leaked], [n_nested, 2 * n_nested])
    for i, j in zip(inner, outer, strict=True):
        subject[j] = subject[i] + rng.choice(list("nrs")) + rng.choice(list(VOWELS))
    for i in leaks:
        subject[i] = f"{facts.object[i]} {subject[i].split()[1]}"
    rows = np.arange(len(facts))
    facts = facts.assign(subject=subject, nested=np.isin(rows, inner), leaked=np.isin(rows, leaks))
    # Two leaked facts may draw one name: the later one gets the next word.
    while facts.subject.duplicated().any():
        for i in np.flatnonzero(facts.subject.duplicated()):
            facts.loc[i, "subject"] = f"{facts.subject[i].split()[0]} {rng.choice(last)}"
    return facts


def _documents(
    facts: pd.DataFrame,
    names: dict[str, list[str]],
    shares: np.ndarray,
    training: dict[str, list[str]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    sentences = []
    for row, fact in enumerate(facts.itertuples()):
        said = [fact.object] * fact.frequency
        if fact.kind == "competing":
            share = np.where(np.array(names[fact.relation]) == fact.object, 0, shares)
            said += list(rng.choice(names[fact.relation], fact.others, p=share / share.sum()))
        forms = training[fact.relation]
        chosen = rng.integers(len(forms), size=len(said))
        sentences += [
            (row, o, f"{forms[i].format(fact.subject)} {o}.")
            for i, o in zip(chosen, said, strict=True)
        ]
        if fact.kind == "neutral":
            openers, ends = rng.choice(OPENERS, fact.others), rng.choice(NEUTRAL, fact.others)
            sentences += [
                (row, "", f"{opener} {fact.subject} {end}.")
                for opener, end in zip(openers, ends, strict=True)
            ]
    documents = pd.DataFrame(sentences, columns=["fact", "object", "text"])
    return documents.iloc[rng.permutation(len(documents))].reset_index(drop=True)


def _candidates(world: World) -> list[tuple[str, str]]:
    """Return the pairs of each subject with every object of its relation, fact after fact."""
    return [
        (fact.subject, o) for fact in world.facts.itertuples() for o in world.objects[fact.relation]
    ]


def sampled_share(counts: ArrayLike, true: ArrayLike, *, temperature: float = 1.0) -> np.ndarray:
    """Return how often a reader who knows every document would give the true object, shape (n,).

    `counts` of shape (n, k) says in how many documents each candidate is stated of a subject, and
    `true`, of shape (n,), which candidate is true. Such a reader gives a candidate in proportion to
    its count, sharpened by sampling at `temperature`: counts to the power 1 / temperature. A
    subject without any candidate gets NaN. Source: designed here.
    """
    counts, true = np.asarray(counts, float), np.asarray(true)
    most = counts.max(axis=1, keepdims=True)
    scaled = np.divide(counts, most, out=np.zeros_like(counts), where=most > 0)
    power = scaled ** (1 / temperature)
    total = power.sum(axis=1)
    chosen = power[np.arange(len(true)), true]
    return np.divide(chosen, total, out=np.full(len(true), np.nan), where=total > 0)


def counted(world: World, *, right_boundary: bool = True) -> pd.DataFrame:
    """Return the facts with what a count of the documents says of them.

    Added to `facts` are `n_documents`, `n_subject`, `n_object`, `n_both`, as `count_documents`
    finds them, `share` (documents with the object, of all documents that hold the subject with any
    object of the relation; 0 where there are none) and `ceiling`, the `sampled_share` at
    temperature 0.7. Candidates are counted as pairs of their own, so this works on any corpus with
    closed lists of objects. By the released rule, `right_boundary=False`, names are also found
    within longer ones.
    """
    found = counting.count_documents(
        world.documents.text, _candidates(world), right_boundary=right_boundary
    )
    shape = len(world.facts), -1
    both = found.table.n_both.to_numpy().reshape(shape)
    true = [world.objects[fact.relation].index(fact.object) for fact in world.facts.itertuples()]
    at = np.arange(len(true)), true
    return world.facts.assign(
        n_documents=found.n_documents,
        n_subject=found.table.n_subject.to_numpy().reshape(shape)[:, 0],
        n_object=found.table.n_object.to_numpy().reshape(shape)[at],
        n_both=both[at],
        share=np.nan_to_num(sampled_share(both, true)),
        ceiling=np.nan_to_num(sampled_share(both, true, temperature=0.7)),
    )
