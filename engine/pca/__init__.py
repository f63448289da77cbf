"""Principal components of all rows."""
