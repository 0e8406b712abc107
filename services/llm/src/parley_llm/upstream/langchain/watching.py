"""Watches the model calls within one run: their tokens, and whether one was cut off.

A chain's output may have lost both, and an agent calls its model several times: LangChain tells of each call's end.
"""

from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, LLMResult

from parley_llm.upstream.langchain.outputs import finish_reason

_TELLS_REASON = "openai"
"""LangChain's `model_provider` of the integration for which a stream that just ends is like any other."""


class ModelCalls(AsyncCallbackHandler):
    """A callback handler for one run. `tokens` is None until a call has reported some."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: UsageMetadata | None = None
        self.cut_off = False
        """Whether a call's answer ended without the finish reason that its API always gives."""

    async def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        """Note how one call ended."""
        for generations in response.generations:
            for generation in generations[:1]:
                if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
                    self._note(generation.message)

    def _note(self, message: AIMessage) -> None:
        if message.usage_metadata:
            self.tokens = add_usage(self.tokens, message.usage_metadata)
        told = message.response_metadata
        if told.get("model_provider") == _TELLS_REASON and not (finish_reason(told) or told.get("status")):
            self.cut_off = True


def usage_of(tokens: UsageMetadata) -> dict[str, Any]:
    """Spell tokens as OpenAI's `usage`."""
    usage: dict[str, Any] = {
        "prompt_tokens": tokens["input_tokens"],
        "completion_tokens": tokens["output_tokens"],
        "total_tokens": tokens["total_tokens"],
    }
    cached = tokens.get("input_token_details", {}).get("cache_read")
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    reasoning = tokens.get("output_token_details", {}).get("reasoning")
    if reasoning is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage
