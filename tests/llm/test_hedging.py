"""A second attempt beside a slow one: who wins, what becomes of the loser, and what it may cost."""

import asyncio
import time
from typing import Any

import pytest
from parley_llm.calls.routing import build_routing
from parley_llm.config import LLMSettings

from tests.fakes.openai_upstream import (
    FINISH,
    ROLE,
    OpenAIUpstream,
    Peer,
    Reply,
    completion,
    delta,
    stall,
    status,
    stream,
    words,
)
from tests.llm.conftest import Running, run_service, settings_for
from tests.llm.fronts import ALL_FRONTS, STREAM_FRONTS, ask
from tests.llm.test_cancellation import LIMIT_S, http_call

fronts = pytest.mark.parametrize("front", ALL_FRONTS)
AFTER = 0.1
SILENT = stall()
UPSTREAMS = ("up0", "up1")


def good(front: str, text: str = "Hello!") -> Reply:
    return stream(*words(text)) if front in STREAM_FRONTS else completion(text)


def late(reply: Reply, seconds: float) -> Reply:
    async def wait_and_reply(peer: Peer) -> None:
        await asyncio.sleep(seconds)
        await reply(peer)

    return wait_and_reply


def hedged(*upstreams: OpenAIUpstream, hedge: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    return settings_for(*upstreams, hedge={"after": AFTER, "plain": True, **(hedge or {})}, **model)


@fronts
async def test_the_second_attempt_answers_and_the_first_is_cancelled_at_once(front: str) -> None:
    async with OpenAIUpstream(SILENT) as slow, OpenAIUpstream(good(front)) as quick:
        async with run_service(hedged(slow, quick)) as service:
            seen = await ask(front, service)
            answered_at = time.monotonic()
            assert (seen.text, seen.attempts) == ("Hello!", 2)
            assert seen.headers["x-parley-upstream"] == "up1"
            await asyncio.wait_for(slow.requests[0].closed.wait(), 5)
            assert slow.requests[0].closed_at - answered_at < LIMIT_S
            labels = {"upstream": "up0", "outcome": "hedged", "error_type": "hedged"}
            assert service.metric("parley_llm_attempts_total", **labels) == 1
            assert service.metric("parley_llm_attempts_total", upstream="up1", outcome="ok", error_type="") == 1
            assert (
                service.metric(
                    "parley_llm_requests_total", caller="anonymous", operation="chat", model="chat", outcome="ok"
                )
                == 1
            )
        assert quick.requests[0].at - slow.requests[0].at >= AFTER * 0.9


@fronts
async def test_the_first_attempt_may_still_win(front: str) -> None:
    async with (
        OpenAIUpstream(late(good(front, "first"), 0.3)) as slow,
        OpenAIUpstream(SILENT) as slower,
        run_service(hedged(slow, slower)) as service,
    ):
        seen = await ask(front, service)
        assert (seen.text, seen.attempts, seen.headers["x-parley-upstream"]) == ("first", 2, "up0")
        await asyncio.wait_for(slower.requests[0].closed.wait(), 5)


@fronts
async def test_a_quick_answer_is_not_hedged(front: str) -> None:
    async with OpenAIUpstream(good(front)) as first, OpenAIUpstream(good(front)) as second:
        async with run_service(hedged(first, second, hedge={"after": 5})) as service:
            assert (await ask(front, service)).attempts == 1
        assert not second.requests


@pytest.mark.parametrize("front", ["http", "grpc"])
async def test_plain_calls_are_hedged_only_on_request(front: str) -> None:
    async with OpenAIUpstream(late(good(front), 0.3)) as first, OpenAIUpstream(good(front)) as second:
        async with run_service(hedged(first, second, hedge={"plain": False})) as service:
            assert (await ask(front, service)).attempts == 1
        assert not second.requests


@pytest.mark.parametrize("front", STREAM_FRONTS)
async def test_comments_and_roles_are_no_content(front: str) -> None:
    async with (
        OpenAIUpstream(stream(b": wait\n\n", ROLE, "stall")) as slow,
        OpenAIUpstream(good(front)) as quick,
        run_service(hedged(slow, quick)) as service,
    ):
        seen = await ask(front, service)
    assert (seen.text, seen.attempts, seen.done) == ("Hello!", 2, True)


@pytest.mark.parametrize("front", STREAM_FRONTS)
async def test_a_stream_that_has_content_is_not_hedged_any_more(front: str) -> None:
    pieces = stream(ROLE, delta("Hel"), 0.3, delta("lo!"), FINISH)
    async with OpenAIUpstream(pieces) as first, OpenAIUpstream(good(front)) as second:
        async with run_service(hedged(first, second)) as service:
            seen = await ask(front, service)
        assert (seen.text, seen.attempts, len(second.requests)) == ("Hello!", 1, 0)


@fronts
@pytest.mark.parametrize("failure", [status(503), status(400), status(401)])
async def test_a_failing_hedge_leaves_the_first_attempt_running(front: str, failure: Reply) -> None:
    async with OpenAIUpstream(late(good(front, "first"), 0.4)) as slow, OpenAIUpstream(failure) as broken:
        async with run_service(hedged(slow, broken)) as service:
            seen = await ask(front, service)
        assert (seen.text, len(broken.requests)) == ("first", 1)


@fronts
async def test_a_failing_first_attempt_leaves_the_hedge_running(front: str) -> None:
    async with OpenAIUpstream(late(status(503), 0.2)) as broken, OpenAIUpstream(late(good(front), 0.4)) as quick:
        async with run_service(hedged(broken, quick)) as service:
            seen = await ask(front, service)
        assert (seen.text, seen.attempts, len(broken.requests)) == ("Hello!", 2, 1)


@fronts
async def test_when_both_have_failed_the_call_goes_on_as_ever(front: str) -> None:
    async with (
        OpenAIUpstream(late(status(503), 0.2), good(front)) as first,
        OpenAIUpstream(status(503), good(front)) as second,
        run_service(hedged(first, second)) as service,
    ):
        seen = await ask(front, service)
        assert (seen.text, seen.attempts) == ("Hello!", 3)
        retries = [
            service.metric("parley_llm_retries_total", upstream=name, reason="upstream_5xx") for name in UPSTREAMS
        ]
        assert sum(retries) == 1


@fronts
async def test_hedges_count_as_attempts(front: str) -> None:
    async with OpenAIUpstream(late(good(front), 0.3)) as first, OpenAIUpstream(good(front)) as second:
        async with run_service(hedged(first, second)) as service:
            assert (await ask(front, service, {"x-parley-max-attempts": "1"})).attempts == 1
        assert not second.requests


async def test_hedges_are_paid_from_the_retry_budget() -> None:
    async with OpenAIUpstream(late(stream(*words("slow")), 0.1)) as slow, OpenAIUpstream(SILENT) as second:
        async with run_service(hedged(slow, second, hedge={"after": 0.02}, retry={"budget": 0.1})) as service:
            for _ in range(16):
                assert (await ask("sse", service)).text == "slow"
        # Ten in reserve, and a tenth of sixteen calls.
        assert 10 <= len(second.requests) <= 11


async def test_a_model_without_budget_is_not_hedged() -> None:
    async with OpenAIUpstream(late(stream(*words("slow")), 0.2)) as slow, OpenAIUpstream(SILENT) as second:
        async with run_service(hedged(slow, second, retry={"budget": 0})) as service:
            assert (await ask("sse", service)).attempts == 1
        assert not second.requests


@pytest.mark.parametrize(("same_target", "attempts"), [(True, 2), (False, 1)])
async def test_a_single_target_is_hedged_only_on_request(same_target: bool, attempts: int) -> None:
    async with (
        OpenAIUpstream(late(stream(*words("first")), 0.4), stream(*words("second"))) as only,
        run_service(hedged(only, hedge={"same_target": same_target})) as service,
    ):
        seen = await ask("sse", service)
    assert (seen.attempts, seen.text) == (attempts, "second" if same_target else "first")


async def test_more_than_one_hedge_where_allowed() -> None:
    async with OpenAIUpstream(SILENT) as first, OpenAIUpstream(SILENT) as second, OpenAIUpstream(completion()) as third:
        async with run_service(hedged(first, second, third, hedge={"max": 2})) as service:
            assert (await ask("http", service)).attempts == 3
        for loser in (first, second):
            await asyncio.wait_for(loser.requests[0].closed.wait(), 5)


async def test_an_open_circuit_is_not_hedged_to() -> None:
    async with OpenAIUpstream(late(completion("slow"), 0.3)) as slow, OpenAIUpstream(completion()) as second:
        async with run_service(hedged(slow, second)) as service:
            circuit = service.service.core.routing.routes["chat"].targets[1].circuit
            for _ in range(10):
                circuit.failed(asyncio.get_running_loop().time())
            assert (await ask("http", service)).text == "slow"
        assert not second.requests


async def test_losing_is_not_held_against_a_target() -> None:
    async with OpenAIUpstream(SILENT) as slow, OpenAIUpstream(completion()) as quick:
        async with run_service(hedged(slow, quick, circuit={"failures": 1})) as service:
            for _ in range(3):
                assert (await ask("http", service)).attempts == 2
        assert len(slow.requests) == 3


@fronts
async def test_the_deadline_ends_both(front: str) -> None:
    async with (
        OpenAIUpstream(SILENT) as first,
        OpenAIUpstream(SILENT) as second,
        run_service(hedged(first, second)) as service,
    ):
        seen = await ask(front, service, timeout_s=0.6)
        assert seen.code in ("504", "DEADLINE_EXCEEDED")
        for upstream in (first, second):
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "sse"])
async def test_a_caller_that_leaves_cancels_both(streaming: bool) -> None:
    async with (
        OpenAIUpstream(SILENT) as first,
        OpenAIUpstream(SILENT) as second,
        run_service(hedged(first, second)) as service,
    ):
        writer = await http_call(service, streaming=streaming)
        while not second.requests:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        left_at = time.monotonic()
        writer.close()
        for upstream in (first, second):
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)
            assert upstream.requests[0].closed_at - left_at < LIMIT_S
        await asyncio.sleep(0.05)
        for name in UPSTREAMS:
            labels = {"upstream": name, "outcome": "cancelled", "error_type": "cancelled"}
            assert service.metric("parley_llm_attempts_total", **labels) == 1


