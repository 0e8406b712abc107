"""Parley's gateway: receives chat platforms' webhooks, queues durably, runs the conversation, delivers answers."""
