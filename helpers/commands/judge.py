"""The command `before-ft judge`: every signal on a reader's models, as a page, text or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from helpers import data, devices, model_sources, results
from helpers.commands import shell

if TYPE_CHECKING:
    import pandas as pd

    from helpers.synthesis.signal_inputs import Inputs
    from helpers.synthesis.your_model import Run

# Of `synthesis.signals` and `synthesis.ranking`, which take seconds to import.
_SIGNALS = ("categories", "latent space", "facts", "corpus", "map", "prediction", "my texts")
_USES = ("facts", "categories", "texts")
_PAGE = "synthesis/your_model"
_EXAMPLES = """
MODEL hub/other                           # builds the page; prints where it lies
MODEL --text --limit 20                   # a first try, without a page
MODEL hub/other --json --facts facts.csv --rank-for facts > judged.json
"""
# What the page does not take under the same name.
_OWN = ("model", "text", "json", "quiet", "revision")


def _measured(
    given: argparse.Namespace, stream: TextIO
) -> tuple[Run, Inputs, Path, pd.DataFrame | None]:
    """Measure models as asked, with progress on `stream`.

    Returns the run, its inputs, the folder that is meant for its files, and the ranking if one is
    asked for. Raises `ValueError` and `OSError` as its parts do.
    """
    from helpers.synthesis import (
        model_kinds,
        ranking,
        signal_inputs,
        signal_prose,
        signal_report,
        your_model,
    )

    names = [model_sources.at_revision(name, given.revision) for name in given.model]
    sizes = your_model.limited(
        given.limit, n_per_label=60, n_facts=60, n_sentences=500, n_texts=64, most_texts=64
    )
    asked = {k: sizes.pop(k) for k in ("n_per_label", "n_facts", "most_texts")}
    files = {"entities_file": given.entities, "facts_file": given.facts}
    files |= {"corpus": given.corpus, "texts_file": given.texts}
    inputs = signal_inputs.read_inputs(**files, **asked, seed=given.seed)
    titles = model_kinds.short_names(names)
    how = devices.given(given)
    looks = {t: model_kinds.look(n, allow_bin=given.allow_bin, how=how) for n, t in titles.items()}
    settings = {"limit": given.limit, **asked, **files, "references": given.references}
    settings |= how._asdict()
    asked = {**settings, **sizes, "seed": given.seed, "signals": given.signals}
    folder = results.folder(given.out, names, asked, page="your_model")
    known = your_model.own_references(
        signal_report.references(), given.references, inputs, sizes["n_sentences"]
    )
    print(signal_prose.summary(inputs), file=stream)
    options = {"known": known, "only": given.signals, "settings": settings, "stream": stream}
    # A run that writes no files writes no log.
    options["log"] = folder / "progress.log" if given.out else None
    run = your_model.measure(looks, inputs, **options, seed=given.seed, **sizes)
    ranks = None
    if given.rank_for:
        ranks = ranking.rank(run.found, inputs, given.rank_for, seed=given.seed)
    return run, inputs, folder, ranks


def _in_text(run: Run) -> str:
    """Return the measures of a run as a table in text; "" without any."""
    shown = run.table[["model", "measure", "value", "low", "high", "verdict"]]
    return shown.round(3).to_string(index=False) if len(shown) else ""


def _code(models: list[dict[str, Any]]) -> int:
    """Print what of a run is missing and why to standard error; return the exit code."""
    from helpers.synthesis import signal_prose

    found = {one["model"]: {part["signal"]: part for part in one["signals"]} for one in models}
    for row in signal_prose.reasons(found).itertuples():
        print(f"{row.model}: {row.signal}: {row.why}", file=sys.stderr)
    read = [one["status"] == "computed" for one in models]
    if not any(read):
        print("no model could be read", file=sys.stderr)
    return shell.OK if all(read) else shell.FAILED


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "judge",
        "Say what the four signals say about models: a page with every number, its interval and "
        "its place among reference models. With --text or --json no page is built, and files are "
        "written only with --out.",
        _EXAMPLES,
    )
    add = made.add_argument
    add("model", nargs="+", help="folders, GGUF files, packages or hub names (name@revision)")
    add("--text", action="store_true", help="print a table, build no page")
    add("--signals", nargs="+", default=[], metavar="NAME", help=", ".join(_SIGNALS))
    add("--limit", type=int, default=0, help="use at most so many items of each kind; default: all")
    add("--entities", default="", help="CSV with text and label, perhaps group")
    add("--facts", default="", help="CSV with subject, object, and prompt or relation")
    add("--corpus", default="factbook", help="training text, files or glob; default: the Factbook")
    add("--texts", default="", help="your own texts, one per line")
    add("--references", nargs="*", default=[], help="results.json of earlier runs, to compare with")
    uses = f"rank the models for one use: {', '.join(_USES)}"
    add("--rank-for", default="", choices=["", *_USES], metavar="USE", help=uses)
    place = "folder to write; default: results/your_model-DIGEST, none for --text and --json"
    add("--out", default="", metavar="FOLDER", help=place)
    add("--seed", type=int, default=0, help="of every random draw; default %(default)s")
    model_sources.add_arguments(made)
    devices.add_arguments(made)
    return made


def _work(given: argparse.Namespace) -> int:
    if not (given.text or given.json):
        devices.given(given)
        default = _parser().parse_args(["none"])
        place = results.folder(given.out, given.model, vars(given), page="your_model")
        given.out = str(place)
        asked = {k: v for k, v in vars(given).items() if k not in _OWN and v != getattr(default, k)}
        names = [model_sources.at_revision(name, given.revision) for name in given.model]
        words = [_PAGE, "--book"]
        for key, value in {"models": names, **asked}.items():
            words += ["-p", key, json.dumps(value)]
        if code := shell.run_pages(given, words, "pass --text or --json"):
            return code
        print(data.ROOT / "build" / "html" / "notebooks" / f"{_PAGE}.html")
        return _code(json.loads((place / "results.json").read_text(encoding="utf-8"))["models"])
    from helpers.synthesis import ranking, your_model

    run, inputs, folder, ranks = _measured(given, shell.progress_to(given))
    report = your_model.report(run, inputs, ranks)
    if given.out:
        your_model.write(folder, run, inputs, ranks)
    words = [] if ranks is None else [ranking.in_words(ranks, given.rank_for)]
    text = "\n".join(filter(None, [_in_text(run), *words]))
    if text or given.json:
        shell.emit(given, text, report)
    return _code(report["models"])


main = shell.Command(_parser, _work, kept="run again, and what was measured so far is kept")
