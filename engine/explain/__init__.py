"""Explain clusters: rules that say which people are in one, and personas that describe them."""
