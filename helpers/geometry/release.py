"""The authors' released tables of the geometry paper, as data frames."""

from __future__ import annotations

import pandas as pd

from helpers import data

# Column of the released tables -> name used in this book.
_QUANTIZED = {
    "error": "error",
    "iqr": "iqr",
    "skew": "skew",
    "centroids": "centroid_variance",
    "count_var": "count_variance",
    "count_kl": "count_kl",
    "patchiness": "patchiness",
    "point_dist": "point_eee",
}
MEASURES = {
    f"{prefix}-{released}": f"{prefix}q_{ours}"
    for prefix in ("a", "p")
    for released, ours in _QUANTIZED.items()
} | {"EEE": "eee", "VRM": "vrm", "IsoScore": "isoscore"}

# The measures that the page on the released tables shows, by their names in words.
SHOWN = {
    "aq_patchiness": "patchiness (AQ)",
    "aq_count_variance": "cell-count variance (AQ)",
    "aq_count_kl": "cell-count KL (AQ)",
    "pq_patchiness": "patchiness (PQ)",
    "aq_iqr": "residual IQR (AQ)",
    "pq_iqr": "residual IQR (PQ)",
    "aq_error": "reconstruction error (AQ)",
    "pq_error": "reconstruction error (PQ)",
    "aq_point_eee": "EEE inside cells (AQ)",
    "pq_point_eee": "EEE inside cells (PQ)",
    "eee": "EEE",
    "vrm": "VRM",
    "isoscore": "IsoScore",
}

_LABELS = {
    "mlm": "MLM",
    "asci": "ASCII",
    "fc": "First-Char",
    "rand": "Random",
    "roberta_sinha": "Roberta",
    "shuffle_sent": "Sequence",
    "shuffle_corp": "Corpus",
    "germ": "German",
    "chin": "Chinese",
    "shuffle_index": "Shuffle",
    "untrained_w_emb": "Untrained",
    "untrained": "Untrained, random embeddings",
    "bert-small": "BERT-small",
}


def _table(name: str, index_col: int | str | None = None) -> pd.DataFrame:
    table = pd.read_csv(data.fetch(f"manifolds/{name}.csv"), index_col=index_col)
    return table.rename(columns=MEASURES)


def load_perturbed_runs() -> pd.DataFrame:
    """Return the 168 perturbed models whose geometry and GLUE score were both released.

    One row per run: `architecture` (`bert-small`, `bert-base`, `roberta`), `model`, `alpha` (noise,
    percent; 0 for the one unperturbed BERT-base), `replicate` (1 to 3), `glue` (0 to 1: the average
    that the authors regressed, of 8 tasks without WNLI, but of 9 with it for BERT-base),
    `glue_8_tasks` (without WNLI throughout), `tasks` (how many of the 8 were scored), and the
    measures: `aq_…` additive, `pq_…` product quantizer, `eee`, `vrm`, `isoscore`; then the score
    of each task, `task_cola` to `task_wnli`, blank where it was not run. Three runs of
    BERT-small without geometry are left out. Raises `DataError` without the released tables.
    Source: Marbut et al. (2024), released tables, at the commit that the registry names.
    """
    small = _table("metric_files/bert_small_metrics", index_col=0).rename_axis("model")
    parts = {
        "bert-base": _table("metric_files/bert_model_metrics", index_col="model"),
        "bert-small": small.dropna(subset=["aq_patchiness"]),
        "roberta": _table("metric_files/roberta_model_metrics", index_col="model"),
    }
    files = ("bert_base_glue", "VM_combined_glue_2", "roberta_glue")
    scores = {
        name: _table(f"glue_files/{file}", index_col=0)
        for name, file in zip(parts, files, strict=True)
    }
    rows = []
    for architecture, part in parts.items():
        tasks = scores[architecture].drop(
            columns=["wnli", "average", "new_average"], errors="ignore"
        )
        tasks = tasks.loc[part.index]
        glue = part["new_average" if "new_average" in part else "average"]
        frame = part[list(MEASURES.values())].assign(
            architecture=architecture,
            replicate=part.index.str.rsplit("_", n=1).str[-1].astype(int),
            alpha=part["alpha"],
            glue=glue,
            glue_8_tasks=tasks.mean(axis=1),
            tasks=tasks.notna().sum(axis=1),
        )
        nine = scores[architecture].drop(columns=["average", "new_average"], errors="ignore")
        frame = frame.join(nine.add_prefix("task_"))
        rows.append(frame.rename_axis("model").reset_index())
    front = ["architecture", "model", "alpha", "replicate", "glue", "glue_8_tasks", "tasks"]
    runs = pd.concat(rows)
    tasks = [column for column in runs if column.startswith("task_")]
    runs = runs[front + list(MEASURES.values()) + tasks]
    return runs.sort_values(["architecture", "alpha", "replicate"], ignore_index=True)


