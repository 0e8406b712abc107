"""Serves embeddings by a LangChain `Embeddings` object."""

import base64
import struct
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from langchain_core.embeddings import Embeddings

from parley_llm.jsontext import dump, load
from parley_llm.upstream.langchain.refusals import RequestError
from parley_llm.upstream.langchain.running import Refused, Runs
from parley_llm.upstream.transport import Incoming, Outgoing


class EmbeddingsTransport:
    """Answers each embeddings request by one call for all its inputs."""

    def __init__(self, name: str, embeddings: Embeddings, most_calls: int) -> None:
        self._embeddings = embeddings
        self._runs = Runs(name, most_calls)

    async def send(self, request: Outgoing, connect_by: float, answer_by: float) -> Incoming:
        body: dict[str, Any] = load(request.body if isinstance(request.body, bytes) else b"{}")
        try:
            inputs = _inputs(body)
        except RequestError as error:
            return Refused(error.refusal)
        return await self._runs.start(request, self._answer(inputs, body), "application/json", answer_by)

    def close(self) -> None:
        """Nothing is idle: runs in work finish."""

    async def _answer(self, inputs: list[str], body: Mapping[str, Any]) -> AsyncGenerator[bytes]:
        vectors = await self._embeddings.aembed_documents(inputs)
        spell = _packed if body.get("encoding_format") == "base64" else list
        data = [{"object": "embedding", "index": at, "embedding": spell(one)} for at, one in enumerate(vectors)]
        # LangChain's interface counts no tokens, so there is no `usage`.
        yield dump({"object": "list", "data": data, "model": body.get("model") or ""}).encode()


def _inputs(body: Mapping[str, Any]) -> list[str]:
    asked = body.get("input")
    inputs = [asked] if isinstance(asked, str) else asked
    if not isinstance(inputs, list) or not all(isinstance(one, str) for one in inputs):
        raise RequestError("input must be a string or a list of strings for this model.", param="input")
    if body.get("dimensions") is not None:
        raise RequestError("dimensions can't be chosen for this model.", param="dimensions")
    return inputs


def _packed(vector: list[float]) -> str:
    """Spell a vector as OpenAI's API does for `base64`: little-endian floats of 32 bits."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
