"""MPNet with noise: clouds of two sources measured twice at 256 cells, and five other encoders."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from itertools import compress, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.command import Written, command, digest, kept, option
from experiments.geometry import noise_reliability, noise_sweep, noise_tables, wikitext
from experiments.synthesis import glass_box_runs
from helpers import data, encoding, factbook, model_edits, models, stats
from helpers.injection import inject_noise

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SWEEPS = {
    "MPNet": data.PUBLISHED / "geometry_noise_base.csv",
    "MiniLM": data.PUBLISHED / "geometry_noise_base_minilm.csv",
}
CLOUDS = data.PUBLISHED / "geometry_base_clouds.csv"
MAKES = data.PUBLISHED / "geometry_makes.csv"
_LEVELS = (0, 3, 20, 1, 8, 2, 5)
_N_SENTENCES = 500
# The cloud of the sweep, and 5,000 points of two sources at the 256 cells of the paper.
KINDS: dict[str, tuple[Callable[[int], list[str]], dict[str, int]]] = {
    "as in the sweep": (factbook.draw_sentences, {"tokens": 3, "bits": 5}),
    "Factbook": (factbook.draw_sentences, {"tokens": 10, "bits": 8}),
    "WikiText-2": (wikitext.sentences, {"tokens": 10, "bits": 8}),
}
_GLASS_BERT = "bert-128x2-even-0-step8192"


def load_sweeps() -> pd.DataFrame:
    """Return the stored sweeps, with `encoder` and `dose`, the logarithm of the noise ratio."""
    tables = {name: pd.read_csv(path) for name, path in SWEEPS.items()}
    both = pd.concat(tables, names=["encoder"]).reset_index("encoder").reset_index(drop=True)
    return both.assign(dose=np.log(both["noise_to_signal"].where(both["level"] > 0)))


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


def _repeats(
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    level: float,
    sentences: Sequence[str],
    shape: dict[str, int],
) -> list[dict[str, Any]]:
    noisy, _ = inject_noise(model, level, seed=noise_sweep.noise_seed(level, 0))
    found = noise_reliability.repeated_rows(tokenizer, noisy, sentences=sentences, **shape)
    return found.to_dict("records")


def cloud_rows(
    folder: Path,
    levels: Sequence[float] = _LEVELS,
    *,
    encoder: str = models.MPNET,
    n_sentences: int = _N_SENTENCES,
) -> pd.DataFrame:
    """Return the geometry of noisy encoders on the clouds of `KINDS`, each measured twice.

    One row per level, cloud and draw, with the columns of `noise_reliability.repeated_rows`; the
    models are those of replicate 0 of the sweep. The rows of a level and a cloud are kept in
    `folder`, so that a stopped run goes on.
    """
    tokenizer, model = models.load_model(encoder)
    identity, parts = encoding.identity(encoder), []
    for level, (cloud, (draw_sentences, shape)) in product(levels, KINDS.items()):
        drawn = draw_sentences(2 * n_sentences)
        long = [len(ids) >= shape["tokens"] for ids in tokenizer(drawn)["input_ids"]]
        sentences = list(compress(drawn, long))[:n_sentences]
        name = digest(noise_sweep.VERSION, identity, level, sentences, shape)
        make = partial(_repeats, tokenizer, model, level, sentences, shape)
        rows = kept(folder / f"{name}.json", make, f"{level:g} %, {cloud}")
        parts.append(pd.DataFrame(rows).assign(level=level, cloud=cloud))
    return pd.concat(parts, ignore_index=True)


def _make_rows(folder: Path) -> pd.DataFrame:
    """Return `noise_sweep.encoder_row` at the size "base" of five encoders of different make.

    Each row is kept in `folder`, so that a stopped run goes on.
    """
    minilm = models.load_model(models.MINILM)
    glass = glass_box_runs.stored_tokenizer()
    encoders: dict[str, Callable[[], Any]] = {
        "MiniLM, 6 layers": lambda: minilm,
        "MiniLM, 3 layers": lambda: models.load_model(models.MINILM_L3),
        "MPNet, 12 layers": lambda: models.load_model(models.MPNET),
        "glass-box BERT": lambda: (glass, glass_box_runs.load_named(_GLASS_BERT, glass).base_model),
        "untrained MiniLM": lambda: (minilm[0], model_edits.untrained(minilm[1], 0)),
    }
    tasks = noise_sweep.tasks_of("base")

    def measure(encoder: str) -> dict[str, float]:
        return noise_sweep.encoder_row(*encoders[encoder](), size="base", tasks=tasks)

    plan, key = [{"encoder": name} for name in encoders], {"makes": _GLASS_BERT}
    return noise_sweep.collect_rows(plan, measure, folder, key=key)


@command(
    "base_encoder",
    option("what", choices=["clouds", "makes"]),
    option("--levels", nargs="+", type=float, default=_LEVELS),
)
def main(given: Namespace) -> Written:
    """Measure clouds of MPNet twice, or five encoders of different make; half an hour of CPU."""
    folder = data.cache_folder() / "geometry"
    if given.what == "clouds":
        path, table = CLOUDS, cloud_rows(folder, given.levels)
    else:
        path, table = MAKES, _make_rows(folder)
    return [(path, table.round(6).to_csv(index=False))]
