"""Delivering parts to the simulated Feishu."""

import asyncio
import json
from collections.abc import Mapping

import pytest
from parley_gateway.errors import (
    DeliveryError,
    PermanentDeliveryError,
    RefusedContentError,
    TransientDeliveryError,
)
from parley_gateway.messages import Conversation, InboundMessage, MessageKind, OutboundPart
from parley_gateway.platforms.base import ReplySession, SendKey
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.platforms.feishu.send import window_uuid
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.errors import APIError

from tests.fakes.memory_cache import MemoryCache
from tests.gateway.platforms.feishu.conftest import APP_SECRET, Calls, Clock

CHAT = "oc_1"


def card(*elements: Mapping[str, object]) -> str:
    chosen = elements or ({"tag": "markdown", "content": "**hello**"},)
    return json.dumps({"schema": "2.0", "config": {"update_multi": True}, "body": {"elements": list(chosen)}})


def asked(cloud: FeishuCloud, thread_id: str = "") -> InboundMessage:
    """Let a user ask, and return the question as the gateway knows it."""
    said = cloud.user_says('{"text": "hi"}', chat_id=CHAT, sender="ou_1", thread_id=thread_id)
    target = {"message_id": said.message_id, "chat_id": CHAT}
    if thread_id:
        target["thread_id"] = thread_id
    return InboundMessage(
        Conversation("feishu", "team", "t1", CHAT, thread_id),
        said.message_id,
        "ou_1",
        MessageKind.QUESTION,
        "hi",
        said.created_at,
        1800.0,
        target=target,
    )


@pytest.fixture
def message(cloud: FeishuCloud) -> InboundMessage:
    return asked(cloud)


@pytest.fixture
def reply(platform: FeishuPlatform, message: InboundMessage) -> ReplySession:
    return platform.open_reply(message, {})


@pytest.fixture
def key(clock: Clock) -> SendKey:
    return SendKey("9f1c5f62-0c1e-4a43-9a8e-000000000001", clock.now)


def texts(cloud: FeishuCloud) -> list[str]:
    return [json.loads(each.content)["text"] for each in cloud.seen_in(CHAT)]


async def test_card_is_a_reply_to_the_question(
    reply: ReplySession, cloud: FeishuCloud, message: InboundMessage, key: SendKey, calls: Calls
) -> None:
    remote_id = await reply.send(OutboundPart(payload=card(), fallback_text="hello"), key)
    (seen,) = cloud.seen_in(CHAT)
    assert (seen.message_id, seen.msg_type, seen.parent_id) == (remote_id, "interactive", message.message_id)
    *elements, buttons = json.loads(seen.content)["body"]["elements"]
    assert elements == json.loads(card())["body"]["elements"]
    assert buttons["tag"] == "column_set"
    assert seen.thread_id == ""
    assert calls.seen == [("token", "ok", ""), ("send", "ok", "")]


async def test_text_is_sent_as_text(reply: ReplySession, cloud: FeishuCloud, key: SendKey) -> None:
    await reply.send(OutboundPart(text='你好 "quoted"\n\\next'), key)
    assert texts(cloud) == ['你好 "quoted"\n\\next']


async def test_answer_stays_in_the_thread(platform: FeishuPlatform, cloud: FeishuCloud, key: SendKey) -> None:
    await platform.open_reply(asked(cloud, "omt_7"), {}).send(OutboundPart(text="here"), key)
    assert [each.thread_id for each in cloud.seen_in(CHAT)] == ["omt_7"]


@pytest.mark.parametrize("tag", ['<at user_id="all"></at>', "<AT id=all>", "</at>"])
async def test_text_mentions_nobody(reply: ReplySession, cloud: FeishuCloud, key: SendKey, tag: str) -> None:
    await reply.send(OutboundPart(text=f"a < b, {tag} <attach>"), key)
    (seen,) = texts(cloud)
    assert tag not in seen
    assert seen.startswith("a < b, ＜")
    assert seen.endswith("<attach>")


