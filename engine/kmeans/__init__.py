"""K-Means: seeding, Lloyd iterations with exact pruning, choice of k."""
