"""K-Means on whole arrays: labels by filter and refine, cluster sums in fixed point."""
