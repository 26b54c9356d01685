"""One row of geometry and task scores for one model, and sweeps of such rows that can resume."""

from __future__ import annotations

import hashlib
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.command import Written, command, digest, kept, option, parts
from helpers import (
    data,
    decoders,
    devices,
    encoding,
    factbook,
    factbook_tasks,
    glue,
    injection,
    likelihood,
    model_files,
    model_sources,
    models,
    probing,
)
from helpers.geometry import quantization, quantizers, spread
from helpers.posterior import transferability

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 1
QUANTIZERS = {"pq": "pq", "km": "kmeans"}
# Percent of noise in the sweep of the book.
LEVELS = {
    "published": (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 50, 100),
    "relative": (10, 20, 30, 50, 70, 100),
}
GLUE = ("sst2", "mrpc", "rte", "cola", "stsb", "qnli")
REPLICATES = {"full": {"published": 3, "relative": 3}, "small": {"published": 1}}
# A stop at any time leaves levels far apart; scores move below 8 %, so these are drawn again.
BASE_LEVELS = (0, 4, 20, 2, 8, 3, 1, 6, 100, 5, 10, 50, 15)
BASE_AGAIN = (3, 2, 4, 1, 6, 5)
LABELS = {
    "lloyd_index": "patchiness, additive (AQ)",
    "pq_lloyd_index": "patchiness, product (PQ)",
    "km_lloyd_index": "patchiness, flat k-means",
    "count_variance": "cell-count variance (AQ)",
    "count_kl": "cell-count KL (AQ)",
    "empty_cells": "empty cells (AQ)",
    "point_eee": "EEE inside cells (AQ)",
    "error": "reconstruction error (AQ)",
    "pq_error": "reconstruction error (PQ)",
    "iqr": "residual IQR (AQ)",
    "skew": "residual skew (AQ)",
    "eee": "EEE",
    "vrm": "VRM",
    "isoscore": "IsoScore",
    "rankme": "RankMe",
    "mean_cosine": "mean cosine",
    "twonn": "intrinsic dimension",
    "between_share": "between-sentence share",
    "log_me": "LogME",
    "log_perplexity": "ln(perplexity)",
    "dose": "ln(noise-to-signal)",
}
TASKS = {
    "task_sst2": "SST-2",
    "task_mrpc": "MRPC",
    "task_rte": "RTE",
    "task_cola": "CoLA",
    "task_stsb": "STS-B",
    "task_qnli": "QNLI",
    "task_section": "section",
    "task_word_order": "word order",
    "task_same_field": "same field",
    "task_region": "region",
}
# What a row of the book's tables is measured on.
FEW = {"n_sentences": 500, "bits": 5, "n_train": 200, "n_test": 200}
SIZES = {
    "full": {"tasks": GLUE, "n_sentences": 5000, "bits": 8, "n_train": 400, "n_test": 300},
    "small": {"tasks": factbook_tasks.NAMES, **FEW},
    "base": {"tasks": ("sst2", "cola", "stsb"), **FEW},
}


def task_row(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    tasks: Sequence[glue.Task],
    *,
    n_train: int = 400,
    n_test: int | None = 300,
) -> dict[str, float]:
    """Return the task scores of `encoder_row`, their mean and LogME. Raises as `probing`."""
    row, evidence = {}, []
    for task in tasks:
        found = probing.probe_features(model, tokenizer, task, n_train=n_train, n_test=n_test)
        row[f"task_{task.name}"] = probing.probe_score(task, found)
        if task.kind != "regression":
            evidence.append(transferability.log_me(found.X_train, found.y_train))
    row["score"] = float(np.mean([row[f"task_{task.name}"] for task in tasks]))
    row["log_me"] = float(np.mean(evidence)) if evidence else np.nan
    return row


