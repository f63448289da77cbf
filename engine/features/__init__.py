"""Encode a table as the feature matrix X: column roles, one pass of column statistics, and the encoder."""
