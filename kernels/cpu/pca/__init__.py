"""Moments and scores of PCA."""
