"""The JSON of Feishu's events, as its documentation shows them ("Event structure 2.0", "Receive message")."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley_gateway.simulators.feishu.cloud import SimulatedApp, SimulatedMessage

MESSAGE_EVENT = "im.message.receive_v1"
CLICK_EVENT = "card.action.trigger"


@dataclass(frozen=True, slots=True)
class Mentioned:
    """Somebody mentioned in a message. The first in the list stands in the text as `@_user_1`, and so on."""

    open_id: str
    name: str


def text_content(text: str) -> str:
    """Return the content of a text message."""
    return json.dumps({"text": text}, ensure_ascii=False)


def event(app: SimulatedApp, verification_token: str, event_type: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event of any type with a new event id."""
    return {
        "schema": "2.0",
        "header": {
            "event_id": uuid.uuid4().hex,
            "token": verification_token,
            "create_time": str(int(time.time() * 1000)),
            "event_type": event_type,
            "tenant_key": app.tenant_key,
            "app_id": app.app_id,
        },
        "event": dict(body),
    }


def message_event(
    app: SimulatedApp,
    verification_token: str,
    message: SimulatedMessage,
    *,
    group: bool = False,
    mentions: Sequence[Mentioned] = (),
    sender_tenant: str = "",
) -> dict[str, Any]:
    """Return the event that tells of a user's message. A foreign `sender_tenant` makes the sender a foreigner."""
    tenant = sender_tenant or app.tenant_key
    milliseconds = str(int(message.created_at * 1000))
    described: dict[str, Any] = {
        "message_id": message.message_id,
        "create_time": milliseconds,
        "update_time": milliseconds,
        "chat_id": message.chat_id,
        "chat_type": "group" if group else "p2p",
        "message_type": message.msg_type,
        "content": message.content,
    }
    if message.thread_id:
        described["thread_id"] = message.thread_id
    if message.parent_id:
        described["parent_id"] = described["root_id"] = message.parent_id
    if mentions:
        described["mentions"] = [
            {
                "key": f"@_user_{number}",
                "id": {"open_id": each.open_id, "union_id": f"on_{each.open_id}", "user_id": None},
                "name": each.name,
                "tenant_key": tenant,
            }
            for number, each in enumerate(mentions, start=1)
        ]
    sender = {
        "sender_id": {"open_id": message.sender, "union_id": f"on_{message.sender}", "user_id": None},
        "sender_type": "user",
        "tenant_key": tenant,
    }
    return event(app, verification_token, MESSAGE_EVENT, {"sender": sender, "message": described})


def button_values(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the values of a card's buttons, in the order in which they are shown."""
    found: list[Mapping[str, Any]] = []
    elements = list(card.get("body", {}).get("elements", ()))
    while elements:
        element = elements.pop(0)
        elements[:0] = [*element.get("columns", ()), *element.get("elements", ())]
        if element.get("tag") == "button":
            found += [each["value"] for each in element.get("behaviors", ()) if each.get("type") == "callback"]
    return found


def click_event(
    app: SimulatedApp,
    verification_token: str,
    message: SimulatedMessage,
    value: Mapping[str, Any] | str,
    *,
    open_id: str,
    tenant: str = "",
) -> dict[str, Any]:
    """Return the event that tells of a user's click on a button of a message's card."""
    body = {
        "operator": {"open_id": open_id, "union_id": f"on_{open_id}", "tenant_key": tenant or app.tenant_key},
        "token": f"c-{uuid.uuid4().hex}",
        "action": {"value": value if isinstance(value, str) else dict(value), "tag": "button"},
        "host": "im_message",
        "context": {"open_message_id": message.message_id, "open_chat_id": message.chat_id},
    }
    return event(app, verification_token, CLICK_EVENT, body)
