"""K-Means: initial centers, Lloyd's algorithm with Hamerly-style bounds, restarts, and the choice of k."""
