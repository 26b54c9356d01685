"""Sentences that carry a number, each under the alternatives that a referee would try first.

A table `headlines_NAME.csv` has the columns `claim` (its id in data/claims.yml), `specification`
(in words, what differs from the page), `estimate`, and `low` and `high`, the ends of a 95 %
interval, empty where none was computed. The first row of a claim is the page's own number.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import kendalltau, rankdata

from experiments.command import Written, command, option, to_folder
from helpers import specifications, stats

PAGE = "as on the page"
ENDS = ["estimate", "low", "high"]
PEARSON, SPEARMAN, KENDALL = CORRELATIONS = ("Pearson's r", "Spearman's rho", "Kendall's tau")


def rows(
    measure: Callable[..., float | Sequence[float]],
    choices: Mapping[str, Sequence[Any] | Mapping[str, Any]],
    page: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Return one row per combination of choices: `specification`, `estimate`, `low`, `high`.

    A choice has values, or a mapping from words to values. `measure` takes one value of each choice
    by its name and returns an estimate, with the ends of its interval or without; NaN where there
    is nothing to measure, which leaves the row out. The values (words) of `page`, by default the
    first of each choice, are those of the page.
    """
    every = specifications.combinations(**choices)
    worded = {name: each for name, each in choices.items() if isinstance(each, Mapping)}
    found = []
    for choice in every:
        values = {k: worded[k][word] if k in worded else word for k, word in choice.items()}
        found.append(np.append(np.atleast_1d(measure(**values)), [np.nan] * 2)[:3])
    table = pd.DataFrame(every).join(pd.DataFrame(found, columns=ENDS))
    return of_table(table, page or every[0])


def of_table(table: pd.DataFrame, page: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table of specifications as `rows` does, the page's own row first.

    `page` has the page's value in each column of choices.
    """
    told = [
        ", ".join(str(row[name]) for name in page if row[name] != page[name]) or PAGE
        for row in table[list(page)].to_dict("records")
    ]
    found = table.reindex(columns=ENDS).assign(specification=told).dropna(subset=["estimate"])
    first = np.argsort(found["specification"] != PAGE, kind="stable")
    return found[["specification", *ENDS]].iloc[first].reset_index(drop=True)


def first(choices: Mapping[str, Sequence[Any] | Mapping[str, Any]]) -> dict[str, Any]:
    """Return the choices with the page's value alone, to vary another one by itself."""
    return {
        name: dict([*each.items()][:1]) if isinstance(each, Mapping) else each[:1]
        for name, each in choices.items()
    }


def joined(*tables: pd.DataFrame) -> pd.DataFrame:
    """Return all rows of several tables, each specification once."""
    return pd.concat(tables, ignore_index=True).drop_duplicates("specification")


def correlation(x: ArrayLike, y: ArrayLike, kind: str) -> tuple[float, float, float]:
    """Return a correlation of one of `CORRELATIONS` with Fisher's interval, none for Kendall's."""
    if kind == KENDALL:
        return float(kendalltau(x, y).statistic), np.nan, np.nan
    pair = (x, y) if kind == PEARSON else (rankdata(x), rankdata(y))
    return stats.correlation(*pair)[:3]


def command_of(
    name: str, claims: Mapping[str, Callable[[], pd.DataFrame]]
) -> Callable[[Sequence[str] | None], int]:
    """Return the command that writes `headlines_NAME.csv`: the rows of every claim, one by one."""

    @command(
        f"{name}_headlines",
        to_folder("--folder"),
        option("--only", nargs="+", choices=[*claims], default=[*claims], help="claims to compute"),
    )
    def main(given: Namespace) -> Written:
        """Compute sentences of one part under other choices; rows of other claims stay."""
        path = given.folder / f"headlines_{name}.csv"
        old = pd.read_csv(path) if path.exists() else pd.DataFrame({"claim": []})
        parts = dict(list(old.groupby("claim")))
        for claim in given.only:
            parts[claim] = claims[claim]().assign(claim=claim)
            table = pd.concat([parts[each] for each in claims if each in parts])
            yield path, table[["claim", "specification", *ENDS]].round(6).to_csv(index=False)

    return main
