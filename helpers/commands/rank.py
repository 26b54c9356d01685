"""The command `before-ft rank`: which of a reader's embeddings knows the labels best."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.commands import shell

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_NOISE = "noise (control)"
_EXAMPLES = """
mine.npz labels.csv                       # arrays by name, a row per entity
mine.npz labels.csv --column genre --by probe --json
"""
_UNITS = (
    """\
columns, more is better in each:
  alp        average log posterior above chance, nats per entity, whole space, calibrated;
             low and high: 95 % interval over entities, the fit held
  behind     alp of the first model minus this one's, with a 95 % interval over entities
  LogME, H-score, GBC, TransRate, neighbours    transferability scores (scaled dimensions for the
             last three)
  probe      held-out log-likelihood of a linear probe whose penalty is chosen inside each fold
  accuracy   its held-out accuracy

"""
    + shell.CODES
)
_BY = ("alp", "LogME", "H-score", "GBC", "TransRate", "neighbours", "probe", "accuracy")


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "rank",
        "Rank embeddings that you have by how well they know your labels: calibrated ALP with "
        "intervals, transferability scores, and a tuned linear probe. A row of noise of the same "
        "size shows what knows nothing; distrust a score that puts a model below it.",
        _EXAMPLES,
        _UNITS,
    )
    add = made.add_argument
    add("embeddings", help=".npz with an array per model: (N, d), or (layers, N, d): the last")
    add("labels", help="CSV with a header, one row per entity in the same order")
    add("--column", default="", help="column of the labels; default: label, or the first")
    add("--by", default="alp", choices=_BY, help="score to sort by; default %(default)s")
    add("--seed", type=int, default=0, help="of every random draw; default %(default)s")
    return made


def _scores(seed: int) -> dict[str, Callable[[Any, Any], float]]:
    from sklearn.preprocessing import scale

    from helpers.posterior import transferability as peers

    return {
        "LogME": peers.log_me,
        "H-score": peers.h_score,
        "GBC": lambda X, y: peers.gbc(scale(X), y),
        "TransRate": lambda X, y: peers.trans_rate(scale(X), y),
        "neighbours": lambda X, y: peers.knn_accuracy(scale(X), y, seed=seed),
    }


def _table(
    arrays: dict[str, np.ndarray],
    labels: pd.Series,
    *,
    by: str = "alp",
    seed: int = 0,
    told: Callable[[str], None] = lambda name: None,
) -> pd.DataFrame:
    """Return a row per embedding with its scores and intervals, the best by `by` first.

    `arrays` has (N, d) by name, `labels` (N,); a row of noise as wide as the first is added.
    Columns are those of `_UNITS`. Raises `ValueError` as the scores do, with the embedding's name.
    """
    import pandas as pd

    from helpers import stats
    from helpers.posterior import alp, entities, transferability

    n, d = next(iter(arrays.values())).shape
    every = arrays | {_NOISE: entities.noise_control(n, d, seed)}
    rows, gains = {}, {}
    for name, X in every.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = alp.average_log_posterior(X, labels, seed=seed)
                probe, _ = transferability.tuned_probe(X, labels, seed=seed)
                others = {k: float(score(X, labels)) for k, score in _scores(seed).items()}
        except ValueError as error:
            raise ValueError(f"embedding {name!r}: {error}") from error
        gains[name] = found.per_entity - found.chance
        mean = stats.bootstrap_mean(gains[name], seed=seed)
        rows[name] = {"alp": found.skill, "low": mean.low, "high": mean.high, **others}
        rows[name] |= {"probe": probe.log_likelihood, "accuracy": probe.accuracy}
        told(name)
    ranked = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    ranked = ranked.sort_values(by, ascending=False, kind="stable")
    first = gains[ranked.index[0]]
    for name in ranked.index[1:]:
        gap = stats.paired_difference(first, gains[name], seed=seed)[:3]
        ranked.loc[name, ["behind", "behind low", "behind high"]] = gap
    return ranked


def _work(given: argparse.Namespace) -> int:
    from helpers import progress
    from helpers.posterior import entities

    arrays, about = entities.load_own(given.embeddings, given.labels)
    if _NOISE in arrays:
        raise ValueError(f"embeddings has an array named {_NOISE!r}; give it another name")
    column = given.column or ("label" if "label" in about else about.columns[0])
    labels = entities.labels_of(about, column, "--column")
    last = {name: X[-1] for name, X in arrays.items()}
    with progress.shown(len(last) + 1, "model", stream=shell.progress_to(given)) as step:
        ranked = _table(last, labels, by=given.by, seed=given.seed, told=lambda m: step(m, 1))
    rows = ranked.reset_index().to_dict("records")
    value = {"column": column, "by": given.by, "seed": given.seed, "models": rows}
    shell.emit(given, (ranked.round(3) + 0.0).to_string(na_rep=""), value)
    return shell.OK


main = shell.Command(_parser, _work)
