"""Patchiness and spread of a latent space. arXiv 2406.12159."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "intrinsic_dimension": ["twonn"],
        "penalties": ["patchiness_penalty"],
        "quantization": ["cell_counts", "lloyd_from_released", "lloyd_index", "measure_cloud"],
        "quantizers": ["quantize"],
        "spread": ["isoscore", "spread_measures"],
    },
)
