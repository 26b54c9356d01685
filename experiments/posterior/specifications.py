"""The sentences on ALP under every reasonable choice, and what its settings do to real models."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import scale

from experiments import intervals
from experiments.command import Written, command, option, to_folder
from experiments.posterior import invented, real_models, rival_scores
from experiments.posterior.agreement import rank_agreement
from experiments.posterior.real_models import Task
from helpers import data, stats
from helpers.posterior import average_log_posterior, held_out_log_posterior
from helpers.posterior.dimensions import varied
from helpers.posterior.transferability import tuned_probe
from helpers.specifications import combinations

# Choices that a reader of the paper has to make, for none is in what we could read of it.
NOISE_CHOICES = {
    "ridge": [1e-6, 1e-4, 1e-2, 1.0],
    "clip": ["none", 1e-4],
    "block": [16, 32, 64],
    "seed": [0, 1],
}
FILM_CHOICES = {
    "clusters": ["decade", "genre", "crossed", "tree"],
    "space": ["whole", "blocks of 8", "blocks of 16", "blocks of 32"],
    "fit": ["ridge 1e-06", "ridge 0.01", "ridge 1", "calibrated"],
    "models": ["all nine", "without controls", "fully trained"],
}
MARGIN = 0.01
RIDGES = [1e-6, 1e-4, 1e-2, 1e-1, 1.0]
PATH = [1e-6, 1e-4, 1e-2, 1e-1, 0.3, 1.0, 3.0, 10.0]


def layers_below_noise(
    models: Mapping[str, np.ndarray],
    labels: Sequence,
    noise: np.ndarray,
    *,
    ridge: float = 1e-6,
    clip: float | str = "none",
    block: int = 32,
    seed: int = 0,
    n_resamples: int = 500,
) -> dict[str, float]:
    """Return how many models the published form puts below noise, with an interval over entities.

    `models` maps names to (N, d), `noise` is (N, d) too, `block` the dimensions scored together.
    A model is below when its score is lower by more than `MARGIN` nats. The 95 % interval draws
    the entities with replacement and holds the fitted Gaussians fixed.
    """
    floor = None if clip == "none" else float(clip)
    score = partial(
        average_log_posterior, labels=labels, form="published", ridge=ridge, clip=floor, seed=seed
    )
    level = score(noise, head_dim=min(block, noise.shape[1])).per_entity
    gaps = np.array(
        [level - score(X, head_dim=min(block, X.shape[1])).per_entity for X in models.values()]
    )
    n = gaps.shape[1]
    weights = np.random.default_rng([seed, n]).multinomial(n, np.full(n, 1 / n), size=n_resamples)
    counts = (gaps @ weights.T / n > MARGIN).sum(axis=0)
    low, high = np.quantile(counts, [0.025, 0.975])
    return {"estimate": int((gaps.mean(axis=1) > MARGIN).sum()), "low": low, "high": high}


def noise_table(task: Task, choices: Mapping[str, Sequence] = NOISE_CHOICES) -> pd.DataFrame:
    """Return one row per specification of `layers_below_noise`; each seed draws its own noise."""
    rows, (n, d) = [], task.models["noise"].shape
    models = {name: task.models[name] for name in task.trained}
    for choice in combinations(**choices):
        noise = np.random.default_rng([choice["seed"], n, d]).standard_normal((n, d))
        rows.append({**choice, **layers_below_noise(models, task.labels, noise, **choice)})
    return pd.DataFrame(rows)


def glass_box_gain(
    models: pd.DataFrame,
    *,
    checkpoints: str = "all",
    left_out: str = "mix",
    scale: str = "ranks",
    n_resamples: int = 500,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the share of the error on facts known that ALP saves beyond size and steps.

    `models` are those of one kind in `glass_box_table.load`, of which "all" or only the "last"
    `checkpoints` count. A line in the logarithms of parameters and steps, or in their ranks, with
    ALP or without it, is tested on corpora ("mix") or widths left out. The 95 % interval draws
    cells of width and corpus.
    """
    part = models if checkpoints == "all" else models[models["step"] == models["step"].max()]
    free = [name for name in ("parameters", "step") if part[name].nunique() > 1]
    columns = [np.log(part[free]).to_numpy(), part[["alp", "closed_book"]].to_numpy(float)]
    values, corpora = np.hstack(columns), part[left_out].to_numpy()

    def error(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
        design = np.column_stack([np.ones(len(X)), X])
        return float(np.linalg.norm(stats.held_out_residuals(design, y, groups)))

    def saved(rows: np.ndarray) -> float:
        some, groups = values[rows], corpora[rows]
        if len(set(groups)) < 3:
            return float("nan")
        table = rankdata(some, axis=0) if scale == "ranks" else some
        X, y = table[:, :-1], table[:, -1]
        return 1 - error(X, y, groups) / error(X[:, :-1], y, groups)

    cells = part["width"].astype(str) + part["mix"]
    return intervals.bootstrap(saved, cells, n_resamples=n_resamples, seed=seed)


# What clusters, blocks, ridge and regularisation do to real models


def _ablation(films: real_models.Films, block: int = 16) -> pd.DataFrame:
    """Return how each form follows the hit rate, over clusterings, division and regularisation.

    One row per `clusters`, `space` (whole or blocks) and `fit` (in-sample with a ridge, or
    calibrated): the rank correlation over the nine models with the hit rate and with a tuned probe
    on the same clusters, the place of noise, of which the
    last is right, and `gap`, by how many nats noise stands above the last model.
    """
    rows = []
    for by in films.clusterings:
        task = real_models.clustered(films, by)
        probes = [tuned_probe(X, task.labels)[0].log_likelihood
                  for X in task.models.values()]  # fmt: skip
        truths = pd.DataFrame(
            {"hit rate": [task.downstream[name] for name in task.models], "probe": probes},
            index=list(task.models),
        )
        for space, fit in product(["whole", "blocks"], [*RIDGES, "calibrated"]):
            options = {"head_dim": block if space == "blocks" else None}
            if fit != "calibrated":
                options |= {"form": "published", "ridge": fit}
            values = pd.Series(
                {name: average_log_posterior(X, task.labels, **options).score
                 for name, X in task.models.items()}
            )  # fmt: skip
            row = {"clusters": by, "n_clusters": len(set(task.labels)), "space": space}
            row |= {"fit": fit if fit == "calibrated" else f"ridge {fit:g}"}
            row |= truths.corrwith(values.round(9), method="spearman").to_dict()
            row["noise"] = values.rank(ascending=False)["noise"]
            rows.append(row | {"gap": values["noise"] - values.min()})
    return pd.DataFrame(rows)


def film_rows(
    films: real_models.Films,
    choices: Mapping[str, Sequence[str]] = FILM_CHOICES,
    *,
    n_resamples: int = 500,
) -> pd.DataFrame:
    """Return how ALP follows the hit rate of film embeddings, one row per specification.

    `choices` has the keys of `FILM_CHOICES`. `estimate` is the rank correlation over the models,
    `low` and `high` its 95 % interval, methods drawn: the forms of item2vec count as one, and so do
    the ages of SASRec, of which only the last is fully trained.
    """
    rows = []
    scored = {k: v for k, v in choices.items() if k != "models"}
    tasks = {by: real_models.clustered(films, by) for by in choices["clusters"]}
    for choice in combinations(**scored):
        task = tasks[choice["clusters"]]
        options: dict = {"head_dim": None}
        if choice["space"] != "whole":
            options["head_dim"] = int(choice["space"].split()[-1])
        if choice["fit"] != "calibrated":
            options |= {"form": "published", "ridge": float(choice["fit"].split()[1])}
        score = {
            name: average_log_posterior(X, task.labels, **options).score
            for name, X in task.models.items()
        }
        table = pd.Series(score).round(9).to_frame("alp").assign(hits=pd.Series(task.downstream))
        table["unit"] = [real_models.unit(name) for name in table.index]
        young = [name for name in table.index if name.startswith("SASRec")][:-1]
        models = {"all nine": table, "without controls": table.loc[task.trained]}
        models["fully trained"] = table.loc[task.trained].drop(index=young)
        for which in choices["models"]:
            how = {"unit": "unit", "n_resamples": n_resamples}
            found = rank_agreement({"films": models[which]}, ["alp"], "hits", **how).table
            rows.append(choice | {"models": which, **found.loc["alp"].to_dict()})
    return pd.DataFrame(rows)


def _regularisation_path(embeddings: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Return the skill of real embeddings by ridge, in-sample and held out, and with OAS.

    `embeddings` maps names to (X, labels); dimensions are scaled to unit variance. One row per
    embedding and ridge, a share of the cluster's variance: `in-sample` and `held-out` (five folds)
    are nats above chance. The last row per embedding has OAS in place of a ridge.
    """
    rows = []
    for name, (X, labels) in embeddings.items():
        Z = scale(X[:, varied(X)])
        folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(Z, labels))
        shares = pd.Series(labels).value_counts(normalize=True)
        chance = float((shares * np.log(shares)).sum())
        for ridge in [*PATH, "OAS"]:
            how = {"covariance": "oas"} if ridge == "OAS" else {"ridge": ridge}
            held_out = [
                held_out_log_posterior(Z[train], labels[train], Z[test], labels[test], **how)
                for train, test in folds
            ]
            row = {"embedding": name, "ridge": ridge}
            row["held-out"] = np.concatenate(held_out).mean() - chance
            if ridge != "OAS":
                row["in-sample"] = average_log_posterior(
                    Z, labels, form="published", ridge=ridge
                ).skill
            rows.append(row)
    return pd.DataFrame(rows)


def _wrong_labels(
    task: Task, truth: pd.Series, shares: Sequence[float], n_draws: int = 3, block: int = 16
) -> pd.DataFrame:
    """Return how the order of models survives wrong labels, and how much skill is lost.

    A share of the labels becomes another label, drawn in proportion to the clusters' sizes.
    `truth` is a yardstick per model, on right labels. One row per share, draw and form: the rank
    correlation of the score with it, and `skill`, the mean over the trained models.
    """
    rows = []
    for share, draw in product(shares, range(n_draws)):
        rng = np.random.default_rng([draw, round(1000 * share)])
        given = _corrupted(task.labels, share, rng)
        for form in ("published", "calibrated"):
            options = {"form": form, "seed": draw}
            options |= {"head_dim": block} if form == "published" else {}
            skill = pd.Series(
                {name: average_log_posterior(X, given, **options).skill
                 for name, X in task.models.items()}
            )  # fmt: skip
            row = {"share": share, "draw": draw, "form": form}
            row["rank correlation"] = skill.round(9).corr(truth[skill.index], method="spearman")
            rows.append(row | {"skill": skill[task.trained].mean()})
    return pd.DataFrame(rows)


def _corrupted(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return labels of which a share was replaced by another one, drawn by the clusters' sizes."""
    labels = np.asarray(labels)
    names, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes).astype(float)
    given = codes.copy()
    for row in np.flatnonzero(rng.random(len(codes)) < share):
        chances = sizes.copy()
        chances[codes[row]] = 0
        given[row] = rng.choice(len(names), p=chances / chances.sum())
    return names[given]


def _by_number_of_clusters(task: Task, numbers: Sequence[int], block: int = 16) -> pd.DataFrame:
    """Return what the forms say when only the first few clusters of a task are kept.

    One row per number of clusters, in the order of their names: the in-sample skill of noise in
    blocks, and the rank correlations with a tuned probe on the same entities.
    """
    rows, names = [], np.unique(task.labels)
    for number in numbers:
        keep = np.isin(task.labels, names[:number])
        labels = task.labels[keep]
        scores = pd.DataFrame(index=list(task.models), columns=["published", "calibrated", "probe"])
        for name, X in task.models.items():
            options = {"form": "published", "head_dim": min(block, X.shape[1])}
            values = [average_log_posterior(X[keep], labels, **how).skill for how in (options, {})]
            probe = tuned_probe(X[keep], labels)[0].log_likelihood
            scores.loc[name] = np.array([*values, probe])
        scores = scores.astype(float)
        row = {"clusters": len(set(labels)), "noise, published": scores.published["noise"]}
        for form in ("published", "calibrated"):
            row[form] = scores[form].round(9).corr(scores.probe, method="spearman")
        rows.append(row)
    return pd.DataFrame(rows)


def _regularised() -> pd.DataFrame:
    places, titles = real_models.named("places"), real_models.named("titles")
    films, digits = real_models.film_embeddings(), real_models.digits()
    decade, genre = (real_models.clustered(films, by) for by in ("decade", "genre"))
    parts = {
        "MiniLM, places": (places, "MiniLM, layer 6"),
        "SmolLM2, titles": (titles, "SmolLM2, layer 30"),
        "item2vec, decade": (decade, "item2vec single"),
        "PPMI-SVD, genre": (genre, "PPMI-SVD"),
        "pixels, digits": (digits, "pixels"),
    }
    return _regularisation_path({k: (t.models[name], t.labels) for k, (t, name) in parts.items()})


def _wrong() -> pd.DataFrame:
    films = real_models.film_embeddings()
    tasks = {
        "films": real_models.clustered(films, "decade"),
        "places": real_models.named("places", every=2),
    }
    parts = []
    for name, task in tasks.items():
        truth = pd.Series(
            {m: tuned_probe(X, task.labels)[0].log_likelihood for m, X in task.models.items()}
        )
        table = _wrong_labels(task, truth, [0.0, 0.2, 0.5], n_draws=10)
        parts.append(table.assign(task=name))
    return pd.concat(parts)


def _scores() -> pd.DataFrame:
    films = real_models.film_embeddings()
    tasks = {"digits": real_models.digits(), "names": real_models.named("places", every=2)}
    tasks["films"] = real_models.clustered(films, "decade")
    scores = rival_scores.methods() | rival_scores.yardsticks()
    parts = [rival_scores.measured(task, scores).assign(task=name) for name, task in tasks.items()]
    return pd.concat(parts)


def _rivals() -> pd.DataFrame:
    stored = pd.read_csv(data.PUBLISHED / "alp_scores.csv")
    tables = {task: rival_scores.wide(part) for task, part in stored.groupby("task", sort=False)}
    return rival_scores.rival_table(tables)


TABLES = {
    "spec_alp_noise": lambda: noise_table(real_models.named("titles")),
    "alp_scores": _scores,
    "spec_alp_logme": _rivals,
    "alp_ablation": lambda: _ablation(real_models.film_embeddings()),
    "spec_alp_films": lambda: film_rows(real_models.film_embeddings()),
    "alp_regularisation": _regularised,
    "alp_wrong_labels": _wrong,
    "alp_clusters": lambda: _by_number_of_clusters(
        real_models.named("places", every=2), [2, 4, 8, 12]
    ),
    "alp_tree_case": lambda: pd.concat([invented.tree_case(seed) for seed in range(20)]),
}


@command(
    "alp", to_folder("folder"), option("--only", nargs="+", choices=[*TABLES], default=[*TABLES])
)
def main(given: Namespace) -> Written:
    """Write the tables of alternatives on ALP; embeddings and films are kept in the cache."""
    warnings.simplefilter("ignore", UserWarning)
    for name in given.only:
        yield given.folder / f"{name}.csv", TABLES[name]().round(6).to_csv(index=False)
