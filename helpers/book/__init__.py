"""The book itself: runs of notebooks, claims, pages and the environment."""

import sys

# Building the grammar of internet addresses takes nbformat two seconds; notebooks hold none.
sys.modules.setdefault("rfc3987_syntax", None)
