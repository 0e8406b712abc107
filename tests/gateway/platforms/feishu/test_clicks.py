"""Clicks on cards, as they arrive by webhook and as the toast that answers them."""

import json
from typing import Any

import pytest
from parley_gateway.platforms.base import Click, Clicked, ClickOutcome, Ignored
from parley_gateway.platforms.feishu.cards import button_value
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.platforms.feishu.sentences import sentences_for
from parley_gateway.simulators.feishu.cloud import FeishuCloud
from parley_gateway.simulators.feishu.events import click_event

from tests.gateway.platforms.feishu import vectors
from tests.gateway.platforms.feishu.conftest import signed_request
from tests.gateway.platforms.feishu.test_send import asked


async def handle(platform: FeishuPlatform, cloud: FeishuCloud, value: Any, **options: Any) -> Any:
    """Click on a button with this value under an answer in the chat."""
    chat = options.pop("chat_id", "oc_1")
    shown = cloud.user_says('{"text": "the card"}', chat_id=chat, sender=cloud.app.bot_open_id)
    clicked = click_event(cloud.app, vectors.VERIFICATION_TOKEN, shown, value, **{"open_id": "ou_1", **options})
    return await platform.handle(signed_request(clicked))


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("thread", ["", "omt_7"])
async def test_button_leads_back_to_its_question(
    platform: FeishuPlatform, cloud: FeishuCloud, thread: str, as_text: bool
) -> None:
    message = asked(cloud, thread)
    value: Any = button_value(Click.STOP, message)
    handled = await handle(platform, cloud, json.dumps(value) if as_text else value, open_id="ou_2")
    assert isinstance(handled, Clicked)
    assert (handled.click, handled.user, handled.message.sender) == (Click.STOP, "ou_2", "ou_1")
    assert handled.message.delivery_key == message.delivery_key
    assert handled.message.conversation == message.conversation
    assert handled.message.lane == message.lane
    assert dict(handled.message.target) == dict(message.target)


async def test_question_asked_again_is_still_answered_at_the_users_message(
    platform: FeishuPlatform, cloud: FeishuCloud
) -> None:
    message = asked(cloud)
    value = {**button_value(Click.REGENERATE, message), "message": f"{message.message_id}~2"}
    handled = await handle(platform, cloud, value)
    assert handled.message.message_id == f"{message.message_id}~2"
    assert handled.message.target["message_id"] == message.message_id


@pytest.mark.parametrize("outcome", list(ClickOutcome))
@pytest.mark.parametrize("locale", ["en", "zh-CN"])
async def test_every_outcome_has_a_toast(
    platform: FeishuPlatform, cloud: FeishuCloud, outcome: ClickOutcome, locale: str
) -> None:
    for click in Click:
        assert sentences_for(locale).toast(click, outcome)
    handled = await handle(platform, cloud, button_value(Click.GOOD, asked(cloud)))
    response = handled.respond(outcome)
    toast = json.loads(response.body)["toast"]
    assert response.status == 200
    assert toast["type"] in ("success", "info", "warning")
    assert toast["content"]


@pytest.mark.parametrize(
    "value",
    [
        {}, "", "not json", "[]", [], None, {"parley": "stop"}, {"parley": "explode", "message": "m", "chat": "oc_1"},
        {"parley": "stop", "message": "m", "chat": "oc_1", "asker": ""}, {"k": "v"},
        {"parley": "stop", "message": "m" * 300, "chat": "oc_1", "asker": "ou_1"},
    ],
)  # fmt: skip
async def test_other_buttons_are_acknowledged_and_ignored(
    platform: FeishuPlatform, cloud: FeishuCloud, value: Any
) -> None:
    if isinstance(value, list) or value is None:
        value = json.dumps(value)
    handled = await handle(platform, cloud, value)
    assert isinstance(handled, Ignored)
    assert (handled.event, handled.response.status) == ("card_action", 200)


async def test_card_in_another_chat_does_nothing(platform: FeishuPlatform, cloud: FeishuCloud) -> None:
    value = button_value(Click.STOP, asked(cloud))
    assert isinstance(await handle(platform, cloud, value, chat_id="oc_elsewhere"), Ignored)


async def test_foreigners_are_refused_like_their_messages(platform: FeishuPlatform, cloud: FeishuCloud) -> None:
    handled = await handle(platform, cloud, button_value(Click.GOOD, asked(cloud)), tenant="t_foreign")
    assert isinstance(handled, Ignored)
    assert handled.outcome == "refused_tenant"
    assert "toast" in json.loads(handled.response.body)
