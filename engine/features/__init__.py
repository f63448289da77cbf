"""Turn a table's columns into the matrix X: roles, one pass of statistics, and the encoder."""
