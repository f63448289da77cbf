"""Ratings, items and users to a table of profiles."""