async def test_stopping_cuts_both() -> None:
    async with (
        OpenAIUpstream(SILENT) as first,
        OpenAIUpstream(SILENT) as second,
        run_service(hedged(first, second)) as service,
    ):
        asking = asyncio.create_task(ask("http", service))
        while not second.requests:
            await asyncio.sleep(0.005)
        await service.service.core.inflight.wait_idle(0)
        assert (await asking).reason == "SERVER_STOPPED"
        for upstream in (first, second):
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 5)


async def test_what_was_adapted_is_told_of_the_winner() -> None:
    async with OpenAIUpstream(SILENT) as first, OpenAIUpstream(completion()) as second:
        settings = hedged(first, second)
        settings["models"]["chat"]["targets"][0]["params"] = {"drop": ["seed"]}
        settings["models"]["chat"]["targets"][1]["params"] = {"drop": ["top_p"]}
        async with run_service(settings) as service:
            seen = await ask("http", service, seed=7, top_p=0.5)
    assert seen.headers["x-parley-adapted"] == "top_p"


async def test_answers_at_the_same_moment_leave_nothing_behind() -> None:
    """Whichever of two that answer together wins, the other's connection is closed or free again."""
    answers = late(stream(*words("Hello!")), 0.1), late(stream(*words("Hello!")), 0.0)
    async with (
        OpenAIUpstream(answers[0]) as first,
        OpenAIUpstream(answers[1]) as second,
        run_service(hedged(first, second)) as service,
    ):
        for _ in range(9):
            assert (await ask("sse", service)).text == "Hello!"
        assert service.metric("parley_llm_active_streams") == 0
        pools = [one.transport._pool for one in service.service.core.routing.upstreams.values()]  # type: ignore[attr-defined]
        for _ in range(40):
            if all(pool._active == 0 for pool in pools):
                break
            await asyncio.sleep(0.05)
        assert [pool._active for pool in pools] == [0, 0]
        assert not service.service.core.inflight._open


async def test_without_hedge_a_call_makes_no_task(service: Running, upstream: OpenAIUpstream) -> None:
    before: set[asyncio.Task[Any]] = set()

    async def look(peer: Peer) -> None:
        before.update(asyncio.all_tasks())
        await completion()(peer)

    upstream.replies = [look]
    await ask("http", service)
    assert not [task for task in before if "Race" in repr(task) or "begin" in repr(task)]
    hedge = {"after": 5, "plain": True}
    settings = LLMSettings.model_validate(settings_for(upstream, hedge=hedge))
    service.service.core.routing = build_routing(settings, {})
    await ask("http", service)
    assert [task for task in before if "begin" in repr(task)], "this test would see it"
