"""Who descends from whom? Three ways to tell, on models of which the ancestry is known exactly.

`python -m experiments lineage_benchmark` makes changed copies of the glass-box GPTs and writes
`map_lineage.csv`.
"""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from experiments import tuning
from experiments.command import Written, command, to_folder
from experiments.modelmap import smollm2_family
from experiments.synthesis import glass_box_runs, glass_box_world
from helpers import data, likelihood, stats, validation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TABLE = data.PUBLISHED / "map_lineage.csv"
WAYS = ("map", "mean log-likelihood", "weights", "answers")
# Parents by width, corpus and seed, and the last and an earlier step of their training.
WIDTHS, SEEDS, LAST, EARLIER = (32, 64), (0, 1), 2048, 512
# What is done to a parent, and how strongly.
EDITS = (
    ("rounded", 8), ("rounded", 4), ("rounded", 3), ("noise", 5), ("noise", 20), ("pruned", 30),
    ("pruned", 60), ("layers dropped", 1), ("units reordered", 1), ("tuned", 20), ("tuned", 100),
)  # fmt: skip
TUNED_ON = ("tables", "romance")
N_TEXTS, N_PROMPTS, PROMPT, ANSWER, DIMENSIONS = 64, 32, 12, 16, 128


class _Reading(NamedTuple):
    """What a model shows: log-likelihoods (n,), nats, its `_projected` answers, and its weights."""

    log_likelihoods: np.ndarray
    answers: np.ndarray
    weights: Mapping[str, np.ndarray]


