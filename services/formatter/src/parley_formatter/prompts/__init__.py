"""Prompts as files: loading, filling in, and cutting the history to a token budget."""
