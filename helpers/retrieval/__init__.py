"""Facts counted in a corpus, SMI, and closed-book answers. arXiv 2502.04066."""
