"""The runs that make stored tables: `python -m experiments NAME --help`."""

from __future__ import annotations

import sys

from helpers.__main__ import dispatch

RUNS = {
    "noise_sweep": ("geometry.noise_sweep", "models harmed by noise, of the geometry part"),
    "base_encoder": ("geometry.base_encoder", "MPNet's clouds twice, and encoders of other makes"),
    "full_tuning": ("geometry.full_tuning", "noisy encoders fine-tuned to the end"),
    "push_first": ("geometry.push_first", "patchiness pushed first, training afterwards"),
    "glass_box_geometry": (
        "geometry.glass_box_geometry",
        "geometry of the glass box, and its null",
    ),
    "geometry_headlines": ("geometry.headlines", "the geometry part's sentences, other choices"),
    "geometry_specifications": ("geometry.specifications", "the geometry part under other choices"),
    "byte_gpt_runs": (
        "modelmap.byte_gpt_runs",
        "GPTs of bytes: trained, scored, compared in pairs",
    ),
    "corpus_names": ("modelmap.corpus_names", "corpora named from losses of released models"),
    "lineage_benchmark": ("modelmap.lineage_benchmark", "changed copies whose parents are sought"),
    "modelmap_headlines": ("modelmap.headlines", "the model map's sentences, other choices"),
    "map_specifications": ("modelmap.specifications", "three headlines under all specifications"),
    "merges": ("modelmap.merges", "small relatives and the models between their weights"),
    "reference_map": ("modelmap.reference_map", "the saved map on which a model is placed"),
    "smollm2_divergence": ("modelmap.smollm2_divergence", "divergences of SmolLM2 and its copies"),
    "two_decoders": ("modelmap.two_decoders", "how far SmolLM2 and Gemma are from each other"),
    "smollm2_family": ("modelmap.smollm2_family", "copies of SmolLM2 changed on purpose"),
    "factbook_counts": ("retrieval.factbook_counts", "the Factbook's facts counted in corpora"),
    "factbook_answers": ("retrieval.factbook_answers", "a model's answers to these facts"),
    "retrieval_headlines": ("retrieval.headlines", "the retrieval part's sentences, other choices"),
    "smi_specifications": ("retrieval.specifications", "two sentences on SMI under other choices"),
    "factbook_proxy": ("retrieval.factbook_proxy", "released accuracies against a proxy corpus"),
    "factbook_semantics": ("retrieval.factbook_semantics", "facts, and paragraphs that mean them"),
    "small_world_runs": ("retrieval.small_world_runs", "GPTs trained on invented facts"),
    "class_fits": ("synthesis.class_fits", "scores of how classes fit, of the glass box"),
    "alp_larger": ("posterior.larger_models", "ALP and rivals on the optional set of models"),
    "alp_graph": ("posterior.graph_films", "LightGCN on films, and what ALP says of it"),
    "posterior_headlines": ("posterior.headlines", "the posterior part's sentences, other choices"),
    "alp": ("posterior.specifications", "the sentences on ALP under other choices"),
    "glass_box_runs": ("synthesis.glass_box_runs", "the glass-box suite, trained"),
    "glass_box_table": ("synthesis.glass_box_table", "the glass-box suite, measured"),
    "glass_box_forecast": ("synthesis.glass_box_forecast", "a third seed: sealed, then measured"),
    "tuning_prices": ("synthesis.tuning_prices", "what brief fine-tuning and scores cost"),
    "real_choices": ("synthesis.real_choices", "signals against scores of real tuned models"),
    "synthesis_specifications": ("synthesis.specifications", "the synthesis under other choices"),
    "choices_headlines": (
        "synthesis.headlines_choices",
        "sentences on checkpoints and choices under other choices",
    ),
    "synthesis_headlines": ("synthesis.headlines", "sentences on the glass box, all choices"),
    "text_sources": ("synthesis.text_sources", "the glass-box suite on texts of twenty packages"),
    "reference_encoders": ("synthesis.reference_encoders", "encoders beside a reader's own"),
}

if __name__ == "__main__":
    sys.exit(dispatch("experiments", RUNS, None))
