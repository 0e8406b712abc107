"""Reads a model's Markdown into a tree of this package's own nodes."""
