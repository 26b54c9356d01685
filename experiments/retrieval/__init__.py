"""The small world, and the tables of the pages on retrieval."""
