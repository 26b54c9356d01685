"""Patchiness pushed before anything else: in a finished encoder, and while small models learn.

`python -m experiments push_first tuned` moves Lloyd's index of MiniLM by the penalty alone, as far
as 2 % noise moves it, and then fine-tunes without the penalty; `pretrained` trains GPTs and BERTs
of the glass box with the penalty from the first step on. Both keep every model's row, and go on.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from functools import cache, partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments import intervals, training
from experiments.command import Written, command, option, parts
from experiments.geometry import noise_sweep
from experiments.synthesis import (
    glass_box_measures,
    glass_box_runs,
    glass_box_training,
    glass_box_world,
)
from helpers import data, encoding, factbook, figures, fine_tuning, glue, injection, models, stats
from helpers.geometry import penalties, quantization, quantizers, spread

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILES = {
    "tuned": data.PUBLISHED / "geometry_push_first.csv",
    "pretrained": data.PUBLISHED / "geometry_pushed_pretraining.csv",
}
TEMPERATURE = 0.05
# Of the last layer: cells of a batch, of the measure, and runs of each quantizer, averaged.
BATCH_BITS, BITS, DRAWS = 4, 5, {"kmeans": 10, "lsq": 4}
N_SENTENCES, BATCH, RATE, EVERY, MOST_STEPS = 300, 16, 1e-5, 2, 100
TUNING = {"steps": 100, "n_test": 600, "max_tokens": 48}
TASKS, NOISE, SEEDS = ("sst2", "stsb"), 2.0, (0, 1, 2)
# How a page names columns and rows of the tables.
HEADS = {
    "lsq_before": "index before (LSQ)", "lsq_after": "index after (LSQ)",
    "kmeans_before": "index before (k-means)", "isoscore": "IsoScore", "rankme": "RankMe",
    "sst2": "SST-2", "stsb": "STS-B", "gpt": "GPT", "bert": "BERT", **figures.ENDS,
    "lloyd_index": "Lloyd's index", "bits_per_byte": "bits per byte",
    "closed_book": "facts known", "fine_tuned": "fine-tuned score",
}  # fmt: skip
# No push, the penalty up or down, and random weights that moved as far as those of "up".
ARMS = ("none", "up", "down", "random")
PUSHES = (-0.05, -0.01, 0.0, 0.01, 0.05)
SHAPES, STEPS = {"gpt": (64, 2), "bert": (64, 2)}, 2048


def penalty(states: Tensor, mask: Tensor) -> Tensor:
    """Return the soft Lloyd's index of the tokens of a batch, on cells fitted to that batch."""
    cells = penalties.codebook(states[mask.bool()].detach(), bits=BATCH_BITS)
    return penalties.patchiness_penalty(cells, temperature=TEMPERATURE)(states, mask)


def mean_index(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, quantizer: str = "lsq"
) -> float:
    """Return Lloyd's index of the tokens of sentences that no penalty sees, cells fitted anew."""
    points = encoding.token_vectors(model, tokenizer, factbook.draw_sentences(N_SENTENCES))
    runs = range(DRAWS[quantizer])
    coded = (quantizers.quantize(points, quantizer=quantizer, bits=BITS, seed=s) for s in runs)
    counts = (quantization.cell_counts(codes, 2**BITS) for codes, _ in coded)
    return float(np.mean([quantization.lloyd_index(c) for c in counts]))


@cache
def distance(noise: float = NOISE) -> float:
    """Return how far that much noise moves the index of the healthy encoder, mean over seeds."""
    tokenizer, model = models.load_model()
    damaged = [injection.inject_noise(model, noise, seed=seed)[0] for seed in SEEDS]
    return abs(mean_index(model, tokenizer) - np.mean([mean_index(m, tokenizer) for m in damaged]))


def push(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sign: int,
    far: float,
    *,
    seed: int = 0,
    most_steps: int = MOST_STEPS,
) -> tuple[PreTrainedModel, int]:
    """Return a copy pushed by the penalty alone until its index has moved by `far`, and steps.

    Word embeddings stay. A push that has not come so far after `most_steps` ends there.
    """
    import torch

    start = mean_index(model, tokenizer)
    model = copy.deepcopy(model).train()
    model.embeddings.requires_grad_(False)
    optimizer, rng = training.adamw(model), np.random.default_rng(seed)
    texts = factbook.draw_sentences(2000, seed=1)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(1, most_steps + 1):
            some = [texts[i] for i in rng.choice(len(texts), BATCH, replace=False)]
            batch = tokenizer(some, padding=True, truncation=True, max_length=48,
                              return_tensors="pt").to(device)  # fmt: skip
            states = model(**batch).last_hidden_state
            training.step(model, optimizer, -sign * penalty(states, batch["attention_mask"]), RATE)
            if step % EVERY == 0:
                moved = sign * (mean_index(model.eval(), tokenizer) - start)
                if moved >= far:
                    break
                model.train()
    return model.eval(), step


def randomly_moved(
    model: PreTrainedModel, pushed: PreTrainedModel, seed: int = 0
) -> PreTrainedModel:
    """Return a copy in which each tensor moved as far as in `pushed`, in a random direction."""
    import torch

    moved, draw = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        both = zip(moved.parameters(), pushed.parameters(), strict=True)
        for ours, theirs in both:
            way = torch.randn(ours.shape, generator=draw).to(ours)
            ours += way * (theirs - ours).norm() / way.norm()
    return moved


