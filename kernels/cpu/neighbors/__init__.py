"""Nearest neighbors among references packed in leaves: exact and approximate."""
