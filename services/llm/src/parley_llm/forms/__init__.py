"""Uploads: forms with files, read as they come, kept on disk beyond 1 MiB, spelled anew for each attempt."""
