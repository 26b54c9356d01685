"""Pairs of models of known divergence, and what is asked of them: factors, ranges, one scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from experiments import intervals, ngrams
from experiments.modelmap import byte_gpt_runs, smollm2_divergence
from helpers import data, text_sets
from helpers.modelmap import divergence

# Medians that arXiv 2505.15353 gives for its models, bits per byte, by a third party's summary.
PUBLISHED = {
    "tiny GPTs, size": 0.48,
    "tiny GPTs, seed": 0.12,
    "tiny GPTs, early steps": 0.067,
    "tiny GPTs, late steps": 0.011,
    "SmolLM2, 8 bits": 0.44,
    "SmolLM2, 4 bits": 0.49,
    "SmolLM2, tuned python": 0.40,
    "SmolLM2, tuned romance": 0.40,
    "SmolLM2, neighbouring layers": 3.0,
}


def _ngram_pairs(
    corpora: Sequence[str], sizes: Sequence[int], orders: Sequence[int]
) -> list[tuple[str, tuple, tuple]]:
    """Return pairs of n-gram models, each a corpus, a size and an order, and in what they differ.

    Neighbouring "order" for the first two corpora at the largest size, neighbouring "size" for the
    first corpus at the middle and the highest order, another "corpus" between the first three.
    """
    first, second, third = corpora[:3]
    largest, middle = sizes[-1], orders[len(orders) // 2]
    found = [
        ("order", (corpus, largest, a), (corpus, largest, b))
        for corpus in (first, second)
        for a, b in zip(orders, orders[1:], strict=False)
    ]
    found += [
        ("size", (first, a, order), (first, b, order))
        for order in sorted({middle, orders[-1]})
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    ends = ((first, second), (first, third), (second, third))
    found += [("corpus", (a, largest, middle), (b, largest, middle)) for a, b in ends]
    return found


def ngram_steps(
    documents: Mapping[str, Sequence[str]],
    texts: Sequence[bytes],
    sizes: Sequence[int],
    orders: Sequence[int],
    *,
    n_samples: int,
    shares: Sequence[float] = (1.0,),
    seed: int = 0,
) -> pd.DataFrame:
    """Train n-grams on corpora and compare `_ngram_pairs` by `divergence.compare`, a row per share.

    `texts` are those of the map, of one length; of every first model `n_samples` texts of that
    length are drawn. Columns of compare, with `own` and `texts` for whole texts, and `kind`, `p`,
    `q`, and `spread`, the standard deviation of the log-ratio a byte under p (nats), from pieces of
    8 bytes.
    """
    rows, n_bytes = [], len(texts[0])
    for kind, p, q, models, own in _paired(documents, sizes, orders, n_samples, n_bytes, seed):
        along = [partial(ngrams.conditionals, model) for model in models]
        found = divergence.compare(*along, own, texts, shares=shares)
        rows.append(found.assign(kind=kind, p=str(p), q=str(q), models="n-gram"))
    steps = _whole(pd.concat(rows, ignore_index=True), n_bytes)
    return steps.assign(spread=np.sqrt(2 * np.log(2) * steps["own_8"]))


def _paired(
    documents: Mapping[str, Sequence[str]],
    sizes: Sequence[int],
    orders: Sequence[int],
    n_samples: int,
    n_bytes: int,
    seed: int,
) -> Iterator[tuple[str, tuple, tuple, list[ngrams.NGram], list[bytes]]]:
    """Give each of `_ngram_pairs` with its two models, trained, and samples of the first."""
    pairs, drawn = _ngram_pairs(list(documents), sizes, orders), {}
    wanted = dict.fromkeys(name[:2] for _, *both in pairs for name in both)
    tops = {
        (corpus, size): ngrams.fit(ngrams.cut(documents[corpus], size), max(orders))
        for corpus, size in wanted
    }
    for kind, p, q in pairs:
        models = [tops[name[:2]].restrict(name[2]) for name in (p, q)]
        if p not in drawn:
            drawn[p] = ngrams.sample(models[0], n_samples, n_bytes, seed=seed)
        yield kind, p, q, models, drawn[p]


def ngram_ratios() -> pd.DataFrame:
    """Return the divergence of `_ngram_pairs`, and the formula over the 128 texts, by genre.

    Columns `true` and `p`, the first model, and those of `_by_genre`, all in bits per byte. The
    n-grams are those of `ngram_documents` on the first genres and read none of the texts.
    """
    texts, sizes = text_sets.load_texts(128), (30_000, 100_000, 300_000)
    genres = ("facts", "python", "c++", "tables")
    documents = ngram_documents(genres, max(sizes), texts["text"])
    rows, gaps, read = [], [], {}
    for _, p, q, models, own in _paired(documents, sizes, (1, 2, 3, 4, 5), 48, 512, 0):
        along = [partial(ngrams.conditionals, model) for model in models]
        row = divergence.compare(*along, own, own[:2], lengths=()).iloc[0]
        rows.append({"true": row["true"], "p": str(p)})
        for name, model in zip((p, q), models, strict=True):
            if name not in read:
                read[name] = ngrams.log_likelihood(model, list(texts["text"]))
        gaps.append(read[p] - read[q])
    return pd.DataFrame(rows).join(_by_genre(np.stack(gaps), texts.index, texts["n_bytes"]))


def ngram_documents(
    genres: Sequence[str], n_bytes: int, without: Sequence[str]
) -> dict[str, list[str]]:
    """Return the corpora of the n-grams: all genres in turn, "mixed", and the first two alone."""
    alone = {g: text_sets.training_texts(g, n_bytes, without=without) for g in genres}
    mixed = [text for row in zip(*alone.values(), strict=False) for text in row]
    return {"mixed": mixed, **{genre: alone[genre] for genre in genres[:2]}}


def _by_genre(gaps: np.ndarray, keys: pd.Index, lengths: pd.Series) -> pd.DataFrame:
    """Return half the variance of log-ratios (pairs, texts) in bits per byte: mixed, by genre.

    `keys` are those of the texts, GENRE-NUMBER, and `lengths` their bytes. A genre of fewer than 4
    texts is left out.
    """
    genre = pd.Index(keys).str.rsplit("-", n=1).str[0]
    chosen = {"mixed": np.ones(len(keys), bool)} | {g: genre == g for g in dict.fromkeys(genre)}
    sizes = np.asarray(lengths, float)
    columns = {}
    for name, mask in chosen.items():
        if mask.sum() >= 4:
            half = gaps[:, mask].var(axis=1) / 2
            columns[name] = divergence.bits_per_byte(half, sizes[mask].mean())
    return pd.DataFrame(columns)


def stored_ratios() -> dict[str, pd.DataFrame]:
    """Return pairs of tiny GPTs and of SmolLM2's copies: `true`, `p`, and the formula by texts.

    The formula is that of the stored matrices over whole texts, as in `_by_genre`; the divergence
    is by sampling. All in bits per byte.
    """
    lengths = text_sets.load_texts(128)["n_bytes"]
    gpts = pd.read_csv(byte_gpt_runs.PAIRS)
    smol = pd.read_csv(smollm2_divergence.TABLE).assign(other="smollm2")
    files = {"tiny GPTs": (byte_gpt_runs.TABLE, gpts)}
    files["SmolLM2"] = (data.PUBLISHED / "map_smollm2.csv", smol)
    found = {}
    for name, (file, pairs) in files.items():
        values = pd.read_csv(file, index_col="model")
        gaps = values.loc[pairs["model"]].to_numpy() - values.loc[pairs["other"]].to_numpy()
        frame = pairs[["true"]].assign(p=pairs["model"])
        found[name] = frame.join(_by_genre(gaps, values.columns, lengths[values.columns]))
    return found


def stored_pairs() -> pd.DataFrame:
    """Return the stored comparisons of tiny GPTs and of SmolLM2, with the columns of `ngram_steps`.

    The shortest pieces of SmolLM2 are single tokens, and stand where those of 8 bytes do.
    """
    gpts = pd.read_csv(byte_gpt_runs.PAIRS).assign(models="tiny GPT")
    smol = pd.read_csv(smollm2_divergence.TABLE).assign(models="SmolLM2")
    smol = smol.rename(columns={"own_1": "own_8", "texts_1": "texts_8"})
    return pd.concat([_whole(gpts, 256), _whole(smol, 64)], ignore_index=True)


def _whole(table: pd.DataFrame, size: int) -> pd.DataFrame:
    return table.rename(columns={f"own_{size}": "own", f"texts_{size}": "texts"})


def share_between(values: ArrayLike, groups: ArrayLike) -> float:
    """Return the share of the variance of values that lies between the means of their groups."""
    series = pd.Series(np.asarray(values, float))
    means = series.groupby(np.asarray(groups)).transform("mean")
    return float(means.var(ddof=0) / series.var(ddof=0))


def training_medians(stored: pd.DataFrame, about: pd.DataFrame, n_bytes: float) -> pd.Series:
    """Return medians of the formula for runs, in bits per byte: size, seed, early, late steps.

    `stored` has a row per model, nats, and `about` those of `byte_gpt_runs`; `n_bytes` is the mean
    length of texts. Size and seed pairs are at one step, from 128 on; steps are those from 128 to
    256 and from 384 to 512.
    """
    runs = about[about["kind"] == "training"].reset_index()
    pairs = runs.merge(runs, how="cross", suffixes=("", "_2"))
    same = {name: pairs[name] == pairs[f"{name}_2"] for name in ("size", "seed", "step")}
    late, run = pairs["step"] >= 128, same["size"] & same["seed"]
    chosen = {
        "size": same["seed"] & same["step"] & late & (pairs["size"] > pairs["size_2"]),
        "seed": same["size"] & same["step"] & late & (pairs["seed"] < pairs["seed_2"]),
        "early steps": run & (pairs["step"] == 128) & (pairs["step_2"] == 256),
        "late steps": run & (pairs["step"] == 384) & (pairs["step_2"] == 512),
    }
    found = {}
    for kind, mask in chosen.items():
        both = pairs.loc[mask, ["model", "model_2"]].to_numpy()
        gaps = [(stored.loc[a] - stored.loc[b]).to_numpy() for a, b in both]
        found[kind] = np.median([divergence.half_variance_kl(gap).value for gap in gaps])
    return pd.Series(divergence.bits_per_byte(list(found.values()), n_bytes), list(found))


def true_medians(pairs: pd.DataFrame) -> pd.Series:
    """Return medians of the true divergence of the stored pairs, by `training_medians`' kinds."""
    gpts = pairs[pairs["models"] == "tiny GPT"]
    train = gpts["kind"] == "training"
    kinds = gpts["kind"].where(~train)
    kinds = kinds.mask(train & gpts["model"].str.endswith("step0128"), "early steps")
    kinds = kinds.mask(train & gpts["model"].str.endswith("step0384"), "late steps")
    return gpts["true"].groupby(kinds).median()[["size", "seed", "early steps", "late steps"]]


