"""Feishu as a simulator: its API with its limits (`cloud`, `api`, `cards`) and how it delivers events (`pusher`).

Written from Feishu's documentation and independent of the platform's code, so that it can catch that code's mistakes.
"""
