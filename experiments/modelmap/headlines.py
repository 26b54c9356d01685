"""The sentences of the model map that carry a number, under other choices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from experiments import intervals
from experiments.headlines import PEARSON, SPEARMAN, command_of, first, joined, of_table, rows
from experiments.modelmap import (
    corpus_directions,
    corpus_names,
    distance_tables,
    lineage_benchmark,
    score_tables,
)
from experiments.modelmap import specifications as spec
from experiments.synthesis import glass_box_table
from helpers import stats, text_sets
from helpers.modelmap import (
    lineage,
    model_map,
    placement,
    release,
    score_prediction,
    stored_families,
)
from helpers.synthesis import gate

Ends = tuple[float, float, float]


def _distance() -> pd.DataFrame:
    """Return the factor by which the formula exceeds the divergence of n-grams and tiny GPTs.

    The first rows are of the page's own texts, the others of the stored curve's 128 texts.
    """
    genres, n_bytes = ["facts", "python", "c++", "tables"], 512
    texts = text_sets.load_texts(24 * len(genres), genres=genres)
    cut = [text.encode()[:n_bytes] for text in texts["text"]]
    cut = [text for text in cut if len(text) == n_bytes][:48]
    documents = distance_tables.ngram_documents(genres, 300_000, texts["text"])
    sizes, orders = (30_000, 100_000, 300_000), (1, 2, 3, 4, 5)
    grams = distance_tables.ngram_steps(documents, cut, sizes, orders, n_samples=48)
    pairs = pd.concat([grams, distance_tables.stored_pairs()], ignore_index=True)
    pairs = pairs[pairs["models"] != "SmolLM2"]
    pairs["first"] = pairs["p"].fillna(pairs["model"])
    sets = {"n-grams and GPTs": pairs, "n-grams": pairs[pairs["models"] == "n-gram"]}
    sets["tiny GPTs"] = pairs[pairs["models"] == "tiny GPT"]
    kinds = [f"without pairs of kind {kind}" for kind in pairs["kind"].unique()]

    def measure(part: pd.DataFrame, chosen: str, summary: str) -> Ends:
        near = part["true"] <= part["true"].median()
        masks = {"all": near | True, "nearer half": near, "farther half": ~near}
        mask = masks.get(chosen, ~part["kind"].map(chosen.endswith))
        if mask.all() and chosen != "all":
            return np.nan, np.nan, np.nan
        part = part[mask]
        return intervals.ratio_interval(part["texts"] / part["true"], part["first"], summary)

    choices = {"part": sets, "chosen": ["all", "nearer half", "farther half", *kinds]}
    stored = pd.read_csv(spec.FACTOR)
    stored = stored[stored["models"].isin(["n-grams and GPTs", "n-grams", "tiny GPTs"])]
    stored["texts"] = "128 texts, " + stored["texts"].replace("mixed", "all genres")
    page = {"models": "n-grams and GPTs", "texts": "of the page", "summary": "median"}
    return joined(
        rows(measure, choices | {"summary": ["median", "geometric mean"]}), of_table(stored, page)
    )


def _beats_spline() -> pd.DataFrame:
    """Return the gain of the vector over a monotone curve in the mean, for the mean score."""
    source, kept = release.load_release(), {}
    family = source.models["family"][source.scores.index]
    seeds = {"rival": "spline", "target": "mean", "seeds": 5}

    def measure(penalties: str, models: str, splits: str, kind: str) -> Ends:
        choice = {"penalties": penalties, "models": models, "splits": splits}
        ends = spec.score_gain(source, **choice, **seeds, kept=kept)
        if kind == PEARSON:
            return ends
        keys = (penalties, models, splits), ("spline", models, splits)
        both = [kept[key]["mean"] for key in keys]
        known = both[0].index
        ranks = [rankdata(each) for each in (*both, source.scores.loc[known, "mean"])]
        return score_prediction.prediction_gain(*ranks, family[known])

    def without(name: str) -> Ends:
        part = source._replace(scores=source.scores[family != name])
        page = {"penalties": "as released", "models": "all", "splits": "five folds"}
        return spec.score_gain(part, **page, **seeds)

    penalties = {"as released": "as released", "penalties down to 0.01": "down to 0.01"}
    splits = {"five folds": "five folds", "families left out one by one": "each family"}
    choices = {"penalties": penalties, "models": spec.SCORE_CHOICES["models"], "splits": splits}
    names = {f"without {name}": name for name in family.unique()}
    return joined(
        rows(measure, choices | {"kind": [PEARSON, SPEARMAN]}),
        rows(without, {"name": names}, {"name": "none"}),
    )


def _gate_lead() -> pd.DataFrame:
    """Return how far predicted scores lead the gate, by predictor, tasks and models."""
    source = release.load_release()
    made, scores = model_map.fit_map(source.log_likelihoods), source.scores
    about = source.models.loc[scores.index].rename(columns={"size": "parameters"})
    guesses = score_tables.predictions(source, made)[1]
    rows_of = source.models.index.get_indexer(scores.index)
    given = made.coordinates[rows_of], scores, about["family"], spec.PENALTIES["down to 0.01"]
    sets = {name: guesses[name] for name in score_tables.VECTORS}
    sets["penalties down to 0.01"] = score_prediction.repeated(*given)[1]
    tasks = {"all": ""} | {f"without {task}": task for task in scores.columns.drop("mean")}
    few = {"all": about, "not of the Pile": about[~about["pile"]]}
    families = {f"without {k}": about[about["family"] != k] for k in about["family"].unique()}

    def measure(vector: pd.DataFrame, left_out: str, models: pd.DataFrame) -> Ends:
        known = models[["parameters", "family"]]
        frames = {
            task: known.assign(guess=vector[task], truth=scores[task])
            for task in tasks.values()
            if task not in ("", left_out)
        }
        page = vector is sets[score_tables.VECTORS[0]] and not left_out and models is about
        drawn = {"n_resamples": 1000 if page else 2, "unit": "family"}
        row = gate.beside(gate.stacked(frames, "truth"), {"guess": "predicted"}, **drawn)
        ends = row.loc["guess", ["lead", "lead_low", "lead_high"]]
        return tuple(ends) if page else (ends["lead"], np.nan, np.nan)

    choices = {"vector": sets, "left_out": tasks}
    alone = first(choices) | {"models": few | families}
    return joined(rows(measure, choices | {"models": few}), rows(measure, alone))


def _same_family() -> pd.DataFrame:
    """Return by how much neighbours of one family exceed chance without near-copies.

    The page takes distances on the map of all models; the rows of `spec.NEIGHBOUR_CHOICES` make a
    map of those that stay.
    """
    source = release.load_release()
    copies, newest = spec.copies_of(source.models.index), spec.newest(source.models)
    keep, family = lineage.one_of_each(copies, newest), source.models["family"]
    apart = model_map.fit_map(source.log_likelihoods).distances()
    sizes = family[keep].value_counts()
    large = {"all": ""} | {f"without {name}": name for name in sizes.index[sizes > 1]}

    counted = {"models": "models", "each family alike": "families"}

    def on_page(unit: str, left_out: str) -> Ends:
        chosen = keep & (family != left_out).to_numpy()
        few = apart[np.ix_(chosen, chosen)], family[chosen]
        return lineage.recovered(*few, by=unit).gain

    known = source.log_likelihoods, family, copies, newest
    choices = {name: list(values) for name, values in spec.NEIGHBOUR_CHOICES.items()}
    choices["near-copies"] = ["models out", "pairs out"]
    table = spec.table(choices, lambda **row: spec.neighbour_gain(*known, n_shuffles=500, **row))
    table = table.assign(map="map of what stays", clip="clip " + table["clip"].astype(str))
    page = {"map": "of all", "near-copies": "models out", "coordinates": "centred"}
    page |= {"clip": "clip 0.02", "texts": "all", "unit": "models"}
    words = {"half": "half of the texts", "families": "each family alike", "raw": "not centred"}
    table = table.replace(words)
    return joined(
        rows(on_page, {"unit": counted, "left_out": large}),
        of_table(table, page),
    )


def _corpus_of(
    kind: str, corpora: tuple[str, ...] = ("three corpora", "six corpora")
) -> pd.DataFrame:
    """Return how often the corpus of a glass-box model is named rightly, by other widths.

    With all six corpora alone, each of them, and each width and seed, is left out, too.
    """
    suites = {name: glass_box_table.load(added=name == "six corpora") for name in corpora}
    about = suites[corpora[0]].table.query("kind == @kind")
    steps = {"all": None} | {f"step {step} alone": step for step in np.unique(about["step"])}
    texts = {"128 texts": 1, "32 texts": 4, "8 texts": 16}
    ways = {"another width": ["width"], "another width and seed": ["width", "seed"]}

    def measure(
        suite: glass_box_table.Suite,
        step: int | None,
        every: int,
        values: str,
        teachers: list[str],
        left_out: tuple[str, Any] = ("kind", ""),
    ) -> Ends:
        table, (column, value) = suite.table, left_out
        chosen = (table["kind"] == kind) & (table["step"].eq(step) if step else True)
        chosen &= table[column] != value
        part, seen = table[chosen], suite.log_likelihoods[chosen].iloc[:, ::every]
        X = seen.to_numpy()
        X = corpus_names.signatures(X, logs=False) if values == "signature" else X
        others = [corpus_names.other_groups(part[name]) for name in teachers]
        mix = part["mix"].to_numpy()
        right = corpus_names.nearest_labels(X, mix, np.logical_and.reduce(others)) == mix
        return corpus_names.group_rate(right, part["width"])[:3]

    choices = {"suite": suites, "step": steps, "every": texts}
    choices |= {"values": ["signature", "with its level"], "teachers": ways}
    if len(suites) > 1:
        return rows(measure, choices)
    left = {"all": ("kind", "")}
    for column, word in {"mix": "corpus", "width": "width", "seed": "seed"}.items():
        left |= {f"without {word} {v}": (column, v) for v in about[column].unique()}
    return joined(rows(measure, choices), rows(measure, first(choices) | {"left_out": left}))


# Losses that the release gives in two units, and sizes between which Llama lies.
_UNITS = {"bits per byte": "", "nats per token": ", nats"}
_SIZES = {"all sizes": (0, np.inf), "models of like size": (1e9, 3.2e9)}


def _design_ratio(
    losses: Sequence[str] = corpus_names.LOSSES, units: dict[str, str] = _UNITS
) -> pd.DataFrame:
    """Return how far another architecture moves a signature, over how far another corpus does.

    On other losses than all five, models of unlike size are left out in some rows.
    """
    models = corpus_names.load_loss_lines()
    texts = {"all": ""} | {f"without texts of {name}": name for name in losses if len(losses) > 2}
    corpora = {"both": ["C4", "FineWeb-Edu"], "other corpus C4": ["C4"]}
    corpora["other corpus FineWeb-Edu"] = ["FineWeb-Edu"]
    designs = models.loc[models["corpus"] == "The Pile", "architecture"].unique()
    over = {"mean": ""} | {f"{name} alone": name for name in designs if name != "Llama"}

    def measure(
        left_out: str,
        unit: str,
        values: str,
        other: list[str],
        summary: str,
        sizes: tuple[float, float] = _SIZES["all sizes"],
    ) -> Ends:
        names = [f"{name}{unit}" for name in losses if name != left_out]
        learned = models["corpus"].isin([*other, "The Pile"]) & models["size"].between(*sizes)
        part = models[learned].dropna(subset=names)
        found = part[names].to_numpy(float)
        X = corpus_names.signatures(found) if values == "signature" else np.log(found)
        ratio = corpus_directions.design_and_data(X, part, "Llama", "The Pile")
        if summary:
            return ratio[summary], np.nan, np.nan
        return stats.bootstrap_mean(ratio, seed=0)[:3]

    choices = {"left_out": texts, "unit": units}
    choices |= {"values": ["signature", "with its level"], "other": corpora}
    mean = {"summary": {"mean": ""}}
    table = joined(rows(measure, choices | mean), rows(measure, first(choices) | {"summary": over}))
    if losses == corpus_names.LOSSES:
        return table
    alike = first(choices) | {name: choices[name] for name in ("values", "other")} | mean
    return joined(table, rows(measure, alike | {"sizes": _SIZES}))


def _corpus_from_answers() -> pd.DataFrame:
    """Return how often the corpus of real models is named rightly from their losses on answers."""
    models, names = corpus_names.load_loss_lines(), corpus_names.ANSWERS
    texts = {"all": ""} | {f"without {name}": name for name in names}
    designs = models.loc[models["corpus"] == "The Pile", "architecture"].unique()
    over = {"architectures alike": ""} | {f"without {k}": k for k in designs if k != "Llama"}

    @cache
    def named(left_out: str, sizes: tuple[float, float]) -> pd.DataFrame:
        part = models[models["size"].between(*sizes)]
        return corpus_names.named_real(part, {"": [name for name in names if name != left_out]})

    def measure(left_out: str, rule: str, sizes: tuple[float, float], over: str) -> Ends:
        found = named(left_out, sizes).query("rule == @rule and texts == ''")
        if over == "models":
            return found["right"].sum() / found["n"].sum(), np.nan, np.nan
        return corpus_names.named_rate(found[found["architecture"] != over], rule, "")[:3]

    ways = {"rule": ["nearest mean", "nearest line"], "sizes": _SIZES}
    alike = {"over": {"architectures alike": ""}}
    over |= {"each model alike": "models"}
    return joined(
        rows(measure, {"left_out": texts, **ways, **alike}),
        rows(measure, {"left_out": {"all": ""}, **ways, "over": over}),
    )


def _over_weights() -> pd.DataFrame:
    """Return how much more often the map finds parents than weights do: the stored curve's rows."""
    bench = pd.read_csv(lineage_benchmark.TABLE)
    choices = {k: v for k, v in spec.LINEAGE_CHOICES.items() if k != "rival"}
    words = ("all", "without reordered units", "without further training", "mild edits")
    choices["edits"] = dict(zip(words, choices["edits"], strict=True))
    choices["unit"] = dict(zip(("kinds", "each child alike"), choices["unit"], strict=True))
    return rows(lambda **row: spec.lineage_gain(bench, rival="weights", **row), choices)


