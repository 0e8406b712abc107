"""Answers that are shown while they are written: shown words never hold the answer up, and never change it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from parley_gateway.errors import FormatterError, LeaseLostError, UpstreamAnswerError
from parley_gateway.messages import InboundMessage, OutboundPart
from parley_gateway.platforms.base import ReplySession, SendKey
from parley_gateway.ports import AnswerDelta, AnswerFinish, AnswerReset

from tests.fakes.gateway_parts import FakePlatform, FakeSession, question
from tests.gateway.conftest import Gateway


class ShowingSession(FakeSession):
    """Shows progress on one sheet, which its state names."""

    def __init__(self, platform: "ShowingPlatform", message: InboundMessage, state: Mapping[str, str]) -> None:
        super().__init__(platform.phone, message)
        self.shows_progress = True
        self._platform = platform
        self._state = dict(state)

    async def begin(self) -> None:
        if not self._state:
            self._platform.sheets.append([])
            self._state = {"sheet": str(len(self._platform.sheets) - 1)}

    async def update(self, text: str) -> None:
        self._platform.sheets[int(self._state["sheet"])].append(text)
        self._platform.updated.set()
        await asyncio.sleep(self._platform.pace_s)

    async def send(self, part: OutboundPart, key: SendKey) -> str:
        if self._state and key.index == 0:
            self._platform.sheets[int(self._state["sheet"])].append(f"final: {part.text}")
            return "sheet"
        return await super().send(part, key)

    def state(self) -> Mapping[str, str]:
        return dict(self._state)


class ShowingPlatform(FakePlatform):
    """A platform that can show progress."""

    def __init__(self) -> None:
        super().__init__()
        self.sheets: list[list[str]] = []
        self.generations: list[int] = []
        self.updated = asyncio.Event()
        self.pace_s = 0.0

    def open_reply(self, message: InboundMessage, state: Mapping[str, str], *, generation: int = 1) -> ReplySession:
        self.generations.append(generation)
        return ShowingSession(self, message, state)


@pytest.fixture
def platform(gateway: Gateway) -> ShowingPlatform:
    shows = ShowingPlatform()
    gateway.platform = shows
    gateway.set_bot()
    return shows


async def until_shown(platform: ShowingPlatform, text: str) -> None:
    async with asyncio.timeout(10):
        while not any(text in sheet for sheet in platform.sheets):
            platform.updated.clear()
            await platform.updated.wait()


async def test_words_are_shown_as_they_come_and_the_answer_completes_the_same_sheet(
    gateway: Gateway, platform: ShowingPlatform
) -> None:
    more = asyncio.Event()
    gateway.llm.script = [more]
    await gateway.accept(question("one"))
    working = asyncio.create_task(gateway.work())
    await until_shown(platform, "answer to ")
    more.set()
    await working
    (sheet,) = platform.sheets
    assert sheet[:2] == ["", "answer to "]
    assert sheet[-1] == "final: answer to one"
    assert platform.phone.texts == []


async def test_slow_platform_skips_states_and_delays_nothing(gateway: Gateway, platform: ShowingPlatform) -> None:
    platform.pace_s = 60.0
    gateway.llm.script = [[*(AnswerDelta(f"{number} ") for number in range(500)), AnswerFinish("stop")]]
    await gateway.accept(question("one"))
    async with asyncio.timeout(10):
        await gateway.work()
    assert platform.sheets[0][-1].startswith("final: 0 1 2")


async def test_state_is_stored_before_anything_is_seen_and_a_takeover_goes_on(
    gateway: Gateway, platform: ShowingPlatform
) -> None:
    never = asyncio.Event()
    gateway.llm.script = [never]
    await gateway.accept(question("one"))
    leased = await gateway.store.lease("dies", now=gateway.clock(), ttl_s=15)
    assert leased is not None
    dying = asyncio.create_task(gateway.pipeline.process(*leased))
    await until_shown(platform, "answer to ")
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    gateway.clock.now += 16
    await gateway.work("takes over")
    (sheet,) = platform.sheets
    assert sheet[-1] == "final: answer to one"
    assert len(gateway.llm.calls) == 2, "what was not complete is asked again"
    assert sorted(set(platform.generations)) == [1, 2]


async def test_worker_that_lost_its_lease_shows_nothing(gateway: Gateway, platform: ShowingPlatform) -> None:
    await gateway.accept(question("one"))
    leased = await gateway.store.lease("slow", now=gateway.clock(), ttl_s=15)
    assert leased is not None
    gateway.clock.now += 16
    assert await gateway.work("fast") == 1
    with pytest.raises(LeaseLostError):
        await gateway.pipeline.process(*leased)
    assert len(platform.sheets) == 1


async def test_failure_that_may_pass_keeps_the_sheet(gateway: Gateway, platform: ShowingPlatform) -> None:
    failed = UpstreamAnswerError("RATE_LIMITED", "slow down", True, 7.0)
    gateway.llm.script = [[AnswerDelta("half of "), AnswerFinish("stop")]]
    gateway.formatter.errors = [FormatterError("UNAVAILABLE", "away", retryable=True)]
    await gateway.accept(question("one"))
    await gateway.work()
    gateway.clock.now += 60
    await gateway.work()
    assert platform.sheets[0][-1] == "final: half of"
    gateway.llm.script = [failed]
    await gateway.accept(question("two", message_id="m2"))
    await gateway.work()
    gateway.clock.now += 60
    await gateway.work()
    assert [sheet[-1] for sheet in platform.sheets] == ["final: half of", "final: answer to two"]


async def test_failure_for_good_is_told_on_the_sheet(gateway: Gateway, platform: ShowingPlatform) -> None:
    gateway.llm.script = [UpstreamAnswerError("UPSTREAM_AUTH", "no", retryable=False)]
    await gateway.accept(question("one"))
    await gateway.work()
    (sheet,) = platform.sheets
    assert sheet[-1].startswith("final: Sorry")
    assert "Reference:" in sheet[-1]


async def test_answer_comes_although_the_formatter_shows_no_states(gateway: Gateway, platform: ShowingPlatform) -> None:
    gateway.formatter.stream_errors = [FormatterError("UNAVAILABLE", "away", retryable=True)]
    await gateway.accept(question("one"))
    await gateway.work()
    assert platform.sheets[0][-1] == "final: answer to one"


async def test_words_that_are_taken_back_are_replaced(gateway: Gateway, platform: ShowingPlatform) -> None:
    async def stream(*arguments: Any, **options: Any) -> Any:
        yield AnswerDelta("wrong")
        await until_shown(platform, "wrong")
        yield AnswerReset()
        yield AnswerDelta("right")
        await until_shown(platform, "right")
        yield AnswerFinish("stop")

    gateway.llm.stream = stream  # type: ignore[method-assign]
    await gateway.accept(question("one"))
    await gateway.work()
    assert platform.sheets[0] == ["", "wrong", "right", "final: right"]


async def test_stop_before_the_first_word_leaves_no_unfinished_sheet(
    gateway: Gateway, platform: ShowingPlatform
) -> None:
    never = asyncio.Event()

    async def silent(*arguments: Any, **options: Any) -> Any:
        await never.wait()
        yield AnswerFinish("stop")

    gateway.llm.stream = silent  # type: ignore[method-assign]
    await gateway.accept(question("one"))
    working = asyncio.create_task(gateway.work())
    await until_shown(platform, "")
    await gateway.store.request_stop(question().conversation.key, question().lane, at=gateway.clock() + 1)
    async with asyncio.timeout(10):
        await working
    assert platform.sheets[0][-1] == "final: Stopped."
    assert await gateway.store.history(question().conversation.key, now=gateway.clock()) == ()
