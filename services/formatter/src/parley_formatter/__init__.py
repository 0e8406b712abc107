"""Parley's formatter: what goes into a prompt, and what comes out of a model's Markdown.

`markdown` parses, `render` writes the platforms' dialects, `prompts` builds prompts; all three are pure. Only
`server` and `servicer` know gRPC.
"""

__version__ = "0.1.0"
