"""Column statistics, lossless compact storage, and encoding of rows."""
