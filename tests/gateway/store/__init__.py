"""Tests of the store: one contract suite for every backend, and what is special about each."""
