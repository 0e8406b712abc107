"""Every captured event, from the signed request to what the gateway gets to see."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from parley_gateway.errors import MalformedRequestError, WebhookError
from parley_gateway.messages import InboundMessage, MessageKind
from parley_gateway.platforms.base import Ignored, Messages, Recall
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.store.records import QueuedMessage, dump_message

from tests.fakes.memory_cache import MemoryCache
from tests.gateway.platforms.feishu.conftest import (
    FIXTURES,
    Calls,
    Clock,
    fixture_event,
    make_platform,
    make_settings,
    seal_bytes,
    sign,
    signed_request,
)

POST_TEXT = """Review
 please look
[the page](https://example.com/x) by @Li Lei
```python
print(1)
```
---
[SMILE][image]"""

READ = {
    "message__text_single": (MessageKind.QUESTION, "你好，world", "text"),
    "message__text_group_mention": (MessageKind.QUESTION, "what is this?", "text"),
    "message__text_group_mention_inside": (
        MessageKind.QUESTION,
        "hey ask @Li Lei and @_user_10, please",
        "text",
    ),
    "message__text_group_command": (MessageKind.COMMAND, "/reset now", "command"),
    "message__text_group_only_mention": (MessageKind.COMMAND, "/help", "command"),
    "message__text_group_thread": (MessageKind.QUESTION, "in the thread", "text"),
    "message__text_null_fields": (MessageKind.QUESTION, "still fine", "text"),
    "message__text_broken_content": (MessageKind.NOTICE, "unsupported", "text"),
    "message__post_group": (MessageKind.QUESTION, POST_TEXT, "text"),
    "message__post_single": (MessageKind.QUESTION, "first\n\nsecond", "text"),
    "message__post_picture_only": (MessageKind.NOTICE, "unsupported", "text"),
    "message__image_single": (MessageKind.NOTICE, "unsupported", "image"),
    "message__audio_single": (MessageKind.NOTICE, "unsupported", "voice"),
    "message__sticker_single": (MessageKind.NOTICE, "unsupported", "other"),
}

IGNORED = {
    "message__text_group_other_mentioned": ("other", "unsupported"),
    "message__text_group_all_mentioned": ("other", "unsupported"),
    "message__text_group_plain": ("other", "unsupported"),
    "message__image_group": ("other", "unsupported"),
    "message__text_from_bot": ("other", "unsupported"),
    "chat_entered__single": ("chat_entered", "unsupported"),
    "message_read__single": ("other", "unsupported"),
    "old_schema__message": ("other", "unsupported"),
}


@pytest.fixture
async def platform(cache: MemoryCache, clock: Clock, calls: Calls) -> AsyncIterator[FeishuPlatform]:
    """A platform that knows its own open_id already and can reach nothing."""
    settings = make_settings("http://127.0.0.1:9")
    await cache.cache_put(f"feishu/bot/{settings.base_url}/{settings.app_id}", "ou_bot", expires_at=clock.now + 86_400)
    built = make_platform(settings, cache, clock, calls)
    yield built
    await built.close()


def test_no_fixture_is_left_out() -> None:
    others = {"message__text_foreign_tenant", "recalled__single"}
    assert {path.stem for path in FIXTURES.glob("*.json")} == READ.keys() | IGNORED.keys() | others


async def read(platform: FeishuPlatform, event: dict[str, Any]) -> InboundMessage:
    handled = await platform.handle(signed_request(event))
    assert isinstance(handled, Messages)
    (message,) = handled.messages
    return message


@pytest.mark.parametrize("name", READ)
async def test_message_is_read(platform: FeishuPlatform, name: str) -> None:
    kind, text, label = READ[name]
    handled = await platform.handle(signed_request(fixture_event(name)))
    assert isinstance(handled, Messages)
    (message,) = handled.messages
    assert (message.kind, message.text, handled.event) == (kind, text, label)


@pytest.mark.parametrize("name", IGNORED)
async def test_event_is_acknowledged_and_ignored(platform: FeishuPlatform, name: str) -> None:
    handled = await platform.handle(signed_request(fixture_event(name)))
    assert isinstance(handled, Ignored)
    assert (handled.response.status, handled.response.body) == (200, b"{}")
    assert (handled.event, handled.outcome) == IGNORED[name]


async def test_message_carries_what_the_gateway_needs(platform: FeishuPlatform) -> None:
    message = await read(platform, fixture_event("message__text_group_thread"))
    conversation = message.conversation
    assert (conversation.platform, conversation.bot) == ("feishu", "team")
    assert (conversation.tenant, conversation.chat, conversation.thread) == ("t1", "oc_1", "omt_9")
    assert message.delivery_key == "feishu/team/om_message__text_group_thread"
    assert (message.sender, message.group) == ("ou_1", True)
    assert (message.sent_at, message.time_to_live_s) == (1_700_000_000.0, 1800.0)
    assert message.target["message_id"] == "om_message__text_group_thread"
    assert (message.quotes, message.sender_tenant) == ("om_0", "t1")


async def test_foreigner_is_refused_by_default_with_a_message_to_answer(platform: FeishuPlatform) -> None:
    handled = await platform.handle(signed_request(fixture_event("message__text_foreign_tenant")))
    assert isinstance(handled, Messages)
    assert (handled.refusal, handled.refused.body) == ("refused_tenant", b"{}")
    assert handled.messages[0].sender_tenant == "t2"


async def test_recall_names_the_conversation_of_its_message(platform: FeishuPlatform) -> None:
    event = fixture_event("recalled__single")
    handled = await platform.handle(signed_request(event))
    assert isinstance(handled, Recall)
    assert (handled.conversation.key, handled.message_id) == ("feishu/team/t1/oc_1", "om_1")
    assert (handled.response.status, handled.response.body) == (200, b"{}")
    # The event doesn't tell the thread: it was remembered when the message came.
    in_thread = await read(platform, fixture_event("message__text_group_thread"))
    event["event"]["message_id"] = in_thread.message_id
    handled = await platform.handle(signed_request(event))
    assert isinstance(handled, Recall)
    assert handled.conversation == in_thread.conversation


@pytest.mark.parametrize("field", ["message_id", "chat_id"])
async def test_recall_without_its_ids_is_refused(platform: FeishuPlatform, field: str) -> None:
    event = fixture_event("recalled__single")
    del event["event"][field]
    with pytest.raises(MalformedRequestError):
        await platform.handle(signed_request(event))


async def test_new_event_id_keeps_the_delivery_key(platform: FeishuPlatform) -> None:
    event = fixture_event("message__text_single")
    first = await read(platform, event)
    event["header"]["event_id"] = "another"
    assert (await read(platform, event)).delivery_key == first.delivery_key


async def test_single_chat_has_no_thread_and_is_no_group(platform: FeishuPlatform) -> None:
    message = await read(platform, fixture_event("message__text_single"))
    assert (message.conversation.thread, message.group) == ("", False)
    assert "thread_id" not in message.target


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("message", "message_id", None),
        ("message", "create_time", "yesterday"),
        ("message", "chat_id", ""),
        ("message", "message_type", 5),
        ("sender", "sender_id", None),
    ],
)
async def test_message_without_what_an_answer_needs_is_malformed(
    platform: FeishuPlatform, part: str, field: str, value: Any
) -> None:
    event = fixture_event("message__text_single")
    event["event"][part][field] = value
    with pytest.raises(MalformedRequestError):
        await platform.handle(signed_request(event))


async def test_message_with_half_emojis_can_be_stored(platform: FeishuPlatform) -> None:
    event = fixture_event("message__text_group_mention_inside")
    half = "x\ud83d"
    event["header"]["tenant_key"] = event["event"]["sender"]["tenant_key"] = half
    event["event"]["sender"]["sender_id"]["open_id"] = half
    message = event["event"]["message"]
    message["mentions"][1]["name"] = message["message_id"] = message["chat_id"] = message["thread_id"] = half
    handled = await platform.handle(sign(seal_bytes(json.dumps(event).encode())))
    assert isinstance(handled, Messages)
    stored = dump_message(QueuedMessage(handled.messages[0], 0.0))
    assert stored.encode()
    assert "@x?" in stored


@pytest.mark.parametrize("header", [None, [], {}, {"event_type": 5}])
async def test_event_without_header_is_refused(platform: FeishuPlatform, header: Any) -> None:
    event = {**fixture_event("message__text_single"), "header": header, "token": "im-gateway-verification-token"}
    with pytest.raises(WebhookError):
        await platform.handle(signed_request(event))


async def test_values_of_a_bad_message_are_not_repeated(platform: FeishuPlatform) -> None:
    event = fixture_event("message__text_single")
    event["event"]["message"]["create_time"] = "a private remark"
    with pytest.raises(MalformedRequestError) as caught:
        await platform.handle(signed_request(event))
    assert "private" not in str(caught.value)
    assert "message.create_time" in str(caught.value)