def load_nonstandard_models() -> pd.DataFrame:
    """Return the 13 models that were pre-trained or put together in unusual ways.

    Columns: `model` (the released key), `label` (as in the released figures), `architecture`,
    `glue` (0 to 1), the measures of `load_perturbed_runs`, `plotted` (12 of the 13) and
    `set_aside` (the 3 that the released scripts list as outliers). Raises `DataError` without the
    released tables. Source: Marbut et al. (2024), released tables.
    """
    table = _table("metric_files/alt_model_metrics").rename(columns={"glue_average": "glue"})
    kind = load_fitted_values().query("source == 'alt_models'").set_index("model")["architecture"]
    table = table.assign(
        label=table["model"].map(_LABELS),
        architecture=table["model"].map(kind),
        plotted=table["model"] != "untrained",
        set_aside=table["model"].isin(["untrained", "rand", "untrained_w_emb"]),
    )
    front = ["model", "label", "architecture", "glue", "plotted", "set_aside"]
    return table[front + list(MEASURES.values())].sort_values(
        "glue", kind="stable", ignore_index=True
    )


def load_repeated_samples() -> pd.DataFrame:
    """Return the unperturbed BERT-base as the authors measured it on three samples of sentences.

    One row per sample, with `model`, `sample` (1 to 3) and the measures of both quantizers, as in
    `load_perturbed_runs`. Raises `DataError` without the released tables. Source: Marbut et al.
    (2024), released tables of March 2024.
    """
    names = {"error": "error", "cent_var": "centroid_variance", "pt_var": "count_variance"}
    names |= {"EEE_mean": "point_eee", "patch": "patchiness"}
    rows = []
    for sample in (1, 2, 3):
        file = f"manifolds/Alt_Results/Quant_metrics/zhang{sample}_quant_results_18Mar24.csv"
        table = pd.read_csv(data.fetch(file), sep="\t", index_col="quant")
        row = {"model": "bert-base", "sample": sample}
        for prefix, quantizer in (("aq", "additive"), ("pq", "product")):
            row |= {f"{prefix}_{ours}": table.loc[quantizer, k] for k, ours in names.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def load_fitted_values() -> pd.DataFrame:
    """Return the GLUE scores that the authors' own regressions fitted, 184 rows.

    Columns: `model`, `glue`, `architecture`, `source`, and five fits, each of one pooled regression
    on the perturbed runs: `fit_aq_patchiness`, `fit_pq_point_eee`, `fit_aq_point_eee`, and the two
    with an offset for each architecture, `fit_aq_patchiness_offset` and `fit_aq_point_eee_offset`.
    Three rows have no fit. Raises `DataError` without the released table. Source: Marbut et al.
    (2024), released table `linreg_data_export.csv`.
    """
    table = pd.read_csv(data.fetch("manifolds/linreg_data_export.csv"))
    names = {"glue_average": "glue", "type": "architecture", "a-patchiness": "fit_aq_patchiness"}
    names |= {"a-patchiness_m": "fit_aq_patchiness_offset", "p-point_dist": "fit_pq_point_eee"}
    names |= {"a-point_dist": "fit_aq_point_eee", "a-point_dist_m": "fit_aq_point_eee_offset"}
    fits = [name for name in names.values() if name.startswith("fit_")]
    return table.rename(columns=names)[["model", "glue", "architecture", "source", *fits]]


def load_published_bands() -> pd.DataFrame:
    """Return means of the runs over bands of noise levels, from the committed table.

    It serves where the released tables cannot be had. No row is a single run of the authors.
    """
    return pd.read_csv(data.PUBLISHED / "geometry_bands.csv")
