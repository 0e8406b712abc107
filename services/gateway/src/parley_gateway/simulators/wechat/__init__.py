"""WeChat as a simulator: its API with its quotas (`cloud`, `api`) and how it pushes messages (`pusher`).

Written from WeChat's documentation and independent of the platform's code, so that it can catch that code's mistakes.
"""
