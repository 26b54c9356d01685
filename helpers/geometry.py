"""Quantized latent space: cell counts, patchiness and Lloyd's index, noise injection, tables."""

from __future__ import annotations

import copy
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers import data

if TYPE_CHECKING:
    from torch import nn

QUANTIZERS = ("lsq", "pq", "rq", "kmeans")

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


def cell_counts(codes: ArrayLike, n_cells: int) -> np.ndarray:
    """Return how many points fall into each cell of each codebook, of shape (M, n_cells).

    `codes` holds integers of shape (n, M), or (n,) for one codebook: column m is the cell of every
    point in codebook m, from 0 to `n_cells - 1`. The result is int64, and every row sums to n.
    Raises `ValueError` for no points, codes that are no integers, or codes out of range.
    """
    codes = np.asarray(codes)
    codes = codes[:, None] if codes.ndim == 1 else codes
    if codes.ndim != 2 or not codes.size:
        raise ValueError(f"codes has shape {codes.shape}; pass (points, codebooks), not empty")
    if not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"codes has dtype {codes.dtype}; pass integers, one cell number a point")
    if codes.min() < 0 or codes.max() >= n_cells:
        raise ValueError(
            f"codes runs from {codes.min()} to {codes.max()}, but n_cells is {n_cells}; "
            "number the cells from 0 to n_cells - 1"
        )
    return np.stack([np.bincount(column, minlength=n_cells) for column in codes.T])


def _counts(counts: ArrayLike) -> np.ndarray:
    counts = np.asarray(counts, dtype=float)
    counts = counts[None, :] if counts.ndim == 1 else counts
    if counts.ndim != 2 or counts.shape[1] < 2:
        raise ValueError(f"counts has shape {counts.shape}; pass (codebooks, cells), 2 cells or up")
    totals = counts.sum(axis=1)
    if counts.min() < 0 or totals[0] <= 0 or not np.allclose(totals, totals[0], rtol=1e-12):
        raise ValueError(
            f"counts has the row sums {totals[:4]}; pass counts of the same points in every "
            "codebook, at least one point and none below 0"
        )
    return counts


def lloyd_index(counts: ArrayLike) -> float:
    """Return Lloyd's index of patchiness of cell counts: 1 for scattered at random, more if patchy.

    `counts` has shape (M, K), or (K,), as `cell_counts` gives them. With n points a cell on average
    and V the population variance of all counts, L = 1 + (V / n - 1) / n. All points in one cell
    give K - 1 / n, counts that are all equal 1 - 1 / n. Raises `ValueError` for
    negative counts or codebooks with different totals. Source: Lloyd (1967), mean crowding over
    mean density; named by Marbut et al. (2024).
    """
    counts = _counts(counts)
    mean = counts.mean()
    return float(1 + (counts.var() / mean - 1) / mean)


def patchiness_as_released(counts: ArrayLike) -> float:
    """Return the point patchiness of the released code, whose mean is M times too large.

    `counts` has shape (M, K). The code divides the sum of all counts, M N, by the K cells of one
    codebook: mu = M n in place of n. It then takes 1 + (V / mu - 1) / mu, with V the population
    variance of all counts. With one codebook this is Lloyd's index. Raises as `lloyd_index` does.
    Source: Marbut et al. (2024), released code.
    """
    counts = _counts(counts)
    mean = counts.sum() / counts.shape[1]
    return float(1 + (counts.var() / mean - 1) / mean)


def lloyd_from_released(
    patchiness: ArrayLike, *, points_per_cell: float, codebooks: int = 4
) -> np.ndarray:
    """Turn patchiness as released into Lloyd's index: L = 1 + M² (P - 1) + (M - 1) / n.

    `patchiness` is any array, `points_per_cell` n = N / K and `codebooks` M; the result has the
    shape of `patchiness`. The map is affine at a fixed number of points, so that correlations do
    not change. Raises `ValueError` unless `points_per_cell` is positive. Source: algebra on the
    two definitions above; `tests/test_geometry.py` checks it.
    """
    if not points_per_cell > 0:
        raise ValueError(f"points_per_cell is {points_per_cell}; pass points / cells, above 0")
    released = np.asarray(patchiness, dtype=float)
    return 1 + codebooks**2 * (released - 1) + (codebooks - 1) / points_per_cell