async def test_same_key_twice_is_one_message(reply: ReplySession, cloud: FeishuCloud, key: SendKey) -> None:
    part = OutboundPart(payload=card())
    first = await reply.send(part, key)
    assert await reply.send(part, key) == first
    assert len(cloud.seen_in(CHAT)) == 1


async def test_lost_answer_and_repeat_are_one_message(reply: ReplySession, cloud: FeishuCloud, key: SendKey) -> None:
    cloud.lose_next_answer("reply")
    with pytest.raises(TransientDeliveryError):
        await reply.send(OutboundPart(text="once"), key)
    await reply.send(OutboundPart(text="once"), key)
    assert texts(cloud) == ["once"]


async def test_repeat_just_inside_the_window_is_one_message(
    reply: ReplySession, cloud: FeishuCloud, key: SendKey, clock: Clock
) -> None:
    await reply.send(OutboundPart(text="once"), key)
    clock.now += 50 * 60 - 1
    await reply.send(OutboundPart(text="once"), key)
    assert len(cloud.seen_in(CHAT)) == 1


def test_uuid_changes_after_fifty_minutes_and_stays_the_same_within_the_next() -> None:
    key = SendKey("u" * 50, 1000.0)
    first, later, even_later = (window_uuid(key, 1000.0 + minutes * 60) for minutes in (49, 51, 99))
    assert first == key.uuid
    assert later == even_later != first
    assert len(later) <= 50
    assert window_uuid(key, 900.0) == key.uuid  # A clock that went backwards.
    assert window_uuid(SendKey("u", 0.0), 1e9) == "u"  # Never tried before.


async def test_fallback_after_a_refused_card_may_use_the_same_key(
    reply: ReplySession, cloud: FeishuCloud, key: SendKey
) -> None:
    with pytest.raises(RefusedContentError):
        await reply.send(OutboundPart(payload=card({"tag": "note"}), fallback_text="plain"), key)
    await reply.send(OutboundPart(text="plain"), key)
    assert texts(cloud) == ["plain"]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (card({"tag": "note", "elements": []}), "230099/200861"),
        (card(*[{"tag": "hr"}] * 201), "230099/11310"),
        (card(*[{"tag": "markdown", "content": "|a|\n|-|\n|b|"}] * 6), "230099/11310"),
        (card({"tag": "markdown", "content": "![x](https://example.com/x.png)"}), "230099/200570"),
        (card({"tag": "markdown", "content": "x" * 31_000}), "230025"),
        (card({"tag": "markdown", "content": "x", "colour": "red"}), "230099/200621"),
    ],
)
async def test_refused_card_asks_for_the_fallback(
    reply: ReplySession, key: SendKey, calls: Calls, payload: str, code: str
) -> None:
    with pytest.raises(RefusedContentError) as caught:
        await reply.send(OutboundPart(payload=payload), key)
    assert caught.value.code == code
    assert calls.seen[-1] == ("send", "error", "refused_content")


async def test_refused_text_has_no_fallback(reply: ReplySession, key: SendKey) -> None:
    with pytest.raises(PermanentDeliveryError) as caught:
        await reply.send(OutboundPart(text="x" * 160_000), key)
    assert caught.value.code == "230025"


async def test_sixth_message_in_a_second_waits(reply: ReplySession, cloud: FeishuCloud, clock: Clock) -> None:
    for number in range(5):
        await reply.send(OutboundPart(text=f"{number}"), SendKey(f"key-{number}", clock.now))
    with pytest.raises(TransientDeliveryError) as caught:
        await reply.send(OutboundPart(text="5"), SendKey("key-5", clock.now))
    assert (caught.value.code, caught.value.retry_after_s) == ("230020", 1.0)
    clock.now += 1.1
    await reply.send(OutboundPart(text="5"), SendKey("key-5", clock.now))
    assert texts(cloud) == list("012345")


