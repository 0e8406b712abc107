"""Asks the LLM service with OpenAI's Python client: a whole answer, then one piece by piece.

pip install openai; python python_openai.py
"""

import os
import sys

import openai

client = openai.OpenAI(
    base_url=os.environ.get("PARLEY_URL", "http://localhost:8081/v1"),
    api_key=os.environ.get("PARLEY_KEY", "none"),  # The caller's key; anything while no callers are configured.
)

try:
    answer = client.chat.completions.create(model="default", messages=[{"role": "user", "content": "Hello!"}])
    print(answer.choices[0].message.content)

    chunks = client.chat.completions.create(
        model="default",
        messages=[{"role": "user", "content": "Show me markdown"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        if chunk.usage:
            print(f"\n({chunk.usage.total_tokens} tokens)")
except openai.APIError as error:  # Also when a stream breaks midway: it never just ends.
    sys.exit(f"{type(error).__name__}: {error}")
