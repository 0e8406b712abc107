"""Rendering of an answer that is still being written."""
