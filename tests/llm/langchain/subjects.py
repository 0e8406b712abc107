"""What the tests serve. Settings name objects by module, so a test puts its own here, as `subject`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda

subject: Any = RunnableLambda(lambda messages: f"{len(messages)} messages")
not_runnable = 3


class Agents:
    """Holds one."""

    echo: Runnable[Any, Any] = RunnableLambda(lambda messages: messages[-1])


def plain_function(text: str) -> str:
    """Be no Runnable."""
    return text


def chunk(content: str | list[Any], **more: Any) -> AIMessageChunk:
    """Return a piece of a model's message."""
    return AIMessageChunk(content=content, **more)


class ScriptedModel(BaseChatModel):
    """A chat model that says its chunks, raises what stands among them, and remembers how it was called."""

    script: list[Any]
    temperature: float | None = None
    max_tokens: int | None = None
    pause_s: float = 0.0
    calls: list[dict[str, Any]]
    cancelled: list[bool]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any) -> Runnable[Any, Any]:
        """Bind tools as they came."""
        return self.bind(tools=list(tools), tool_choice=tool_choice, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        chunks = [piece.message async for piece in self._astream(messages, stop, run_manager, **kwargs)]
        whole = add_ai_message_chunks(*(chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)))
        message = AIMessage(
            content=whole.content,
            tool_calls=whole.tool_calls,
            invalid_tool_calls=whole.invalid_tool_calls,
            additional_kwargs=whole.additional_kwargs,
            response_metadata=whole.response_metadata,
            usage_metadata=whole.usage_metadata,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.calls.append({"messages": messages, "stop": stop, **kwargs})
        for piece in self.script:
            try:
                await asyncio.sleep(self.pause_s)
            except asyncio.CancelledError:
                self.cancelled.append(True)
                raise
            if isinstance(piece, Exception):
                raise piece
            yield ChatGenerationChunk(message=chunk(piece) if isinstance(piece, str) else piece)


def scripted(*script: Any, **fields: Any) -> ScriptedModel:
    """Return a model whose calls are its own."""
    return ScriptedModel(script=list(script), calls=[], cancelled=[], **fields)


class LengthEmbeddings(Embeddings):
    """Embeds a text as its length and its number of words."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed several."""
        return [[float(len(text)), float(len(text.split()))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Embed one."""
        return self.embed_documents([text])[0]
