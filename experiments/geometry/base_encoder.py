"""MPNet with noise: clouds of two sources measured twice at 256 cells, and five other encoders."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from itertools import compress, product
from pathlib import Path

import pandas as pd

from experiments.geometry import noise_reliability, noise_sweep, noise_tables, wikitext
from experiments.synthesis import glass_box_runs
from helpers import data, encoding, factbook, model_edits, models, stats, storage
from helpers.injection import inject_noise

SWEEPS = {
    "MPNet": data.PUBLISHED / "geometry_noise_base.csv",
    "MiniLM": data.PUBLISHED / "geometry_noise_base_minilm.csv",
}
CLOUDS = data.PUBLISHED / "geometry_base_clouds.csv"
MAKES = data.PUBLISHED / "geometry_makes.csv"
# Far apart first: a run may stop at any of them.
LEVELS = (0, 3, 20, 1, 8, 2, 5)
N_SENTENCES = 500
# The cloud of the sweep, and 5,000 points of two sources at the 256 cells of the paper.
KINDS: dict[str, tuple[Callable[[int], list[str]], dict[str, int]]] = {
    "as in the sweep": (factbook.draw_sentences, {"tokens": 3, "bits": 5}),
    "Factbook": (factbook.draw_sentences, {"tokens": 10, "bits": 8}),
    "WikiText-2": (wikitext.sentences, {"tokens": 10, "bits": 8}),
}
GLASS_BERT = "bert-128x2-even-0-step8192"


def load_sweeps() -> pd.DataFrame:
    """Return the stored sweeps of both encoders, with the columns `encoder` and `dose`."""
    tables = {name: pd.read_csv(path) for name, path in SWEEPS.items()}
    return pd.concat(tables, names=["encoder"]).reset_index("encoder")


def difference(
    noisy: pd.DataFrame, measure: str, *, n_resamples: int = 1000, seed: int = 0
) -> stats.Correlation:
    """Return r(measure, score) in MPNet minus that in MiniLM, whole noise levels resampled.

    `noisy` are the noisy rows of `load_sweeps`; both encoders have the same levels and replicates.
    """
    key = ["level", "replicate"]
    wide = noisy.pivot(index=key, columns="encoder", values=[measure, "score"])

    def gap(rows: pd.DataFrame) -> float:
        one, other = (rows[measure, name].corr(rows["score", name]) for name in SWEEPS)
        return one - other

    wide["group"] = wide.index.get_level_values("level")
    return noise_tables.resampled(wide, gap, "group", n_resamples=n_resamples, seed=seed)


def cloud_rows(
    folder: Path,
    levels: Sequence[float] = LEVELS,
    *,
    encoder: str = models.MPNET,
    n_sentences: int = N_SENTENCES,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Return the geometry of noisy encoders on the clouds of `KINDS`, each measured twice.

    One row per level, cloud and draw, with the columns of `noise_reliability.repeated_rows`; the
    models are those of replicate 0 of the sweep. The rows of a level and a cloud are kept in
    `folder`, so that a stopped run goes on.
    """
    tokenizer, model = models.load_encoder(encoder)
    parts = []
    for level, (cloud, (draw_sentences, shape)) in product(levels, KINDS.items()):
        drawn = draw_sentences(2 * n_sentences)
        long = [len(ids) >= shape["tokens"] for ids in tokenizer(drawn)["input_ids"]]
        sentences = list(compress(drawn, long))[:n_sentences]
        key = json.dumps([noise_sweep.VERSION, encoding.identity(encoder), level, sentences, shape])
        path = folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        rows = storage.stored(path)
        if rows is None:
            noisy, _ = inject_noise(model, level, seed=noise_sweep.noise_seed(level, 0))
            found = noise_reliability.repeated_rows(tokenizer, noisy, sentences=sentences, **shape)
            rows = found.assign(level=level, cloud=cloud).to_dict("records")
            storage.store(path, rows)
            if progress is not None:
                progress(f"{level:g} %, {cloud}")
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


def make_rows(folder: Path, progress: Callable[[str], None] | None = None) -> pd.DataFrame:
    """Return `noise_sweep.encoder_row` at the size "base" of five encoders of different make.

    Each row is kept in `folder`, so that a stopped run goes on.
    """
    minilm = models.load_encoder(models.MINILM)
    glass = glass_box_runs.stored_tokenizer()
    encoders = {
        "MiniLM, 6 layers": lambda: minilm,
        "MiniLM, 3 layers": lambda: models.load_encoder(models.MINILM_L3),
        "MPNet, 12 layers": lambda: models.load_encoder(models.MPNET),
        "glass-box BERT": lambda: (glass, glass_box_runs.load_named(GLASS_BERT, glass).base_model),
        "untrained MiniLM": lambda: (minilm[0], model_edits.untrained(minilm[1], 0)),
    }
    tasks = noise_sweep.tasks_of("base")

    def measure(encoder: str) -> dict[str, float]:
        return noise_sweep.encoder_row(*encoders[encoder](), size="base", tasks=tasks)

    plan, key = [{"encoder": name} for name in encoders], {"makes": GLASS_BERT}
    return noise_sweep.collect_rows(plan, measure, folder, key=key, progress=progress)


def main(words: Sequence[str] | None = None) -> int:
    """Measure clouds of MPNet twice, and five encoders of different make; half an hour of CPU."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments base_encoder", description=main.__doc__
    )
    parser.add_argument("what", choices=["clouds", "makes"])
    parser.add_argument("--levels", nargs="+", type=float, default=LEVELS)
    given = parser.parse_args(words)

    def told(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    folder = data.cache_folder() / "geometry"
    if given.what == "clouds":
        path, table = CLOUDS, cloud_rows(folder, given.levels, progress=told)
    else:
        path, table = MAKES, make_rows(folder, told)
    data.write_atomically(path, table.round(6).to_csv(index=False))
    return 0
