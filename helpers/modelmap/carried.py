"""The saved map as one small JSON text, which a page carries to place a model in the browser."""

from __future__ import annotations

import base64
import json

import numpy as np
import pandas as pd

from helpers import figures, stats
from helpers.modelmap import held_out_texts, model_map, placement, stored_families

# The symbols of `figures.MARKERS` as characters, which pictures and legends of a page can share.
_SYMBOLS = dict(zip(figures.MARKERS, "●■▲◆▼✚✖★", strict=True))


# Of intervals of distances and of scores, and a model to show.
_CONFIDENCE, _EXAMPLE = 0.8, "smollm2-tuned-python"


def as_json(made: model_map.ModelMap, about: pd.DataFrame) -> str:
    """Return all that `book/_static/place.js` needs to place a model as `placement` does.

    `about` is the table of the map's models, as `stored_families.load` returns both. The text has
    the log-likelihoods in hundredths of a nat (int32, little-endian, base64), the directions of the
    picture, the counts of resampled texts (one character a count, base 36), the distances that
    bound kinds of relatives with their words, and for each score the weights of the ridge
    regression and half the width of the interval by kind of model (null: none can be given).
    """
    values, n = made.log_likelihoods, len(made.texts)
    cut = values <= made.threshold
    # A text that was cut is written below the threshold, and cut there again when it is read.
    hundredths = np.where(cut, np.floor(made.threshold * 100), np.rint(values * 100)).astype("<i4")
    genres = [key.rpartition("-")[0].replace("-", " ") for key in made.texts]
    styles = figures.group_styles(about["family"].unique(), grey="n-grams")
    families = {
        name: {
            "symbol": _SYMBOLS[style["marker"]],
            "colour": style["color"] if style["color"].startswith("#") else "#999999",
            "size": style["ms"],
        }
        for name, style in styles.items()
    }
    whole = {
        "models": list(made.names),
        "about": about[["family", "kind"]].to_numpy().tolist(),
        "families": families,
        "texts": list(made.texts),
        "genres": genres,
        "n_bytes": made.n_bytes.astype(int).tolist(),
        "threshold": made.threshold,
        "hundredths": base64.b64encode(hundredths.tobytes()).decode(),
        "axes": model_map.principal_coordinates(made, 2).axes.tolist(),
        "draws": {str(k): _draws(k) for k in {n, *pd.Series(genres).value_counts()}},
        "kinship": _ladder(placement.yardsticks(made, about)),
        "confidence": _CONFIDENCE,
        "needed": placement.groups_needed(_CONFIDENCE),
        "scores": _scores(made, about),
        "example": _EXAMPLE,
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def _scores(made: model_map.ModelMap, about: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Return for each score the linear function of `placement.predict`, and what bounds its error.

    `half` is half the width of the interval and `families` the number of families behind it, both
    by kind of model, the usual kind of a reader's first.
    """
    scores, makes = about[list(held_out_texts.SCORES)], stored_families.makes(about)
    n, kinds = len(made.texts), sorted(set(makes), key=lambda kind: kind != "pretrained")
    # A linear function is known from its values at zero and along each axis.
    probes = np.vstack([np.zeros(n), 1000 * np.eye(n)])
    said = placement.predict(made, scores, about["family"], probes)
    found: dict[str, dict[str, object]] = {}
    for score in scores:
        zero, *along = said.new[score]
        weights = [(value - zero) / 1000 for value in along]
        found[score] = {"intercept": zero, "weights": weights, "half": {}, "families": {}}
        for kind in kinds:
            errors = (scores[score] - said.held_out[score])[makes == kind]
            groups = about["family"][makes == kind]
            half = placement.interval(0.0, errors, groups, _CONFIDENCE)[1]
            found[score]["half"][kind] = half if np.isfinite(half) else None
            found[score]["families"][kind] = groups[errors.notna()].nunique()
    return found


def _draws(n: int) -> str:
    """Return how often each of n texts is drawn, as `placement.resampled` draws them."""
    drawn = stats.draws(n, 1000, 0).ravel()
    return "".join(np.base_repr(count, 36).lower() for count in drawn)


def _ladder(yards: dict[str, float]) -> list[tuple[float | None, str]]:
    """Return the words of `placement.kinship_between` up to each distance at which they change."""
    bounds = sorted(yards[name] for name in yards if name != "family")
    steps = [(bound, placement.kinship_between(bound, bound, yards)) for bound in bounds]
    beyond = 2 * max(bounds, default=0) + 1
    return [*steps, (None, placement.kinship_between(beyond, beyond, yards))]
