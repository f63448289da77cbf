"""Cluster transitions between two runs."""
