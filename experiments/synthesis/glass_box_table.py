"""The table of the glass box: signals and truths of all its models, and what counts predict.

`python -m experiments glass_box_table` measures the stored suite; killed, it goes on.
"""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.command import Written, command, kept, option
from experiments.synthesis import glass_box_measures, glass_box_runs, glass_box_world
from experiments.synthesis.glass_box_training import Run
from helpers import data, storage
from helpers.modelmap import model_map
from helpers.retrieval import binned_fits, counting, smi

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TABLE = data.PUBLISHED / "glass_box.csv"
ITEMS = data.PUBLISHED / "glass_box_items.npz"
COUNTS = data.PUBLISHED / "glass_box_counts.csv"
# The same for the models of the added corpora, whose weights are not stored.
ADDED_TABLE = data.PUBLISHED / "glass_box_added.csv"
ADDED_ITEMS = data.PUBLISHED / "glass_box_added_items.npz"
ADDED_COUNTS = data.PUBLISHED / "glass_box_added_counts.csv"
# Of models wider than the suite only the signals and truths: read by how far their seeds agree.
WIDE_TABLE = data.PUBLISHED / "glass_box_wide.csv"
ABOUT = ["kind", "width", "layers", "mix", "seed", "step"]
LISTS = ("log_likelihoods", "accuracy", "log_posterior")
TRUTHS = {
    "closed_book": "facts known, closed book",
    "probe": "tasks, frozen probe",
    "fine_tuned": "tasks, fine-tuned",
}
# What every model can be judged by beforehand, and how it is called.
SIGNALS = {
    "alp": "ALP, calibrated",
    "lloyd_index": "patchiness (Lloyd)",
    "error": "reconstruction error",
    "eee": "EEE",
    "vrm": "VRM",
    "isoscore": "IsoScore",
    "smi": "SMI",
    "stated": "statements read",
    "stated_width": "statements read × width",
    "from_counts": "counts and size, fitted",
    "nearness": "nearness to the best on the map",
    "validation": "negative validation loss",
    "log_me": "LogME",
    "rankme": "RankMe",
    "parameters": "parameters",
    "step": "training steps",
}


class Suite(NamedTuple):
    """The measured suite: a row a model, indexed by name, and what lies behind it, item by item.

    `table` has `ABOUT`, the signals and truths of `glass_box_measures.measure` and their CPU
    seconds as `seconds_NAME`. `log_likelihoods` (models, texts), `accuracy` (models, facts) and
    `log_posterior` (models, people) have its index.
    """

    table: pd.DataFrame
    log_likelihoods: pd.DataFrame
    accuracy: pd.DataFrame
    log_posterior: pd.DataFrame


def _measure_all(
    folder: str | Path,
    pieces: str | Path,
    bench: glass_box_measures.Bench,
    tokenizer: PreTrainedTokenizerFast,
    *,
    runs: Sequence[Run] = glass_box_runs.RUNS,
) -> Suite:
    """Measure every model stored in `folder`, keeping a piece a model in `pieces`.

    A piece is known by the model's weights and the version of the measures. Models that are not
    there are left out. Raises `ValueError` when there is none.
    """

    def told(run: Run, step: int) -> dict[str, Any]:
        model = glass_box_runs.load(folder, run, step, tokenizer)
        found = glass_box_measures.measure(model, tokenizer, bench)
        lists = {name: np.round(getattr(found, name), 5).tolist() for name in LISTS}
        return {"row": found.row, "seconds": found.seconds, **lists}

    rows, lists = {}, {name: {} for name in LISTS}
    for run, step in [(one, step) for one in runs for step in glass_box_runs.KEEP[one.kind]]:
        path = glass_box_runs.weights_path(folder, run, step)
        if not path.exists():
            continue
        key = hashlib.sha256(path.read_bytes() + bytes([glass_box_measures.VERSION])).hexdigest()
        piece = Path(pieces) / f"{path.stem}-{key[:16]}.json"
        found = kept(piece, partial(told, run, step), path.stem)
        about = dict(zip(ABOUT, (*run, step), strict=True))
        seconds = {f"seconds_{name}": value for name, value in found["seconds"].items()}
        rows[path.stem] = about | found["row"] | seconds
        for name in LISTS:
            lists[name][path.stem] = found[name]
    if not rows:
        raise ValueError(f"folder {str(folder)!r} has no model of the suite; train it first")
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    return Suite(table, *(pd.DataFrame.from_dict(lists[n], orient="index") for n in LISTS))


