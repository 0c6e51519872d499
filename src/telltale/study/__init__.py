"""A study: one search from start to end, on disk."""
