"""A glass box: invented people whose facts are planted, at known frequencies, in real text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from experiments import tiny_gpt
from experiments.retrieval import small_world
from helpers import factbook_tasks, text_sets, validation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

RELATIONS = ("birthplace", "employer", "instrument")
GENRES = ("facts", "manual", "python", "c++")
MASK = "[MASK]"
# Other documents on a subject for each statement of its fact, and of what kind they are.
ARMS = ("none", "neutral", "competing")
# The share of a community's facts whose object is one of the two that it prefers.
LOYALTY = 0.6
N_UNSEEN_TEXTS, TEXT_BYTES = 128, 160
LISTED = 400


class _Mix(NamedTuple):
    """What a corpus is made of: how often facts are stated, and the bytes of each genre."""

    statements: float
    n_bytes: dict[str, int]


# Corpora of nearly one length in tokens: facts told often, everything alike, and mostly programs.
MIXES = {
    "facts": _Mix(2.0, {"facts": 120_000, "manual": 80_000, "python": 20_000, "c++": 20_000}),
    "even": _Mix(1.0, {"facts": 180_000, "manual": 180_000, "python": 180_000, "c++": 180_000}),
    "code": _Mix(0.5, {"facts": 40_000, "manual": 60_000, "python": 480_000, "c++": 420_000}),
    # The other combinations: with these, statements and real text like the facts come apart.
    "stated": _Mix(2.0, {"facts": 40_000, "manual": 80_000, "python": 60_000, "c++": 60_000}),
    "lean": _Mix(1.0, {"facts": 40_000, "manual": 180_000, "python": 250_000, "c++": 250_000}),
    "prose": _Mix(0.5, {"facts": 180_000, "manual": 180_000, "python": 320_000, "c++": 320_000}),
}
# Both kinds of model, with stored weights, read the first; GPTs alone, without, the added ones.
SUITE, ADDED = ("facts", "even", "code"), ("stated", "lean", "prose")


class World(NamedTuple):
    """People in communities, their facts, and the forms in which facts are stated and asked.

    `people` has `name` and `community`; `facts` one row a person and relation: `subject`,
    `object`, `relation`, `person` (row of `people`), `frequency` (statements at 1.0) and `kind`
    of what else is said. `objects` are the candidates of each relation; `training` and `held_out`
    the forms, with {} for the subject, of which only the former stand in documents.
    """

    people: pd.DataFrame
    facts: pd.DataFrame
    objects: dict[str, list[str]]
    training: dict[str, list[str]]
    held_out: dict[str, list[str]]


def make_world(
    n_people: int = 240,
    *,
    n_communities: int = 6,
    most: int = 64,
    unseen: float = 0.1,
    seed: int = 0,
) -> World:
    """Make people, each with a birthplace, an employer and an instrument, in communities.

    Each relation has two objects a community. With probability `LOYALTY` a person has one of the
    two of their community, else any: so communities, which no document names, can be told from
    what is said of their people. Facts are stated log-uniformly 1 to `most` times, a share
    `unseen` never; to each is drawn what else is said of its subject (`ARMS`). The same arguments
    give the same world. Raises `ValueError` for sizes that cannot be made. Source: designed here.
    """
    validation.counts(n_people=(n_people, 8), n_communities=(n_communities, 2), seed=(seed, 0))
    validation.counts(most=(most, 2))
    if n_people % n_communities or not 0 <= unseen < 1:
        raise ValueError(
            f"n_people is {n_people}, n_communities {n_communities} and unseen {unseen}; give a "
            "multiple of the second, and a share below 1"
        )
    rng, n_objects = np.random.default_rng(seed), 2 * n_communities
    words = small_world.invented_words(len(RELATIONS) * n_objects + n_people, rng)
    objects = {r: words[i * n_objects :][:n_objects] for i, r in enumerate(RELATIONS)}
    names = words[-n_people:]
    community = rng.permutation(np.resize(np.arange(n_communities), n_people))
    people = pd.DataFrame({"name": names, "community": community})
    parts = []
    for relation in RELATIONS:
        own = 2 * community + rng.integers(2, size=n_people)
        chosen = np.where(
            rng.random(n_people) < LOYALTY, own, rng.integers(n_objects, size=n_people)
        )
        times = np.round(np.exp(rng.uniform(0, np.log(most + 0.5), n_people))).astype(int)
        facts = pd.DataFrame({"subject": names, "object": np.array(objects[relation])[chosen]})
        parts.append(
            facts.assign(
                relation=relation,
                person=np.arange(n_people),
                frequency=np.where(rng.random(n_people) < unseen, 0, np.maximum(times, 1)),
                kind=rng.permutation(np.resize(ARMS, n_people)),
            )
        )
    training, held_out = small_world.question_forms(RELATIONS, rng)
    return World(people, pd.concat(parts, ignore_index=True), objects, training, held_out)


def statement_rate(mix: str) -> float:
    """Return by how much the statements of a fact are multiplied in a mix."""
    validation.choice(mix, tuple(MIXES), "mix")
    return MIXES[mix].statements


def contrast(one: str, other: str) -> str:
    """Return how two mixes differ in statements of facts and in real text of the facts' genre.

    "same way" where one has more of both, "opposite ways" where each has more of one, and
    "equal text" or "equal statements" where they differ in the other only.
    """
    states = np.sign(statement_rate(one) - statement_rate(other))
    reads = np.sign(MIXES[one].n_bytes["facts"] - MIXES[other].n_bytes["facts"])
    if not states or not reads:
        return "equal text" if states else "equal statements"
    return "same way" if states == reads else "opposite ways"


def statements(world: World, mix: str) -> np.ndarray:
    """Return how many documents state each fact in a mix, shape (n_facts,)."""
    validation.choice(mix, tuple(MIXES), "mix")
    return np.ceil(world.facts.frequency * MIXES[mix].statements).astype(int).to_numpy()


def _planted(world: World, mix: str, *, seed: int = 0) -> pd.DataFrame:
    """Return the invented documents of a mix, one sentence each, in the order of their facts.

    Columns `fact` (its row), `object` (what is stated, "" for nothing) and `text`. A fact of kind
    "neutral" or "competing" has as many other documents as statements.
    """
    rng, told = np.random.default_rng(seed), []
    for row, (fact, times) in enumerate(
        zip(world.facts.itertuples(), statements(world, mix), strict=True)
    ):
        rivals = [o for o in world.objects[fact.relation] if o != fact.object]
        said = [fact.object] * times
        said += list(rng.choice(rivals, times)) if fact.kind == "competing" else []
        forms = rng.choice(world.training[fact.relation], len(said))
        told += [
            (row, o, f"{f.format(fact.subject)} {o}.") for f, o in zip(forms, said, strict=True)
        ]
        if fact.kind == "neutral":
            openers = rng.choice(small_world.OPENERS, times)
            ends = rng.choice(small_world.NEUTRAL, times)
            told += [
                (row, "", f"{o} {fact.subject} {e}.") for o, e in zip(openers, ends, strict=True)
            ]
    return pd.DataFrame(told, columns=["fact", "object", "text"])


def unseen_texts(n: int = N_UNSEEN_TEXTS, n_bytes: int = TEXT_BYTES) -> pd.DataFrame:
    """Return real texts that no model is trained on: `text` (its beginning), `genre`, `n_bytes`.

    They are the default texts of `text_sets.load_texts` in `GENRES`, cut after `n_bytes` bytes.
    """
    texts = text_sets.load_texts(n, genres=GENRES)
    cut = [text.encode()[:n_bytes].decode(errors="ignore") for text in texts.text]
    return texts.assign(text=cut, n_bytes=[len(text.encode()) for text in cut])


def _real_texts(mix: str, *, share: float = 1.0) -> list[str]:
    """Return the real documents of a mix, without the unseen texts and the tests of tasks.

    `share` of the bytes of each genre is taken. No document has a sentence of the countries on
    which the tasks of `factbook_tasks.NAMES` are tested.
    """
    hidden = set(text_sets.load_texts(N_UNSEEN_TEXTS, genres=GENRES).text)
    tested = factbook_tasks.sentences(test=True)
    found = []
    for genre, n_bytes in MIXES[mix].n_bytes.items():
        wanted, factor = int(n_bytes * share), 3 if genre == "facts" else 1
        texts = text_sets.training_texts(genre, factor * wanted, without=hidden)
        if genre == "facts":
            texts = [text for text in texts if not any(s in text for s in tested)]
        ends = np.cumsum([len(text.encode()) for text in texts])
        if ends[-1] < wanted:
            raise ValueError(f"genre {genre!r} has {ends[-1]} bytes beside the tests, not {wanted}")
        found += texts[: int(np.searchsorted(ends, wanted)) + 1]
    return found


def corpus(world: World, mix: str, *, share: float = 1.0) -> list[str]:
    """Return all documents of a mix: those planted, and `share` of the real ones."""
    return [*_planted(world, mix).text, *_real_texts(mix, share=share)]


def tokenizer(
    world: World, *, size: int = 1280, texts: Iterable[str] | None = None
) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of `size` tokens, of the mix "even" or of `texts`.

    Token 0, `<end>`, stands before a text and pads; token 1 is `[MASK]`. Names and objects of the
    world, after a space, are one token each, so that a fact is one step of a model: merges are
    learned from the texts and from a list of these words, in which each stands `LISTED` times.
    Raises `ValueError` where `size` is too small for that. Source: Sennrich et al. (2016), on
    bytes as in Radford et al. (2019).
    """
    words = [*world.people.name, *(o for told in world.objects.values() for o in told)]
    texts = list(corpus(world, "even") if texts is None else texts)
    texts += [LISTED * f" {word}" for word in words]
    made = tiny_gpt.pieces(texts, size, [tiny_gpt.END, MASK])
    split = [word for word in words if len(made.encode(f" {word}").ids) != 1]
    if split:
        raise ValueError(
            f"size is {size}, and {len(split)} names such as {split[0]!r} are more than one "
            "token; give a larger one"
        )
    inputs = ["input_ids", "attention_mask"]
    return tiny_gpt.with_ends(made, mask_token=MASK, model_input_names=inputs)
