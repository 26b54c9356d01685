"""Each signal of one loaded model: what a kind of model can be asked, and its answer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from helpers import encoding, likelihood, validation
from helpers.geometry import quantization
from helpers.geometry.spread import between_share
from helpers.modelmap import held_out_texts
from helpers.posterior import alp, entities
from helpers.posterior.chance import permutation_null
from helpers.retrieval import closed_book, factbook_facts
from helpers.synthesis import masked_likelihood, model_kinds

_NO_WORDS = "it gives vectors, no probabilities: {}"


# Why a kind of model cannot be asked the rest.
CANNOT = {
    "encoder": {
        "facts": _NO_WORDS.format("it cannot answer"),
        "corpus": _NO_WORDS.format("it cannot answer"),
        "map": _NO_WORDS.format("a text has no likelihood under it"),
        "prediction": _NO_WORDS.format("a text has no likelihood under it"),
        "my texts": _NO_WORDS.format("a text has no likelihood under it"),
    },
    "masked": {
        "map": "a masked model sees the words on both sides: its pseudo-log-likelihood is no "
        "probability of a text and can be compared with that of masked models only, while the "
        "stored map has causal ones"
    },
    "causal": {},
}


BITS = 5


TOKENS = 3


SPREAD = ("lloyd_index", "rankme", "mean_cosine", "error", "between_share")


def about(loaded: model_kinds.Loaded, *, seed: int = 0) -> dict[str, Any]:
    """Return the kind that a model turned out to be, its parameters, and what it lacks."""
    return {
        "kind": loaded.kind,
        "note": loaded.note,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "layers": int(loaded.body.config.num_hidden_layers),
        "width": int(loaded.body.config.hidden_size),
        "dtype": str(loaded.body.dtype).removeprefix("torch."),
        "device": str(loaded.body.device),
    }


def categories(
    loaded: model_kinds.Loaded, *, table: pd.DataFrame, n_shuffles: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Return the calibrated ALP of a model's last layer, by entity, and under shuffled labels.

    `skill` (N,) is each entity's log posterior less the log share of its label, nats; `spelling`
    that of a control on the same entities; `null` has the mean skills of shuffled labels; `middle`
    the skill of the middle layer. Vectors are means over tokens. Source:
    `alp.average_log_posterior`.
    """
    texts, label = list(table["text"]), table["label"]
    last = int(loaded.body.config.num_hidden_layers)
    half, end = encoding.layer_embeddings(
        loaded.body, loaded.tokenizer, texts, layers=[last // 2, last]
    )
    middle = _categories_of(half, label, n_shuffles=0, seed=seed)["skill"]
    found = _categories_of(end, label, n_shuffles=n_shuffles, seed=seed)
    control = entities.spelling_control(texts, seed=seed)
    spelling = _categories_of(control, label, n_shuffles=0, seed=seed)["skill"]
    return found | {"middle": float(np.mean(middle)), "layer": last, "spelling": spelling}


def _categories_of(
    vectors: np.ndarray, label: pd.Series, *, n_shuffles: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Return what `categories` does of any vectors, such as those of a control."""
    chance = label.map(np.log(label.value_counts(normalize=True))).to_numpy(float)
    with warnings.catch_warnings():
        # They are kept, and said where the score is.
        warnings.simplefilter("ignore", UserWarning)
        found = alp.average_log_posterior(vectors, label, seed=seed)
        result = {"skill": (found.per_entity - chance).tolist(), "warnings": [*found.warnings]}
        if n_shuffles:
            null = permutation_null(vectors, label, n_shuffles=n_shuffles, seed=seed)
            result |= {"null": (null.scores - found.chance).tolist(), "p_value": null.p_value}
    return result


def controls(table: pd.DataFrame, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return `_categories_of` for spelling and for noise on the same entities, without shuffles."""
    texts = list(table["text"])
    made = {
        "spelling alone": entities.spelling_control(texts, seed=seed),
        "noise": entities.noise_control(len(texts), 64, seed),
    }
    return {
        name: _categories_of(x, table["label"], n_shuffles=0, seed=seed) for name, x in made.items()
    }


def latent_space(
    loaded: model_kinds.Loaded, *, sentences: Sequence[str], seed: int = 0, n_groups: int = 5
) -> dict[str, Any]:
    """Return measures of the last layer's tokens, and their standard errors.

    The cloud is that of the book's "small" rows, three tokens a sentence and 32 cells; with the
    first 500 sentences of the Factbook the numbers are those rows' own. The errors come from
    leaving out every `n_groups`-th sentence, in turn (the delete-a-group jackknife). Source:
    `quantization.measure_cloud`.
    """
    points = encoding.token_vectors(
        loaded.body, loaded.tokenizer, sentences, tokens_per_sentence=TOKENS, seed=seed
    )
    owner = np.repeat(np.arange(len(sentences)), TOKENS)

    def cloud(keep: np.ndarray) -> dict[str, float]:
        found = quantization.measure_cloud(points[keep], bits=BITS, seed=seed)
        return found | {"between_share": between_share(points[keep], owner[keep])}

    whole = cloud(np.ones(len(points), bool))
    parts = [cloud(owner % n_groups != g) for g in range(n_groups)]
    result = {}
    for name in SPREAD:
        left = np.array([part[name] for part in parts])
        spread = ((left - left.mean()) ** 2).sum() * (n_groups - 1) / n_groups
        result[name] = {"value": float(whole[name]), "error": float(np.sqrt(spread))}
    return {"measures": result, "n_sentences": len(sentences), "n_groups": n_groups}


def facts(loaded: model_kinds.Loaded, *, table: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Return how a model answers each fact: `rows` and `answers`.

    `rows` are the places of the facts asked; `answers` has log P, in nats, of each of their
    choices, the true object first, None where not asked. A masked model fills the place of one
    mask, so facts whose object is more than one token are left out, and other objects too. Raises
    `ValueError` for a model without probabilities. Source: `closed_book`, `masked_likelihood`.
    """
    _check_kind(loaded.kind, "facts")
    asked = [factbook_facts.answers(row) for row in table["choices"]]
    prompts = list(table["prompt"])
    if loaded.kind == "causal":
        rows = list(range(len(table)))
        scores = closed_book.answer_log_probability(
            loaded.model, loaded.tokenizer, prompts, asked, batch_tokens=loaded.batch_tokens or 512
        )
    else:
        rows, scores = _fill(loaded, prompts, asked)
    known = scores.set_index(["prompt", "answer"]).log_probability.to_dict()
    every = [[known.get((i, j)) for j in range(len(asked[row]))] for i, row in enumerate(rows)]
    return {"rows": rows, "answers": every}


def _check_kind(kind: str, signal: str) -> None:
    validation.choice(kind, tuple(CANNOT), "kind")
    if why := CANNOT[kind].get(signal):
        raise ValueError(why)


def _fill(
    loaded: model_kinds.Loaded, prompts: Sequence[str], asked: Sequence[Sequence[str]]
) -> tuple[list[int], pd.DataFrame]:
    """Return the facts that a masked model can be asked, and the scores of their answers."""
    tokenizer = loaded.tokenizer

    def short(answer: str) -> bool:
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
        return len(ids) == 1 and ids[0] != tokenizer.unk_token_id

    kept = {i: [j for j, a in enumerate(row) if short(a)] for i, row in enumerate(asked)}
    rows = [i for i, places in kept.items() if len(places) > 1 and places[0] == 0]
    if len(rows) < 3:
        raise ValueError(
            f"{len(rows)} of {len(asked)} facts have an object of one token beside others, and a "
            "masked model fills one place; ask about shorter names"
        )
    pairs = [(n, j, i, asked[i][j]) for n, i in enumerate(rows) for j in kept[i]]
    texts = [f"{prompts[i]} {tokenizer.mask_token}." for _, _, i, _ in pairs]
    values = masked_likelihood.fill_log_probability(
        loaded.model, tokenizer, texts, [a for *_, a in pairs]
    )
    table = pd.DataFrame([(n, j) for n, j, *_ in pairs], columns=["prompt", "answer"])
    return rows, table.assign(log_probability=values)


def map_texts(loaded: model_kinds.Loaded, *, table: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Return `log_likelihood` (nats) of texts of the stored map, by `keys`.

    Raises `ValueError` for a model that is not causal.
    """
    _check_kind(loaded.kind, "map")
    return _scored(loaded, list(table["text"])) | {"keys": list(table.index)}


def prediction(
    loaded: model_kinds.Loaded, *, asked: held_out_texts.HeldOut | None = None, seed: int = 0
) -> dict[str, Any]:
    """Return log-likelihoods (nats) of texts and items, by kind of model.

    They are those of `held_out_texts.load` by default. A masked model reads the texts only, and
    gets a pseudo-log-likelihood of each. Raises `ValueError` for an encoder.
    """
    asked = held_out_texts.load() if asked is None else asked
    texts = asked.every_text if loaded.kind == "causal" else list(asked.texts["text"])
    return _scored(loaded, texts)


def own_texts(loaded: model_kinds.Loaded, *, texts: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Return the (pseudo-)log-likelihood (nats) of the reader's texts; raises as `prediction`.

    Texts that are longer than what the model takes are left out, and counted in `left_out`.
    """
    return _scored(loaded, texts, whole=False)


def _scored(
    loaded: model_kinds.Loaded, texts: Sequence[str], *, whole: bool = True
) -> dict[str, Any]:
    _check_kind(loaded.kind, "prediction")
    score = likelihood if loaded.kind == "causal" else masked_likelihood
    table = score.score_texts(
        loaded.model, loaded.tokenizer, texts, batch_tokens=loaded.batch_tokens
    )
    cut = table["truncated"]
    if cut.all() or (whole and cut.any()):
        raise ValueError(
            f"{int(cut.sum())} of {len(cut)} texts are longer than what it reads at once, and the "
            "likelihood of a beginning cannot be compared with that of a whole text"
        )
    kept = np.flatnonzero(~cut)
    table = table[~cut]
    n_words = int(loaded.model.config.get_text_config().vocab_size)
    # A causal model is not asked for the first token.
    n_scored = table["n_tokens"] - (loaded.kind == "causal")
    return {
        "log_likelihood": table["log_likelihood"].tolist(),
        # What all tokens equally likely would give, or all bytes where that is more.
        "guess": np.maximum(-n_scored * np.log(n_words), -table["n_bytes"] * np.log(256)).tolist(),
        "n_bytes": table["n_bytes"].tolist(),
        "read": kept.tolist(),
        "left_out": int(cut.sum()),
        "pseudo": loaded.kind == "masked",
    }
