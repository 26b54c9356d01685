"""The commands of the package: `python -m helpers COMMAND --help`."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "run": ("book.pipeline", "run notebooks, with parameters of your own, and build the book"),
    "look": ("synthesis.your_model", "every signal on models of your own, without a page"),
    "score": ("synthesis.score", "log-likelihoods of texts under language models"),
    "count": ("retrieval.count", "in how many documents names and pairs of names stand"),
    "convert": ("convert", "pickled weights, or an adapter and its base, to safetensors"),
    "models-more": ("joined_models", "fetch the larger models of the optional set, 660 MB"),
    "data": ("data", "which registered files are at hand; fetch the rest"),
}


def dispatch(package: str, commands: dict[str, tuple[str, str]], words: list[str] | None) -> int:
    """Run the command of a package that the first word names; return its exit status.

    `commands` gives each name its module, below the package, and a line on it.
    """
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    if name in commands:
        return import_module(f"{package}.{commands[name][0]}").main(rest) or 0
    width = max(map(len, commands)) + 2
    told = "\n".join(f"  {each:{width}}{text}" for each, (_, text) in commands.items())
    asked = name in ("-h", "--help")
    if not asked:
        print(f"no command {name!r}; there are:", file=sys.stderr)
    print(f"python -m {package} COMMAND --help\n{told}", file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def main(words: list[str] | None = None) -> int:
    """Run a command of `COMMANDS`."""
    return dispatch("helpers", COMMANDS, words)


if __name__ == "__main__":
    sys.exit(main())
