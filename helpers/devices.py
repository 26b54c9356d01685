"""Where models are read, in which numbers, and how many tokens at a time, for all commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from helpers import validation
from helpers.model_files import first_line

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from transformers import PreTrainedModel

_DTYPES = ("float32", "bfloat16", "float16")


class How(NamedTuple):
    """A device, a dtype (float32, bfloat16 or float16), and the tokens that are scored at a time.

    "" is a GPU when there is one, None the number that suits the reader. Only float32 gives the
    numbers of the book.
    """

    device: str = ""
    dtype: str = "float32"
    batch_tokens: int | None = None

    def checked(self, *, here: bool = True) -> How:
        """Return the same with the device that is meant, and raise `ValueError` for bad settings.

        Unless it is `here`, but with the workers of a cluster, the device is not looked for.
        """
        validation.choice(self.dtype, _DTYPES, "dtype")
        if self.batch_tokens is not None:
            validation.counts(batch_tokens=(self.batch_tokens, 1))
        return self._replace(device=_find(self.device)) if here else self

    def key(self) -> dict[str, str]:
        """Return what of it changes numbers beyond rounding, for the keys of kept results."""
        return {} if self.dtype == "float32" else {"weights": self.dtype}

    def move(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the model, itself moved to the device; raises as `checked`.

        Its dtype is what it was read in: changed afterwards, more than its weights would change.
        """
        return model.to(_find(self.device))

    def load(
        self, loader: Callable[..., tuple], name: str | Path, **options: Any
    ) -> tuple[Any, PreTrainedModel]:
        """Return what a loader of `models` or `decoders` gives, in the dtype and on the device.

        `options` are the loader's; raises as it does, and as `checked`.
        """
        tokenizer, model = loader(name, dtype=self.dtype, **options)
        return tokenizer, self.move(model)


DEFAULT = How()


def _find(name: str | None) -> str:
    """Return a device by name, or the best there is; raise `ValueError` for one that is not."""
    import torch

    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise ValueError(f"device is {name!r} ({reason}); choose cpu, cuda or cuda:1") from error
    return name


def add_arguments(parser: ArgumentParser, *, tokens: bool = True) -> None:
    """Add `--device`, `--dtype` and, with `tokens`, `--batch-tokens` to a command."""
    add = parser.add_argument
    add("--device", default="", help="cpu, cuda, cuda:1; left out: a GPU when there is one")
    add("--dtype", default="float32", choices=_DTYPES, help="bfloat16 halves the memory")
    if tokens:
        add("--batch-tokens", type=int, help="tokens scored at a time; fewer take less memory")


def given(words: Namespace, *, here: bool = True) -> How:
    """Return what a command was given; `here` and what is raised are those of `How.checked`."""
    how = How(words.device, words.dtype, getattr(words, "batch_tokens", None))
    return how.checked(here=here)
