"""The command `before-ft place`: models on the saved map, from their files or other engines'."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import devices, model_sources
from helpers.commands import shell

if TYPE_CHECKING:
    import pandas as pd

    from helpers.modelmap.model_map import ModelMap

# Of `modelmap.engine_outputs` and `stored_families.makes`, which import pandas.
_ENGINES = ("auto", "table", "lm-eval", "vllm", "sglang", "llama.cpp")
_KINDS = ("pretrained", "small GPT", "n-gram")
_EXAMPLES = """
MODEL hub/other                                   # relatives, kinship, predicted scores
MODEL --n-texts 32 --json                         # fewer texts, less time
--log-likelihoods vllm.jsonl --engine vllm        # what another engine scored
--log-likelihoods scored.jsonl --map own.npz --texts texts.jsonl
"""
_MORE = (
    """\
files of other engines: score the texts that `before-ft score --out FOLDER --n-texts 64` writes, in
their order, and pass lm-eval's --log_samples file, responses of vLLM, SGLang or llama-cpp-python as
JSON lines, or CSV with key and log_likelihood.

"""
    + shell.CODES
)


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "place",
        "Place models on the book's map, or on one of yours: the nearest models with intervals "
        "over texts, whether a model is a copy, as near as a fine-tune or farther, and its "
        "predicted scores, with an interval where the map can give one.",
        _EXAMPLES,
        _MORE,
    )
    add = made.add_argument
    add("model", nargs="*", help="folders, GGUF files, packages or hub names")
    add(
        "--log-likelihoods",
        nargs="+",
        default=[],
        metavar="FILE",
        help="what another engine scored",
    )
    add("--engine", default="auto", choices=_ENGINES, help="what wrote these files")
    add("--bos", default="auto", choices=("auto", "yes", "no"),
        help="whether a start token stood first, where these files leave it open")  # fmt: skip
    add("--map", default="", help="a map that ModelMap.save wrote; default: the book's")
    add("--texts", default="", help="its texts: JSON lines with key and text; default: the book's")
    chosen = "use the first N texts; multiples of 8 balance the genres; default: all"
    add("--n-texts", type=int, default=0, metavar="N", help=chosen)
    add(
        "--kind",
        default="pretrained",
        choices=_KINDS,
        help="kind of your models; default %(default)s",
    )
    add("--k", type=int, default=5, help="how many neighbours; default %(default)s")
    add("--confidence", type=float, default=0.8, help="level of all intervals; default %(default)s")
    add("--seed", type=int, default=0, help="of every random draw; default %(default)s")
    model_sources.add_arguments(made)
    devices.add_arguments(made)
    return made


def _read_map(given: argparse.Namespace) -> tuple[ModelMap, pd.DataFrame | None, pd.Series]:
    """Return the map that is asked for, the table of its models, if any, and its texts by key."""
    import pandas as pd

    from helpers import text_sets
    from helpers.modelmap import model_map, placement, stored_families

    if given.map:
        whole, about = model_map.load_map(given.map), None
    else:
        whole, about = stored_families.load()
    made = placement.first_texts(whole, given.n_texts or len(whole.texts))
    if given.texts:
        try:
            rows = pd.read_json(given.texts, lines=True, dtype={"key": str, "text": str})
            texts = rows.set_index("key")["text"]
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"--texts {given.texts!r} could not be read ({error}); pass JSON lines with key "
                "and text, such as texts.jsonl of before-ft score"
            ) from error
    else:
        texts = text_sets.load_texts(128).text
    if missing := [key for key in made.texts if key not in texts.index]:
        raise ValueError(
            f"--texts lacks {len(missing)} texts of the map, such as {missing[0]!r}; pass the "
            "texts that its models were scored on, under their keys"
        )
    return made, about, texts.loc[list(made.texts)]


def _placed(
    made: ModelMap, about: pd.DataFrame | None, values: pd.Series, given: argparse.Namespace
) -> dict[str, Any]:
    """Return where a model lies: neighbours, and kinship and predicted scores on the book's map.

    `values` are its log-likelihoods by key of the map's texts, nats. Without `about`, the table of
    the map's models, there are only neighbours.
    """
    from helpers.modelmap import held_out_texts, placement, stored_families

    options = {"confidence": given.confidence, "n_resamples": 2000, "seed": given.seed}
    near = placement.neighbours(made, values, k=given.k, **options)
    if about is None:
        return {"neighbours": near}
    first = near.iloc[0]
    kin = placement.kinship_between(first.low, first.high, placement.yardsticks(made, about))
    scores = about[list(held_out_texts.SCORES)]
    said = placement.predict(made, scores, about.family, values)
    makes = stored_families.makes(about)
    table = placement.score_table(said, scores, about.family, makes, given.kind, given.confidence)
    near = near.join(about[["family", "kind", "level"]])
    return {"neighbours": near, "kinship": kin, "scores": table}


def _scored(given: argparse.Namespace, texts: pd.Series) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return log-likelihoods of the texts, a row per model, and the reasons of what failed."""
    import pandas as pd

    from helpers import data, progress
    from helpers.modelmap import engine_outputs, scoring
    from helpers.synthesis import model_kinds

    rows, failed = {}, {}
    for path in given.log_likelihoods:
        found = engine_outputs.read_log_likelihoods(path, texts, engine=given.engine, bos=given.bos)
        rows[str(Path(path))] = found
        if found.attrs["first_token"]:
            shell.note(
                given,
                f"{path}: lm-eval's sums hold the first token, after a start token; those of the "
                "map do not. Distances come out larger: compare models scored alike.",
            )
    if given.model:
        names = [model_sources.at_revision(name, given.revision) for name in given.model]
        with progress.shown(
            len(names) * len(texts), "text", stream=shell.progress_to(given)
        ) as step:
            scored = scoring.score_models(
                names,
                list(texts),
                data.cache_folder() / "scored",
                progress=progress.by_texts(step),
                allow_bin=given.allow_bin,
                how=devices.given(given),
            )
        for row in scored.report.itertuples():
            if row.error or row.n_truncated:
                cut = f"it is too short for {row.n_truncated} of the texts; take a longer one"
                failed[row.model] = row.error or cut
        titles = model_kinds.short_names(names)
        matrix = scored.matrix() if len(scored.scores) else pd.DataFrame()
        for name, values in matrix.iterrows():
            if name not in failed:
                rows[titles[name]] = values.set_axis(texts.index)
    return pd.DataFrame(rows).T, failed


