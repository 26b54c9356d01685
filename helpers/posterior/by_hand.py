"""Two clusters that a reader moves: the points of the page, and the settings of the score on it."""

from __future__ import annotations

import base64
import json

import numpy as np

from helpers import figures, validation
from helpers.posterior import alp

# Entities per cluster, and dimensions of noise beside the two that are drawn.
SIZES, NOISE = (12, 25, 50, 100), (0, 2, 6)
SAMPLES, N_FOLDS, RIDGE = 5, 5, 1e-6


def _standard(seed: int = 0) -> np.ndarray:
    """Return the numbers that the page carries: (SAMPLES, entities, dimensions), in thousandths."""
    shape = (SAMPLES, 2 * max(SIZES), 2 + max(NOISE))
    return np.rint(1000 * validation.generator(seed).standard_normal(shape)) / 1000


def as_json(seed: int = 0) -> str:
    """Return all that `book/_static/alp.js` needs to score two clusters as `alp` does.

    The text has standard normal numbers in `thousandths` (int16, little-endian, base64), and the
    fold of each entity of two clusters by their size, one digit each, as the calibrated form deals
    them by its own seed.
    """
    folds = {}
    for size in SIZES:
        both = validation.clusters(np.repeat(["A", "B"], size), 2 * size, 2)
        folds[str(size)] = "".join(map(str, alp.assign_folds(both, N_FOLDS, 0)))
    thousandths = np.rint(1000 * _standard(seed)).astype("<i2")
    whole = {
        "thousandths": base64.b64encode(thousandths.tobytes()).decode(),
        "most": max(SIZES),
        "dims": 2 + max(NOISE),
        "samples": SAMPLES,
        "sizes": SIZES,
        "noise": NOISE,
        "folds": folds,
        "ridge": RIDGE,
        "colours": figures.PALETTE[1:3],
    }
    return json.dumps(whole, separators=(",", ":"))
