"""Runs end at once when nobody waits for them, keep their limits, and never hold up the others."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from parley.llm.v1 import chat_pb2, llm_service_pb2
from parley_llm.upstream.langchain.chat import RunnableTransport
from parley_llm.upstream.langchain.running import AHEAD
from parley_llm.upstream.transport import Outgoing, after

from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask
from tests.llm.langchain.conftest import Serve
from tests.llm.langchain.subjects import scripted
from tests.llm.test_cancellation import LIMIT_S, PARAMS, http_call


class Patient:
    """A function that waits for ever and tells when it began and when it was cancelled."""

    def __init__(self, begin_with: str = "") -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.at = 0.0
        self._begin_with = begin_with

    async def wait(self, messages: Any) -> str:
        """Be the Runnable."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.at = time.monotonic()
            self.cancelled.set()
            raise
        return ""

    async def stream(self, pieces: AsyncIterator[Any]) -> AsyncIterator[str]:
        """Be the Runnable, which says something first."""
        yield self._begin_with
        yield await self.wait(None)

    async def assert_cancelled(self, left_at: float) -> None:
        """It was, in time."""
        await asyncio.wait_for(self.cancelled.wait(), 5)
        assert self.at - left_at < LIMIT_S


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "sse"])
async def test_a_caller_that_leaves_ends_the_run(streaming: bool, serve: Serve) -> None:
    patient = Patient("Hel")
    running = serve(RunnableGenerator(patient.stream) if streaming else RunnableLambda(patient.wait))
    writer = await http_call(running, streaming=streaming)
    await asyncio.wait_for(patient.begun.wait(), 5)
    left_at = time.monotonic()
    writer.close()
    await patient.assert_cancelled(left_at)


@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_a_cancelled_call_ends_the_run(streaming: bool, serve: Serve) -> None:
    patient = Patient("Hel")
    stub = serve(RunnableGenerator(patient.stream) if streaming else RunnableLambda(patient.wait)).stub
    if streaming:
        call = stub.StreamChatCompletion(llm_service_pb2.StreamChatCompletionRequest(params=PARAMS))
    else:
        call = stub.CreateChatCompletion(llm_service_pb2.CreateChatCompletionRequest(params=PARAMS))
    await asyncio.wait_for(patient.begun.wait(), 5)
    left_at = time.monotonic()
    call.cancel()
    await patient.assert_cancelled(left_at)


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_the_deadline_ends_the_run(front: str, serve: Serve) -> None:
    patient = Patient()
    seen = await ask(front, serve(RunnableLambda(patient.wait)), timeout_s=0.2)
    assert seen.code in ("504", "DEADLINE_EXCEEDED")
    await asyncio.wait_for(patient.cancelled.wait(), 5)


async def test_a_silent_runnable_is_given_up_and_not_tried_again(serve: Serve) -> None:
    patient = Patient()
    running = serve(RunnableLambda(patient.wait), timeouts={"first_token": 0.1}, retry={"max_attempts": 3})
    seen = await ask("sse", running)
    assert (seen.code, seen.reason, seen.attempts) == ("504", "UPSTREAM_TIMEOUT", 1)
    await asyncio.wait_for(patient.cancelled.wait(), 5)


async def test_a_stalled_stream_breaks(serve: Serve) -> None:
    patient = Patient("Hel")
    seen = await ask("sse", serve(RunnableGenerator(patient.stream), timeouts={"idle": 0.1}))
    assert (seen.text, seen.finish, seen.reason) == ("Hel", "", "UPSTREAM_TIMEOUT")
    await asyncio.wait_for(patient.cancelled.wait(), 5)


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_a_runnable_that_cancels_itself_keeps_nobody_waiting(front: str, serve: Serve) -> None:
    async def cancel(_: object) -> str:
        raise asyncio.CancelledError

    seen = await ask(front, serve(RunnableLambda(cancel)))
    assert seen.reason == "UPSTREAM_UNAVAILABLE"