def cloud_row(
    points: np.ndarray, n_sentences: int, *, bits: int = 8, seed: int = 0
) -> dict[str, float]:
    """Return the geometry of `encoder_row` for a cloud with as many tokens of each sentence.

    `points` has shape (n_sentences * tokens, width), sentence after sentence. Raises as
    `quantization.measure_cloud`.
    """
    shared = {"bits": bits, "seed": seed}
    row = {"points": len(points), **quantization.measure_cloud(points, per_cell=True, **shared)}
    row["between_share"] = spread.between_share(
        points, np.repeat(np.arange(n_sentences), len(points) // n_sentences)
    )
    for prefix, quantizer in QUANTIZERS.items():
        codes, error = quantizers.quantize(points, quantizer=quantizer, **shared)
        counts = quantization.cell_counts(codes, 2**bits)
        row |= {f"{prefix}_lloyd_index": quantization.lloyd_index(counts), f"{prefix}_error": error}
    return row


def noise_seed(level: float, replicate: int) -> int:
    """Return the seed of one noisy model, so that levels and replicates are independent."""
    return int(hashlib.sha256(f"{level:g} {replicate}".encode()).hexdigest()[:8], 16)


def collect_rows(
    settings: Iterable[Mapping[str, Any]],
    measure: Callable[..., Mapping[str, float]] | None,
    folder: Path,
    *,
    key: Mapping[str, Any],
) -> pd.DataFrame:
    """Return one row per setting, each computed once and kept in a folder: a run can resume.

    `measure(**setting)` returns a flat mapping of numbers; the row is the setting joined with it.
    A row is a JSON file that takes its name when it is whole. The name is the SHA-256 sum of the
    setting and of `key`, which must hold all else that determines the row. A damaged file is made
    again. Without `measure` the rows kept are returned, and the others left out. Raises what
    `measure` raises; rows finished before stay.
    """

    def timed(setting: Mapping[str, Any]) -> dict[str, Any]:
        start = time.process_time()
        return {**setting, **measure(**setting), "cpu_seconds": time.process_time() - start}

    rows = []
    for setting in map(dict, settings):
        path = Path(folder) / f"{digest(VERSION, setting, dict(key))}.json"
        rows.append(kept(path, measure and partial(timed, setting), f"{setting}"))
    return pd.DataFrame([row for row in rows if row is not None])


def settings_of(rule: str, levels: Sequence[float], replicates: int) -> list[dict[str, Any]]:
    """Return the settings of a sweep, one per model: all levels of one replicate, then the next."""
    return [
        {"rule": rule, "level": float(level), "replicate": replicate}
        for replicate in range(replicates)
        for level in levels
    ]


def _plan(size: str) -> list[dict[str, Any]]:
    """Return the settings of the book's sweep of a size; those of "base" may stop at any of them.

    Of "base" every level comes once, the levels far apart first, then the levels at which scores
    move twice more.
    """
    if size == "base":
        again = settings_of("published", BASE_AGAIN, 3)[len(BASE_AGAIN) :]
        return settings_of("published", BASE_LEVELS, 1) + again
    return [
        setting
        for rule, replicates in REPLICATES[size].items()
        for setting in settings_of(rule, LEVELS[rule], replicates)
    ]


def tasks_of(size: str) -> list[glue.Task]:
    """Return the tasks of a size: the GLUE tasks available, or those made from the Factbook.

    Raises `ValueError` for an unknown size and `DataError` when GLUE files are not there.
    """
    return [glue.load_task(name) for name in SIZES[size]["tasks"]]


def encoder_row(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    *,
    size: str = "full",
    tasks: Sequence[glue.Task] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Measure the latent space of one encoder and its score on each task by a frozen probe.

    Three tokens drawn from each of the sentences give the cloud (`encoding.token_vectors`), on
    which `quantization.measure_cloud` works with the additive quantizer. To its measures come
    `between_share` (share of variance between sentences), the Lloyd index and reconstruction error
    of a product quantizer (`pq_`) and of flat k-means (`km_`), and the number of points. Each task
    adds `task_NAME`, its score by `probing.probe_score`; `score` is their plain mean, as in the
    paper, and `log_me` the mean LogME of the same features over the tasks with classes. `seed`
    draws the tokens and starts the quantizers; the probes always draw the same training rows.

    Only rows of one size can be compared. "full": 15,000 tokens of 5,000 sentences, 256 cells, the
    GLUE tasks; "small": 1,500 tokens of 500 sentences, 32 cells, tasks made from the World
    Factbook; "base", for encoders that are slow here: the cloud of "small" and three GLUE tasks of
    200 rows. Pass `tasks`, from `tasks_of`, to read them once for many models. Raises as the
    functions named. Source: Marbut et al. (2024), released code, with frozen probes in place of
    fine-tuning.
    """
    tasks, how = tasks_of(size) if tasks is None else tasks, SIZES[size]
    sentences = factbook.draw_sentences(how["n_sentences"])
    options = {"tokens_per_sentence": 3, "seed": seed}
    points = encoding.token_vectors(model, tokenizer, sentences, **options)
    row = cloud_row(points, len(sentences), bits=how["bits"], seed=seed)
    numbers = {name: how[name] for name in ("n_train", "n_test")}
    return row | task_row(tokenizer, model, tasks, **numbers)


def _perplexity_texts() -> list[str]:
    return factbook.draw_sentences(200, seed=5)


def log_perplexity(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, batch_tokens: int | None = None
) -> float:
    """Return ln(perplexity) of a causal model on 200 Factbook sentences, the same for all models.

    `batch_tokens` and errors are those of `likelihood.score_texts`.
    """
    scores = likelihood.score_texts(
        model, tokenizer, _perplexity_texts(), batch_tokens=batch_tokens
    )
    return float(np.log(likelihood.perplexity(scores)))


def noise_rows(
    name_or_path: str | Path,
    settings: Sequence[Mapping[str, Any]],
    *,
    size: str = "full",
    folder: Path | None = None,
    allow_bin: bool = False,
    so_far: bool = False,
    how: devices.How = devices.DEFAULT,
) -> pd.DataFrame:
    """Return `encoder_row` of a model with noise, one row per setting, so that it can resume.

    `settings` are those of `settings_of`; a row adds `size` and `noise_to_signal`
    (`injection.inject_noise`), and for a causal language model `log_perplexity`.
    The tokens and the quantizers are drawn by
    the number of the replicate, the noise by level and replicate. Rows are kept in `folder`, by
    default `geometry` in the cache folder; with `so_far` those kept are returned and no other
    computed. `allow_bin` is that of `models.source`, and `how` says where the model is read. Raises
    as the functions named.
    """
    name_or_path = models.pinned(name_or_path)
    if not so_far:
        tokenizer, model = how.load(models.load_model, name_or_path, allow_bin=allow_bin)
    tasks = tasks_of(size)

    def measure(rule: str, level: float, replicate: int) -> dict[str, float]:
        seed = noise_seed(level, replicate)
        noisy, ratio = injection.inject_noise(model, level, rule=rule, seed=seed)
        row = encoder_row(tokenizer, noisy, size=size, tasks=tasks, seed=replicate)
        if decoders.is_causal(noisy):
            row["log_perplexity"] = log_perplexity(tokenizer, noisy, how.batch_tokens)
        return {"size": size, "noise_to_signal": ratio, **row}

    key = {
        "model": encoding.identity(name_or_path),
        "size": SIZES[size],
        "tasks": [
            digest(t.name, t.train.to_json(), t.test.to_json(), t.kind, t.metric) for t in tasks
        ],
        "sentences": digest(*factbook.draw_sentences(SIZES[size]["n_sentences"])),
        "perplexity": digest(*_perplexity_texts()),
        "quantizers": QUANTIZERS,
        **how.key(),
    }
    folder = folder or data.cache_folder() / "geometry"
    maker = None if so_far else measure
    return collect_rows(settings, maker, folder, key=key)


@command(
    "noise_sweep",
    option("table", type=Path, help="the CSV file to write"),
    option("--encoder", default=models.MINILM, help="folder, package or hub name"),
    option("--sizes", nargs="+", default=list(REPLICATES), choices=list(SIZES)),
    option("--so-far", action="store_true", help="write the rows kept, compute none"),
    model_sources.add_arguments,
    partial(devices.add_arguments, tokens=False),
    parts("computes every k-th row"),
)
def main(given: Namespace) -> Written:
    """Run the book's sweeps, or a part of them, and write their table when all rows are there.

    The exit code is 2 when the model cannot be read.
    """
    run = {"allow_bin": given.allow_bin, "so_far": given.so_far}
    settings = {size: _plan(size) for size in given.sizes}
    try:
        run["how"] = devices.given(given)
        encoder = models.pinned(model_sources.at_revision(given.encoder, given.revision))
        for size, rows in settings.items():
            noise_rows(encoder, rows[given.part], size=size, **run)
        tables = [noise_rows(encoder, rows, size=size, **run) for size, rows in settings.items()]
    except models.FAILURES as error:  # other people's files raise what they like
        print(f"nothing written: {model_files.sentence(error)}", file=sys.stderr)
        return 2
    return [(given.table, pd.concat(tables).round(6).to_csv(index=False))]
