"""Small relatives trained here, the models between their weights, and where those land on a map.

`python -m experiments merges FOLDER` trains the families of the book and writes their two
tables.
"""

from __future__ import annotations

import copy
import json
from argparse import Namespace
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments import tiny_gpt, tuning
from experiments.command import Written, command, digest, kept, log, option, to_folder
from helpers import data, likelihood, text_sets

if TYPE_CHECKING:
    from transformers import BloomForCausalLM, PreTrainedTokenizerFast

# Part of every key: raise it when the same settings would give other numbers.
VERSION = 1
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# The first texts of every genre are those that maps are made of: nobody trains on them.
N_TEST = 16
# Genres with few texts give all they have.
_FEW = {"romance": 106, "slavic": 22, "east asian": 93}
CHILDREN = ("python", "facts")
# Models of a triple: the origin, what `a` leads to, what `b` leads to.
TRIPLES = {
    "short": ("parent", "python", "facts"),
    "long": ("parent", "python, long", "facts, long"),
    "strangers": ("parent", "python", "stranger"),
}
_FIELDS = "model vocabulary genres n_texts batch steps child_steps triples".split()
SIZES: dict[str, dict[str, Any]] = {
    name: dict(zip(_FIELDS, ({"width": width, "layers": layers}, *values), strict=True))
    for name, width, layers, *values in (
        ("full", 64, 2, 1024, list(text_sets.GENRES), 500, 16, 800, 60, list(TRIPLES)),
        ("small", 32, 2, 512, ["facts", "python", "c++", "tables"], 200, 8, 200, 30, ["short"]),
        ("toy", 32, 1, 300, ["facts", "python"], 30, 4, 40, 10, ["short"]),
    )
}
# Rows of tokens in training; a map's texts are read whole, since nearness to a token, not its
# place in the text, is what these models see.
ROW = 128
RATE, CHILD_RATE, LONGER = 4e-3, 2e-3, 4


class _Family(NamedTuple):
    """A tokenizer and models by name: parent, children, children trained longer, a stranger."""

    tokenizer: PreTrainedTokenizerFast
    models: dict[str, BloomForCausalLM]


def _corpora(setting: dict[str, Any]) -> dict[str, list[str]]:
    """Return the texts to train on: "mixed", for the parents, and more of each child's genre.

    No text is among the first `N_TEST` of its genre, and none is in two lists.
    """
    n, mixed, found = setting["n_texts"], [], {}
    for genre in setting["genres"]:
        known = min(n, _FEW.get(genre, n))
        more = n if genre in CHILDREN else 0
        texts = text_sets.load_texts(N_TEST + known + more, genres=[genre]).text.tolist()
        mixed += texts[N_TEST : N_TEST + known]
        if more:
            found[genre] = texts[N_TEST + known :]
    return {"mixed": mixed} | found


def _new_model(
    tokenizer: PreTrainedTokenizerFast, *, width: int = 64, layers: int = 2, seed: int = 0
) -> BloomForCausalLM:
    """Return a small BLOOM with random weights: two heads, tied embeddings, no dropout.

    Its attention falls off with distance instead of knowing places, so that texts longer than any
    row of its training can be read. The random state of torch outside is left as it is. Source:
    Press et al. (2022), as in `transformers`.
    """
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        n_layer=layers,
        n_head=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return tiny_gpt.seeded(BloomForCausalLM, config, seed)


