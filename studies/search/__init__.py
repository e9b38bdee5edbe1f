"""Which points are tried, and which of them are confirmed."""
