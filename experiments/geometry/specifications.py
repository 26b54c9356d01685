"""Specification curves of the geometry part: its headlines, under reasonable alternatives."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from experiments import intervals
from experiments.command import Written, command, to_folder
from experiments.geometry import base_encoder
from helpers import data, specifications, stats
from helpers.geometry import release, reliability

FILES = {
    "beyond_noise": data.PUBLISHED / "spec_geometry_beyond_noise.csv",
    "headline_r": data.PUBLISHED / "spec_geometry_headline_r.csv",
    "variants": data.PUBLISHED / "spec_geometry_variants.csv",
    "base": data.PUBLISHED / "spec_geometry_base.csv",
}
NAMES = {"bert-small": "BERT-small", "roberta": "RoBERTa", "MiniLM": "MiniLM"}
NOISE = ("line", "quadratic", "cubic", "levels")
SCALES = ("values", "ranks", "values, corrected")
COLUMNS = {"AQ": "aq_patchiness", "PQ": "pq_patchiness"}
OURS = {"AQ": "lloyd_index", "PQ": "pq_lloyd_index", "k-means": "km_lloyd_index"}
# Variants that some reader would set aside: half or all of them is random, or layers are gone.
RANDOM = ("random embeddings", "random body", "untrained")
CUT = ("first 4 layers", "first 2 layers", "embeddings only", "layers shuffled")
VARIANT_CHOICES = {
    "quantizer": list(OURS),
    "size": ["full", "small"],
    "models": ["all", "no random parts", "all layers there"],
    "scale": list(SCALES[:2]),
}
BASE_CHOICES = {
    "quantizer": list(OURS),
    "score": ["mean", "SST-2", "STS-B"],
    "levels": ["all", "up to 20 %", "not 3 to 6 %"],
    "unit": ["single models", "level means"],
    "scale": list(SCALES[:2]),
}
_BASE_SCORES = {"mean": "score", "SST-2": "task_sst2", "STS-B": "task_stsb"}
N_RESAMPLES = 500


def _relative_error(repeats: pd.DataFrame, column: str, groups: str) -> float:
    """Return the variance of ln(index - 1) over measurements of the same weights.

    `groups` names the column that tells the models apart. It is the squared measurement error, as
    a share of the index's excess over 1.
    """
    excess = repeats[column] - 1
    return reliability.pooled_variance(np.log(excess), repeats[groups].to_numpy()).value


def noise_controls(alpha: pd.Series, form: str, *, ranks: bool = False) -> np.ndarray:
    """Return the columns that hold the noise level fixed: powers of its logarithm, or levels.

    Raises `ValueError` for an unknown `form`.
    """
    if form == "levels":
        return pd.get_dummies(alpha).to_numpy(float)
    if form not in NOISE:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(NOISE)}")
    dose = alpha.rank() if ranks else np.log(alpha)
    scaled = ((dose - dose.mean()) / dose.std()).to_numpy(float)
    return np.stack([scaled**k for k in range(1, NOISE.index(form) + 2)], axis=1)


def residuals(values: pd.Series, controls: np.ndarray) -> tuple[np.ndarray, int]:
    """Return what the controls leave of a column, and its degrees of freedom."""
    design = np.column_stack([np.ones(len(values)), controls])
    rank = np.linalg.matrix_rank(design)
    fit = design @ np.linalg.lstsq(design, values.to_numpy(float), rcond=None)[0]
    return values.to_numpy(float) - fit, len(values) - int(rank)


def _beyond_noise(
    tables: dict[str, pd.DataFrame], errors: dict[str, dict[str, float]]
) -> pd.DataFrame:
    """Return the correlation of patchiness with the score, the noise level held fixed.

    `tables` has a table per architecture with `alpha` (percent, above 0), `glue` and the columns of
    `COLUMNS`; `errors` the `_relative_error` of each of them. Choices: `models`, `noise` (how its
    level is held fixed), `quantizer`, `scale`. *Corrected* divides by the root of the reliability
    of what is left of patchiness; a specification in which nothing of it repeats is left out.
    """
    rows = []
    for choice in specifications.combinations(
        models=list(tables), noise=NOISE, quantizer=list(COLUMNS), scale=SCALES
    ):
        part, column = tables[choice["models"]], COLUMNS[choice["quantizer"]]
        ranks = choice["scale"] == "ranks"
        controls = noise_controls(part["alpha"], choice["noise"], ranks=ranks)
        x, y = (part[k].rank() if ranks else part[k] for k in (column, "glue"))
        found, factor = stats.partial_correlation(x, y, controls), 1.0
        if choice["scale"] == "values, corrected":
            left, freedom = residuals(part[column], controls)
            error = errors[choice["models"]][column] * np.mean((part[column] - 1) ** 2)
            share = 1 - error / (left @ left / freedom)
            factor = reliability.disattenuated(1.0, float(share))
        if np.isfinite(factor):
            ends = dict(zip(("estimate", "low", "high"), np.array(found[:3]) * factor, strict=True))
            rows.append({**choice, **ends, "n": found.n})
    return pd.DataFrame(rows)


def _headline_r(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the correlation of patchiness with GLUE in every reading of "r = 0.9".

    `runs` is the table of `release.load_perturbed_runs`. Choices: `models` (one architecture, all,
    or all with an offset for each), `quantizer`, `unit` (single models or medians of a noise
    level), `scale`. Intervals are Fisher's.
    """
    rows = []
    medians = runs.groupby(["architecture", "alpha"]).median(numeric_only=True).reset_index()
    units = {"single models": runs, "level medians": medians}
    picks = {"BERT-small": "bert-small", "RoBERTa": "roberta", "all": "", "all, offsets": ""}
    for choice in specifications.combinations(
        models=list(picks), quantizer=list(COLUMNS), unit=list(units), scale=SCALES[:2]
    ):
        part = units[choice["unit"]]
        if name := picks[choice["models"]]:
            part = part[part["architecture"] == name]
        pair = part[[COLUMNS[choice["quantizer"]], "glue"]]
        x, y = (pair.rank() if choice["scale"] == "ranks" else pair).to_numpy().T
        offsets = pd.get_dummies(part["architecture"])
        found = (
            stats.partial_correlation(x, y, offsets)
            if choice["models"] == "all, offsets"
            else stats.correlation(x, y)
        )
        rows.append(
            {**choice, "estimate": found.r, "low": found.low, "high": found.high, "n": found.n}
        )
    return pd.DataFrame(rows)


