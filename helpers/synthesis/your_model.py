"""All signals of a reader's models in one run, with its results as files.

`before-ft judge FOLDER hub/name file.gguf --text` does without the page what
`synthesis/your_model` does.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pandas as pd

from helpers import encoding, models, progress, results, storage, validation
from helpers.synthesis import model_kinds, signal_inputs, signal_report, signals

# Seconds of loading for each weight, most of them for GGUF files.
_LOADING = 1e-7
# Operations of a fit of ALP, for each entity, shuffling and squared width.
_FITTING = 2.2e2


class Run(NamedTuple):
    """What was measured: looks and raw numbers by title, the tidy table, and how it was asked."""

    looks: dict[str, model_kinds.Look]
    found: dict[str, dict[str, Any]]
    table: pd.DataFrame
    settings: dict[str, Any]


def limited(limit: int, **sizes: int) -> dict[str, int]:
    """Return sizes of a run with at most `limit` items each, all of them for 0.

    No size goes below what its signal needs: 10 entities of a label, 40 sentences, and 8 texts,
    whose number is a multiple of 8. Raises `ValueError` for a negative limit.
    """
    validation.counts(limit=(limit, 0))
    if not limit:
        return sizes
    least = {"n_per_label": signal_inputs.LEAST, "n_sentences": 40, "n_texts": 8, "most_texts": 3}
    cut = {name: min(n, max(limit, least.get(name, 1))) for name, n in sizes.items()}
    if "n_texts" in cut:
        cut["n_texts"] = min(sizes["n_texts"], -(-cut["n_texts"] // 8) * 8)
    return cut


def _estimate(
    looks: Mapping[str, model_kinds.Look],
    inputs: signal_inputs.Inputs,
    *,
    only: Sequence[str] = (),
    **sizes: Any,
) -> pd.DataFrame:
    """Return about how many seconds each signal of each model will take; 0 for what is kept.

    From the number of weights, the texts to read, and a short product of matrices on this machine.
    It may be wrong by a factor of 3. Models that are refused have no row.
    """
    rows: dict[str, dict[str, float]] = {}
    for title, found in looks.items():
        if found.kind not in model_kinds.KINDS:
            continue
        try:
            parts = signals.plan(found, inputs, **sizes)
        except models.FAILURES:
            continue
        n_weights = found.parameters or 22_000_000
        for name, part in parts.items():
            asked = name == "model" or not only or name in only
            if not asked or part.why or storage.stored(part.place) is not None:
                continue
            tokens = _tokens(name, part.options, found.kind)
            # The width of a model goes about with the root of its weights.
            fits = (part.options.get("n_shuffles", -2) + 2) * len(inputs.entities)
            seconds = progress.reading(n_weights, tokens) + 0.4
            seconds += fits * 0.005 * n_weights * _FITTING / progress.speed()
            seconds += (name == "model") * n_weights * _LOADING
            rows.setdefault(title, {})[name] = seconds
    return pd.DataFrame(rows).T.reindex(columns=["model", *signals.SIGNALS]).fillna(0.0)


def _tokens(name: str, options: Mapping[str, Any], kind: str) -> float:
    """Return about how many tokens a signal reads, four bytes each."""
    if name == "facts":
        table = options["table"]
        answers = table["choices"].map(lambda row: sum(map(len, row)))
        prompts = table["prompt"].str.len() * (table["choices"].map(len) if kind == "masked" else 1)
        return float((answers + prompts).sum()) / 4
    texts: list[str] = {
        "categories": lambda: list(options["table"]["text"]),
        "latent space": lambda: list(options["sentences"]),
        "map": lambda: list(options["table"]["text"]),
        "prediction": lambda: options["asked"].every_text,
        "my texts": lambda: list(options["texts"]),
    }.get(name, list)()
    sizes = np.array([len(text.encode()) / 4 for text in texts])
    again = kind == "masked" and name in ("prediction", "my texts")
    return float((sizes**2 if again else sizes).sum())


def measure(
    looks: Mapping[str, model_kinds.Look],
    inputs: signal_inputs.Inputs,
    *,
    known: signal_report.References,
    only: Sequence[str] = (),
    log: Path | None = None,
    stream: TextIO | None = None,
    n_resamples: int = 1000,
    settings: Mapping[str, Any] | None = None,
    **sizes: Any,
) -> Run:
    """Measure all models, with an estimate before and progress meanwhile, on `stream`.

    `looks` maps titles to what `model_kinds.look` found; `only` and `sizes` are those of
    `signals.measure`. `stream` is standard output by default; `log`, a file, gets every step too.
    `settings` says more of how the inputs were made, for the run's files.
    """
    for name in only:
        validation.choice(name, tuple(signals.SIGNALS), "signals")
    costs = _estimate(looks, inputs, only=only, **sizes)
    total = float(costs.to_numpy().sum())
    stream = stream or sys.stdout
    # A model of which everything is kept has no row of costs either.
    readable = any(look.kind in model_kinds.KINDS for look in looks.values())
    told = _estimate_words(costs, total) if readable else "no model can be read"
    print(told, file=stream, flush=True)
    found: dict[str, dict[str, Any]] = {}
    with progress.shown(max(total, 1e-9), "s", stream=stream, log=log) as step:
        for title, look in looks.items():

            def told(signal: str, title: str = title) -> None:
                amount = costs.loc[title, signal] if title in costs.index else 0.0
                if amount:
                    step(f"{title}: {signal}", float(amount))

            found[title] = signals.measure(look, inputs, only=only, progress=told, **sizes)
    options = {"n_resamples": n_resamples, "seed": sizes.get("seed", 0)}
    tables = [signal_report.tidy(t, raw, inputs, known, **options) for t, raw in found.items()]
    asked = {**(settings or {}), **sizes, "signals": list(only), "n_resamples": n_resamples}
    asked.pop("folder", None)
    return Run(dict(looks), found, signal_report.joined(tables), asked)


def _estimate_words(costs: pd.DataFrame, total: float) -> str:
    if not total:
        return "everything is kept from before; nothing is measured again"
    longest = costs.stack().idxmax()
    return (
        f"estimated time without a GPU: {progress.duration(total)}, by weights, texts and the "
        f"speed of this machine, right within a factor of 3; longest: {longest[1]} of {longest[0]}"
    )


def _digests(inputs: signal_inputs.Inputs) -> dict[str, str]:
    """Return a digest of each kind of input, by which two runs can be seen to ask the same."""
    tables = {"entities": inputs.entities, "corpus": inputs.facts}
    tables["facts"] = inputs.facts.reindex(columns=signal_inputs.FACTS)
    texts = {name: table.to_csv(index=False) for name, table in tables.items()}
    texts["texts"] = json.dumps(inputs.texts)
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}


def report(run: Run, inputs: signal_inputs.Inputs, ranks: pd.DataFrame | None = None) -> dict:
    """Return a run as what JSON can hold: models with their digests and measures, and inputs."""
    rows = run.table.rename(columns={"why": "reason"}).to_dict("records")
    made = []
    for title, look in run.looks.items():
        raw, hub_name = run.found[title], look.name if look.form == "hub" else ""
        about = raw["model"]
        read = about["status"] == "computed"
        made.append(
            {
                "model": title,
                "source": hub_name.partition("@")[0] or look.name,
                "revision": hub_name.partition("@")[2],
                "digest": encoding.identity(look.name) if read else "",
                "kind": about.get("kind", look.kind),
                "form": look.form,
                "architecture": look.architecture,
                **{k: about.get(k) for k in ("parameters", "layers", "width", "dtype", "device")},
                "status": about["status"],
                "reason": about["why"],
                "signals": [
                    {"signal": s, **{k: raw[s].get(k) for k in ("status", "why", "seconds")}}
                    for s in signals.SIGNALS
                ],
                "measures": [
                    {k: v for k, v in row.items() if k != "model"} | {"status": "computed"}
                    for row in rows
                    if row["model"] == title
                ],
            }
        )
    return results.head(run.settings) | {
        "inputs": {"own": sorted(inputs.own), "missing": inputs.missing, **_digests(inputs)},
        "models": made,
        "ranking": [] if ranks is None else ranks.reset_index().to_dict("records"),
    }


def write(
    folder: Path, run: Run, inputs: signal_inputs.Inputs, ranks: pd.DataFrame | None = None
) -> list[Path]:
    """Write `results.json`, `results.csv` and, with a ranking, `ranking.csv`; return their paths.

    Each is written whole or not at all; raises `storage.CannotWrite`.
    """
    tables = {"results.csv": run.table.to_csv(index=False)}
    if ranks is not None and len(ranks):
        tables["ranking.csv"] = ranks.to_csv()
    files = results.write(folder, report(run, inputs, ranks), tables)
    if "ranking.csv" not in tables:
        (folder / "ranking.csv").unlink(missing_ok=True)
    return files


def own_references(
    known: signal_report.References,
    paths: Sequence[str],
    inputs: signal_inputs.Inputs,
    n_sentences: int,
) -> signal_report.References:
    """Return references with the models of earlier runs beside the book's.

    `paths` are files `results.json`, or folders with one. Values join only where the same was
    asked: entities, facts, counts and texts of the same digest, as many sentences; answers to facts
    stand beside those of the same kind of model only. Raises `ValueError` for a file that is not
    there or was not written by `write`.
    """
    rows, here = [], _digests(inputs)
    for path in paths:
        file = Path(path).expanduser()
        file = file / "results.json" if file.is_dir() else file
        try:
            whole = json.loads(file.read_text(encoding="utf-8"))
            if whole["schema"] != results.SCHEMA:
                raise ValueError(f"its schema is {whole['schema']}, not {results.SCHEMA}")
            same = {k: whole["inputs"][k] == here[k] for k in here}
            alike = {
                "categories": same["entities"],
                "latent space": whole["settings"]["n_sentences"] == n_sentences,
                "facts": same["facts"],
                "corpus": same["corpus"],
                "my texts": same["texts"],
                "prediction": True,
            }
            rows += [
                {"signal": m["signal"], "measure": m["key"], "model": one["model"]}
                | {"value": float(m["value"]), "kind": one["kind"]}
                for one in whole["models"]
                for m in one["measures"]
                if alike.get(m["signal"]) and m["value"] is not None
            ]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"references {str(file)!r} could not be read ({models.first_line(error)}); pass "
                "results.json of an earlier run, or its folder"
            ) from error
    columns = ["signal", "measure", "model", "value", "kind"]
    return known._replace(own=pd.DataFrame(rows, columns=columns))