def measure_again(
    names: Sequence[str], tokenizer: PreTrainedTokenizerFast, bench: glass_box_measures.Bench
) -> pd.DataFrame:
    """Return some signals of stored models, measured again without the slow truths, a row each."""
    rows = {}
    for name in names:
        model = glass_box_runs.load_named(name, tokenizer)
        rows[name] = glass_box_measures.measure(model, tokenizer, bench, truths=False).row
    columns = ["alp", "lloyd_index", "eee", "rankme", "bits_per_byte", "log_me"]
    return pd.DataFrame.from_dict(rows, orient="index")[columns].astype(float)


def _save(suite: Suite, *, added: bool = False) -> None:
    """Write the tables of the book, `TABLE` and, without pickles, `ITEMS`, or those `added`."""
    table, items = (ADDED_TABLE, ADDED_ITEMS) if added else (TABLE, ITEMS)
    data.write_atomically(table, suite.table.round(6).to_csv())
    arrays = {name: getattr(suite, name).to_numpy(np.float32) for name in LISTS}
    with storage.whole(items) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(*, added: bool = False) -> Suite:
    """Return the stored tables of the suite, with `added` those of the added corpora as well."""
    files = [(TABLE, ITEMS), (ADDED_TABLE, ADDED_ITEMS)][: 1 + added]
    parts = []
    for path, items in files:
        table = pd.read_csv(path, index_col="model")
        with np.load(items, allow_pickle=False) as arrays:
            lists = [pd.DataFrame(arrays[name].astype(float), table.index) for name in LISTS]
        parts.append(Suite(table, *lists))
    return Suite(*(pd.concat(tables) for tables in zip(*parts, strict=True)))


def count_facts(world: glass_box_world.World, mix: str) -> pd.DataFrame:
    """Count every fact of a world in the corpus of a mix, beside what was planted.

    Added to `world.facts`: `mix`, `n_documents`, `n_subject`, `n_object`, `n_both` as
    `counting.count_documents` finds them, and `stated`, the statements that were planted.
    """
    pairs = list(zip(world.facts.subject, world.facts.object, strict=True))
    found = counting.count_documents(glass_box_world.corpus(world, mix), pairs, right_boundary=True)
    names = ["n_subject", "n_object", "n_both"]
    return world.facts.assign(
        mix=mix,
        n_documents=found.n_documents,
        **{name: found.table[name].to_numpy() for name in names},
        stated=glass_box_world.statements(world, mix),
    )


def _information_scores(counts: pd.DataFrame, parameters: float) -> pd.Series:
    """Return SMI of each counted fact, as in versions 5 to 7, NaN where MI is not above 0.

    All rows share one scale: pass the facts of all mixes to compare corpora.
    """
    found = smi.size_dependent_mi(smi.facts_information(counts), parameters)
    return pd.Series(found, counts.index)


def count_predictions(suite: Suite, counts: pd.DataFrame, *, groups: str = "mix") -> pd.Series:
    """Return each model's closed-book accuracy as predicted from counts and size, held out.

    A logistic curve on logarithms of the three counts of documents read so far, with squares and
    products, and of size, is fitted to the facts of all models of one kind whose `groups`, a column
    of the table such as "mix" or "width", is another; its predictions for stated facts are
    averaged. `counts` are the rows of `count_facts` of all mixes.
    """
    names, told = ["n_both", "n_subject", "n_object"], {}
    for mix, rows in counts.groupby("mix"):
        stated = rows.frequency.to_numpy() > 0
        told[mix] = stated, rows.loc[stated, names].to_numpy(float)
    out = pd.Series(np.nan, suite.table.index)
    for _, part in suite.table.groupby("kind"):
        columns, y, places = [], [], []
        last = part.step.max()
        for name, model in part.iterrows():
            stated, n = told[model["mix"]]
            size = np.full(len(n), np.log2(model.parameters))
            columns.append(np.column_stack([np.log2(1 + n * model.step / last), size]))
            y.append(suite.accuracy.loc[name].to_numpy()[stated])
            places.append(np.full(len(n), len(places)))
        X, place = np.vstack(columns), np.concatenate(places)
        X = binned_fits.quadratic((X - X.mean(axis=0)) / X.std(axis=0, ddof=1))
        held = part[groups].to_numpy()[place]
        guess = binned_fits.predict_held_out(X, np.concatenate(y), held, logistic=True, thin=5)
        out[part.index] = pd.Series(guess).groupby(place).mean().to_numpy()
    return out


