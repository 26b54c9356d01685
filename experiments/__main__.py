"""The runs that make stored tables: `python -m experiments NAME --help`."""

from __future__ import annotations

import sys

from helpers.__main__ import dispatch

RUNS = {
    "noise_sweep": ("geometry.noise_sweep", "models harmed by noise, of the geometry part"),
    "byte_gpt_runs": (
        "modelmap.byte_gpt_runs",
        "GPTs of bytes: trained, scored, compared in pairs",
    ),
    "merges": ("modelmap.merges", "small relatives and the models between their weights"),
    "reference_map": ("modelmap.reference_map", "the saved map on which a model is placed"),
    "smollm2_divergence": ("modelmap.smollm2_divergence", "divergences of SmolLM2 and its copies"),
    "smollm2_family": ("modelmap.smollm2_family", "copies of SmolLM2 changed on purpose"),
    "factbook_counts": ("retrieval.factbook_counts", "the Factbook's facts counted in corpora"),
    "factbook_answers": (
        "retrieval.factbook_answers",
        "answers of a model to facts of the Factbook",
    ),
    "small_world_runs": ("retrieval.small_world_runs", "GPTs trained on invented facts"),
    "alp": ("posterior.specifications", "the sentences on ALP under other choices"),
    "glass_box_runs": ("synthesis.glass_box_runs", "the glass-box suite, trained"),
    "glass_box_table": ("synthesis.glass_box_table", "the glass-box suite, measured"),
    "reference_encoders": (
        "synthesis.reference_encoders",
        "encoders that stand beside a reader's own",
    ),
}

if __name__ == "__main__":
    sys.exit(dispatch("experiments", RUNS, None))
