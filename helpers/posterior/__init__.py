"""Average log posterior (ALP) of embeddings, and its rivals. arXiv 2401.02987."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "alp": ["AverageLogPosterior", "average_log_posterior", "held_out_log_posterior"],
        "chance": ["expected_optimism", "permutation_null"],
        "transferability": ["h_score", "linear_probe", "log_me", "rank_me"],
        "trees": ["embedding_tree"],
    },
)
