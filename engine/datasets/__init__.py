"""Generated members with planted communities."""
