"""The four signals on one model, and on the reader's own."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["rank_correlations"],
        "gate": ["judge"],
        "model_kinds": ["load", "look"],
        "paired_tests": ["clustered_test", "items_needed", "paired_test", "power"],
        "signal_inputs": ["read_inputs"],
        "signals": ["measure"],
    },
)
