"""The chat platforms as simulators: their APIs with their limits, and how they push to a webhook.

Tests, `parley-gateway simulate` and people without an account use the same ones. Nothing here imports a platform.
"""
