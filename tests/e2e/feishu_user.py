"""A Feishu user for end-to-end tests."""

import json
from typing import Any

from parley_gateway.simulators.feishu.cloud import SimulatedMessage
from parley_gateway.simulators.feishu.events import event as feishu_event
from parley_gateway.simulators.feishu.events import message_event, text_content
from parley_gateway.simulators.feishu.pusher import Delivery

from tests.e2e.stack import FEISHU_VERIFICATION, Stack


async def say(
    stack: Stack,
    text: str,
    *,
    chat: str = "oc_user",
    sender: str = "ou_user",
    quotes: str = "",
    tenant: str = "",
) -> Delivery:
    """Send a text in a single chat, perhaps in reply to a message, perhaps as somebody of a foreign tenant."""
    message = stack.feishu.user_says(text_content(text), chat_id=chat, sender=sender, parent_id=quotes)
    return await push(stack, message_event(stack.feishu.app, FEISHU_VERIFICATION, message, sender_tenant=tenant))


async def recall(stack: Stack, message: SimulatedMessage) -> Delivery:
    """Take a message back."""
    stack.feishu.recall(message.message_id)
    body = {"message_id": message.message_id, "chat_id": message.chat_id, "recall_type": "message_owner"}
    return await push(stack, feishu_event(stack.feishu.app, FEISHU_VERIFICATION, "im.message.recalled_v1", body))


async def push(stack: Stack, event: dict[str, Any]) -> Delivery:
    """Deliver an event."""
    pusher = stack.feishu_pusher()
    try:
        return await pusher.push(event)
    finally:
        await pusher.aclose()


def card_text(message: SimulatedMessage) -> str:
    """Return what a card's Markdown elements say."""
    card = json.loads(message.content)
    return "\n".join(element.get("content", "") for element in card["body"]["elements"])
