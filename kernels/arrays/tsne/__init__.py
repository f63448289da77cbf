"""t-SNE on whole arrays: affinities, the KL divergence, and out-of-sample placement."""
