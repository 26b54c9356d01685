"""Log-likelihood vectors as a map of language models. arXiv 2502.16173."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "model_map": ["ModelMap", "fit_map", "load_map", "principal_coordinates", "tsne"],
        "score_prediction": ["predict_scores"],
        "scoring": ["score_models"],
        "text_choice": ["draw_texts"],
    },
)