def variant_rows(variants: pd.DataFrame, sweep: pd.DataFrame) -> pd.DataFrame:
    """Return how a line in patchiness, fitted to noisy models, orders the other models.

    `variants` is the published table of models made by other changes, `sweep` that of noisy
    MiniLMs. One row per combination of `VARIANT_CHOICES`: the correlation of predicted and observed
    score, with Fisher's interval. Below 0 the models are ranked in reverse.
    """
    rows, leave = [], {"no random parts": RANDOM, "all layers there": CUT}
    for choice in specifications.combinations(**VARIANT_CHOICES):
        column, size = OURS[choice["quantizer"]], choice["size"]
        teachers = sweep[(sweep["size"] == size) & (sweep["level"] > 0)]
        teachers = teachers[teachers["rule"] == "published"]
        models = variants[variants["size"] == size]
        models = models[~models["model"].isin(leave.get(choice["models"], ()))]
        slope = np.polyfit(teachers[column], teachers["score"], 1)[0]
        pair = models[[column, "score"]]
        x, y = (pair.rank() if choice["scale"] == "ranks" else pair).to_numpy().T
        found = stats.correlation(np.sign(slope) * x, y)
        ends = {"estimate": found.r, "low": found.low, "high": found.high}
        rows.append({**choice, **ends, "n": found.n})
    return pd.DataFrame(rows)


def _gap(pairs: Sequence[np.ndarray], scale: str, rows: np.ndarray) -> float:
    """Return the first pair of columns' correlation minus the second pair's, in some rows."""
    some = [pair[rows] for pair in pairs]
    some = [rankdata(pair, axis=0) for pair in some] if scale == "ranks" else some
    one, other = (np.corrcoef(pair.T)[0, 1] for pair in some)
    return float(one - other)


