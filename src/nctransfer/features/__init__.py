"""Features with labels: in memory, in passes, from other people's files."""
