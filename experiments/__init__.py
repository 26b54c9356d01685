"""Larger runs, and the stored tables of single pages; may use all of `helpers`."""
