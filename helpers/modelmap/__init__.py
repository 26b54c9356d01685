"""Log-likelihood vectors as a map of language models. arXiv 2502.16173."""
