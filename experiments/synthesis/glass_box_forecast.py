"""A sealed forecast: what GPTs of a third seed know and score, written before that was measured.

`python -m experiments glass_box_forecast train` trains them, `_seal` measures the signals and
writes the forecast with its hash, `truths` asks and tunes them and only then stores the truth.
Each goes on where it was stopped; `_seal` refuses once there are truths.
"""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.command import Written, command, kept, log, option
from experiments.intervals import student_mean
from experiments.synthesis import glass_box_measures, glass_box_runs, glass_box_table
from experiments.synthesis import glass_box_world as world_of
from experiments.synthesis.glass_box_table import TRUTHS
from experiments.synthesis.glass_box_training import Run
from helpers import data, validation
from helpers.synthesis import gate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SIGNALS = data.PUBLISHED / "glass_box_third.csv"
FORECAST = data.PUBLISHED / "glass_box_forecast.csv"
SEAL = data.PUBLISHED / "glass_box_forecast.json"
TRUTH = data.PUBLISHED / "glass_box_third_truths.csv"
SEED = 2
RUNS = tuple(
    Run("gpt", width, layers, mix, SEED)
    for width, layers in glass_box_runs.SIZES
    for mix in world_of.SUITE
)
# What a forecast may use: what the recipe says, and what was measured before any tuning.
RECIPE = ("log_width", "log_step", "log_stated")
MEASURED = ("validation", "rankme", "log_me", "alp", "error", "lloyd_index")
METHODS = {
    "signals": "signals and recipe, fitted",
    "recipe": "gate: the same recipe, two other seeds",
}
CONFIDENCE = 0.8


def candidates(table: pd.DataFrame) -> pd.DataFrame:
    """Return models of the glass box as `gate` takes them, a row per model and truth.

    A family is what read one corpus, `tokens` are steps of training, and a `cell` is a width and a
    corpus, of which other seeds and checkpoints are no independent models.
    """
    known = table.assign(
        tokens=table["step"], family=table["mix"], cell=table["width"].astype(str) + table["mix"]
    )
    return gate.stacked(dict.fromkeys(TRUTHS, known))


def _with_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of measures with the columns `RECIPE` and `validation`."""
    stated = table["step"] * table["mix"].map(world_of.statement_rate)
    return table.assign(
        log_width=np.log2(table["width"]),
        log_step=np.log2(table["step"]),
        log_stated=np.log2(stated),
        validation=-table["bits_per_byte"],
    )


def _known_models() -> pd.DataFrame:
    """Return the stored GPTs of the first two seeds, with signals and truths."""
    table = glass_box_table.load().table
    return _with_columns(table[table["kind"] == "gpt"])


def _forecast(known: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return what two methods expect of new models, from known ones of two seeds.

    One row per truth, method and model: `expected`, `rank` (1 is best), and `low` and `high`, an
    interval of `CONFIDENCE`. "signals" is ridge regression on `RECIPE` and `MEASURED` (squares and
    products did no better from one known seed to the other); "recipe" is the mean of the same
    width, corpus and step in the known seeds. An interval is as wide as the errors that the method
    makes for one known seed from the other, at the same step: their quantile, one more error of
    unknown size counted (conformal). No truth of `new` is read. Raises `ValueError` unless two
    seeds are known.
    """
    seeds = sorted(set(known["seed"]))
    if len(seeds) != 2:
        raise ValueError(f"known has seeds {seeds}; give models of two")
    rows = []
    for truth in TRUTHS:
        for name, method in (("signals", _by_signals), ("recipe", _by_recipe)):
            parts = [(known[known["seed"] == s], known[known["seed"] != s]) for s in seeds]
            errors = pd.concat(
                [(other[truth] - method(one, other, truth)).abs() for one, other in parts]
            )
            reach = errors.groupby(known["step"]).apply(_reach)
            expected = method(known, new, truth)
            half = new["step"].map(reach)
            found = {"truth": truth, "method": name, "model": new.index}
            found |= {"expected": expected, "low": expected - half, "high": expected + half}
            rows.append(pd.DataFrame(found).reset_index(drop=True))
    table = pd.concat(rows, ignore_index=True)
    ranks = table.groupby(["truth", "method"])["expected"].rank(ascending=False)
    return table.assign(rank=ranks)


