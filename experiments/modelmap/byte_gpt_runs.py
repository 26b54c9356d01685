"""The stored runs of tiny GPTs of bytes: trained by steps, scored, and compared in pairs."""

from __future__ import annotations

import io
from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from experiments import byte_gpt
from experiments.command import Written, command, digest, kept, log, option
from helpers import checkpoints, data, model_edits, text_sets
from helpers.modelmap import divergence

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

# Part of every name: raise it when the same weights and texts would give other numbers.
VERSION = 1
MISSING = "is missing or damaged; delete it and train again"
KEEP = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512)
BITS = (8, 4)
# The default texts that none is trained on, and how many of them are scored.
N_UNSEEN, N_TEXTS = 128, 64
# Bytes of each genre that has so many; the others give what they have.
N_BYTES = 350_000
FEWER = {"romance": 100_000, "slavic": 20_000, "east asian": 90_000}
TABLE = data.PUBLISHED / "map_tiny_gpts.csv"
PAIRS = data.PUBLISHED / "map_tiny_gpts_pairs.csv"
MODELS = data.PUBLISHED / "map_tiny_gpts_models.csv"


class _Run(NamedTuple):
    """One run: its width and number of layers, and the seed of weights and order."""

    size: str
    width: int
    layers: int
    seed: int


RUNS = tuple(
    _Run(size, width, layers, seed)
    for size, width, layers in (("small", 64, 2), ("large", 128, 3))
    for seed in (0, 1)
)


def corpus(without: Iterable[str]) -> list[str]:
    """Return the training texts of all genres, `N_BYTES` each or what there is, in turn."""
    sizes = {genre: FEWER.get(genre, N_BYTES) for genre in text_sets.GENRES}
    parts = [text_sets.training_texts(g, n, without=without) for g, n in sizes.items()]
    return [text for part in parts for text in part]


def _checkpoint(folder: str | Path, run: _Run, step: int) -> Path:
    """Return where the weights of a run after a step are kept."""
    return Path(folder) / f"{run.size}-seed{run.seed}-step{step:04d}.safetensors"


def name_of(run: _Run, step: int) -> str:
    """Return the name of a run's model after a step, as `gpt-small-seed0-step0064`."""
    return f"gpt-{_checkpoint('', run, step).stem}"


def train(
    run: _Run, documents: Sequence[str], folder: str | Path, *, keep: Sequence[int] = KEEP
) -> None:
    """Train one run and keep its weights after each step of `keep`; nothing if all are there."""
    missing = [step for step in keep if not _checkpoint(folder, run, step).exists()]
    if not missing:
        return
    model = byte_gpt.new_gpt(width=run.width, layers=run.layers, seed=run.seed)

    def at(step: int) -> None:
        checkpoints.write(_checkpoint(folder, run, step), str(run), model.state_dict(), step)

    byte_gpt.train(model, documents, max(keep), seed=run.seed, keep=keep, at=at)


def _load(folder: str | Path, run: _Run, step: int) -> GPT2LMHeadModel:
    """Return the model of a run after a step, ready to read."""
    path = _checkpoint(folder, run, step)
    found = checkpoints.read(path, str(run))
    if found is None:
        raise ValueError(f"{str(path)!r} {MISSING}")
    model = byte_gpt.new_gpt(width=run.width, layers=run.layers, seed=run.seed)
    model.load_state_dict(found[0])
    return model.eval()


def _mark(folder: str | Path, models: Iterable[tuple[_Run, int]], *more: Any) -> str:
    """Return a sum of the kept weights of models and of what else JSON can write."""
    sums = []
    for run, step in models:
        path = _checkpoint(folder, run, step)
        if not path.exists():
            raise ValueError(f"{str(path)!r} {MISSING}")
        sums.append(data.sha256(path))
    return digest(VERSION, sums, *more)[:16]


