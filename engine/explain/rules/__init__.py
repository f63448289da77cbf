"""Rules: decision trees on sampled rows, rules in words, and their precision and coverage on all rows."""
