"""The files that the authors of SMI released, and what this book computed from them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from helpers import data
from helpers.retrieval import smi

_RANGES = (-25, -30, -35, -40, -45, -50)


def _sheet(key: str, **how: Any) -> pd.DataFrame:
    return pd.read_excel(data.fetch(key), engine="calamine", **how)


def load_models() -> pd.DataFrame:
    """Return the models of the released tables: `family`, `parameters`, `corpus`, by name."""
    sheet = _sheet("smi/baseline.xlsx")
    name = sheet.models.str.split("/").str[-1].astype("str")
    return pd.DataFrame(
        {
            "family": sheet.model_series.fillna("SMI authors").to_numpy(),
            "parameters": sheet.model_size.to_numpy(float) * 1e9,
            "corpus": sheet.datasets.to_numpy(),
        },
        index=pd.Index(name, name="model"),
    )


def load_facts(model: str) -> pd.DataFrame:
    """Return the released facts of a model: names, document counts and closed-book accuracy.

    One row per triple: `subject`, `relation`, `object`, `n_documents`, `n_subject`, `n_object`,
    `n_both` and `accuracy` (share of 400 sampled answers that hold the object).
    """
    return _table(f"smi/accuracy/{model}.json", "acc")


# The columns of the released files, in the order in which they are returned.
_NAMES = {
    **{"subj": "subject", "rel": "relation", "obj": "object", "time_seqs": "n_documents"},
    **{"time_subj": "n_subject", "time_obj": "n_object", "time_s1j1": "n_both"},
    **{"time_s1j0": "n_subject_only", "time_s0j1": "n_object_only", "time_s0j0": "n_neither"},
    "acc": "accuracy",
}


@lru_cache
def _read(path: Path) -> pd.DataFrame:
    rows = orjson.loads(path.read_bytes())
    return pd.DataFrame({name: [row[name] for row in rows] for name in _NAMES if name in rows[0]})


def _table(key: str, *more: str) -> pd.DataFrame:
    """Return names and counts of the facts in a file, and `more` of its columns, renamed."""
    return _read(data.fetch(key))[[*list(_NAMES)[:7], *more]].rename(columns=_NAMES)


def load_counts(corpus: str) -> pd.DataFrame:
    """Return the released counts of a corpus: "pile", "roots", "slimpajama" or "ours".

    One row per triple: `subject`, `relation`, `object`, and numbers of documents: `n_documents`,
    `n_subject`, `n_object`, and the four cells of the table, `n_both`, `n_subject_only`,
    `n_object_only` and `n_neither`.
    """
    return _table(f"smi/counts/{corpus}/merge.json", "time_s1j0", "time_s0j1", "time_s0j0")


def count_checks() -> dict[str, int]:
    """Return what the released counts say of themselves, by the id of the claim.

    Facts, templates, documents of all corpora, facts of which the cells of a table do not add up in
    some corpus, and objects that the first version counts differently from fact to fact.
    """
    tables = {name: load_counts(name) for name in load_models().corpus.unique()}
    facts = next(iter(tables.values()))
    wrong = np.zeros(len(facts), dtype=bool)
    for t in tables.values():
        wrong |= (t.n_both + t.n_subject_only != t.n_subject).to_numpy()
        wrong |= (t.n_both + t.n_object_only != t.n_object).to_numpy()
        wrong |= (t.n_subject + t.n_object_only + t.n_neither != t.n_documents).to_numpy()
    return {
        "smi-evaluation-set-size": len(facts.drop_duplicates(["subject", "object"])),
        "smi-templates": sum(len(set(texts)) for texts in load_templates().values()),
        "smi-documents-counted": sum(int(t.n_documents.iloc[0]) for t in tables.values()),
        "smi-cells-add-up": int(wrong.sum()),
        "smi-v1-counts-agree": int((load_v1().groupby("object").N_o.nunique() > 1).sum()),
    }


def load_templates() -> dict[str, list[str]]:
    """Return the released templates of questions, by relation."""
    return orjson.loads(data.fetch("smi/multi_templates.json").read_bytes())


def load_v1() -> pd.DataFrame:
    """Return the evaluation sheet of the paper's first version: counts, accuracies, metrics."""
    return _sheet("smi/v1/evaluation_set_and_metrics.xlsx", index_col=0)