def _score(
    folder: str | Path,
    texts: pd.DataFrame,
    *,
    runs: Sequence[_Run] = RUNS,
    keep: Sequence[int] = KEEP,
    bits: Sequence[int] = BITS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the log-likelihoods of texts (nats, a row per model) and one row on each model.

    The last model of each run is there rounded as well, to each of `bits`
    (`model_edits.rounded`, by row). What was scored before is read again from `folder`, a file a
    model, whose name has a sum of its weights and the texts.
    """

    def values(run: _Run, step: int, n: int) -> list[float]:
        model = _load(folder, run, step)
        model = model_edits.rounded(model, n, by_row=True) if n else model
        return np.round(byte_gpt.log_likelihood(model, list(texts["text"])), 3).tolist()

    rows, about = {}, []
    work = [(run, step, 0) for run in runs for step in keep]
    work += [(run, max(keep), n) for run in runs for n in bits]
    for run, step, n in work:
        name = name_of(run, step) + (f"-{n}-bits" if n else "")
        mark = _mark(folder, [(run, step)], text_sets.fingerprint(texts))
        place = Path(folder) / f"{name}-{mark}.json"
        rows[name] = np.array(kept(place, partial(values, run, step, n), name))
        row = {"model": name, "kind": "rounded" if n else "training"}
        row |= {"parent": name_of(run, step) if n else "", "level": n or step}
        row |= {"family": "tiny gpt", "corpus": "mixed", "size": run.size, "width": run.width}
        about.append(row | {"layers": run.layers, "seed": run.seed, "step": step})
    table = pd.DataFrame(rows, index=texts.index).T.rename_axis("model")
    return table, pd.DataFrame(about).set_index("model")


def _pair_list() -> list[tuple[str, _Run, int, _Run, int]]:
    """Return the pairs to compare: what differs, then run and step of the one and of the other.

    "training" pairs are neighbours among the steps from 128 on, "far" the first and last of them;
    "seed" and "size" pairs are at one step.
    """
    steps = [step for step in KEEP if step >= 128]
    found = []
    for run in RUNS:
        found += [("training", run, a, run, b) for a, b in zip(steps, steps[1:], strict=False)]
        found.append(("far", run, steps[0], run, steps[-1]))
    pairs = {(0, 1): "seed", (2, 3): "seed", (0, 2): "size", (1, 3): "size"}
    for step in steps[1::2]:
        found += [(kind, RUNS[a], step, RUNS[b], step) for (a, b), kind in pairs.items()]
    return found


def _compare_pairs(
    folder: str | Path, texts: pd.DataFrame, *, n: int = 48, n_bytes: int = 256
) -> pd.DataFrame:
    """Return `divergence.compare` for each pair, on `n` samples and `n` texts of `n_bytes` bytes.

    What was compared before is read again from `folder`, a file a pair, whose name has a sum of
    both weights, the texts and the options.
    """
    ready = [text.encode()[:n_bytes] for text in texts["text"]]
    ready = [text for text in ready if len(text) == n_bytes][:n]
    drawn: dict[str, list[bytes]] = {}

    def compare(name: str, *both: tuple[_Run, int]) -> str:
        models = [_load(folder, *one) for one in both]
        if name not in drawn:
            drawn[name] = byte_gpt.sample(models[0], n, n_bytes, seed=0)
        read = [partial(byte_gpt.conditionals, model) for model in models]
        return divergence.compare(*read, drawn[name], ready).to_csv(index=False)

    rows = []
    for kind, *both in _pair_list():
        both = [tuple(both[:2]), tuple(both[2:])]
        names = [name_of(*one) for one in both]
        mark = _mark(folder, both, [text.hex() for text in ready], n, n_bytes, 0)
        place = Path(folder) / f"pair-{'-'.join(names)}-{mark}.json"
        text = kept(place, partial(compare, names[0], *both), " ".join(names))
        found = pd.read_csv(io.StringIO(text))
        for i, name in enumerate(("kind", "model", "other")):
            found.insert(i, name, (kind, *names)[i])
        rows.append(found)
    return pd.concat(rows, ignore_index=True)


@command(
    "byte_gpt_runs",
    option("--folder", default="build/tiny_map", help="weights and pieces"),
    option("--stages", nargs="+", default=["train", "score", "pairs"]),
    one_thread=True,
)
def main(given: Namespace) -> Written:
    """Train, score and compare the tiny GPTs, and write the tables that the pages read."""
    texts = text_sets.load_texts(N_TEXTS)
    if "train" in given.stages:
        documents = corpus(text_sets.load_texts(N_UNSEEN)["text"])
        for run in RUNS:
            train(run, documents, given.folder)
            log.info(f"trained {run}")
    if "score" in given.stages:
        table, about = _score(given.folder, texts)
        yield TABLE, table.round(3).to_csv()
        yield MODELS, about.to_csv()
    if "pairs" in given.stages:
        yield PAIRS, _compare_pairs(given.folder, texts).round(6).to_csv(index=False)
