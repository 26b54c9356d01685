"""Facts counted in a corpus, SMI, and closed-book answers. arXiv 2502.04066."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "closed_book": ["answer_log_probability"],
        "corpora": ["read_documents"],
        "corpus_counts": ["count_corpus"],
        "counting": ["count_documents"],
        "smi": ["fit_metrics", "mutual_information", "object_in_subject", "size_dependent_mi"],
    },
)
