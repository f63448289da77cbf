"""t-SNE: affinities, repulsion, gradient descent, and out-of-sample placement."""
