"""Sweeps of noise of the pages on geometry."""
