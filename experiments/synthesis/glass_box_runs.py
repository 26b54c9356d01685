"""The glass-box suite: its models trained, stored in half precision, and read again.

`python -m experiments glass_box_runs` trains every model and stores the suite;
killed, it goes on.
"""

from __future__ import annotations

import re
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from experiments.command import Written, command, log, option, parts
from experiments.synthesis import glass_box_training, glass_box_world
from experiments.synthesis.glass_box_training import Run
from helpers import checkpoints, data

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SIZES = ((16, 2), (32, 2), (64, 2), (128, 2))
# A BERT is asked for a third of its tokens only, and learns facts four times as slowly.
KEEP = {"gpt": (128, 512, 2048), "bert": (512, 2048, 8192)}
RATES = {"gpt": 2e-3, "bert": 5e-3}
# Where the finished suite lies in the repository.
STORE = data.ROOT / "data" / "glass_box"
RUNS = tuple(
    Run(kind, width, layers, mix, seed)
    for seed in (0, 1)
    for width, layers in SIZES
    for mix in glass_box_world.SUITE
    for kind in glass_box_training.KINDS
)
# The suite on three more corpora, without the widest BERTs and their second seed; the weights of
# these are not stored.
ADDED = tuple(
    Run(kind, width, layers, mix, seed)
    for kind, seeds, most in (("gpt", (0, 1), 128), ("bert", (0,), 64))
    for seed in seeds
    for width, layers in SIZES
    for mix in glass_box_world.ADDED
    if width <= most
)
# Wider than the suite, at one end: do the truths repeat there?
WIDE = tuple(Run("gpt", 256, 2, mix, seed) for seed in (0, 1) for mix in glass_box_world.SUITE)
SETS = {"suite": RUNS, "added": ADDED, "wide": WIDE}


def weights_path(folder: str | Path, run: Run, step: int) -> Path:
    """Return where the weights of a run after a step are kept."""
    return Path(folder) / f"{run.name}-step{step:04d}.safetensors"


def _store(folder: str | Path, run: Run, step: int, model: PreTrainedModel) -> None:
    """Write the weights of a model in half precision, shared ones once."""
    import torch

    tensors = {name: t.to(torch.float16) for name, t in model.named_parameters()}
    checkpoints.write(weights_path(folder, run, step), f"{run.name} {step}", tensors, None)


def load(
    folder: str | Path, run: Run, step: int, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """Return a stored model in float32, ready to read.

    Raises `ValueError` where its file is missing, damaged or of another run.
    """
    import torch

    path = weights_path(folder, run, step)
    found = checkpoints.read(path, f"{run.name} {step}")
    if found is None:
        raise ValueError(f"{str(path)!r} is missing or damaged; delete it and train again")
    model = glass_box_training.new_model(run.kind, tokenizer, width=run.width, layers=run.layers)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(found[0][name])
    return model.eval()


def stored_tokenizer(folder: str | Path = STORE) -> PreTrainedTokenizerFast:
    """Return the tokenizer that lies beside stored models; raises `ValueError` without one."""
    from transformers import PreTrainedTokenizerFast

    if not (Path(folder) / "tokenizer.json").exists():
        raise ValueError(f"folder {str(folder)!r} has no tokenizer.json; pass that of a suite")
    return PreTrainedTokenizerFast.from_pretrained(str(folder))


def load_named(
    name: str, tokenizer: PreTrainedTokenizerFast, *, folder: str | Path = STORE
) -> PreTrainedModel:
    """Return a stored model by its name in the table, such as `gpt-64x2-even-0-step2048`.

    Raises `ValueError` for a name of another form, and as `load`.
    """
    found = re.fullmatch(r"(\w+)-(\d+)x(\d+)-(\w+)-(\d+)-step(\d+)", name)
    if found is None:
        raise ValueError(f"name is {name!r}; give one such as gpt-64x2-even-0-step2048")
    kind, width, layers, mix, seed, step = found.groups()
    run = Run(kind, int(width), int(layers), mix, int(seed))
    return load(folder, run, int(step), tokenizer)


def stored_names(folder: str | Path = STORE) -> list[str]:
    """Return the names of the models whose weights lie in a folder, sorted."""
    return sorted(path.stem for path in Path(folder).glob("*-step*.safetensors"))


def last_names(folder: str | Path = STORE) -> list[str]:
    """Return the names of `stored_names` that are trained to the end."""
    ends = {f"{kind}-": f"-step{max(steps):04d}" for kind, steps in KEEP.items()}
    names = stored_names(folder)
    return [n for n in names if any(n.startswith(k) and n.endswith(e) for k, e in ends.items())]


def train(
    run: Run,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[str],
    folder: str | Path,
    *,
    keep: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Train one model and store its weights after each step of `keep`; its course, a row each.

    `keep` is by default that of its kind in `KEEP`; its last step ends the training.

    A run that was stopped goes on from the last step kept; one that is whole is only read.
    """
    keep = KEEP[run.kind] if keep is None else keep
    course = Path(folder) / f"{run.name}.csv"
    whole = all(weights_path(folder, run, step).exists() for step in keep)
    if whole and course.exists():
        return pd.read_csv(course)
    model = glass_box_training.new_model(
        run.kind, tokenizer, width=run.width, layers=run.layers, seed=run.seed
    )
    checkpoint = Path(folder) / f"{run.name}-resume.safetensors"
    options = {"learning_rate": RATES[run.kind], "seed": run.seed, "keep": keep}
    options |= {"at": lambda step: _store(folder, run, step, model), "checkpoint": checkpoint}
    rows = glass_box_training.train(model, tokenizer, documents, max(keep), **options)
    table = pd.DataFrame(rows)
    data.write_atomically(course, table.to_csv(index=False))
    checkpoint.unlink(missing_ok=True)
    return table


@command(
    "glass_box_runs",
    option("--folder", default="build/glass_box"),
    parts("trains every k-th model"),
    option("--seeds", nargs="+", type=int, default=[0, 1]),
    option("--widths", nargs="+", type=int, help="by default all"),
    option(
        "--set",
        choices=SETS,
        default="suite",
        help="added: three more corpora; wide: more width",
    ),
    one_thread=True,
)
def main(given: Namespace) -> Written:
    """Train the suite."""
    runs = [run for run in SETS[given.set] if run.seed in given.seeds]
    runs = [run for run in runs if run.width in (given.widths or [run.width])]
    world = glass_box_world.make_world()
    tokenizer = glass_box_world.tokenizer(world)
    texts = {mix: glass_box_world.corpus(world, mix) for mix in glass_box_world.MIXES}
    for run in runs[given.part]:
        if all(weights_path(given.folder, run, step).exists() for step in KEEP[run.kind]):
            log.info(f"{run.name}: is stored")
            continue
        start = time.process_time()
        course = train(run, tokenizer, texts[run.mix], given.folder)
        took = time.process_time() - start
        log.info(f"{run.name}: loss {course.loss.iloc[-1]:.3f}, {took:.0f} CPU s")
