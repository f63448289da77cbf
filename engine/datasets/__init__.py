"""Generated data sets: the members of `rooms demo`, with planted communities."""
