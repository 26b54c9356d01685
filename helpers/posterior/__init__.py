"""Average log posterior (ALP) of embeddings, and its rivals. arXiv 2401.02987."""
