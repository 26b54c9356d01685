"""Helpers of the book *Before Fine-Tuning*: import the module of the part you need."""

import warnings

__version__ = "0.1.0"

# tqdm's notebook widget is not installed on purpose: pages carry no progress bars.
warnings.filterwarnings("ignore", message="IProgress not found")
