"""What a killed process leaves behind is taken up by the next one: nothing lost, nothing asked or sent twice."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from parley_gateway.simulators.wechat.cloud import Seen

from tests.e2e import feishu_user
from tests.e2e.stack import Options, Stack, start_stack
from tests.e2e.test_messages import pushed
from tests.e2e.waiting import eventually
from tests.fakes.openai_upstream import stall, stream, words

pytestmark = pytest.mark.e2e


async def test_message_survives_a_kill_between_acknowledgement_and_answer(stack: Stack) -> None:
    stack.upstream.replies = [stall()]
    await stack.wechat_pusher().say("user-1", "hi")
    assert (await feishu_user.say(stack, "hi")).acknowledged
    await eventually(lambda: len(stack.upstream.requests) == 2)
    await stack.gateway.kill()
    stack.upstream.replies = [stream(*words("After the crash."))]
    await stack.gateway.start()
    assert await eventually(lambda: pushed(stack, "user-1")) == ["After the crash."]
    # The card is there before the answer is, and grows into it.
    (card,) = await eventually(lambda: stack.feishu.seen_in("oc_user"))
    await eventually(lambda: "After the crash." in feishu_user.card_text(card))


async def test_answer_survives_a_kill_between_two_of_its_parts(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    paragraphs = [f"Paragraph {number} " + "words " * 70 for number in range(3)]
    stack.upstream.replies = [stream(*words("\n\n".join(paragraphs)))]
    pusher = stack.wechat_pusher()
    show = stack.wechat.show

    def show_then_fail(*arguments: Any) -> Seen:
        monkeypatch.undo()
        stack.wechat.fail_next("send", -1)
        return show(*arguments)

    monkeypatch.setattr(stack.wechat, "show", show_then_fail)
    await pusher.say("user-1", "a long one")
    await eventually(lambda: '"event": "failed"' in stack.gateway.log())
    assert len(pushed(stack, "user-1")) == 1
    await stack.gateway.kill()
    await stack.gateway.start()
    texts = await eventually(lambda: pushed(stack, "user-1") if len(pushed(stack, "user-1")) >= 3 else [])
    await asyncio.sleep(0.5)
    assert len(pushed(stack, "user-1")) == len(texts)
    said = [word for text in texts for word in text.split() if word.isdigit()]
    assert said == ["0", "1", "2"]
    assert len(stack.upstream.requests) == 1


async def test_order_holds_over_a_kill(stack: Stack) -> None:
    stack.upstream.replies = [stall()]
    pusher = stack.wechat_pusher()
    for number in range(4):
        await pusher.say("user-1", f"question {number}")
    await eventually(lambda: stack.upstream.requests)
    await stack.gateway.kill()
    stack.upstream.replies = [stream(*words("done"))]
    await stack.gateway.start()
    await eventually(lambda: len(pushed(stack, "user-1")) == 4)
    asked = [request.json["messages"][-1]["content"] for request in stack.upstream.requests[1:]]
    assert asked == [f"question {number}" for number in range(4)]


async def test_second_gateway_on_the_same_file_refuses_to_start(stack: Stack) -> None:
    from tests.e2e.processes import ServiceProcess

    second = ServiceProcess("gateway", stack.folder, {"PARLEY_CONFIG": str(stack.folder / "gateway.yaml")})
    second.log_file = stack.folder / "second.log"
    with pytest.raises(AssertionError, match=r"gateway\.store"):
        await second.start()
    assert await second.stop() == 2


async def test_orderly_stop_finishes_the_answer_in_work(tmp_path: Path) -> None:
    async with start_stack(tmp_path, Options(wechat={"app_secret": None}, feishu=None)) as stack:
        stack.upstream.replies = [stream(*words("slow ", "answer")[:2], 1.5, *words("slow ", "answer")[2:])]
        asking = asyncio.create_task(stack.wechat_pusher().say("user-1", "hi"))
        await eventually(lambda: stack.upstream.requests)
        assert await stack.gateway.stop() == 0
        assert (await asking).text == "slow answer"
        assert '"event": "stopped"' in stack.gateway.log()
        assert await stack.llm.stop() == 0
        assert await stack.formatter.stop() == 0