async def test_rate_limit_says_how_long_to_wait(
    reply: ReplySession, cloud: FeishuCloud, key: SendKey, calls: Calls
) -> None:
    cloud.fail_next("reply", APIError(99991400, "request trigger frequency limit", 429, {"x-ogw-ratelimit-reset": "7"}))
    with pytest.raises(TransientDeliveryError) as caught:
        await reply.send(OutboundPart(text="x"), key)
    assert caught.value.retry_after_s == 7.0
    assert calls.seen[-1] == ("send", "error", "rate_limited")


async def test_recalled_question_is_not_answered(
    reply: ReplySession, cloud: FeishuCloud, message: InboundMessage, key: SendKey
) -> None:
    cloud.recall(message.message_id)
    with pytest.raises(PermanentDeliveryError, match="deleted"):
        await reply.send(OutboundPart(text="x"), key)


async def test_unknown_question_is_permanent(platform: FeishuPlatform, cloud: FeishuCloud, key: SendKey) -> None:
    message = asked(cloud)
    cloud.messages.clear()
    with pytest.raises(PermanentDeliveryError):
        await platform.open_reply(message, {}).send(OutboundPart(text="x"), key)


async def test_expired_token_is_fetched_anew_once(reply: ReplySession, cloud: FeishuCloud, key: SendKey) -> None:
    await reply.send(OutboundPart(text="first"), key)
    cloud.expire_tokens()
    await reply.send(OutboundPart(text="second"), SendKey("other", key.first_tried_at))
    assert texts(cloud) == ["first", "second"]
    assert cloud.calls["token"] == 2


async def test_token_that_is_never_accepted_is_tried_twice(
    reply: ReplySession, cloud: FeishuCloud, key: SendKey
) -> None:
    cloud.fail_next("reply", APIError(99991663, "Invalid access token"), times=5)
    with pytest.raises(PermanentDeliveryError, match="access token"):
        await reply.send(OutboundPart(text="x"), key)
    assert cloud.calls["reply"] == 2


async def test_many_senders_with_a_cold_cache_fetch_one_token(
    platform: FeishuPlatform, cloud: FeishuCloud, clock: Clock
) -> None:
    cloud.limits = type(cloud.limits)(messages_per_chat=100)
    replies = [platform.open_reply(asked(cloud), {}) for _ in range(20)]
    await asyncio.gather(
        *(each.send(OutboundPart(text="x"), SendKey(f"k{n}", clock.now)) for n, each in enumerate(replies))
    )
    assert len(cloud.seen_in(CHAT)) == 20
    assert cloud.calls["token"] == 1


async def test_abort_tells_one_sentence(reply: ReplySession, cloud: FeishuCloud, key: SendKey) -> None:
    await reply.abort("Sorry.", key)
    assert texts(cloud) == ["Sorry."]


async def test_session_has_no_state_and_shows_nothing_unfinished(reply: ReplySession, cloud: FeishuCloud) -> None:
    await reply.update("half an ans")
    await reply.finish()
    assert reply.state() == {}
    assert not reply.keeps_answers
    assert not cloud.seen_in(CHAT)


async def test_errors_and_logs_repeat_neither_content_nor_secrets(
    reply: ReplySession, cloud: FeishuCloud, cache: MemoryCache, key: SendKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for code in (230001, 230099, 230028, 99991663):
        cloud.fail_next("reply", APIError(code, "refused: my secret diary"), times=2 if code == 99991663 else 1)
        with pytest.raises(DeliveryError) as caught:
            await reply.send(OutboundPart(payload=card(), fallback_text="my secret diary"), key)
        tokens = [value for value, _ in cache.values.values()]
        assert tokens
        for secret in ("my secret diary", APP_SECRET, *tokens):
            assert secret not in repr(caught.value)
            assert secret not in caplog.text