def _reach(errors: pd.Series) -> float:
    place = int(np.ceil((len(errors) + 1) * CONFIDENCE))
    return float(np.sort(errors)[min(place, len(errors)) - 1])


def _by_recipe(known: pd.DataFrame, new: pd.DataFrame, truth: str) -> pd.Series:
    means = known.groupby(["width", "mix", "step"])[truth].mean()
    places = pd.MultiIndex.from_frame(new[["width", "mix", "step"]])
    return pd.Series(means.reindex(places).to_numpy(), new.index)


def _by_signals(known: pd.DataFrame, new: pd.DataFrame, truth: str) -> pd.Series:
    columns = [*RECIPE, *MEASURED]
    line = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
    return pd.Series(line.fit(known[columns], known[truth]).predict(new[columns]), new.index)


def measure(
    folder: Path,
    pieces: Path,
    tokenizer: PreTrainedTokenizerFast,
    bench: glass_box_measures.Bench,
    *,
    truths: bool,
) -> pd.DataFrame:
    """Return signals of the trained runs, or with `truths` the truths, a piece kept per model.

    Runs that are not trained to the end are left out. `weights` is the SHA-256 of each file.
    """
    steps, rows = glass_box_runs.KEEP["gpt"], {}

    def row(run: Run, step: int) -> dict[str, float]:
        model = glass_box_runs.load(folder, run, step, tokenizer)
        return glass_box_measures.measure(model, tokenizer, bench, truths=truths).row

    for run in RUNS:
        paths = [glass_box_runs.weights_path(folder, run, step) for step in steps]
        for step, path in zip(steps, paths, strict=True) if all(p.exists() for p in paths) else ():
            sign = data.sha256(path)
            piece = pieces / f"{path.stem}-{'truths' if truths else 'signals'}-{sign[:16]}.json"
            about = dict(zip(glass_box_table.ABOUT, (*run, step), strict=True))
            found = kept(piece, partial(row, run, step), path.stem)
            rows[path.stem] = about | found | {"weights": sign}
    if not rows:
        raise ValueError(f"folder {str(folder)!r} has no run of seed {SEED}; train them first")
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _seal(signals: pd.DataFrame) -> dict[str, Any]:
    """Write signals, forecast and its seal; return the seal. Refuses where there are truths."""
    if TRUTH.exists():
        raise ValueError(f"{TRUTH.name} is there already; a forecast comes before its truth")
    table = _forecast(_known_models(), _with_columns(signals)).round(6)
    data.write_atomically(SIGNALS, signals.round(6).to_csv())
    data.write_atomically(FORECAST, table.to_csv(index=False))
    told = {
        "sha256": _digest(FORECAST),
        "signals_sha256": _digest(SIGNALS),
        "models": len(signals),
        "confidence": CONFIDENCE,
        "methods": METHODS,
        "columns": [*RECIPE, *MEASURED],
    }
    data.write_atomically(SEAL, json.dumps(told, indent=1) + "\n")
    return told


def _digest(path: Path) -> str:
    """Return the SHA-256 of a text file, whatever its line ends."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _sealed() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the forecast and the signals as they were sealed.

    Raises `ValueError` where one of the files no longer has the hash in the seal.
    """
    told = json.loads(SEAL.read_text())
    for path, key in ((FORECAST, "sha256"), (SIGNALS, "signals_sha256")):
        if _digest(path) != told[key]:
            raise ValueError(f"{path.name} is not what was sealed; take it from the repository")
    return pd.read_csv(FORECAST), pd.read_csv(SIGNALS, index_col="model")