def steps_shrink(stored: pd.DataFrame, about: pd.DataFrame) -> tuple[float, float, float]:
    """Return how much farther an early step moves a model than a late one, and its interval.

    By the formula: steps 128 to 256 over 384 to 512, geometric mean over runs, which are left out
    one at a time for the interval.
    """
    runs = about[about["kind"] == "training"].reset_index()
    logs = []
    for _, run in runs.groupby(["size", "seed"]):
        names = run.set_index("step")["model"]
        early, late = (
            np.var(stored.loc[names[a]] - stored.loc[names[b]]) for a, b in ((128, 256), (384, 512))
        )
        logs.append(np.log(early / late))
    return intervals.geometric_mean(logs)


def rounding_shifts(stored: pd.DataFrame, about: pd.DataFrame) -> pd.DataFrame:
    """Return how rounding moves models: one row per number of bits, from all pairs of models.

    Columns `cosine`, the mean over pairs, its 95 % interval `low` and `high`, for which models are
    left out one at a time, `least` and `most` of the cosines, and `squared`, the median squared
    length, nats² per text. A shift is the difference of a model's row from its parent's, both less
    their means. Source: arXiv 2505.15353, by a third party's summary.
    """
    rows = {}
    for bits, shift in _shifts(stored, about).items():
        lengths = np.linalg.norm(shift, axis=1)
        cosines = shift @ shift.T / np.outer(lengths, lengths)
        pairs = cosines[np.triu_indices(len(cosines), 1)]
        left = []
        for i in range(len(cosines)):
            few = np.delete(np.delete(cosines, i, 0), i, 1)
            left.append(few[np.triu_indices(len(few), 1)].mean())
        low, high = intervals.jackknife(left, pairs.mean()) if len(cosines) > 2 else (-1.0, 1.0)
        rows[bits] = (pairs.mean(), max(low, -1.0), min(high, 1.0), pairs.min(), pairs.max())
        rows[bits] += (np.median(lengths**2) / shift.shape[1],)
    columns = ["cosine", "low", "high", "least", "most", "squared"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns)