def _base_pairs(wide: pd.DataFrame, unit: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the columns of each encoder, and the noise level of each row, models or means."""
    wide = wide.groupby("level").mean() if unit == "level means" else wide
    pairs = [wide.xs(name, axis=1, level=1).to_numpy() for name in base_encoder.SWEEPS]
    return pairs, wide.index.get_level_values("level").to_numpy()


def base_windows(noisy: pd.DataFrame, *, fewest: int = 5) -> pd.DataFrame:
    """Return `base_rows` without intervals, for every run of neighbouring noise levels.

    `noisy` is as there. One row per run of at least `fewest` levels and combination of the other
    `BASE_CHOICES`, with the `first` and `last` level (percent) and the `estimate`.
    """
    levels, rows = np.sort(noisy["level"].unique()), []
    others = {name: kinds for name, kinds in BASE_CHOICES.items() if name != "levels"}
    for choice in specifications.combinations(**others):
        columns = [OURS[choice["quantizer"]], _BASE_SCORES[choice["score"]]]
        wide = noisy.pivot(index=["level", "replicate"], columns="encoder", values=columns)
        pairs, level = _base_pairs(wide, choice["unit"])
        for i, first in enumerate(levels):
            for last in levels[i + fewest - 1 :]:
                inside = np.flatnonzero((level >= first) & (level <= last))
                gap = _gap(pairs, choice["scale"], inside)
                rows.append({**choice, "first": first, "last": last, "estimate": gap})
    return pd.DataFrame(rows)


def base_rows(noisy: pd.DataFrame, *, n_resamples: int = N_RESAMPLES) -> pd.DataFrame:
    """Return how much more closely patchiness follows the scores in MPNet than in MiniLM.

    `noisy` are the noisy rows of `base_encoder.load_sweeps`. One row per combination of
    `BASE_CHOICES`: the difference of the two correlations, with an interval that draws whole noise
    levels.
    """
    keep = {
        "all": "level > 0",
        "up to 20 %": "level <= 20",
        "not 3 to 6 %": "level < 3 or level > 6",
    }
    rows = []
    for choice in specifications.combinations(**BASE_CHOICES):
        columns = [OURS[choice["quantizer"]], _BASE_SCORES[choice["score"]]]
        part = noisy.query(keep[choice["levels"]])
        wide = part.pivot(index=["level", "replicate"], columns="encoder", values=columns)
        pairs, level = _base_pairs(wide, choice["unit"])
        gap = partial(_gap, pairs, choice["scale"])
        with np.errstate(invalid="ignore", divide="ignore"):
            found = intervals.bootstrap(gap, level, n_resamples=n_resamples)
        ends = dict(zip(("estimate", "low", "high"), found, strict=True))
        rows.append({**choice, **ends, "n": len(level)})
    return pd.DataFrame(rows)


def tables(
    runs: pd.DataFrame, sweep: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, float]]]:
    """Return what `_beyond_noise` takes: the released models, MiniLM's, and their errors.

    `sweep` is the published table of noisy MiniLMs, `runs` as in `_headline_r`. The error of the
    released measures is that of three samples of sentences of the unperturbed BERT-base; that of
    MiniLM of its three measurements without noise.
    """
    published = sweep.query("size == 'full' and rule == 'published'")
    names = {"lloyd_index": "aq_patchiness", "pq_lloyd_index": "pq_patchiness", "level": "alpha"}
    ours = published.rename(columns={**names, "score": "glue"})
    groups = {
        NAMES[name]: part
        for name, part in runs.query("alpha > 0").groupby("architecture")
        if name in NAMES
    }
    groups["MiniLM"] = ours.query("alpha > 0")
    samples = release.load_repeated_samples()
    errors = {
        name: {c: _relative_error(samples, c, "model") for c in COLUMNS.values()} for name in groups
    }
    bare = ours.query("alpha == 0")
    errors["MiniLM"] = {c: _relative_error(bare, c, "alpha") for c in COLUMNS.values()}
    return groups, errors


def both(runs: pd.DataFrame, sweep: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables of specifications that need the released runs, by the names of `FILES`."""
    return {"beyond_noise": _beyond_noise(*tables(runs, sweep)), "headline_r": _headline_r(runs)}


@command("geometry_specifications", to_folder("--folder"))
def main(given: Namespace) -> Written:
    """Compute the specification tables of the geometry part from released and stored tables."""
    sweep = pd.read_csv(data.PUBLISHED / "geometry_noise.csv")
    found = both(release.load_perturbed_runs(), sweep)
    found["variants"] = variant_rows(pd.read_csv(data.PUBLISHED / "geometry_variants.csv"), sweep)
    found["base"] = base_rows(base_encoder.load_sweeps().query("level > 0"))
    for name, table in found.items():
        yield given.folder / FILES[name].name, table.round(6).to_csv(index=False)
