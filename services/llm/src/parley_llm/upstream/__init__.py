"""Talking to the models: connections, HTTP/1.1, event streams, the judgement of a stream, vendors' shapes."""
