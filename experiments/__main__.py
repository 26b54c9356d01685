"""The runs that make stored tables: `python -m experiments NAME --help`."""

from __future__ import annotations

import sys
from importlib import import_module

RUNS = {
    "noise_sweep": "geometry.noise_sweep",
    "byte_gpt_runs": "modelmap.byte_gpt_runs",
    "merges": "modelmap.merges",
    "reference_map": "modelmap.reference_map",
    "smollm2_divergence": "modelmap.smollm2_divergence",
    "smollm2_family": "modelmap.smollm2_family",
    "factbook_counts": "retrieval.factbook_counts",
    "factbook_answers": "retrieval.factbook_answers",
    "small_world_runs": "retrieval.small_world_runs",
    "glass_box_runs": "synthesis.glass_box_runs",
    "glass_box_table": "synthesis.glass_box_table",
    "reference_encoders": "synthesis.reference_encoders",
}


def main(words: list[str] | None = None) -> int:
    """Make the run that the first word names, with the others; return its exit status."""
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    if name in RUNS:
        return import_module(f"experiments.{RUNS[name]}").main(rest) or 0
    asked = name in ("-h", "--help")
    text = f"python -m experiments NAME --help; NAME is one of {', '.join(RUNS)}"
    print(text, file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
