"""Pushed answers, and what happens to those that can't be pushed, over real HTTP against the simulated API."""

import asyncio
import time

import pytest
from parley_gateway.errors import KeepForLaterError
from parley_gateway.messages import Conversation, InboundMessage, MessageKind, OutboundPart
from parley_gateway.platforms.base import SendKey
from parley_gateway.simulators.wechat import messages
from parley_gateway.simulators.wechat import webhook as requests
from parley_gateway.simulators.wechat.answers import links_in

from tests.gateway.platforms.wechat.conftest import CUT_S, USER, MakeWorld, World


def _message(reply: str) -> InboundMessage:
    return InboundMessage(
        conversation=Conversation("wechat", "default", "", USER),
        message_id=messages.new_message_id(),
        sender=USER,
        kind=MessageKind.QUESTION,
        text="hi",
        sent_at=time.time(),
        time_to_live_s=600.0,
        target={"openid": USER, "reply": reply},
    )


async def test_question_is_acknowledged_and_its_answer_pushed(world: World) -> None:
    wechat = await world.start()
    ready = world.llm.hold("hi")
    delivery = await wechat.say(USER, "hi")
    assert (delivery.text, delivery.failed, len(delivery.steps)) == ("", False, 1)
    assert delivery.steps[0].body == b"success"
    assert delivery.steps[0].duration_s < CUT_S
    assert world.seen() == []
    ready.set()
    await world.until_idle()
    assert world.seen() == ["answer to hi"]
    assert [call for call in world.calls if call[0] != "typing"] == [("token", "ok", ""), ("send", "ok", "")]


async def test_redelivery_is_acknowledged_and_not_asked_again(world: World) -> None:
    wechat = await world.start()
    fields = messages.text("gh_simulator", USER, "hi", at=time.time())
    push = requests.push(wechat.webhook, fields, at=time.time())
    world.cloud.user_sent(USER)
    bodies = {(await wechat.deliver(push)).steps[0].body for _ in range(3)}
    await world.until_idle()
    assert bodies == {b"success"}
    assert world.llm.asked == ["hi"]
    assert world.seen() == ["answer to hi"]


async def test_text_arrives_as_it_was_written(world: World) -> None:
    wechat = await world.start()
    answer = 'café 你好 😀 \\u4f60 "quoted" <a href="https://example.org/?a=1&b=2">link</a>'
    world.llm.says["hi"] = answer
    await wechat.say(USER, "hi")
    await world.until_idle()
    assert world.seen() == [answer]


async def test_long_answer_is_pushed_in_order_in_at_most_five_parts(world: World) -> None:
    wechat = await world.start()
    world.llm.says["tell"] = "1|2|3|4|5"
    await wechat.say(USER, "tell")
    await world.until_idle()
    assert world.seen() == ["1", "2", "3", "4", "5"]


async def test_the_rest_of_a_longer_answer_is_a_tap_away(world: World) -> None:
    wechat = await world.start()
    world.llm.says["tell"] = "1|2|3|4|5|6|7"
    await wechat.say(USER, "tell")
    await world.until_idle()
    *first, fifth = world.seen()
    assert first == ["1", "2", "3", "4"]
    assert fifth.startswith("5\n\n<a ")
    assert len(world.seen()) == 5, "no message is sent that WeChat would refuse"
    (link,) = links_in(fifth)
    sixth = await wechat.tap(USER, link)
    assert sixth.text.startswith("[tell]\n6\n\n")
    assert (await wechat.say(USER, "next question")).text == "", "a question isn't answered with the rest of another"
    await world.until_idle()
    assert world.seen()[-1] == "answer to next question"
    assert (await wechat.say(USER, "continue")).text == "[tell]\n7"
    assert world.llm.asked == ["tell", "next question"]


async def test_part_beyond_the_quota_comes_with_the_next_message(world: World) -> None:
    wechat = await world.start()
    world.llm.says["tell"] = "1|2"
    world.cloud.fail_next("send", 45047)
    await wechat.say(USER, "tell")
    await world.until_idle()
    assert world.seen() == []
    following = await wechat.say(USER, "next question")
    assert following.text.startswith("[tell]\n1\n\n")
    (link,) = following.links
    await world.until_idle()
    assert world.seen()[-1] == "answer to next question", "the new question is answered as well"
    assert (await wechat.tap(USER, link)).text == "[tell]\n2"
    assert world.llm.asked == ["tell", "next question"]
    assert world.events == [], "the account may push"