def _map_distances(suite: Suite) -> pd.Series:
    """Return how far each model is from the best of its kind on their map, nats per text.

    The best has the highest mean log-likelihood; distances are those of `model_map.fit_map`.
    """
    out = pd.Series(np.nan, suite.table.index)
    for _, part in suite.table.groupby("kind"):
        made = model_map.fit_map(suite.log_likelihoods.loc[part.index], clip=0)
        best = int(made.mean_log_likelihood.to_numpy().argmax())
        out[part.index] = made.distances()[best]
    return out


def judged(suite: Suite, counts: pd.DataFrame) -> pd.DataFrame:
    """Return the suite's table with every column of `SIGNALS`.

    Added are `smi`, the mean over facts of `_information_scores` in the corpus and at the size of
    each model; `stated`, steps times the rate of statements in the corpus, and `stated_width`, that
    times the width; `from_counts`, of `count_predictions`; `nearness`, minus `_map_distances`;
    and `validation`, minus bits per byte of unread texts. `counts` are the rows of `count_facts` of
    all mixes.
    """
    table, smi_of = suite.table.copy(), {}
    for size in table.parameters.unique():
        scores = _information_scores(counts, size).groupby(counts["mix"].to_numpy()).mean()
        smi_of |= {(mix, size): value for mix, value in scores.items()}
    keys = zip(table["mix"], table.parameters, strict=True)
    table["smi"] = [smi_of[key] for key in keys]
    table["stated"] = table.step * table["mix"].map(glass_box_world.statement_rate)
    table["stated_width"] = table.stated * table["width"]
    table["from_counts"] = count_predictions(suite, counts)
    table["nearness"] = -_map_distances(suite)
    table["validation"] = -table.bits_per_byte
    return table


@command(
    "glass_box_table",
    option("--folder", default="build/glass_box"),
    option("--pieces", default="build/glass_box/measured"),
    option("--kinds", nargs="+", default=["gpt", "bert"]),
    option("--keep", action="store_true", help="only pieces; leave the book's tables"),
    option("--set", choices=glass_box_runs.SETS, default="suite", help="that of glass_box_runs"),
    one_thread=True,
)
def main(given: Namespace) -> Written:
    """Measure the suite, and write the tables that the pages read."""
    world = glass_box_world.make_world()
    tokenizer, bench = glass_box_world.tokenizer(world), glass_box_measures.make_bench(world)
    runs = [run for run in glass_box_runs.SETS[given.set] if run.kind in given.kinds]
    suite = _measure_all(given.folder, given.pieces, bench, tokenizer, runs=runs)
    absent = sum(len(glass_box_runs.KEEP[run.kind]) for run in runs) - len(suite.table)
    if given.keep:
        return 0
    if absent:
        print(
            f"{absent} model(s) have no weights in {given.folder}; the tables stay as they are;\n"
            f"train them: python -m experiments glass_box_runs --set {given.set} "
            f"--folder {given.folder}"
        )
        return 1
    if given.set == "wide":
        return [(WIDE_TABLE, suite.table.round(6).to_csv())]
    added = given.set == "added"
    _save(suite, added=added)
    mixes = glass_box_world.ADDED if added else glass_box_world.SUITE
    counts = pd.concat([count_facts(world, mix) for mix in mixes])
    return [(ADDED_COUNTS if added else COUNTS, counts.to_csv(index=False))]