def _coverage() -> pd.DataFrame:
    """Return how much of SmolLM2's family lies in intervals from families of all kinds."""
    made, about = stored_families.load()
    names = ["bits_per_byte", "accuracy"]
    scores = {"lower": names, "bits per byte": names[:1], "accuracy": names[1:]}
    # Small GPTs have no scores, and so no say.
    grams = about.loc[stored_families.makes(about) == "n-gram", "family"].unique()
    out = {"all": ""} | {f"without {name}": name for name in grams}
    penalties = {"default": {}, "penalties as released": {"penalties": score_prediction.ALPHAS}}

    @cache
    def covered(n_texts: int, grid: str, left_out: str) -> dict[str, float]:
        saved = placement.first_texts(made, n_texts)
        truth, found = about[names].mask(about["family"] == left_out), {}
        given = truth, about["family"], saved.log_likelihoods[:1]
        said = placement.predict(saved, *given, **penalties[grid])
        for name in names:
            error = (truth[name] - said.held_out[name]).to_numpy()
            found[name] = placement.coverage(error, about["family"], 0.8).covered["smollm2"]
        return found

    def measure(scores: list[str], n_texts: int, grid: str, left_out: str) -> float:
        found = covered(n_texts, grid, left_out)
        return min(found[name] for name in scores)

    choices = {"n_texts": {f"{n} texts": n for n in (64, 32, 16)}, "grid": [*penalties]}
    return joined(
        rows(measure, {"scores": scores, **choices, "left_out": {"all": ""}}),
        rows(measure, {"scores": scores, **first(choices), "left_out": out}),
    )


CLAIMS = {
    "map-lineage-over-weights": _over_weights,
    "map-corpus-gpt": partial(_corpus_of, "gpt"),
    "map-corpus-gpt-six": partial(_corpus_of, "gpt", ("six corpora",)),
    "map-corpus-bert": partial(_corpus_of, "bert"),
    "map-corpus-design-ratio": _design_ratio,
    "map-corpus-design-ratio-neutral": partial(_design_ratio, corpus_names.LOSSES[3:]),
    "map-corpus-design-ratio-answers": partial(
        _design_ratio, corpus_names.ANSWERS, {"bits per byte": ""}
    ),
    "map-corpus-answers": _corpus_from_answers,
    "map-place-coverage-smollm2": _coverage,
    "map-same-family-without-copies": _same_family,
    "map-distance-is-kl": _distance,
    "map-beats-mean-spline": _beats_spline,
    "map-gate-lead": _gate_lead,
}
main = command_of("modelmap", CLAIMS)