def train_family(
    setting: dict[str, Any], folder: str | Path | None = None, *, seed: int = 0
) -> _Family:
    """Train the models of a setting of `SIZES`: a parent, its two children, and what else it wants.

    The parent learns from texts of all genres; a child goes on from it with new texts of one
    genre; a long child does so for `LONGER` times the steps; the stranger is a parent of another
    seed, with the same tokenizer and texts. With `folder` every model has a checkpoint there, and
    a run that was stopped goes on. The log gets a line after each model.
    """
    texts = _corpora(setting)
    tokenizer = tiny_gpt.with_ends(tiny_gpt.pieces(texts["mixed"], setting["vocabulary"]))
    wanted = {name for triple in setting["triples"] for name in TRIPLES[triple]}
    models: dict[str, BloomForCausalLM] = {}

    def learn(name: str, corpus: str, steps: int, rate: float, start: int | str) -> None:
        if isinstance(start, str):
            model = copy.deepcopy(models[start])
        else:
            model = _new_model(tokenizer, **setting["model"], seed=start)
        options = {"steps": steps, "batch": setting["batch"], "learning_rate": rate}
        options |= {"max_tokens": ROW, "pack": True}
        options |= {"seed": start if isinstance(start, int) else seed}
        place = None if folder is None else Path(folder) / f"{name}.safetensors"
        course = tuning.tune(model, tokenizer, texts[corpus], checkpoint=place, **options)
        models[name] = model
        log.info(f"{name}: loss {course.loss.iloc[0]:.2f} to {course.loss[-5:].mean():.2f}")

    learn("parent", "mixed", setting["steps"], RATE, seed)
    for genre in CHILDREN:
        learn(genre, genre, setting["child_steps"], CHILD_RATE, "parent")
        if f"{genre}, long" in wanted:
            steps = LONGER * setting["child_steps"]
            learn(f"{genre}, long", genre, steps, CHILD_RATE, "parent")
    if "stranger" in wanted:
        learn("stranger", "mixed", setting["steps"], RATE, seed + 1)
    return _Family(tokenizer, models)


def _grid(levels: Sequence[float] = LEVELS) -> list[tuple[float, float]]:
    """Return every pair (a, b) of levels, a before b: 36 by default, as in arXiv 2502.16173."""
    return [(float(a), float(b)) for a in levels for b in levels]


def _label(level: float) -> str:
    return f"{level:.1f}" if abs(level - round(level, 1)) < 1e-9 else f"{level:g}"


