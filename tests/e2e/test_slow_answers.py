"""WeChat inline replies with models that answer after 3 s, 9 s and 30 s, at WeChat's real pace."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.e2e.stack import Options, start_stack
from tests.fakes.openai_upstream import Peer, Reply, stream, words

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def slow_for(seconds: dict[str, float]) -> Reply:
    """Answer after the time that the question names."""

    async def reply(peer: Peer) -> None:
        question = peer.request.json["messages"][-1]["content"]
        pause = next((pause for name, pause in seconds.items() if name in question), 0.0)
        await stream(pause, *words(f"answer to {question}"))(peer)

    return reply


async def test_every_user_gets_the_whole_answer(tmp_path: Path) -> None:
    options = Options(wechat={"app_secret": None}, feishu=None)
    async with start_stack(tmp_path, options) as stack:
        stack.upstream.replies = [slow_for({"three": 3.0, "nine": 9.0, "thirty": 30.0})]
        pusher = stack.wechat_pusher()

        async def thirty() -> str:
            delivery = await pusher.say("user-30", "thirty seconds")
            assert len(delivery.steps) == 3
            (link,) = delivery.links
            assert "thirty seconds" in delivery.text
            began = time.monotonic()
            while True:
                tapped = await pusher.tap("user-30", link)
                if "answer to" in tapped.text:
                    return tapped.text
                assert not tapped.failed
                assert time.monotonic() - began < 60
                await asyncio.sleep(1)

        async def nine() -> str:
            asking = asyncio.create_task(pusher.say("user-9", "nine seconds"))
            await asyncio.sleep(1)
            # A follower's event and a second question meanwhile: neither is swallowed, neither swallows.
            assert (await pusher.event("user-9", "subscribe")).text
            second = asyncio.create_task(pusher.say("user-9", "second question"))
            first = await asking
            assert len(first.steps) == 2
            answer = await second
            if answer.links and "answer to second" not in answer.text:
                answer = await pusher.tap("user-9", answer.links[0])
            assert answer.text == "answer to second question"
            return first.text

        async def three() -> str:
            delivery = await pusher.say("user-3", "three seconds")
            assert len(delivery.steps) == 1
            return delivery.text

        texts = list(await asyncio.gather(three(), nine(), thirty()))
        # An answer that comes later says which question it answers.
        assert texts == [
            "answer to three seconds",
            "answer to nine seconds",
            "[thirty seco…]\nanswer to thirty seconds",
        ]
        assert not [seen for openid in ("user-3", "user-9", "user-30") for seen in stack.wechat.seen_by(openid)
                    if seen.kind == "banner"]  # fmt: skip
        assert len(stack.upstream.requests) == 4
