"""WeChat's XML into our own words: a text, an event, or something that can't be read yet.

Source: WeChat documentation, "Receive standard messages" and "Receive event pushes". Messages carry a MsgId that stays
the same on every redelivery. Events carry none; WeChat names FromUserName and CreateTime as their identity. None of
them is queued here, so none needs it: answering a redelivered event again is harmless.
"""

import re
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

from wechatpy import parse_message

from parley_gateway.errors import MalformedRequestError
from parley_gateway.platforms.wechat.texts import clean

_OPENID = re.compile(r"[A-Za-z0-9_@.\-]{1,128}")
_MESSAGE_ID = re.compile(r"[0-9]{1,20}")
_SECONDS = re.compile(r"[0-9]{1,12}")

MESSAGE_TYPES = frozenset({"image", "voice", "video", "shortvideo", "location", "link"})
"""Types besides text that are named in metrics; any other is `other`."""


@dataclass(frozen=True, slots=True)
class Parties:
    """Who wrote to whom, and when by WeChat's clock (seconds since 1970)."""

    user: str
    """OpenID: names the user for this account only."""
    account: str
    sent_at: float


@dataclass(frozen=True, slots=True)
class TextPush:
    """A text message; `menu_id` is set when the user tapped a menu link instead of typing."""

    parties: Parties
    message_id: str
    text: str
    menu_id: str


@dataclass(frozen=True, slots=True)
class EventPush:
    """An event: somebody followed, unfollowed, tapped a menu…"""

    parties: Parties
    name: str
    """In lower case; `subscribe` also when it came by a QR code."""


@dataclass(frozen=True, slots=True)
class OtherPush:
    """A message that isn't text."""

    parties: Parties
    type: str


Push = TextPush | EventPush | OtherPush


def parse_push(xml: str) -> Push:
    """Parse one push.

    Raises
        MalformedRequestError: it isn't a message or event of WeChat's.
    """
    try:
        message = parse_message(xml)
    except (ExpatError, KeyError, TypeError, ValueError, AttributeError) as exc:
        # What wechatpy lets through: broken XML, another root, an empty root, a DTD with entities, a nested MsgType.
        raise MalformedRequestError("the body isn't an XML message of WeChat") from exc
    if message is None:
        raise MalformedRequestError("the body is empty")
    fields: dict[str, Any] = message._data  # The only way to fields that wechatpy doesn't know.
    parties = Parties(
        user=_field(fields, "FromUserName", _OPENID),
        account=_field(fields, "ToUserName", _OPENID),
        sent_at=float(_field(fields, "CreateTime", _SECONDS)),
    )
    kind = str(fields["MsgType"]).lower()
    if kind == "event":
        return EventPush(parties, _event_name(fields))
    message_id = _field(fields, "MsgId", _MESSAGE_ID)
    if kind == "text":
        menu_id = fields.get("bizmsgmenuid")
        return TextPush(parties, message_id, _text(fields), menu_id if isinstance(menu_id, str) else "")
    return OtherPush(parties, kind if kind in MESSAGE_TYPES else "other")


def _field(fields: dict[str, Any], name: str, shape: re.Pattern[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise MalformedRequestError(f"{name} is missing or isn't what WeChat sends")
    return value


def _event_name(fields: dict[str, Any]) -> str:
    name = fields.get("Event")
    if not isinstance(name, str):
        raise MalformedRequestError("the event has no name")
    # wechatpy renames following by a QR code.
    return "subscribe" if name.lower().startswith("subscribe_scan") else name.lower()


def _text(fields: dict[str, Any]) -> str:
    content = fields.get("Content") or ""
    if not isinstance(content, str):
        raise MalformedRequestError("Content isn't a text")
    return clean(content).strip()