def score_merges(
    family: _Family, triple: str, texts: pd.DataFrame, *, levels: Sequence[float] = LEVELS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the models (1 - a - b) w0 + a w1 + b w2 of a triple on texts, a and b from levels.

    Returns the log-likelihoods, nats, a row per model named "TRIPLE A B" and a column per text,
    and a row a model with `triple`, `a`, `b`, `weight_distance` (root mean square over
    parameters of the difference from w0), `degrees` (the angle between the two differences of
    the triple) and `n_parameters`.
    """
    models = [family.models[name] for name in TRIPLES[triple]]
    products = tuning.weight_inner_products(models).set_index(["first", "second"])
    gram = products.inner_product.unstack().to_numpy(copy=True)
    gram[1, 0] = gram[0, 1]
    degrees, n_parameters = products.degrees[1, 2], models[0].num_parameters()
    found, rows = {}, []
    for a, b in _grid(levels):
        name = f"{triple} {_label(a)} {_label(b)}"
        merged = tuning.interpolate(models, [1 - a - b, a, b])
        table = likelihood.score_texts(
            merged, family.tokenizer, texts.text.tolist(), batch_tokens=1024
        )
        found[name] = table.log_likelihood.to_numpy()
        moved = float(np.sqrt(max(np.array([a, b]) @ gram @ [a, b], 0)))
        rows.append((name, triple, a, b, moved, degrees, n_parameters))
        log.info(f"{name}: mean {found[name].mean():.1f} nats per text")
    columns = "model triple a b weight_distance degrees n_parameters".split()
    scored = pd.DataFrame(found, index=texts.index).T.rename_axis(index="model", columns=None)
    return scored, pd.DataFrame(rows, columns=columns).set_index("model")


# What a grid looks like


class _Fit(NamedTuple):
    """How a surface over (a, b) fits: `predicted` (m, k), share `explained`, rms `residual`.

    `movement` is the root mean square distance of the points from their mean, `residual` that of
    the points from the surface, both over the points that were judged; `explained` is NaN where
    these do not move.
    """

    predicted: np.ndarray
    explained: float
    residual: float
    movement: float


def fit_surface(
    values: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    degree: int = 1,
    fitted: ArrayLike | None = None,
) -> _Fit:
    """Fit a polynomial in a and b to each column of values by least squares.

    `values` has shape (m,) or (m, k), one row a merged model; `degree` 1 is a plane, the map
    that keeps a grid linear, 2 adds a², ab and b². With `fitted`, a mask (m,), only these rows
    are fitted, and the others are judged; else all are both.
    """
    y = np.asarray(values, float)
    y = y.reshape(len(y), -1)
    a, b = np.asarray(a, float), np.asarray(b, float)
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    design = np.column_stack([a**i * b**j for i, j in powers])
    use = np.ones(len(y), bool) if fitted is None else np.asarray(fitted, bool)
    weights, *_ = np.linalg.lstsq(design[use], y[use], rcond=None)
    predicted = design @ weights
    judged = use if fitted is None else ~use
    error = ((y - predicted)[judged] ** 2).sum(axis=1)
    moved = ((y - y[judged].mean(axis=0))[judged] ** 2).sum(axis=1)
    explained = float(1 - error.sum() / moved.sum()) if moved.sum() > 0 else float("nan")
    rms = (float(np.sqrt(squares.mean())) for squares in (error, moved))
    return _Fit(predicted, explained, *rms)


def from_corners(values: ArrayLike, a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Return (1 - a - b) v0 + a v1 + b v2 for every row, from the rows at the three corners.

    `values` has shape (m,) or (m, k), with the corners (0, 0), (1, 0) and (0, 1) among the
    rows. Source: arXiv 2502.16173, released code.
    """
    y, a, b = np.asarray(values, float), np.asarray(a, float), np.asarray(b, float)
    corners = []
    for corner in ((0, 0), (1, 0), (0, 1)):
        at = np.flatnonzero(np.isclose(a, corner[0]) & np.isclose(b, corner[1]))
        corners.append(y[at[0]])
    return np.stack([1 - a - b, a, b], axis=1) @ np.stack(corners)


# The run behind the stored tables


@command(
    "merges",
    to_folder("folder"),
    option("--sizes", nargs="+", default=list(SIZES), choices=tuple(SIZES)),
)
def main(given: Namespace) -> Written:
    """Train the families of all sizes, score their merges, and write the two tables."""
    texts = text_sets.load_texts(N_TEST * len(text_sets.GENRES))
    parts = [part for size in given.sizes for part in _run(size, texts)]
    scored, rows = (pd.concat(tables) for tables in zip(*parts, strict=True))
    yield given.folder / "map_merges.csv", scored.round(3).to_csv()
    rows["weight_distance"] = rows.weight_distance.round(8)
    yield given.folder / "map_merges_models.csv", rows.round({"degrees": 3}).to_csv()


def _run(size: str, texts: pd.DataFrame) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Train the family of a size and score its triples, from what is kept of an earlier run."""
    setting = SIZES[size]
    key = digest(VERSION, size, setting, RATE, CHILD_RATE, LONGER, ROW)[:16]
    folder, mark = data.cache_folder() / "merges" / key, text_sets.fingerprint(texts)[:8]
    family, parts = cache(partial(train_family, setting, folder)), []

    def scored(triple: str) -> list[Any]:
        tables = score_merges(family(), triple, texts)
        return [json.loads(t.to_json(orient="split", double_precision=12)) for t in tables]

    for triple in setting["triples"]:
        place = folder / f"{triple} {mark}.kept.json"
        found = kept(place, partial(scored, triple), f"{size} {triple}")
        tables = [pd.DataFrame(one["data"], one["index"], one["columns"]) for one in found]
        parts.append(tuple(_named(table, size) for table in tables))
    return parts


def _named(table: pd.DataFrame, size: str) -> pd.DataFrame:
    """Put the size before the names, and into a column of the table of models."""
    table = table.set_axis([f"{size} {name}" for name in table.index]).rename_axis("model")
    if "triple" in table:
        table = table.assign(kind="merge", family=f"{size} BLOOM", size=size, seed=0)
    return table
