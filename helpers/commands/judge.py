"""The command `before-ft judge`: every signal on a reader's models, as a page, text or JSON."""

from __future__ import annotations

import argparse
import json

from helpers import data, devices, model_sources
from helpers.commands import look, shell

_PAGE = "synthesis/your_model"
_EXAMPLES = """
MODEL hub/other                           # builds the page; prints where it lies
MODEL --text --limit 20                   # a first try, without a page
MODEL hub/other --json --facts facts.csv --rank-for facts > judged.json
"""
# What the page takes as it is, under the same name.
_SAME = ("signals", "limit", "entities", "facts", "corpus", "texts", "references", "rank_for")
_SAME += ("out", "seed", "allow_bin", "device", "dtype", "batch_tokens")


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "judge",
        "Say what the four signals say about models: a page with every number, its interval and "
        "its place among reference models. With --text or --json no page is built, and files are "
        "written only with --out.",
        _EXAMPLES,
    )
    made.add_argument(
        "model", nargs="+", help="folders, GGUF files, packages or hub names (name@revision)"
    )
    made.add_argument("--text", action="store_true", help="print a table, build no page")
    made.set_defaults(writes=False)
    look.add_inputs(made)
    return made


def _work(given: argparse.Namespace) -> int:
    if not (given.text or given.json):
        devices.given(given)
        default = _parser().parse_args(["none"])
        asked = {k: getattr(given, k) for k in _SAME if getattr(given, k) != getattr(default, k)}
        names = [model_sources.at_revision(name, given.revision) for name in given.model]
        words = [_PAGE, "--book"]
        for key, value in {"models": names, **asked}.items():
            words += ["-p", key, json.dumps(value)]
        code = shell.run_pages(given, words, "pass --text or --json")
        if not code:
            print(data.ROOT / "build" / "html" / "notebooks" / f"{_PAGE}.html")
        return code
    from helpers.synthesis import ranking, your_model

    run, inputs, folder, ranks = look.measured(given, given.model, shell.progress_to(given))
    report = your_model.report(run, inputs, ranks)
    if given.out:
        your_model.write(folder, run, inputs, ranks)
    words = [] if ranks is None else [ranking.in_words(ranks, given.rank_for)]
    text = "\n".join(filter(None, [look.in_text(run), *words]))
    if text or given.json:
        shell.emit(given, text, report)
    return shell.FAILED if look.refused(run) else shell.OK


main = shell.Command(_parser, _work, kept="run again, and what was measured so far is kept")
