"""Compare two runs: cluster transitions, and the people who moved."""
