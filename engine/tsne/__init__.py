"""t-SNE and out-of-sample placement."""
