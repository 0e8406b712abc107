"""The four ways to call the service, with one description of what the caller saw."""

import json
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from parley.llm.v1 import chat_pb2, llm_service_pb2
from parley_common.errors import RemoteError, error_from_rpc

from tests.llm.conftest import Running

MESSAGES = [{"role": "user", "content": "Hello?"}]
PLAIN_FRONTS = ["http", "grpc"]
STREAM_FRONTS = ["sse", "grpc-stream"]
ALL_FRONTS = [*PLAIN_FRONTS, *STREAM_FRONTS]


@dataclass
class Seen:
    """What one call looked like from the caller's side."""

    text: str = ""
    reasoning: str = ""
    finish: str = ""
    code: str = ""
    """HTTP status or gRPC code of a failed call; `in-band` for an error inside an event stream."""
    reason: str = ""
    message: str = ""
    attempts: int = -1
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = False
    """Whether the stream said that it was over."""
    usage: Any = None
    retry_after_s: float | None = None
    raw: str = ""

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return not self.code


async def ask(front: str, running: Running, headers: dict[str, str] | None = None, **body: Any) -> Seen:
    """Call by one of the fronts; `body` adds to the request, `timeout_s` sets a gRPC deadline."""
    if front in ("http", "sse"):
        return await _ask_http(running, front == "sse", headers or {}, body)
    return await _ask_grpc(running, front == "grpc-stream", headers or {}, body)


async def ask_path(path: str, running: Running, headers: dict[str, str], body: dict[str, Any]) -> Seen:
    """Call another endpoint than chat for a whole answer, which is left in `raw`."""
    response = await running.http.post(f"/v1{path}", json=body, headers=headers)
    seen = Seen(headers=dict(response.headers), raw=response.text)
    seen.attempts = int(response.headers["x-parley-attempts"])
    if response.status_code != 200:
        _fill_error(seen, str(response.status_code), response.json()["error"])
    return seen


async def _ask_http(running: Running, streaming: bool, headers: dict[str, str], body: dict[str, Any]) -> Seen:
    if timeout := body.pop("timeout_s", None):
        headers = {**headers, "x-parley-timeout-ms": str(int(timeout * 1000))}
    request = {"model": "chat", "messages": MESSAGES, **({"stream": True} if streaming else {}), **body}
    response = await running.http.post("/v1/chat/completions", json=request, headers=headers)
    seen = Seen(headers=dict(response.headers), raw=response.text)
    seen.attempts = int(response.headers["x-parley-attempts"])
    if response.status_code != 200:
        _fill_error(seen, str(response.status_code), response.json()["error"])
        if "retry-after-ms" in seen.headers:
            seen.retry_after_s = int(seen.headers["retry-after-ms"]) / 1000
    elif streaming:
        _fill_events(seen, response.text)
    else:
        decoded = response.json()
        message = decoded["choices"][0]["message"]
        seen.text, seen.reasoning = message["content"], message.get("reasoning_content", "")
        seen.finish, seen.usage = decoded["choices"][0]["finish_reason"], decoded.get("usage")
    return seen


def _fill_error(seen: Seen, code: str, error: dict[str, Any]) -> None:
    seen.code, seen.reason, seen.message = code, error["reason"], error["message"]


def _fill_events(seen: Seen, text: str) -> None:
    for line in text.split("\n"):
        if not line.startswith("data: "):
            assert not line or line.startswith(":"), line
            continue
        assert not seen.done, "something follows [DONE]"
        if line == "data: [DONE]":
            seen.done = True
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            _fill_error(seen, "in-band", chunk["error"])
            continue
        seen.usage = chunk.get("usage") or seen.usage
        for choice in chunk["choices"]:
            seen.text += choice["delta"].get("content") or ""
            seen.reasoning += choice["delta"].get("reasoning_content") or ""
            seen.finish = choice["finish_reason"] or seen.finish


async def _ask_grpc(running: Running, streaming: bool, headers: dict[str, str], body: dict[str, Any]) -> Seen:
    timeout = body.pop("timeout_s", None)
    known = {"model": "chat", "messages": [chat_pb2.ChatMessage(role="user", content="Hello?")]}
    params = chat_pb2.ChatCompletionParams(**{**known, **body})
    metadata = tuple(headers.items())
    seen = Seen()
    if streaming:
        call: Any = running.stub.StreamChatCompletion(
            llm_service_pb2.StreamChatCompletionRequest(params=params), metadata=metadata, timeout=timeout
        )
    else:
        call = running.stub.CreateChatCompletion(
            llm_service_pb2.CreateChatCompletionRequest(params=params), metadata=metadata, timeout=timeout
        )
    try:
        if streaming:
            async for response in call:
                _fill_event(seen, response.event)
            seen.done = True
        else:
            _fill_completion(seen, (await call).completion)
    except grpc.aio.AioRpcError as error:
        told = error_from_rpc(error)
        _fill_remote(seen, told)
    seen.headers = {key: value for key, value in await call.trailing_metadata() if isinstance(value, str)}
    seen.attempts = int(seen.headers.get("x-parley-attempts", -1))
    return seen


def _fill_event(seen: Seen, event: chat_pb2.ChatCompletionEvent) -> None:
    kind = event.WhichOneof("event")
    if kind == "delta":
        seen.text += event.delta.content
    elif kind == "reasoning":
        seen.reasoning += event.reasoning.content
    elif kind == "finish":
        seen.finish = event.finish.finish_reason
    elif kind == "usage":
        seen.usage = {"total_tokens": event.usage.total_tokens}
    elif kind == "error":
        seen.raw = event.error.reason


def _fill_completion(seen: Seen, completion: chat_pb2.ChatCompletion) -> None:
    choice = completion.choices[0]
    seen.text, seen.reasoning = choice.message.content, choice.message.reasoning_content
    seen.finish = choice.finish_reason
    seen.usage = {"total_tokens": completion.usage.total_tokens}


def _fill_remote(seen: Seen, told: RemoteError) -> None:
    seen.code, seen.reason, seen.message = told.code.name, told.reason, told.message
    seen.retry_after_s = told.retry_after_s
