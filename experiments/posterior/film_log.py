"""Films from a log of ratings: who rated what in order of time, and what is known of each film."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import data

YEAR_CUTS = (1970, 1980, 1990, 2000, 2010)
MEMBERS = {"ratings": ["userId", "movieId", "timestamp"], "movies": ["movieId", "title", "genres"]}


class _Log(NamedTuple):
    """One array of item codes a user, oldest first, and the film that each code stands for."""

    sequences: list[np.ndarray]
    items: np.ndarray


class _Split(NamedTuple):
    """The sequences without their last item, and that item, one per user."""

    training: list[np.ndarray]
    held_out: np.ndarray


class _Features(NamedTuple):
    """What is known of each film: one label each, and the binary features for a tree."""

    labels: pd.DataFrame
    binary: pd.DataFrame


class _Films(NamedTuple):
    """What the pages train on and hold out, and the labels and binary features of each film."""

    training: list[np.ndarray]
    held_out: np.ndarray
    labels: pd.DataFrame
    binary: pd.DataFrame


def load_films() -> _Films:
    """Return the films of the registry's MovieLens archive, those of ten ratings or more.

    Raises `DataError` without it.
    """
    ratings, movies = load_movielens(data.fetch("movielens/ml-latest-small.zip"))
    log = sequences(ratings, seed=0)
    known = (part.loc[log.items].reset_index(drop=True) for part in genre_and_decade(movies))
    return _Films(*leave_last_out(log.sequences), *known)


def load_movielens(path: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the ratings and the films of a MovieLens archive in the layout of ml-latest-small.

    `path` is the zip file. Ratings have the columns `userId`, `movieId`, `rating`, `timestamp`
    (seconds), films `movieId`, `title`, `genres`. Raises `ValueError` for a file that is absent, no
    such archive, or damaged. Source: Harper and Konstan (2015).
    """
    frames = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for member, wanted in MEMBERS.items():
                found = [n for n in names if n.split("/")[-1] == f"{member}.csv"]
                if not found:
                    raise ValueError(
                        f"path {str(path)!r} has no {member}.csv; pass ml-latest-small.zip"
                    )
                frame = pd.read_csv(archive.open(found[0]))
                if absent := [c for c in wanted if c not in frame]:
                    raise ValueError(
                        f"path {str(path)!r} holds a {member}.csv without the columns {absent}; "
                        "pass ml-latest-small.zip"
                    )
                frames.append(frame)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"path {str(path)!r} could not be read as a zip archive ({error}); "
            "pass ml-latest-small.zip, or fetch it again"
        ) from error
    ratings, movies = frames
    return ratings, movies


def sequences(ratings: pd.DataFrame, *, min_count: int = 10, seed: int = 0) -> _Log:
    """Return what each user rated, in order of time, over films with at least `min_count` ratings.

    `ratings` has `userId`, `movieId` and `timestamp`; how high the rating is does not matter.
    Ratings given in the same second come in random order: the order of film numbers would let
    the year of a film into the sequence. Of a film that a user rated twice the first rating in
    time stands. Users with fewer than three kept items are left out.
    """
    counts = ratings.movieId.value_counts()
    kept = ratings[ratings.movieId.isin(counts.index[counts >= min_count])]
    tie = np.random.default_rng(seed).random(len(kept))
    kept = kept.assign(tie=tie).sort_values(["userId", "timestamp", "tie"])
    kept = kept.drop_duplicates(["userId", "movieId"])
    kept = kept[kept.groupby("userId").movieId.transform("size") >= 3]
    items, codes = np.unique(kept.movieId, return_inverse=True)
    starts = np.flatnonzero(np.diff(kept.userId)) + 1
    return _Log(np.split(codes, starts), items)


def leave_last_out(sequences: Sequence[np.ndarray]) -> _Split:
    """Return every sequence without its last item, and the last items; each needs two at least."""
    return _Split([s[:-1] for s in sequences], np.array([s[-1] for s in sequences]))


def genre_and_decade(movies: pd.DataFrame) -> _Features:
    """Return the rarest genre, the year and the decade of each film, and binary features.

    `movies` has one row per film, with `movieId`, `title` (ending in the year in brackets) and
    `genres` (names between bars). `labels` has `genre` (of a film's genres the one with fewest
    films here, missing where none is listed), `year` and `decade` (years before the first of
    `YEAR_CUTS` are one group), missing where the title has no year. `binary` has one column per
    genre and one a cut, true from that year on. Both are indexed by `movieId`.
    """
    movies = movies.set_index("movieId")
    genres = movies.genres.str.get_dummies("|").drop(columns="(no genres listed)", errors="ignore")
    rare = genres.sum().sort_values(kind="stable").index
    first = genres[rare].to_numpy().argmax(axis=1)
    genre = pd.Series(rare.to_numpy()[first], movies.index).where(genres.sum(axis=1) > 0)
    year = movies.title.str.extract(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$")[0].astype(float)
    decade = np.maximum(year // 10 * 10, YEAR_CUTS[0] - 10).map("{:.0f}s".format)
    decade = decade.replace(f"{YEAR_CUTS[0] - 10}s", f"before {YEAR_CUTS[0]}").where(year.notna())
    binary = genres.astype(bool)
    for cut in YEAR_CUTS:
        binary[f"year >= {cut}"] = (year >= cut).to_numpy()
    return _Features(pd.DataFrame({"genre": genre, "year": year, "decade": decade}), binary)
