"""Sentences of WikiText-2, on which the paper's sample rests in part."""

from __future__ import annotations

import numpy as np

from helpers import data, validation


def sentences(n: int, *, seed: int = 0) -> list[str]:
    """Return `n` sentences of the test part of WikiText-2, drawn without replacement.

    Headings are left out, lines are cut at full stops, and a sentence has 8 to 49 words, stops and
    other tokens included. Raises `DataError` without the file and `ValueError` for more sentences
    than it has. Source: Merity et al. (2016).
    """
    lines = data.fetch("wikitext2/test.txt").read_text(encoding="utf8").splitlines()
    prose = [line.strip() for line in lines if line.strip() and not line.startswith(" =")]
    parts = [part.removesuffix(" .").strip() for line in prose for part in line.split(" . ")]
    found = list(dict.fromkeys(f"{part} ." for part in parts if 7 <= len(part.split()) <= 48))
    order = validation.generator(seed).permutation(len(found))[:n]
    return [found[i] for i in np.sort(order)]