async def test_user_sees_that_the_answer_is_being_written(world: World) -> None:
    wechat = await world.start()
    ready = world.llm.hold("hi")
    await wechat.say(USER, "hi")
    while not world.cloud.is_typing(USER):
        await asyncio.sleep(0.01)
    assert world.seen() == []
    ready.set()
    await world.until_idle()
    assert world.seen() == ["answer to hi"]
    assert not world.cloud.is_typing(USER)


async def test_answer_comes_although_the_typing_sign_is_refused(world: World) -> None:
    wechat = await world.start()
    world.cloud.fail_next("typing", 45081)
    await wechat.say(USER, "hi")
    await world.until_idle()
    assert world.seen() == ["answer to hi"]


async def test_owed_part_is_the_same_on_every_try(world: World) -> None:
    wechat = await world.start(reply="push")
    world.cloud.fail_next("send", 45015)
    await wechat.say(USER, "first")
    await world.until_idle()
    fields = messages.text("gh_simulator", USER, "second", at=time.time())
    push = requests.push(wechat.webhook, fields, at=time.time())
    texts = [(await wechat.deliver(push)).text for _ in range(3)]
    assert texts == ["[first]\nanswer to first"] * 3
    await world.until_idle()
    assert (await wechat.say(USER, "third")).text == "", "what was read isn't brought again"


async def test_unverified_account_is_answered_inline_from_then_on(make_world: MakeWorld) -> None:
    world = await make_world(verified=False)
    wechat, replica = await world.start(), await world.start()
    assert (await wechat.say(USER, "first")).text == ""
    await world.until_idle()
    assert world.seen() == []
    brought = await wechat.say(USER, "second")
    assert brought.text.startswith("[first]\nanswer to first\n\n")
    (link,) = brought.links
    await world.until_idle()
    assert (await wechat.tap(USER, link)).text == "[second]\nanswer to second"
    assert (await replica.say(USER, "third")).text == "answer to third"
    assert world.cloud.count("send") == 1
    assert world.events == ["inline_only"]


async def test_refusal_is_reported_once(make_world: MakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    world = await make_world(verified=False)
    wechat = await world.start()
    await asyncio.gather(*(wechat.say(f"oUser_{number}", "hi") for number in range(5)))
    await world.until_idle()
    assert world.cloud.count("send") > 1, "several pushes were under way"
    assert world.events == ["inline_only"]
    assert sum("48001" in record.message for record in caplog.records) == 1


async def test_explicit_push_stays_push(make_world: MakeWorld) -> None:
    world = await make_world(verified=False)
    wechat = await world.start(reply="push")
    await wechat.say(USER, "first")
    await world.until_idle()
    assert (await wechat.say(USER, "second")).text == "[first]\nanswer to first"
    await world.until_idle()
    assert world.cloud.count("send") == 2
    assert world.events == []


async def test_explicit_inline_pushes_nothing(world: World) -> None:
    wechat = await world.start(reply="inline")
    assert (await wechat.say(USER, "hi")).text == "answer to hi"
    assert world.cloud.calls == []


async def test_word_with_nothing_to_read_is_a_question(world: World) -> None:
    wechat = await world.start()
    assert (await wechat.say(USER, "continue")).text == ""
    await world.until_idle()
    assert world.llm.asked == ["continue"]


async def test_busy_moment_is_repeated(world: World) -> None:
    wechat = await world.start()
    world.cloud.fail_next("send", -1)
    await wechat.say(USER, "hi")
    await world.until_idle()
    assert world.seen() == ["answer to hi"]
    assert world.llm.asked == ["hi"]


async def test_session_of_a_kept_answer_sends_nothing(world: World) -> None:
    await world.start()
    (platform,) = world.platforms
    session = platform.open_reply(_message("inline"), {})
    assert session.keeps_answers
    await session.update("thinking")
    for call in (session.send(OutboundPart(text="x"), SendKey("u", 0.0)), session.abort("x", SendKey("u", 0.0))):
        with pytest.raises(KeepForLaterError):
            await call
    await session.finish()
    assert world.cloud.calls == []


async def test_failure_is_told_by_push(world: World) -> None:
    await world.start()
    (platform,) = world.platforms
    world.cloud.user_sent(USER)
    session = platform.open_reply(_message("push"), {})
    assert not session.keeps_answers
    await session.update("thinking")
    await session.abort("It failed (id 7).", SendKey("u", 0.0))
    await session.finish()
    assert (world.seen(), session.state()) == (["It failed (id 7)."], {})
