"""Ratings, items and users to a table of user profiles."""
