"""What a message replies to, read from the simulated Feishu."""

import json
from dataclasses import replace

import pytest
from parley_gateway.errors import DeliveryError
from parley_gateway.messages import InboundMessage
from parley_gateway.platforms.base import Messages, QuoteSource
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.platforms.feishu.quotes import THREAD_S, Threads
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.errors import APIError

from tests.fakes.memory_cache import MemoryCache
from tests.gateway.platforms.feishu.conftest import Clock, fixture_event, signed_request

CARD = {
    "schema": "2.0",
    "header": {"title": {"tag": "plain_text", "content": "Report"}},
    "body": {"elements": [{"tag": "markdown", "content": "**all** is well"}, {"tag": "hr"}]},
}
POST = {
    "title": "News",
    "content": [[{"tag": "text", "text": "first "}, {"tag": "a", "text": "l", "href": "http://l"}]],
}


async def replying_to(platform: FeishuPlatform, message_id: str) -> InboundMessage:
    handled = await platform.handle(signed_request(fixture_event("message__text_single")))
    assert isinstance(handled, Messages)
    return replace(handled.messages[0], quotes=message_id)


@pytest.mark.parametrize(
    ("kind", "content", "text"),
    [
        ("text", {"text": "hello <b>"}, "hello <b>"),
        ("post", POST, "News\nfirst [l](http://l)"),
        ("interactive", CARD, "Report\n**all** is well"),
        ("interactive", {"type": "card", "data": {"card_id": "7"}}, ""),
        ("interactive", [], ""),
        ("image", {"image_key": "img_1"}, ""),
        ("text", {"no": "text"}, ""),
    ],
)
async def test_text_of_a_quoted_message(
    platform: FeishuPlatform, cloud: FeishuCloud, kind: str, content: object, text: str
) -> None:
    assert isinstance(platform, QuoteSource)
    quoted = cloud.user_says(json.dumps(content), chat_id="oc_1", sender="ou_2", msg_type=kind)
    assert await platform.quoted_text(await replying_to(platform, quoted.message_id)) == text


@pytest.mark.parametrize("content", ["not JSON", "[" * 100_000, json.dumps("text"), "null"])
async def test_broken_content_is_no_text(platform: FeishuPlatform, cloud: FeishuCloud, content: str) -> None:
    for kind in ("text", "post", "interactive"):
        quoted = cloud.user_says(content, chat_id="oc_1", sender="ou_2", msg_type=kind)
        assert await platform.quoted_text(await replying_to(platform, quoted.message_id)) == ""


async def test_recalled_message_is_not_quoted(platform: FeishuPlatform, cloud: FeishuCloud) -> None:
    quoted = cloud.user_says('{"text": "taken back"}', chat_id="oc_1", sender="ou_2")
    cloud.recall(quoted.message_id)
    assert await platform.quoted_text(await replying_to(platform, quoted.message_id)) == ""


async def test_missing_permission_is_an_error(platform: FeishuPlatform, cloud: FeishuCloud) -> None:
    cloud.fail_next("read", APIError(230027, "Lack of necessary permissions"))
    with pytest.raises(DeliveryError):
        await platform.quoted_text(await replying_to(platform, "om_1"))
    with pytest.raises(DeliveryError):
        await platform.quoted_text(await replying_to(platform, "om_unknown"))


async def test_threads_are_remembered_for_a_while() -> None:
    clock, cache = Clock(), MemoryCache()
    threads = Threads(cache, "cli_1", clock)
    await threads.remember("om_1", "omt_1")
    await threads.remember("om_2", "")
    assert (await threads.thread_of("om_1"), await threads.thread_of("om_2")) == ("omt_1", "")
    assert await Threads(cache, "cli_2", clock).thread_of("om_1") == ""
    clock.now += THREAD_S
    assert await threads.thread_of("om_1") == ""
