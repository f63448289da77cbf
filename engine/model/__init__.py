"""The fitted model and the assignments it makes."""