def _store_truths(truths: pd.DataFrame) -> None:
    """Write the truths of sealed models; raises `ValueError` where weights are not the sealed."""
    _, signals = _sealed()
    weights = truths["weights"].reindex(signals.index)
    if not weights.equals(signals["weights"]):
        raise ValueError("the weights are not those of the sealed forecast; train none again")
    columns = [c for c in truths if c.startswith(("closed_book", "probe", "fine_tuned"))]
    table = truths.loc[signals.index, [*columns, "weights"]]
    data.write_atomically(TRUTH, table.round(6).to_csv())


def outcome() -> pd.DataFrame:
    """Return the sealed forecast beside the truth: `truth_value`, `covered` and `error` too."""
    table, signals = _sealed()
    truths = pd.read_csv(TRUTH, index_col="model")
    if not truths["weights"].equals(signals["weights"]):
        raise ValueError(f"{TRUTH.name} is of other weights than the forecast")
    long = truths[list(TRUTHS)].stack().rename("truth_value").rename_axis(["model", "truth"])
    table = table.merge(long.reset_index(), on=["model", "truth"], validate="m:1")
    about = signals[["width", "mix", "step"]]
    table = table.join(about, on="model")
    table["cell"] = table["width"].astype(str) + table["mix"]
    table["covered"] = table.truth_value.between(table.low, table.high)
    return table.assign(error=(table.truth_value - table.expected).abs())


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many intervals held, by truth and method, with an interval over cells.

    `share` with `low` and `high` (95 %, Student over the shares of the cells), the mean `error`
    and the mean half `width` of the intervals.
    """
    rows = []
    for (truth, method), part in table.groupby(["truth", "method"], sort=False):
        cells = part.groupby("cell")["covered"].mean()
        mean, low, high, _ = student_mean(cells)
        ends = max(0.0, low), min(1.0, high)
        width = (part.high - part.low).mean() / 2
        rows.append((truth, method, mean, *ends, part.error.mean(), width, len(cells)))
    columns = ["truth", "method", "share", "low", "high", "error", "half_width", "n_cells"]
    return pd.DataFrame(rows, columns=columns)


def beside_gate(table: pd.DataFrame, truth: str, **options: float) -> pd.DataFrame:
    """Return how the forecast and the gate rank the sealed models by a truth, as `gate.beside`.

    What the same recipe gave with two other seeds belongs to the gate: somebody has published it.
    """
    validation.choice(truth, tuple(TRUTHS), "truth")
    _, signals = _sealed()
    wide = table.pivot(index=["truth", "model"], columns="method", values="expected")
    known = signals.join(pd.read_csv(TRUTH, index_col="model")[list(TRUTHS)])
    stack = candidates(known)
    places = pd.MultiIndex.from_frame(stack[["task", "model"]])
    for name in METHODS:
        stack[name] = wide[name].reindex(places).to_numpy()
    paid, free = {"signals": METHODS["signals"]}, gate.FREE | {"recipe": METHODS["recipe"]}
    return gate.beside(stack, paid, task=truth, free=free, unit="cell", **options)


@command(
    "glass_box_forecast",
    option("step", choices=["train", "seal", "truths"]),
    option("--folder", type=Path, default=Path("build/glass_box_third")),
    option("--widths", nargs="+", type=int, default=[16, 32, 64, 128]),
    one_thread=True,
)
def main(given: Namespace) -> Written:
    """Train the third seed, seal a forecast of it, and store the truth, one step a call."""
    world = world_of.make_world()
    # That of the suite: merges learned again could differ with the version of `tokenizers`.
    tokenizer = glass_box_runs.stored_tokenizer()
    if given.step == "train":
        for run in (run for run in RUNS if run.width in given.widths):
            glass_box_runs.train(run, tokenizer, world_of.corpus(world, run.mix), given.folder)
            log.info(f"{run.name}: is stored")
        return
    bench = glass_box_measures.make_bench(world)
    pieces, truths = given.folder / "measured", given.step == "truths"
    table = measure(given.folder, pieces, tokenizer, bench, truths=truths)
    if truths:
        _store_truths(table)
        print(f"{TRUTH.name}, {len(table)} models")
    else:
        print(f"{FORECAST.name}, {len(table)} models: SHA-256 {_seal(table)['sha256']}")