def quantize(
    points: ArrayLike,
    *,
    quantizer: str = "lsq",
    codebooks: int = 4,
    bits: int = 8,
    train_iters: int = 25,
    seed: int = 0,
) -> tuple[np.ndarray, float]:
    """Train a quantizer on the points and return their codes and the reconstruction error.

    `points` has shape (n, d) and is taken as float32. `quantizer` is `lsq` (additive, local search:
    the paper's AQ), `pq` (product), `rq` (residual, greedy) or `kmeans` (flat, one codebook, so
    that `codebooks` does not count). Each codebook has 2**`bits` cells. The codes are int64 of
    shape (n, codebooks); the error is the sum of squared residuals over the sum of squared
    coordinates, neither centred, from 0 to about 1. The seed fixes
    the result. Raises `ValueError` for fewer points than cells, values that are not
    finite, or, for `pq`, a width that the codebooks do not divide. Source: Marbut et al. (2024),
    released code, FAISS with 4 codebooks of 8 bits.
    """
    x = np.ascontiguousarray(points, dtype=np.float32)
    cells = 2**bits
    if x.ndim != 2 or not x.size:
        raise ValueError(f"points has shape {x.shape}; pass (points, dimensions), not empty")
    if not np.isfinite(x).all():
        raise ValueError("points holds NaN or infinity; leave those rows out")
    if len(x) < cells:
        raise ValueError(
            f"points has {len(x)} rows for {cells} cells; pass more points, or fewer bits than "
            f"{bits} (60 points a cell keep the bias small)"
        )
    if quantizer not in QUANTIZERS:
        raise ValueError(f"quantizer is {quantizer!r}; pass one of {QUANTIZERS}")
    if quantizer == "pq" and x.shape[1] % codebooks:
        raise ValueError(
            f"points has {x.shape[1]} columns, which {codebooks} codebooks do not divide; "
            "choose codebooks that do, or quantizer='lsq'"
        )
    codes, restored = _train(x, quantizer, codebooks, bits, train_iters, seed)
    residual = x.astype(np.float64) - restored
    total = float(np.square(x, dtype=np.float64).sum())
    error = float(np.square(residual).sum()) / total if total else 0.0
    return codes.astype(np.int64), error