@cache
def _arm(noise: float, arm: str, seed: int) -> tuple[PreTrainedModel, int]:
    tokenizer, model = models.load_model()
    start, _ = injection.inject_noise(model, noise, seed=seed)
    if arm == "none":
        return start, 0
    if arm == "random":
        pushed, steps = _arm(noise, "up", seed)
        return randomly_moved(start, pushed, seed), steps
    return push(start, tokenizer, {"up": 1, "down": -1}[arm], distance(), seed=seed)


@cache
def _before(noise: float, arm: str, seed: int) -> dict[str, Any]:
    tokenizer = models.load_model()[0]
    model, steps = _arm(noise, arm, seed)
    points = encoding.token_vectors(model, tokenizer, factbook.draw_sentences(N_SENTENCES))
    shape = spread.spread_measures(points)
    row = {"push_steps": steps, **{name: shape[name] for name in ("isoscore", "rankme")}}
    return row | {f"{name}_before": mean_index(model, tokenizer, name) for name in DRAWS}


def tuned_row(task: str, noise: float, arm: str, seed: int) -> dict[str, Any]:
    """Push MiniLM, fine-tune it without the penalty, and measure it before and after."""
    tokenizer = models.load_model()[0]
    row = _before(noise, arm, seed)
    model = copy.deepcopy(_arm(noise, arm, seed)[0])
    model.embeddings.requires_grad_(False)
    tuned = fine_tuning.fine_tune(model, tokenizer, glue.load_task(task), **TUNING, seed=seed)
    row |= {"score": tuned.score, "loss": tuned.history["loss"].tail(20).mean()}
    return row | {f"{name}_after": mean_index(tuned.model, tokenizer, name) for name in DRAWS}


def difference(rows: pd.DataFrame, column: str, first: str, second: str) -> stats.Mean:
    """Return a column in one arm minus the other, mean over tasks and seeds; the unit is the seed.

    Both tasks of a seed start from the same pushed model.
    """
    wide = rows.pivot(index=["seed", "task"], columns="arm", values=column)
    return intervals.student_mean((wide[first] - wide[second]).groupby("seed").mean())


def _pushed_loss(
    weight: float, model: PreTrainedModel, rows: np.ndarray, rng: np.random.Generator
) -> Tensor:
    """Return the loss of a step of the glass box minus the push on its last layer."""
    import torch

    seen: list[Tensor] = []
    hook = model.base_model.register_forward_hook(lambda *call: seen.append(call[-1][0]))
    loss = glass_box_training.LOSSES[model.config.model_type](model, rows, rng)
    hook.remove()
    mask = torch.from_numpy(rows >= 0)[:, : seen[0].shape[1]]
    return loss - weight * penalty(seen[0], mask) if weight else loss


def pretrained_row(kind: str, push: float, seed: int) -> dict[str, Any]:
    """Train a small model with a push from the first step on, and measure it as the suite is."""
    width, layers = SHAPES[kind]
    bench, tokenizer, texts = _glass_box()
    model = glass_box_training.new_model(kind, tokenizer, width=width, layers=layers, seed=seed)
    options = {"learning_rate": glass_box_runs.RATES[kind], "seed": seed}
    loss = partial(_pushed_loss, push)
    glass_box_training.train(model, tokenizer, texts, STEPS, **options, loss=loss)
    return dict(glass_box_measures.measure(model, tokenizer, bench).row)


@cache
def _glass_box() -> tuple[glass_box_measures.Bench, Any, list[str]]:
    world = glass_box_world.make_world()
    bench, tokenizer = glass_box_measures.make_bench(world), glass_box_world.tokenizer(world)
    return bench, tokenizer, glass_box_world.corpus(world, "even")


@command(
    "push_first",
    option("what", choices=[*FILES]),
    option("--seeds", nargs="+", type=int, default=SEEDS),
    parts("makes every k-th row"),
    one_thread=True,
)
def main(given: Namespace) -> Written:
    """Push patchiness first and train afterwards, or push it in pre-training."""
    if given.what == "tuned":
        ill = [(NOISE, arm) for arm in ("none", "up")]
        cases = product(given.seeds, [*((0.0, arm) for arm in ARMS), *ill], TASKS)
        plan = [
            {"task": task, "noise": noise, "arm": arm, "seed": seed}
            for seed, (noise, arm), task in cases
        ]
        measure, key = tuned_row, {**TUNING, **DRAWS, "rate": RATE, "batch": BATCH}
    else:
        cases = product(given.seeds, SHAPES, PUSHES)
        plan = [{"kind": kind, "push": push, "seed": seed} for seed, kind, push in cases]
        measure, key = pretrained_row, {"shapes": SHAPES, "steps": STEPS, "bits": BATCH_BITS}
    folder = data.cache_folder() / "push_first"
    noise_sweep.collect_rows(plan[given.part], measure, folder, key=key)
    table = noise_sweep.collect_rows(plan, None, folder, key=key)
    return [(FILES[given.what], table.round(6).to_csv(index=False))]
