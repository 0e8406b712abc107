"""What WeChat makes of the answer to a push: nothing, a text for the user, or a fault.

Source: WeChat documentation, "Passive user reply message" and "Message encryption and decryption".
"""

import re
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from parley_gateway.simulators.wechat.cloud import TEXT_BYTES
from parley_gateway.simulators.wechat.crypto import decrypt, sign
from parley_gateway.simulators.wechat.webhook import Webhook

_LINK = re.compile(r'<a href="weixin://bizmsgmenu\?msgmenucontent=([^"&]*)&msgmenuid=([^"&]*)">([^<]*)</a>')


class InvalidAnswerError(Exception):
    """WeChat would show the user its banner instead of this answer."""


@dataclass(frozen=True, slots=True)
class MenuLink:
    """A line that can be tapped: `sends` becomes the user's message, `menu_id` its bizmsgmenuid."""

    label: str
    sends: str
    menu_id: str


def links_in(text: str) -> tuple[MenuLink, ...]:
    """Return the links that a user can tap."""
    return tuple(MenuLink(label, sends, menu_id) for sends, menu_id, label in _LINK.findall(text))


def read_answer(body: bytes, webhook: Webhook, openid: str) -> str:
    """Return the text that the user sees, empty when the push is merely acknowledged.

    Raises
        InvalidAnswerError: saying what is wrong.
    """
    if body in (b"", b"success"):
        return ""
    fields = _fields(body)
    if "Encrypt" in fields:
        if webhook.encryption == "plain":
            raise InvalidAnswerError("the reply is encrypted, the account isn't")
        fields = _fields(_decrypted(fields, webhook).encode())
    elif webhook.encryption == "safe":
        raise InvalidAnswerError("the reply isn't encrypted, the account is")
    return _text_of(fields, webhook, openid)


def _text_of(fields: dict[str, str], webhook: Webhook, openid: str) -> str:
    expected: tuple[tuple[str, Literal["text"] | str], ...] = (
        ("ToUserName", openid),
        ("FromUserName", webhook.account_id),
        ("MsgType", "text"),
    )
    for name, value in expected:
        if fields.get(name) != value:
            raise InvalidAnswerError(f"{name} is {fields.get(name)!r}, not {value!r}")
    if not fields.get("CreateTime", "").isdigit():
        raise InvalidAnswerError("CreateTime isn't a number")
    content = fields.get("Content", "")
    if not content:
        raise InvalidAnswerError("Content is empty")
    if len(content.encode()) > TEXT_BYTES:
        raise InvalidAnswerError(f"Content has {len(content.encode())} bytes, more than {TEXT_BYTES}")
    return content


def _decrypted(envelope: dict[str, str], webhook: Webhook) -> str:
    missing = {"Encrypt", "MsgSignature", "TimeStamp", "Nonce"} - envelope.keys()
    if missing:
        raise InvalidAnswerError(f"the encrypted reply lacks {', '.join(sorted(missing))}")
    signature = sign(webhook.token, envelope["TimeStamp"], envelope["Nonce"], envelope["Encrypt"])
    if signature != envelope["MsgSignature"]:
        raise InvalidAnswerError("MsgSignature doesn't match")
    try:
        return decrypt(envelope["Encrypt"], webhook.encoding_aes_key, webhook.app_id)
    except ValueError as exc:
        raise InvalidAnswerError(f"the reply doesn't decrypt: {exc}") from exc


def _fields(body: bytes) -> dict[str, str]:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - the gateway under test wrote it, nobody else.
    except (ElementTree.ParseError, ValueError) as exc:
        raise InvalidAnswerError(f"the answer isn't XML: {exc}") from exc
    if root.tag != "xml":
        raise InvalidAnswerError(f"the root is {root.tag!r}, not 'xml'")
    names = [child.tag for child in root]
    if len(names) != len(set(names)):
        raise InvalidAnswerError("an element stands twice")
    return {child.tag: child.text or "" for child in root}