def _train(
    x: np.ndarray, quantizer: str, codebooks: int, bits: int, iterations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes and the restored points of a quantizer trained on all of `x`."""
    import faiss

    # FAISS prints a warning below 39 points a cell; `quantize` has its own rule for that.
    rule = {"niter": iterations, "seed": seed, "min_points_per_centroid": 1}
    if quantizer == "kmeans":
        clusters = faiss.Kmeans(x.shape[1], 2**bits, **rule)
        clusters.train(x)
        codes = clusters.index.search(x, 1)[1]
        return codes, clusters.centroids[codes[:, 0]]
    kinds = {
        "lsq": faiss.LocalSearchQuantizer,
        "pq": faiss.ProductQuantizer,
        "rq": faiss.ResidualQuantizer,
    }
    tool = kinds[quantizer](x.shape[1], codebooks, bits)
    if quantizer == "lsq":
        tool.train_iters, tool.random_seed = iterations, seed
    else:
        for name, value in rule.items():
            setattr(tool.cp, name, value)
    tool.train(x)
    packed = tool.compute_codes(x)
    return faiss.unpack_bitstrings(packed, codebooks, bits), tool.decode(packed)


_ENCODER_WEIGHT = re.compile(r"(^|\.)encoder\.(.+\.)?weight$")


def noisy_parameters(model: nn.Module) -> list[str]:
    """Return the names of the parameters that the paper's noise goes to.

    These are the parameters of the encoder whose name ends in `weight`: query, key, value, output,
    both feed-forward matrices, and both layer-norm gains of every layer. Embeddings, biases, pooler
    and heads are left alone. Raises `ValueError` for a model without such a parameter. Source:
    Marbut et al. (2024), released code.
    """
    names = [name for name, _ in model.named_parameters() if _ENCODER_WEIGHT.search(name)]
    if not names:
        raise ValueError(
            "model has no parameter named encoder.….weight; pass an encoder of the BERT or RoBERTa "
            "family"
        )
    return names


def inject_noise(model: nn.Module, level: float, *, seed: int) -> tuple[nn.Module, float]:
    """Return a copy of an encoder with noise mixed into its weights, and noise over signal.

    `level` is the share of noise in percent, 0 to 100: W' = (1 - level/100) W + (level/100) E, with
    E standard normal in every entry, on the parameters of `noisy_parameters`. The ratio is the
    norm of the noise added over the norm of the weights kept, all those parameters together; 0 for
    level 0 and infinite for 100. The model passed in is not changed, and one seed gives one result
    on any device. Raises `ValueError` for a level outside 0 to 100. Source: Marbut et al. (2024),
    released code, which draws without a seed.
    """
    import torch

    if not 0 <= level <= 100:
        raise ValueError(f"level is {level}; pass the share of noise in percent, from 0 to 100")
    chosen = set(noisy_parameters(model))
    noisy, share = copy.deepcopy(model), level / 100
    generator = torch.Generator().manual_seed(seed)
    added = kept = 0.0
    with torch.no_grad():
        for name, weight in noisy.named_parameters():
            if name not in chosen:
                continue
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            added += float((share * noise).double().square().sum())
            kept += float(((1 - share) * weight).double().square().sum())
            weight.mul_(1 - share).add_(noise, alpha=share)
    return noisy, math.sqrt(added / kept) if kept else math.inf


def _table(name: str, index_col: int | str | None = None) -> pd.DataFrame:
    table = pd.read_csv(data.fetch(f"manifolds/{name}.csv"), index_col=index_col)
    return table.rename(columns=MEASURES)


def load_perturbed_runs() -> pd.DataFrame:
    """Return the 168 perturbed models whose geometry and GLUE score were both released.

    One row a run: `architecture` (`bert-small`, `bert-base`, `roberta`), `model`, `alpha` (noise in
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
    return table[front + list(MEASURES.values())].sort_values("glue", ignore_index=True)


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


def published_bands(runs: pd.DataFrame, *, least: int = 3) -> pd.DataFrame:
    """Return means of runs over bands of adjacent noise levels, with at least `least` runs each.

    `runs` is the table of `load_perturbed_runs`. Within an architecture the levels are taken from
    low to high, and a band is closed as soon as it holds enough runs; what is left over joins the
    last band. The columns are those of `runs` without `replicate` and the single tasks, each the
    mean over the band, and `runs` (how many), `alpha_low`, `alpha_high` (percent). Raises
    `ValueError` when an architecture has fewer runs than `least`. Source: statistics computed by
    this project.
    """
    rows = []
    for architecture, part in runs.groupby("architecture", sort=True):
        if len(part) < least:
            raise ValueError(f"runs has {len(part)} of {architecture}, fewer than least={least}")
        bands: list[list[float]] = [[]]
        sizes = part.groupby("alpha").size()
        for alpha in sizes.index:
            if sizes[bands[-1]].sum() >= least:
                bands.append([])
            bands[-1].append(alpha)
        if len(bands) > 1 and sizes[bands[-1]].sum() < least:
            rest = bands.pop()
            bands[-1] += rest
        for band in bands:
            chosen = part[part["alpha"].isin(band)]
            span = {"alpha_low": band[0], "alpha_high": band[-1], "runs": len(chosen)}
            levels = " to ".join(dict.fromkeys(f"{level:g}" for level in (band[0], band[-1])))
            single = [c for c in chosen if c.startswith("task_")]
            means = chosen.drop(columns=["architecture", "model", "replicate", *single]).mean()
            rows.append(
                {
                    "architecture": architecture,
                    "model": f"{architecture}, {levels} %",
                    **span,
                    **means,
                }
            )
    return pd.DataFrame(rows)


def load_published_bands() -> pd.DataFrame:
    """Return the committed table of `published_bands`: `data/published/geometry_bands.csv`.

    It serves where the released tables cannot be had. No row is a single run of the authors.
    """
    return pd.read_csv(data.PUBLISHED / "geometry_bands.csv")
