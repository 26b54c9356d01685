"""Families of models made here, and the tables of the pages on the map."""
