"""Every signal of the book that the inputs allow, for one model: measured once and kept."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import data, encoding, factbook, likelihood, models, storage, text_sets, validation
from helpers.geometry import quantization
from helpers.geometry.spread import between_share
from helpers.modelmap import held_out_texts
from helpers.posterior import alp, entities
from helpers.retrieval import closed_book, factbook_facts
from helpers.synthesis import masked_likelihood, model_kinds, signal_inputs

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 5
SIGNALS = {
    "categories": "do its vectors know my categories? (ALP)",
    "latent space": "is its latent space healthy? (patchiness, spread)",
    "facts": "does it know my facts? (closed-book answers)",
    "corpus": "does the corpus say which ones? (co-occurrence, SMI)",
    "map": "which models is it like? (log-likelihood vectors)",
    "prediction": "how well does it predict text? (bits per byte)",
    "my texts": "how well does it predict my texts?",
}
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
# What each kind of model can be asked, where all inputs are there.
ANSWERED = {kind: frozenset(SIGNALS) - set(why) for kind, why in CANNOT.items()}
BITS, TOKENS = 5, 3
SPREAD = ("lloyd_index", "rankme", "mean_cosine", "error", "between_share")


class Reader:
    """A model that is loaded when it is first needed; `seconds` is what loading took on the CPU."""

    def __init__(self, found: model_kinds.Look) -> None:
        self.found, self.seconds, self._loaded = found, 0.0, None

    def __call__(self) -> model_kinds.Loaded:
        """Return the loaded model; raises as `model_kinds.load`."""
        if self._loaded is None:
            start = time.process_time()
            self._loaded = model_kinds.load(self.found)
            self.seconds = time.process_time() - start
        return self._loaded


class Part(NamedTuple):
    """How one signal of a model is measured and where it is kept, or `why` it cannot be."""

    function: Callable[..., dict[str, Any]]
    options: dict[str, Any]
    place: Path
    why: str = ""


def plan(
    found: model_kinds.Look,
    inputs: signal_inputs.Inputs,
    *,
    n_shuffles: int = 20,
    n_sentences: int = 500,
    n_groups: int = 5,
    n_texts: int = 64,
    seed: int = 0,
    folder: Path | None = None,
) -> dict[str, Part]:
    """Return what `measure` does for a model, by signal, without "corpus", which takes no reading.

    Raises `ValueError`, or what a damaged model does, where nothing can be measured.
    """
    folder = folder or data.cache_folder() / "your_model"
    facts_asked = inputs.facts[signal_inputs.FACTS] if len(inputs.facts) else inputs.facts
    # Read before a clock runs: finding these texts is no part of a signal's price.
    read, sentences = text_sets.load_texts(n_texts), factbook.draw_sentences(n_sentences)
    work: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
        "model": (about, {}),
        "categories": (categories, {"table": inputs.entities, "n_shuffles": n_shuffles}),
        "latent space": (latent_space, {"sentences": sentences, "n_groups": n_groups}),
        "facts": (facts, {"table": facts_asked}),
        "map": (map_texts, {"table": read}),
        "prediction": (prediction, {"asked": held_out_texts.load()}),
        "my texts": (own_texts, {"texts": inputs.texts}),
    }
    identity, parts = encoding.identity(found.name), {}
    for name, (function, options) in work.items():
        options = {**options, "seed": seed}
        plain = {k: _plain(v) for k, v in options.items()} | found.how.key()
        key = json.dumps([VERSION, BITS, TOKENS, SPREAD, identity, name, plain])
        place = Path(folder) / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        why = CANNOT[found.kind].get(name) or inputs.missing.get(name, "")
        parts[name] = Part(function, options, place, why)
    return parts


def measure(
    found: model_kinds.Look,
    inputs: signal_inputs.Inputs,
    *,
    only: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
    **sizes: Any,
) -> dict[str, dict[str, Any]]:
    """Measure what the inputs allow of one model, and return signal -> raw numbers.

    No model makes it raise; `storage.CannotWrite` comes where a result cannot be kept, and
    `ValueError` for an unknown name in `only`, the signals wanted, all by default. `sizes` are the
    options of `plan`; `progress` gets each signal that is done.

    Each value has `status`, "computed", "cannot" or "not asked", with `why`, and `seconds` on the
    CPU without loading; "facts" and the rest hold what the functions below return. Under "model"
    stand `kind`, `parameters` and `note`. Raw numbers are kept in `folder`, by default `your_model`
    in the cache, under a key of the model's files and all settings, so that a second run reads
    them. A model that cannot be loaded has the reason under every signal.

    >>> from helpers.synthesis import look, measure, read_inputs
    >>> found = measure(look("./nowhere"), read_inputs())
    >>> found["map"]["status"], found["map"]["why"]
    ('refused', "'./nowhere' is no file or folder here, and no name on the hub; correct the name")
    """
    for name in only:
        validation.choice(name, tuple(SIGNALS), "signals")
    reader = Reader(found)
    status, why = "refused", f"{found.reason}; {found.cure}"
    if found.kind in model_kinds.KINDS:
        try:
            parts, why = plan(found, inputs, **sizes), ""
        except models.FAILURES as error:
            # Texts that are not there are no fault of the model.
            status = "cannot" if type(error) is ValueError else "refused"
            why = signal_inputs.sentence(error)
    if why:
        return {name: {"status": status, "why": why} for name in ("model", *SIGNALS)}
    wanted = {"model", *(only or SIGNALS)} | ({"facts"} if "corpus" in only else set())
    results: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        kind = results.get("model", {}).get("kind", found.kind)
        if name not in wanted:
            results[name] = {"status": "not asked", "why": "it is not among `signals`"}
        elif why := CANNOT[kind].get(name) or part.why:
            results[name] = {"status": "cannot", "why": why}
        else:
            results[name] = _kept(part.place, reader, part.function, part.options)
            if progress:
                progress(name)
        if name == "model" and results[name]["status"] != "computed":
            return {n: {**results[name], "status": "refused"} for n in ("model", *SIGNALS)}
    results["corpus"] = _corpus(results["facts"], inputs)
    if only and "corpus" not in only:
        results["corpus"] = {"status": "not asked", "why": "it is not among `signals`"}
    return results


def _corpus(found: Mapping[str, Any], inputs: signal_inputs.Inputs) -> dict[str, Any]:
    if found["status"] != "computed" or "corpus" in inputs.missing:
        return {"status": "cannot", "why": found["why"] or inputs.missing["corpus"]}
    return {**found, "seconds": 0.0}


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return hashlib.sha256(value.to_csv().encode()).hexdigest()
    if isinstance(value, held_out_texts.HeldOut):
        return _plain(value.every_text)
    if isinstance(value, list):
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()
    return value


def _kept(
    place: Path, reader: Reader, function: Callable[..., dict[str, Any]], options: dict[str, Any]
) -> dict[str, Any]:
    if (found := storage.stored(place)) is not None:
        return found
    try:
        loaded = reader()
        start = time.process_time()
        found = function(loaded, **options)
        _check_finite(found)
    except models.FAILURES as error:
        return {"status": "cannot", "why": signal_inputs.sentence(error), "seconds": 0.0}
    found |= {"status": "computed", "why": "", "seconds": time.process_time() - start}
    storage.store(place, found)
    # As JSON gives it back: a first run says what a later one reads.
    return json.loads(json.dumps(found))


def _check_finite(found: Mapping[str, Any]) -> None:
    """Refuse numbers that are NaN or infinite, which JSON has not."""
    try:
        json.dumps(found, allow_nan=False)
    except ValueError:
        raise ValueError(
            "its numbers are not finite (NaN or infinite); repair its weights"
        ) from None


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
    middle = categories_of(half, label, n_shuffles=0, seed=seed)["skill"]
    found = categories_of(end, label, n_shuffles=n_shuffles, seed=seed)
    control = entities.spelling_control(texts, seed=seed)
    spelling = categories_of(control, label, n_shuffles=0, seed=seed)["skill"]
    return found | {"middle": float(np.mean(middle)), "layer": last, "spelling": spelling}


def categories_of(
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
            null = chance.permutation_null(vectors, label, n_shuffles=n_shuffles, seed=seed)
            result |= {"null": (null.scores - found.chance).tolist(), "p_value": null.p_value}
    return result


def controls(table: pd.DataFrame, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return `categories_of` for spelling and for noise on the same entities, without shuffles."""
    texts = list(table["text"])
    made = {
        "spelling alone": entities.spelling_control(texts, seed=seed),
        "noise": entities.noise_control(len(texts), 64, seed),
    }
    return {
        name: categories_of(x, table["label"], n_shuffles=0, seed=seed) for name, x in made.items()
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