def _units_reordered(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Return a copy of a GPT-2 that computes the same function from reordered units.

    The units of the residual stream and of every inner layer change places at random, in all
    matrices at once.
    """
    import torch

    new, rng = copy.deepcopy(model), validation.generator(seed)
    body = new.transformer
    order = torch.from_numpy(rng.permutation(body.wte.weight.shape[1]))
    with torch.no_grad():
        for embedding in (body.wte, body.wpe):
            embedding.weight.copy_(embedding.weight[:, order].clone())
        for norm in [body.ln_f, *(n for block in body.h for n in (block.ln_1, block.ln_2))]:
            for vector in (norm.weight, norm.bias):
                vector.copy_(vector[order].clone())
        for block in body.h:
            inner = torch.from_numpy(rng.permutation(block.mlp.c_fc.weight.shape[1]))
            for layer in (block.attn.c_attn, block.mlp.c_fc):
                layer.weight.copy_(layer.weight[order].clone())
            for layer in (block.attn.c_proj, block.mlp.c_proj):
                layer.weight.copy_(layer.weight[:, order].clone())
                layer.bias.copy_(layer.bias[order].clone())
            block.mlp.c_fc.weight.copy_(block.mlp.c_fc.weight[:, inner].clone())
            block.mlp.c_fc.bias.copy_(block.mlp.c_fc.bias[inner].clone())
            block.mlp.c_proj.weight.copy_(block.mlp.c_proj.weight[inner].clone())
    return new


def _edited(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    kind: str,
    level: int,
    *,
    corpus: str = TUNED_ON[0],
    seed: int = 0,
) -> PreTrainedModel:
    """Return a changed copy of a GPT-2: `kind` and `level` are a pair of `EDITS`.

    Rounding is to bits, by row; noise in percent of each matrix's own spread; pruning in percent of
    its entries; tuning in steps on texts of the genre `corpus`, on which no glass-box model was
    trained.
    """
    if kind == "units reordered":
        return _units_reordered(model, seed)
    if kind != "tuned":
        return smollm2_family.make(model, tokenizer, kind, level, seed=seed)
    options = {"batch": 8, "max_tokens": 64, "learning_rate": 5e-4, "pack": True, "seed": seed}
    return smollm2_family.tuned(model, tokenizer, corpus, level, n_bytes=20_000, **options)


def _read(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> _Reading:
    """Return what a model shows on texts; the first `N_PROMPTS` begin its answers.

    A prompt is the first `PROMPT` tokens of a text, an answer the `ANSWER` likeliest next ones.
    """
    import torch

    table = likelihood.score_texts(model, tokenizer, list(texts))
    ids = torch.tensor([row[:PROMPT] for row in tokenizer(list(texts[:N_PROMPTS]))["input_ids"]])
    with torch.no_grad():
        for _ in range(ANSWER):
            following = model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, following], dim=1)
    weights = {name: p.detach().numpy().ravel() for name, p in model.named_parameters()}
    answers = _projected(ids[:, PROMPT:].numpy(), len(tokenizer))
    return _Reading(table.log_likelihood.to_numpy(), answers, weights)


def _projected(answers: np.ndarray, vocabulary: int) -> np.ndarray:
    """Return a vector of `DIMENSIONS` numbers for the answers of a model, by random projection.

    Each answer becomes the counts of its tokens, projected by one Gaussian matrix; these are put in
    a row and projected again. It is in the style of LLM DNA (arXiv 2509.24496), which embeds
    answers by a sentence encoder first.
    """
    rng = np.random.default_rng(0)
    counts = np.stack([np.bincount(row, minlength=vocabulary) for row in answers])
    first = rng.standard_normal((vocabulary, 32)) / np.sqrt(32)
    second = rng.standard_normal((32 * len(answers), DIMENSIONS)) / np.sqrt(DIMENSIONS)
    return (counts @ first).ravel() @ second


def distances(child: _Reading, other: _Reading) -> dict[str, float]:
    """Return how far two models are apart by each of `WAYS`.

    "map" is the squared distance on an uncut map, nats² per text; "mean log-likelihood" its
    difference, nats; "weights" one minus the cosine over the tensors of one name and shape,
    infinite where none but vectors agree; "answers" the Euclidean distance of `_projected`.
    """
    gap = child.log_likelihoods - other.log_likelihoods
    shared = [
        name
        for name, values in child.weights.items()
        if name in other.weights and other.weights[name].shape == values.shape
    ]
    weights = np.inf
    if shared:
        a, b = (np.concatenate([one.weights[name] for name in shared]) for one in (child, other))
        weights = 1 - float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    apart = float(np.linalg.norm(child.answers - other.answers))
    return dict(zip(WAYS, (float(gap.var()), abs(float(gap.mean())), weights, apart), strict=True))


def _place(apart: pd.Series, parent: str) -> tuple[float, float]:
    """Return the rank of a parent among candidates, and the share of the others farther away.

    `apart` has a distance per candidate. Ties count half: among n equals the rank is (n + 1) / 2.
    """
    others = apart.drop(parent)
    nearer = float((others < apart[parent]).sum() + (others == apart[parent]).sum() / 2)
    return 1 + nearer, 1 - nearer / len(others)


def summary(table: pd.DataFrame, *, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return recall of the parent and area under the curve, by kind of edit and way.

    `table` is that of `_run`. `recall` is the share of children whose parent is the nearest
    candidate, `area` the mean share of strangers farther away than the parent; `low` and `high`
    (recall), `area_low` and `area_high` are 95 % intervals that draw parents with replacement.
    The kind "all" counts every kind alike.
    """
    table = table.assign(recall=(table["rank"] == 1).astype(float))
    cells = table.pivot_table(
        index="parent", columns=["kind", "way"], values=["recall", "area"], sort=False
    )
    rng = validation.generator(seed)
    drawn = rng.integers(len(cells), size=(n_resamples, len(cells)))
    rows = []
    kinds = list(dict.fromkeys(table["kind"]))
    for kind in [*kinds, "all"]:
        for way in dict.fromkeys(table["way"]):
            row = {"kind": kind, "way": way}
            for name, ends in (("recall", ("low", "high")), ("area", ("area_low", "area_high"))):
                part = cells[name].xs(way, axis=1, level="way")
                values = (part if kind == "all" else part[[kind]]).to_numpy()
                sample = np.nanmean(values[drawn], axis=1).mean(axis=1)
                row[name] = float(np.nanmean(values, axis=0).mean())
                row |= dict(zip(ends, np.quantile(sample, [0.025, 0.975]), strict=True))
            rows.append(row)
    return pd.DataFrame(rows)


def recall_gain(
    table: pd.DataFrame, better: str, than: str, *, n_resamples: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Return by how much one way finds parents more often than another, and its interval.

    Kinds of edit count alike; the 95 % interval draws parents with replacement.
    """
    cells = table.assign(recall=(table["rank"] == 1).astype(float)).pivot_table(
        index="parent", columns=["way", "kind"], values="recall"
    )
    gap = (cells[better] - cells[than]).mean(axis=1).to_numpy()
    return stats.bootstrap_mean(gap, n_resamples=n_resamples, seed=seed)[:3]


def parents(widths: Sequence[int] = WIDTHS) -> list[str]:
    """Return the names of the glass-box GPTs that have children here."""
    return [
        f"gpt-{width}x2-{mix}-{seed}"
        for width in widths
        for mix in ("facts", "even", "code")
        for seed in SEEDS
    ]


def children(
    name: str, tokenizer: PreTrainedTokenizerBase, edits: Sequence[tuple[str, int]] = EDITS
) -> dict[tuple[str, str], PreTrainedModel]:
    """Return the changed copies of a parent by kind and level, and two merged tuned ones."""
    model = glass_box_runs.load_named(f"{name}-step{LAST}", tokenizer)
    made, long = {}, []
    for number, (kind, level) in enumerate(edits):
        for corpus in TUNED_ON if kind == "tuned" else ("",):
            options = {"corpus": corpus} if corpus else {}
            child = _edited(model, tokenizer, kind, level, seed=number, **options)
            made[kind, f"{level} {corpus}".strip()] = child
            long += [child] if corpus and level == max(x for k, x in edits if k == kind) else []
    if len(long) == 2:
        made["merged", "half and half"] = tuning.interpolate(long, [0.5, 0.5])
    return made


def run_one(
    name: str,
    edits: Sequence[tuple[str, int]] = EDITS,
    *,
    candidates: Mapping[int, Mapping[str, _Reading]] | None = None,
) -> pd.DataFrame:
    """Return where a parent stands for each of its children, one row per child and way.

    Columns `parent`, `kind`, `level`, `way`, `distance` from the parent, `rank` and `area` of
    `_place` among the `candidates` by step of training; without these there are distances only.
    The kind "trained on" has the earlier checkpoint for a parent, among those of all runs.
    """
    tokenizer, texts = _material()
    own = None if candidates else {LAST: {name: _read_stored(name, LAST)}}
    readings = {
        key: (_read(child, tokenizer, texts), LAST)
        for key, child in children(name, tokenizer, edits).items()
    }
    if candidates:
        readings["trained on", f"{EARLIER} to {LAST}"] = (candidates[LAST][name], EARLIER)
    rows = []
    for (kind, level), (child, step) in readings.items():
        others = (own or candidates)[step]
        apart = pd.DataFrame({other: distances(child, one) for other, one in others.items()})
        for way in WAYS:
            places = _place(apart.loc[way], name) if candidates else (np.nan, np.nan)
            rows.append((name, kind, level, way, apart.loc[way, name], *places))
    return pd.DataFrame(rows, columns="parent kind level way distance rank area".split())


def _run(widths: Sequence[int] = WIDTHS, edits: Sequence[tuple[str, int]] = EDITS) -> pd.DataFrame:
    """Return `run_one` of all parents, among all of them."""
    names = parents(widths)
    candidates = {
        step: {name: _read_stored(name, step) for name in names} for step in (LAST, EARLIER)
    }
    return pd.concat(
        [run_one(name, edits, candidates=candidates) for name in names], ignore_index=True
    )


def _material() -> tuple[PreTrainedTokenizerBase, list[str]]:
    texts = glass_box_world.unseen_texts(N_TEXTS)["text"]
    return glass_box_runs.stored_tokenizer(), list(texts)


def _read_stored(name: str, step: int) -> _Reading:
    tokenizer, texts = _material()
    return _read(glass_box_runs.load_named(f"{name}-step{step:04d}", tokenizer), tokenizer, texts)


@command("lineage_benchmark", to_folder("--folder"))
def main(given: Namespace) -> Written:
    """Make the children, look for their parents in four ways, and write the table."""
    table = _run()
    table["distance"] = table["distance"].map("{:.6g}".format).astype(float)
    yield given.folder / TABLE.name, table.round({"area": 5}).to_csv(index=False)
    print(summary(table).round(2).to_string())