def rounding_ratio(stored: pd.DataFrame, about: pd.DataFrame) -> tuple[float, float, float]:
    """Return the squared distance that 8 bits move a model over that of 4 bits, and its interval.

    The geometric mean over models, which are left out one at a time.
    """
    squares = {bits: (shift**2).sum(axis=1) for bits, shift in _shifts(stored, about).items()}
    return intervals.geometric_mean(np.log(squares[8] / squares[4]))


def _shifts(stored: pd.DataFrame, about: pd.DataFrame) -> dict[float, np.ndarray]:
    """Return the shifts of rounded models by bits, (models, texts), parents in one order."""
    centred = stored.sub(stored.mean(axis=1), axis=0)
    found = {}
    for bits, part in about[about["kind"] == "rounded"].groupby("level"):
        part = part.sort_values("parent", kind="stable")
        parents = centred.loc[part["parent"]].to_numpy()
        found[bits] = centred.loc[part.index].to_numpy() - parents
    return found


def valid_up_to(spread: ArrayLike, ratio: ArrayLike, *, window: int = 9) -> float:
    """Return the spread up to which the running median of a ratio stays within 0.1 of 1; 0 if none.

    The median is over `window` neighbours in the order of spread, less at the ends.
    """
    table = pd.DataFrame({"spread": spread, "ratio": ratio}).sort_values("spread", kind="stable")
    running = table["ratio"].rolling(window, center=True, min_periods=1).median()
    bad = ((running - 1).abs() > 0.1).to_numpy()
    good = int(np.argmax(bad)) if bad.any() else len(bad)
    return float(table["spread"].iloc[good - 1]) if good else 0.0


