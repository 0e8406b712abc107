"""`simulate wechat` against a real gateway and the simulator."""

import asyncio

import pytest
from parley_gateway.simulate import wechat as simulate_wechat

from tests.gateway.simulate.conftest import Stage, wechat_bot


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_wechat, "QUIET_S", 0.3)
    monkeypatch.setattr(simulate_wechat, "TAP_AFTER_S", 0.1)


async def test_pushed_answer_is_shown(stage: Stage) -> None:
    bot = wechat_bot(stage.simulator, reply="push")
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], platform="wechat", text="ping|pong", gateway=gateway) == 0
    assert "try 1: acknowledged after" in stage.output
    assert "answer to ping" in stage.output
    assert stage.lines[-1].endswith("pong")


async def test_inline_answer_is_shown_without_any_simulator(stage: Stage) -> None:
    bot = wechat_bot("https://api.weixin.qq.com", reply="inline", app_secret=None)
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], platform="wechat", text="ping", gateway=gateway) == 0
    assert "answer to ping" in stage.output


async def test_further_inline_parts_are_fetched_by_tapping(stage: Stage) -> None:
    bot = wechat_bot("https://api.weixin.qq.com", reply="inline", app_secret=None)
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], platform="wechat", text="one|two", gateway=gateway) == 0
    assert "taps “" in stage.output
    assert "two" in stage.lines[-1]


async def test_bot_that_pushes_to_the_real_wechat_is_refused(stage: Stage) -> None:
    bot = wechat_bot("https://api.weixin.qq.com", reply="auto")
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], platform="wechat", gateway=gateway) == 1
    assert "Nothing was sent." in stage.output
    assert not stage.llm.calls


async def test_banner_is_no_answer(stage: Stage) -> None:
    bot = wechat_bot(stage.simulator, reply="push")
    async with stage.gateway(bot) as gateway:
        stranger = wechat_bot(stage.simulator, reply="push", token="another-token")
        assert await stage.simulate([stranger], platform="wechat", gateway=gateway) == 1
    assert "出现故障" in stage.output


async def test_slow_answer_is_waited_for(stage: Stage) -> None:
    gate = asyncio.Event()
    stage.llm.script = [gate]
    bot = wechat_bot(stage.simulator, reply="push")
    async with stage.gateway(bot) as gateway:
        running = asyncio.create_task(stage.simulate([bot], platform="wechat", gateway=gateway))
        await asyncio.sleep(0.5)
        assert not running.done()
        gate.set()
        assert await running == 0


async def test_no_answer_in_time_is_a_failure(stage: Stage) -> None:
    stage.llm.script = [asyncio.Event()]
    bot = wechat_bot(stage.simulator, reply="push")
    async with stage.gateway(bot) as gateway:
        assert await stage.simulate([bot], platform="wechat", gateway=gateway, timeout_s=1.0) == 1
    assert "no answer after 1 s" in stage.output


async def test_wechat_has_no_groups(stage: Stage) -> None:
    bot = wechat_bot(stage.simulator)
    assert await stage.simulate([bot], platform="wechat", group=True) == 1
    assert "--group" in stage.output
