"""The front in OpenAI's HTTP format: bare ASGI, because a framework would cost more than the whole rest."""
