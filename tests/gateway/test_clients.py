"""The gateway's gRPC clients against real servers: translation of errors, draining, cancellation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from parley.formatter.v1 import content_pb2, formatter_service_pb2, formatter_service_pb2_grpc
from parley.llm.v1 import chat_pb2, llm_service_pb2, llm_service_pb2_grpc
from parley_common.errors import ServiceError
from parley_common.grpc_client import create_channel
from parley_common.grpc_server import create_server
from parley_common.metrics import ServiceMetrics
from parley_common.ops import Health
from parley_gateway.clients.formatter import RETRIED, FormatterClient
from parley_gateway.clients.llm import LLMClient
from parley_gateway.errors import FormatterError, UpstreamAnswerError
from parley_gateway.messages import Turn
from parley_gateway.platforms.base import PartLimits
from parley_gateway.ports import (
    AnswerCourse,
    AnswerDelta,
    AnswerEvent,
    AnswerFinish,
    AnswerReset,
    AnswerUsage,
    PartState,
    PromptMessage,
)

LLM_SERVICE = "parley.llm.v1.LLMService"
FORMATTER_SERVICE = "parley.formatter.v1.FormatterService"


class DrainingError(ServiceError):
    code = grpc.StatusCode.UNAVAILABLE
    reason = "DRAINING"
    retryable = True


class BusyError(ServiceError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "UPSTREAM_RATE_LIMITED"
    retryable = True


class BrokenError(ServiceError):
    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "UPSTREAM_AUTH"


class LLMServicer(llm_service_pb2_grpc.LLMServiceServicer):
    """Fails as the script says, then streams."""

    def __init__(self) -> None:
        self.script: list[ServiceError] = []
        self.metadata: list[dict[str, str]] = []
        self.requests: list[Any] = []
        self.cancelled = asyncio.Event()
        self.endless = False

    async def StreamChatCompletion(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        context.set_trailing_metadata((
            ("x-request-id", "REF1"), ("x-parley-attempts", "2"), ("x-parley-upstream", "main"),
            ("x-parley-model", "gpt-4o-mini"), ("x-parley-adapted", "drop logit_bias"),
        ))  # fmt: skip
        self.requests.append(request)
        if self.script:
            raise self.script.pop(0)

        def event(**fields: Any) -> Any:
            return llm_service_pb2.StreamChatCompletionResponse(event=chat_pb2.ChatCompletionEvent(**fields))

        yield event(start=chat_pb2.Start(id="1"))
        yield event(reasoning=chat_pb2.ReasoningDelta(content="hmm"))
        yield event(delta=chat_pb2.Delta(content="wrong"))
        yield event(reset=chat_pb2.Reset())
        yield event(delta=chat_pb2.Delta(content="right"))
        try:
            while self.endless:
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        yield event(usage=chat_pb2.Usage(total_tokens=3))
        yield event(finish=chat_pb2.Finish(finish_reason="stop"))


class FormatterServicer(formatter_service_pb2_grpc.FormatterServiceServicer):
    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.errors: list[ServiceError] = []
        self.left = asyncio.Event()

    async def BuildPrompt(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        if self.errors:
            raise self.errors.pop(0)
        message = content_pb2.PromptMessage(role="user", content=request.parts[0].text)
        return formatter_service_pb2.BuildPromptResponse(messages=[message])

    async def FormatReply(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        part = content_pb2.FormattedPart(payload_json=b'{"card": "\xe4\xbd\xa0"}', fallback_text="plain")
        return formatter_service_pb2.FormatReplyResponse(parts=[part], truncated=True)

    async def StreamReply(self, requests: Any, _context: Any) -> Any:  # noqa: N802
        text = ""
        try:
            async for request in requests:
                self.requests.append(request)
                if request.WhichOneof("step") == "start":
                    continue
                text += request.delta
                if text.endswith("fail"):
                    raise BrokenError("no")
                if text.endswith("end"):
                    return
                if text.endswith("stall"):
                    await asyncio.Event().wait()
                state = formatter_service_pb2.ReplyState(part_index=0, element_text=text)
                yield formatter_service_pb2.StreamReplyResponse(
                    states=formatter_service_pb2.ReplyStates(states=[state] if text.strip() else [])
                )
        finally:
            self.left.set()


@asynccontextmanager
async def serving(add: Callable[[grpc.aio.Server], None], service: str) -> AsyncIterator[grpc.aio.Channel]:
    metrics = ServiceMetrics("test", "0")
    tracer = TracerProvider().get_tracer("test")
    server = create_server(metrics, tracer, Health(metrics, (service,)), services=(service,), domain="test")
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = create_channel(f"127.0.0.1:{port}", ServiceMetrics("client", "0"), tracer, retried=RETRIED)
    try:
        yield channel
    finally:
        await channel.close()
        await server.stop(0)


@pytest.fixture
async def llm() -> AsyncIterator[tuple[LLMServicer, LLMClient]]:
    servicer = LLMServicer()

    def add(server: grpc.aio.Server) -> None:
        llm_service_pb2_grpc.add_LLMServiceServicer_to_server(servicer, server)

    async with serving(add, LLM_SERVICE) as channel:
        yield servicer, LLMClient(channel, key="caller-key", timeout_s=10)


@pytest.fixture
async def formatter() -> AsyncIterator[tuple[FormatterServicer, FormatterClient]]:
    servicer = FormatterServicer()

    def add(server: grpc.aio.Server) -> None:
        formatter_service_pb2_grpc.add_FormatterServiceServicer_to_server(servicer, server)

    async with serving(add, FORMATTER_SERVICE) as channel:
        yield servicer, FormatterClient(channel, timeout_s=5)


async def ask(client: LLMClient, *, max_attempts: int | None = None) -> list[AnswerEvent]:
    stream = client.stream(
        [PromptMessage("user", "hi")],
        model="chat",
        app="support",
        request_id="REF1",
        timeout_s=10,
        max_attempts=max_attempts,
    )
    return [event async for event in stream]


async def test_events_and_metadata(llm: tuple[LLMServicer, LLMClient]) -> None:
    servicer, client = llm
    events = await ask(client, max_attempts=1)
    assert events == [
        AnswerDelta("wrong"), AnswerReset(), AnswerDelta("right"), AnswerUsage(3), AnswerFinish("stop"),
        AnswerCourse({"request_id": "REF1", "attempts": "2", "upstream": "main", "model": "gpt-4o-mini"}),
    ]  # fmt: skip
    (metadata,) = servicer.metadata
    assert metadata["authorization"] == "Bearer caller-key"
    assert (metadata["x-parley-app"], metadata["x-request-id"], metadata["x-parley-max-attempts"]) == (
        "support", "REF1", "1",
    )  # fmt: skip
    assert "traceparent" in metadata
    assert servicer.requests[0].params.model == "chat"


async def test_error_tells_how_the_call_went_in_ids_and_codes(llm: tuple[LLMServicer, LLMClient]) -> None:
    servicer, client = llm
    metadata = {"upstream": "main", "upstream_status": "503", "upstream_request_id": "req-7", "hint": "what was said"}
    servicer.script = [BrokenError("the upstream said: hello", metadata=metadata)]
    with pytest.raises(UpstreamAnswerError) as caught:
        await ask(client)
    assert caught.value.facts == {
        "code": "FAILED_PRECONDITION", "upstream": "main", "upstream_status": "503", "upstream_request_id": "req-7",
        "request_id": "REF1", "attempts": "2", "model": "gpt-4o-mini",
    }  # fmt: skip


async def test_draining_server_is_asked_once_more(llm: tuple[LLMServicer, LLMClient]) -> None:
    servicer, client = llm
    servicer.script = [DrainingError("draining")]
    assert AnswerDelta("right") in await ask(client)
    servicer.script = [DrainingError("draining"), DrainingError("draining")]
    with pytest.raises(UpstreamAnswerError) as caught:
        await ask(client)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("error", "reason", "retryable", "wait"),
    [
        (BusyError("slow down", retry_after_s=7.5), "UPSTREAM_RATE_LIMITED", True, 7.5),
        (BrokenError("the key is wrong"), "UPSTREAM_AUTH", False, None),
        (ValueError("a bug"), "INTERNAL", False, None),
    ],
)
async def test_errors_keep_reason_and_wait(
    llm: tuple[LLMServicer, LLMClient], error: ServiceError, reason: str, retryable: bool, wait: float | None
) -> None:
    servicer, client = llm
    servicer.script = [error]
    with pytest.raises(UpstreamAnswerError) as caught:
        await ask(client)
    assert (caught.value.reason, caught.value.retryable, caught.value.retry_after_s) == (reason, retryable, wait)
    assert len(servicer.requests) == 1


async def test_service_that_is_not_there_may_come_back() -> None:
    tracer = TracerProvider().get_tracer("test")
    channel = create_channel("127.0.0.1:1", ServiceMetrics("client", "0"), tracer)
    with pytest.raises(UpstreamAnswerError) as caught:
        await ask(LLMClient(channel, key=None, timeout_s=5))
    assert caught.value.retryable
    await channel.close()


async def test_closing_the_answer_cancels_the_call(llm: tuple[LLMServicer, LLMClient]) -> None:
    servicer, client = llm
    servicer.endless = True
    stream = client.stream(
        [PromptMessage("user", "hi")], model="", app="a", request_id="r", timeout_s=10, max_attempts=None
    )
    async with aclosing(stream) as events:
        async for event in events:
            if event == AnswerDelta("right"):
                break
    async with asyncio.timeout(5):
        await servicer.cancelled.wait()


async def test_formatter_calls(formatter: tuple[FormatterServicer, FormatterClient]) -> None:
    servicer, client = formatter
    messages = await client.build_prompt("assistant", [Turn("q", "a", 1.0)], "hi", max_tokens=100, locale="en")
    assert messages == (PromptMessage("user", "hi"),)
    assert servicer.requests[0].history[0].answer == "a"
    reply = await client.format_reply(
        "text", dialect="feishu_card", limits=PartLimits(max_bytes=9, max_parts=2), locale="en", ai_label=True
    )
    assert (reply.parts[0].payload, reply.parts[0].fallback_text, reply.truncated) == ('{"card": "你"}', "plain", True)
    assert (servicer.requests[1].limits.max_bytes, servicer.requests[1].max_parts) == (9, 2)


async def test_formatter_error_is_translated(formatter: tuple[FormatterServicer, FormatterClient]) -> None:
    servicer, client = formatter

    class UnknownPromptError(ServiceError):
        code = grpc.StatusCode.NOT_FOUND
        reason = "UNKNOWN_PROMPT"

    servicer.errors = [UnknownPromptError("no such prompt")]
    with pytest.raises(FormatterError) as caught:
        await client.build_prompt("nope", [], "hi", max_tokens=0, locale="en")
    assert (caught.value.reason, caught.value.retryable) == ("UNKNOWN_PROMPT", False)


def open_stream(client: FormatterClient) -> Any:
    return client.open_stream(dialect="feishu_card", limits=PartLimits(max_bytes=5000, max_parts=3), locale="zh-CN")


async def test_answer_is_rendered_while_it_is_written(formatter: tuple[FormatterServicer, FormatterClient]) -> None:
    servicer, client = formatter
    async with open_stream(client) as stream:
        assert await stream.render("  ") == ()
        assert await stream.render("Hel") == (PartState(0, "  Hel"),)
        assert await stream.render("lo") == (PartState(0, "  Hello"),)
    async with asyncio.timeout(5):
        await servicer.left.wait()
    start = servicer.requests[0].start
    assert (start.dialect, start.limits.max_bytes, start.max_parts, start.locale) == ("feishu_card", 5000, 3, "zh-CN")


@pytest.mark.parametrize("how", ["fail", "end", "stall"])
async def test_rendering_that_breaks_off_is_an_error_of_the_formatter(
    formatter: tuple[FormatterServicer, FormatterClient], how: str
) -> None:
    _, client = formatter
    client.change(timeout_s=0.3)
    async with open_stream(client) as stream:
        with pytest.raises(FormatterError):
            await stream.render(how)
        with pytest.raises(FormatterError):
            await stream.render("more")


async def test_rendering_by_an_absent_formatter_is_an_error_of_the_formatter() -> None:
    channel = create_channel(
        "127.0.0.1:1", ServiceMetrics("client", "0"), TracerProvider().get_tracer("test"), retried=RETRIED
    )
    client = FormatterClient(channel, timeout_s=0.5)
    with pytest.raises(FormatterError):
        async with open_stream(client) as stream:
            await stream.render("x")
    await channel.close()