def judge(candidates: Mapping[str, pd.Series], pairs: pd.DataFrame) -> pd.DataFrame:
    """Say how far estimates are from the truth, by kind of models and estimator.

    `candidates` have an estimate for each row of `pairs`, by its index. Columns `typical factor`
    (median) and `worst factor`, 1 if right, and `rank correlation`.
    """
    rows = []
    for models, part in pairs.groupby("models"):
        for name, found in candidates.items():
            found = found[part.index]
            off = np.exp(np.abs(np.log(found / part["true"])))
            rank = spearmanr(found, part["true"]).statistic
            rows.append((models, name, off.median(), off.max(), rank))
    columns = ["models", "estimator", "typical factor", "worst factor", "rank correlation"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:2])


def one_scale(
    training: pd.DataFrame, pairs: pd.DataFrame, n_bytes: pd.Series, bos: float
) -> pd.DataFrame:
    """Return changes of a model by size: `change`, `formula`, `true`, `published`, bits per byte.

    `training` has `formula` and `true` of `training_medians`' kinds; `pairs` are all known pairs;
    `n_bytes` the lengths of texts by key; `bos` the formula for SmolLM2 with its BOS and without.
    The formula for SmolLM2's copies is that of the stored matrix `map_smollm2.csv`, and that for
    its layers, read by the logit lens, the median of neighbours in `map_smollm2_layers.csv`.
    """
    table = pd.read_csv(data.PUBLISHED / "map_smollm2.csv", index_col="model")
    gaps = table.drop("smollm2") - table.loc["smollm2"]
    copies = pd.DataFrame({"formula": gaps.var(axis=1, ddof=0) / 2})
    copies["formula"] = divergence.bits_per_byte(copies["formula"], n_bytes[table.columns].mean())
    smol = pairs[pairs["models"] == "SmolLM2"]
    copies["true"] = smol.set_index("model")["true"].reindex(copies.index)
    changes = copies.index.str.removeprefix("smollm2-").str.replace("-", " ")
    copies.index = "SmolLM2, " + changes
    grams = pairs[pairs["models"] == "n-gram"].groupby("kind")[["texts", "true"]].median()
    grams = grams.rename(columns={"texts": "formula"})
    grams.index = "n-grams, " + grams.index
    copies.loc["SmolLM2, BOS or not"] = [bos, np.nan]
    layers = pd.read_csv(smollm2_divergence.LAYERS, index_col="layer")
    steps = layers.diff().iloc[1:].var(axis=1, ddof=0) / 2
    between = divergence.bits_per_byte(steps.median(), n_bytes[layers.columns].mean())
    copies.loc["SmolLM2, neighbouring layers"] = [between, np.nan]
    gpts = training.set_axis("tiny GPTs, " + training.index)
    found = pd.concat([gpts, copies, grams]).rename_axis("change").reset_index()
    found["published"] = found["change"].map(PUBLISHED)
    return found.sort_values("formula", kind="stable", ignore_index=True)
