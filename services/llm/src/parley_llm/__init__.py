"""Parley's LLM service: one door, by gRPC and in OpenAI's HTTP format, to every configured model.

`__main__` loads the settings and starts `server`; `completions` holds the decisions (targets, attempts, waits);
`http` and `servicer` are the two fronts; `upstream` talks to the models.
"""
