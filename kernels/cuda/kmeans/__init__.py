"""K-Means: a pass of Lloyd's algorithm by one read of X (lloyd.py), and its error bound (certificate.py)."""
