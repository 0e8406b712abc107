"""Parley's LLM service: one door, by gRPC and in OpenAI's HTTP format, to every configured model.

`__main__` loads the settings and starts `server`. `http` and `rpc` are the two fronts: they turn requests into a
`Call`. `operations` says what is peculiar to each endpoint, `calls` carries calls out (targets, attempts, waits, time),
`upstream` talks to the models, `limits` keeps what callers may use and have used.
"""