def _tally(facts: pd.DataFrame, mask: np.ndarray, information: np.ndarray) -> pd.DataFrame:
    """Count the facts of each bin, and sum their accuracies, exactly, in 400ths."""
    share = np.rint(facts.accuracy * 400).astype(int)
    if np.abs(share - facts.accuracy * 400).max() > 1e-9:
        raise ValueError("an accuracy is no multiple of 1/400; these are not the released files")
    parts = {}
    for metric, values in (("count", facts.n_both), ("mi", information)):
        frame = pd.DataFrame({"bin": smi.log_bins(values[mask]), "n": 1, "sum": share[mask]})
        frame["sum_of_squares"] = frame["sum"] ** 2
        parts[metric] = frame.groupby("bin").sum()
    return pd.concat(parts, names=["metric"])


def release_bins() -> pd.DataFrame:
    """Return the bins of all released models and generations, in the units of 400 answers.

    Rows are indexed by `generation`, `model`, `metric` (count or mi) and `bin`; columns are `n`,
    `sum` and `sum_of_squares` of the numbers of right answers, integers.
    """
    parts = {}
    for model in load_models().index:
        facts = load_facts(model)
        information = smi.facts_information(facts)
        for name in ("v2-v4", "v5-v7"):
            parts[name, model] = _tally(facts, smi.keep(information, name), information)
    sheet = load_v1()
    v1 = sheet.rename(
        columns={"N": "n_documents", "N_s": "n_subject", "N_o": "n_object", "N_so": "n_both"}
    )
    information = smi.facts_information(v1)
    for column in (c for c in sheet if c.startswith("ACC_")):
        facts = v1.assign(accuracy=v1[column])
        model = f"v1-{column.removeprefix('ACC_')}"
        parts["v1", model] = _tally(facts, smi.keep(information, "v1"), information)
    return pd.concat(parts, names=["generation", "model"]).sort_index()


def release_histogram() -> pd.DataFrame:
    """Return the number of facts by octave of co-occurrence count, one column per corpus."""
    models = load_models().drop_duplicates("corpus")
    columns = {}
    for model, corpus in models.corpus.items():
        both = load_facts(model).n_both
        columns[corpus] = np.floor(np.log2(both[both > 0])).astype(int).value_counts()
    return pd.DataFrame(columns).fillna(0).astype(int).rename_axis("octave").sort_index()


def published_bins() -> pd.DataFrame:
    """Return the bins as `release_bins` does, from the statistics committed with the book."""
    index = ["generation", "model", "metric", "bin"]
    return pd.read_csv(data.PUBLISHED / "smi_bins.csv", index_col=index)


def published_models() -> pd.DataFrame:
    """Return the models as `load_models` does, from the table committed with the book."""
    return pd.read_csv(data.PUBLISHED / "smi_models.csv", index_col="model")


def published_histogram() -> pd.DataFrame:
    """Return the histogram as `release_histogram` does, from the book's own table."""
    return pd.read_csv(data.PUBLISHED / "smi_histogram.csv", index_col="octave")


def release_range_sweep() -> pd.DataFrame:
    """Return R² of the second generation's SMI under other fixed ranges of log2 MI.

    One row per lower end, -25 to -50, one column per model. A range keeps the facts inside it, so
    the sweep needs the facts and cannot be made from bins.
    """
    columns = {}
    for model, size in load_models().parameters.items():
        facts, exponent = load_facts(model), smi.size_exponent(size, "billions")
        information = smi.facts_information(facts)
        r2 = []
        for low in _RANGES:
            mask = information >= 2.0**low
            bins = smi.bin_statistics(smi.log_bins(information[mask]), facts.accuracy[mask])
            r2.append(smi.r2_of_power(bins, exponent, (low, 0)))
        columns[model] = r2
    return pd.DataFrame(columns, index=pd.Index([f"[{r}, 0]" for r in _RANGES], name="range"))


def load_sheet(generation: str) -> pd.DataFrame:
    """Return the authors' stored table of a generation, indexed as `table` is."""
    keys = {"v5-v7": "smi/main_table.xlsx", "v2-v4": "smi/v4/main_table.xlsx"}
    return _sheet(keys[generation], index_col=[0, 1]).drop(columns="F")


def load_sweep(name: str) -> pd.DataFrame:
    """Return a stored sweep of the second generation, `unit` or `range`: R² by model (column)."""
    return _sheet(f"smi/v4/{name}_sweep.xlsx", index_col=0)


def publish() -> None:
    """Write the statistics in `data/published` again from the released files."""
    tables = {
        "smi_bins": release_bins,
        "smi_histogram": release_histogram,
        "smi_models": load_models,
        "smi_range_sweep": release_range_sweep,
    }
    for name, table in tables.items():
        data.write_atomically(data.PUBLISHED / f"{name}.csv", table().to_csv())
