"""The book itself: runs of notebooks, claims, pages and the environment."""
