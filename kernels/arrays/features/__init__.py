"""Encoding of rows on whole arrays."""