def _in_text(name: str, found: dict[str, Any]) -> str:
    parts = [name, found["neighbours"].round(2).to_string()]
    if "kinship" in found:
        parts += [f"kinship: {found['kinship']}", found["scores"].round(3).to_string(na_rep="none")]
    return "\n".join(parts)


def _work(given: argparse.Namespace) -> int:
    from helpers import results, text_sets

    if not given.model and not given.log_likelihoods:
        raise ValueError("MODEL is missing; name one, or pass --log-likelihoods FILE")
    made, about, texts = _read_map(given)
    values, failed = _scored(given, texts)
    found = {name: _placed(made, about, row, given) for name, row in values.iterrows()}
    for name, why in failed.items():
        print(f"{name}: {why}", file=sys.stderr)
    models = [
        {
            "model": name,
            "kinship": one.get("kinship"),
            "neighbours": one["neighbours"].reset_index().to_dict("records"),
            "scores": one["scores"].rename_axis("score").reset_index().to_dict("records")
            if "scores" in one
            else [],
        }
        for name, one in found.items()
    ]
    models += [{"model": name, "why": why} for name, why in failed.items()]
    inputs = {
        "map": given.map or "the book's",
        "texts": text_sets.fingerprint(texts.to_frame("text")),
    }
    settings = {name: getattr(given, name) for name in ("kind", "k", "confidence", "seed")}
    settings |= {"n_texts": len(texts), "engine": given.engine, "unit": "nats² per text"}
    text = "\n\n".join(_in_text(name, one) for name, one in found.items())
    if found or given.json:
        shell.emit(given, text, results.head(settings) | {"inputs": inputs, "models": models})
    return shell.FAILED if failed else shell.OK


main = shell.Command(_parser, _work, kept="run again, and the texts scored so far are kept")
