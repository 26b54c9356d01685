"""Every signal of the book on one model of the glass box, and the truth about it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from experiments.retrieval import small_world
from experiments.synthesis import glass_box_world
from helpers import decoders, encoding, factbook_tasks, fine_tuning, glue, likelihood, probing
from helpers.geometry import quantization
from helpers.posterior import alp, transferability
from helpers.retrieval import closed_book
from helpers.synthesis import masked_likelihood

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Part of every key: raise it when the same model would give other numbers.
VERSION = 1
TEMPERATURE = 0.7
PROBED, TUNED = ("section", "same_field", "region"), ("section", "same_field")
N_TRAIN, N_TEST, TUNING_STEPS, TUNING_RATE = 400, 400, 150, 5e-4
N_SENTENCES, TOKENS, BITS = 500, 3, 5
GEOMETRY = ("lloyd_index", "error", "eee", "vrm", "isoscore", "mean_cosine")


class Bench(NamedTuple):
    """What all models are measured on: the world, real texts and sentences, and tasks."""

    world: glass_box_world.World
    texts: pd.DataFrame
    sentences: list[str]
    tasks: dict[str, glue.Task]


class _Measured(NamedTuple):
    """One row of signals and truths, CPU seconds of each, and what lies behind them.

    `log_likelihoods` has one value per text (nats), `accuracy` one per fact (closed book, held-out
    forms), `log_posterior` one per person (nats, calibrated).
    """

    row: dict[str, float]
    seconds: dict[str, float]
    log_likelihoods: np.ndarray
    accuracy: np.ndarray
    log_posterior: np.ndarray


def make_bench(world: glass_box_world.World) -> Bench:
    """Return what the models of a world are measured on; sentences are none they have read."""
    told = factbook_tasks.sentences(test=True)
    order = np.random.default_rng(0).permutation(len(told))[:N_SENTENCES]
    tasks = {name: glue.load_task(name) for name in PROBED}
    return Bench(world, glass_box_world.unseen_texts(), [told[i] for i in order], tasks)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    bench: Bench,
    *,
    truths: bool = True,
    seed: int = 0,
) -> _Measured:
    """Measure one model: signals first, and with `truths` what they are to predict.

    Signals: `alp` (calibrated, of people in their communities, nats above chance), the measures of
    `GEOMETRY` on token vectors of unread sentences, `bits_per_byte` (of unread texts; for a BERT
    from pseudo-log-likelihood), `rankme` of the same token vectors, `log_me` (of the probes' rows).
    Truths: `closed_book` (expected accuracy on stated facts, in forms never read), `probe` and
    `fine_tuned` (mean scores on tasks of the Factbook, countries held out).
    """
    seconds: dict[str, float] = {}
    body, row = model.base_model, {"parameters": float(model.num_parameters())}
    with _clock(seconds, "alp"):
        vectors = _people_vectors(body, tokenizer, bench.world)
        found = alp.average_log_posterior(vectors, bench.world.people.community)
        row["alp"] = found.skill
    with _clock(seconds, "geometry"):
        points = encoding.token_vectors(
            body, tokenizer, bench.sentences, tokens_per_sentence=TOKENS, seed=seed
        )
        cloud = quantization.measure_cloud(points, bits=BITS, seed=seed)
        row |= {name: cloud[name] for name in GEOMETRY}
    with _clock(seconds, "rankme"):
        row["rankme"] = transferability.rank_me(points)
    with _clock(seconds, "bits_per_byte"):
        total, n_bytes = text_log_likelihoods(model, tokenizer, list(bench.texts.text))
        row["bits_per_byte"] = -total.sum() / np.log(2) / n_bytes.sum()
    features = {}
    with _clock(seconds, "log_me"):
        for name, task in bench.tasks.items():
            features[name] = probing.probe_features(
                body, tokenizer, task, n_train=N_TRAIN, n_test=N_TEST
            )
        row["log_me"] = float(
            np.mean([transferability.log_me(f.X_train, f.y_train) for f in features.values()])
        )
    accuracy = np.full(len(bench.world.facts), np.nan)
    if truths:
        with _clock(seconds, "closed_book"):
            accuracy = _ask(model, tokenizer, bench.world)
            row["closed_book"] = float(accuracy[bench.world.facts.frequency > 0].mean())
        with _clock(seconds, "probe"):
            for name, task in bench.tasks.items():
                row[f"probe_{name}"] = probing.probe_score(task, features[name])
            row["probe"] = float(np.mean([row[f"probe_{name}"] for name in PROBED]))
        with _clock(seconds, "fine_tuned"):
            for name in TUNED:
                options = {"steps": TUNING_STEPS, "learning_rate": TUNING_RATE, "max_tokens": 48}
                options |= {"n_test": N_TEST, "seed": seed}
                tuned = fine_tuning.fine_tune(body, tokenizer, bench.tasks[name], **options)
                row[f"fine_tuned_{name}"] = tuned.score
            row["fine_tuned"] = float(np.mean([row[f"fine_tuned_{name}"] for name in TUNED]))
    return _Measured(row, seconds, total, accuracy, found.per_entity)


def text_log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-likelihood of each text, nats, and its bytes; of a BERT the pseudo one."""
    scorer = likelihood if decoders.is_causal(model) else masked_likelihood
    scores = scorer.score_texts(model, tokenizer, list(texts))
    total = scores.log_likelihood + scores.get("first_token_log_likelihood", 0.0)
    return total.to_numpy(), scores.n_bytes.to_numpy()


def _people_vectors(
    body: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: glass_box_world.World
) -> np.ndarray:
    """Return one vector a person, float32: the mean of the last layer over "Today" and the name."""
    texts = [f"{small_world.OPENERS[-1]} {name}" for name in world.people.name]
    last = int(body.config.num_hidden_layers)
    return encoding.layer_embeddings(body, tokenizer, texts, layers=[last])[0]


def _ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: glass_box_world.World,
    *,
    forms: str = "held_out",
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """Return the expected accuracy on each fact, closed book, as a mean over forms, (n_facts,).

    An object is one token, so its probability at `temperature` is the share of samples that give
    it. A GPT goes on after the subject; a BERT fills the mask before a full stop. `forms` is
    "training" or "held_out".
    """
    asked = [
        (form.format(fact.subject), f" {fact.object}")
        for fact in world.facts.itertuples()
        for form in getattr(world, forms)[fact.relation]
    ]
    prompts, objects = (list(column) for column in zip(*asked, strict=True))
    if decoders.is_causal(model):
        names = [[name] for name in objects]
        found = closed_book.answer_log_probability(
            model, tokenizer, prompts, names, temperature=temperature, batch_tokens=4096
        ).log_probability.to_numpy()
    else:
        hidden = [f"{prompt}{tokenizer.mask_token}." for prompt in prompts]
        found = masked_likelihood.fill_log_probability(
            model, tokenizer, hidden, objects, temperature=temperature
        )
    return np.exp(found).reshape(len(world.facts), -1).mean(axis=1)


@contextmanager
def _clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.process_time()
    yield
    seconds[name] = time.process_time() - start
