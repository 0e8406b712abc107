"""Inline replies at WeChat's own times: answers that take 3, 9 and 30 seconds, side by side."""

import asyncio

import pytest
from parley_gateway.platforms.wechat.inline import InlineTimings
from parley_gateway.simulators.wechat.pusher import Delivery, Timings

from tests.gateway.platforms.wechat.conftest import World


@pytest.mark.slow
async def test_answers_after_3_9_and_30_seconds(world: World) -> None:
    world.platform_times, world.wechat_times = InlineTimings(), Timings()
    wechat = await world.start(app_secret=None)

    async def ask(seconds: float) -> Delivery:
        ready = world.llm.hold(f"{seconds} s")
        asyncio.get_running_loop().call_later(seconds, ready.set)
        return await wechat.say(f"oUser_{seconds}", f"{seconds} s")

    quick, slow, late = await asyncio.gather(ask(3), ask(9), ask(30))
    assert (len(quick.steps), quick.text) == (1, "answer to 3 s")
    assert (len(slow.steps), slow.text) == (2, "answer to 9 s")
    assert len(late.steps) == 3
    (link,) = late.links
    await world.until_idle(timeout_s=30)
    assert (await wechat.tap("oUser_30", link)).text == "[30 s]\nanswer to 30 s"
