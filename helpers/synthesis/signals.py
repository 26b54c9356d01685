"""Every signal of the book that the inputs allow, for one model: measured once and kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from helpers import data, encoding, factbook, models, storage, text_sets, validation
from helpers.modelmap import held_out_texts
from helpers.synthesis import model_kinds, signal_inputs
from helpers.synthesis import single_signals as one

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
# What each kind of model can be asked, where all inputs are there.
ANSWERED = {kind: frozenset(SIGNALS) - set(why) for kind, why in one.CANNOT.items()}


class _Reader:
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


class _Part(NamedTuple):
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
) -> dict[str, _Part]:
    """Return what `measure` does for a model, by signal, without "corpus", which takes no reading.

    Raises `ValueError`, or what a damaged model does, where nothing can be measured.
    """
    folder = folder or data.cache_folder() / "your_model"
    facts_asked = inputs.facts[signal_inputs.FACTS] if len(inputs.facts) else inputs.facts
    # Read before a clock runs: finding these texts is no part of a signal's price.
    read, sentences = text_sets.load_texts(n_texts), factbook.draw_sentences(n_sentences)
    work: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
        "model": (one.about, {}),
        "categories": (one.categories, {"table": inputs.entities, "n_shuffles": n_shuffles}),
        "latent space": (one.latent_space, {"sentences": sentences, "n_groups": n_groups}),
        "facts": (one.facts, {"table": facts_asked}),
        "map": (one.map_texts, {"table": read}),
        "prediction": (one.prediction, {"asked": held_out_texts.load()}),
        "my texts": (one.own_texts, {"texts": inputs.texts}),
    }
    identity, parts = encoding.identity(found.name), {}
    for name, (function, options) in work.items():
        options = {**options, "seed": seed}
        plain = {k: _plain(v) for k, v in options.items()} | found.how.key()
        key = json.dumps([VERSION, one.BITS, one.TOKENS, one.SPREAD, identity, name, plain])
        place = Path(folder) / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        why = one.CANNOT[found.kind].get(name) or inputs.missing.get(name, "")
        parts[name] = _Part(function, options, place, why)
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
    reader = _Reader(found)
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
        elif why := one.CANNOT[kind].get(name) or part.why:
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
        return storage.digest(value)
    return value


def _kept(
    place: Path, reader: _Reader, function: Callable[..., dict[str, Any]], options: dict[str, Any]
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
