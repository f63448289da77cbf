"""Moments and scores of PCA on whole arrays."""
