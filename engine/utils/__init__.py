"""Utilities for every layer: atomic files, signals, row sampling, units, and formatting of words and numbers."""
