"""A Feishu user for end-to-end tests."""

import json

from parley_gateway.simulators.feishu.cloud import SimulatedMessage
from parley_gateway.simulators.feishu.events import message_event, text_content
from parley_gateway.simulators.feishu.pusher import Delivery

from tests.e2e.stack import FEISHU_VERIFICATION, Stack


async def say(stack: Stack, text: str, *, chat: str = "oc_user", sender: str = "ou_user") -> Delivery:
    """Send a text in a single chat."""
    message = stack.feishu.user_says(text_content(text), chat_id=chat, sender=sender)
    event = message_event(stack.feishu.app, FEISHU_VERIFICATION, message)
    pusher = stack.feishu_pusher()
    try:
        return await pusher.push(event)
    finally:
        await pusher.aclose()


def card_text(message: SimulatedMessage) -> str:
    """Return what a card's Markdown elements say."""
    card = json.loads(message.content)
    return "\n".join(element.get("content", "") for element in card["body"]["elements"])
