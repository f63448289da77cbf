"""Nearest neighbors on whole arrays."""
