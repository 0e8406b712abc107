"""Fixtures of this folder."""

from tests.llm.test_transport import certificate

__all__ = ["certificate"]