@pytest.mark.parametrize("front", ALL_FRONTS)
async def test_blocking_code_holds_nobody_up(front: str, serve: Serve) -> None:
    leave = threading.Event()
    entered = threading.Event()

    def block(messages: Any) -> str:
        entered.set()
        assert leave.wait(20)
        return f"thread {threading.current_thread() is threading.main_thread()}"

    running = serve(RunnableLambda(block))
    call = asyncio.create_task(ask(front, running))
    try:
        await asyncio.to_thread(entered.wait, 5)
        # The loop turns, and the service answers others, while the function blocks.
        assert (await running.http.get("/v1/models")).status_code == 200
        assert not call.done()
    finally:
        leave.set()
    assert (await call).text == "thread False"


async def test_a_model_that_only_blocks_streams_all_the_same(serve: Serve) -> None:
    class Blocking(FakeListChatModel):
        """Without a stream of its own that waits, LangChain runs the one that blocks in a thread."""

        _astream = BaseChatModel._astream

    running = serve(Blocking(responses=["abcde"], sleep=0.1))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(count())
    seen = await ask("sse", running)
    counting.cancel()
    assert (seen.text, seen.done) == ("abcde", True)
    assert turns > 10


async def test_a_run_is_only_so_far_ahead_of_its_reader() -> None:
    said = 0

    async def talk(pieces: AsyncIterator[Any]) -> AsyncIterator[str]:
        nonlocal said
        while True:
            said += 1
            yield "x" * 1000

    transport = RunnableTransport("agent", RunnableGenerator(talk), "messages", 10)
    body = b'{"stream": true, "messages": [{"role": "user", "content": "?"}]}'
    answer = await transport.send(Outgoing("POST", "", b"", body), after(5), after(5))
    for _ in range(100):
        await asyncio.sleep(0)
    assert AHEAD <= said <= AHEAD + 8
    before = said
    for _ in range(5):
        assert await answer.next(after(5))
    for _ in range(100):
        await asyncio.sleep(0)
    assert before < said <= before + 8
    answer.close()


async def test_only_so_many_calls_are_in_work(serve: Serve) -> None:
    patient = Patient()
    running = serve(RunnableLambda(patient.wait), {"max_connections": 1})
    first = asyncio.create_task(ask("http", running, timeout_s=5))
    await asyncio.wait_for(patient.begun.wait(), 5)
    seen = await ask("http", running)
    assert (seen.code, seen.reason) == ("503", "UPSTREAM_UNAVAILABLE")
    assert "max_connections" in seen.message
    first.cancel()
    await patient.assert_cancelled(time.monotonic())
    assert (await ask("http", serve(RunnableLambda(lambda _: "ok"), {"max_connections": 1}))).text == "ok"


@pytest.mark.parametrize("front", STREAM_FRONTS)
async def test_many_at_a_time_are_not_mixed_up(front: str, serve: Serve) -> None:
    running = serve(RunnableLambda(lambda messages: f"You said {messages[-1].content}"))

    async def one(number: int) -> None:
        text = f"number {number}"
        message: Any = (
            {"role": "user", "content": text} if front == "sse" else chat_pb2.ChatMessage(role="user", content=text)
        )
        assert (await ask(front, running, messages=[message])).text == f"You said {text}"

    await asyncio.gather(*(one(number) for number in range(50)))


async def test_a_slow_model_is_passed_on_as_it_speaks(serve: Serve) -> None:
    model = scripted("a", "b", "c", pause_s=0.05)
    running = serve(model)
    body = {"model": "chat", "messages": [{"role": "user", "content": "?"}], "stream": True}
    async with running.http.stream("POST", "/v1/chat/completions", json=body) as response:
        arrived = [time.monotonic() async for line in response.aiter_lines() if '"content"' in line]
    assert len(arrived) == 3
    assert arrived[-1] - arrived[0] > 0.05
