"""Patchiness and spread of a latent space. arXiv 2406.12159."""
