"""Upstreams that are LangChain objects in this process: a Runnable serves chat, an Embeddings object embeddings.

They answer in OpenAI's format at the level of HTTP, so that everything between the callers and an upstream works with
them as with any other. Nothing here is imported unless such an upstream is configured: LangChain costs some 30 MB.
"""
