"""The fitted model, and the assignments that it makes."""
