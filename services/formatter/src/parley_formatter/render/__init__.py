"""Writes a tree of nodes in a platform's dialect, in parts that fit the platform's limits."""
