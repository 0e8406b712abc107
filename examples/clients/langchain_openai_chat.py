"""Asks the LLM service with LangChain: a whole answer, then one piece by piece.

pip install langchain-openai; python langchain_openai_chat.py
"""

import os

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

model = ChatOpenAI(
    model="default",
    base_url=os.environ.get("PARLEY_URL", "http://localhost:8081/v1"),
    api_key=SecretStr(os.environ.get("PARLEY_KEY", "none")),  # Anything while no callers are configured.
)

print(model.invoke("Hello!").content)

for chunk in model.stream("Show me markdown", stream_usage=True):
    print(chunk.content, end="", flush=True)
    if chunk.usage_metadata:
        print(f"\n({chunk.usage_metadata['total_tokens']} tokens)")

# OpenAIEmbeddings works the same way. It counts tokens with a vocabulary that it downloads; where that can't be had,
# give it check_embedding_ctx_length=False.
