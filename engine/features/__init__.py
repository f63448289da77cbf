"""Turn a table's columns into the matrix X: roles, one pass of statistics, and the encoder."""

from engine.features.encoder import FeatureEncoder, fit_encoder

__all__ = ["FeatureEncoder", "fit_encoder"]
