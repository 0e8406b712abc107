"""The XML that WeChat pushes.

Source: WeChat documentation, "Receive standard messages" and "Receive event pushes".
"""

import secrets
from collections.abc import Mapping

Fields = Mapping[str, str | int]


def to_xml(fields: Fields) -> str:
    """Return a message; texts travel as CDATA."""
    elements = (f"<{name}>{_content(value)}</{name}>" for name, value in fields.items())
    return f"<xml>{''.join(elements)}</xml>"


def text(account: str, openid: str, content: str, *, at: float, message_id: str = "", menu_id: str = "") -> Fields:
    """Return a text message; `menu_id` when the user tapped a menu link."""
    fields: dict[str, str | int] = {
        **_header(account, openid, at, "text"),
        "Content": content,
        "MsgId": int(message_id or new_message_id()),
    }
    if menu_id:
        fields["bizmsgmenuid"] = menu_id
    return fields


def image(account: str, openid: str, *, at: float) -> Fields:
    """Return an image message."""
    media_id = secrets.token_hex(16)
    return {
        **_header(account, openid, at, "image"),
        "PicUrl": f"http://mmbiz.qpic.cn/{media_id}",
        "MediaId": media_id,
        "MsgId": int(new_message_id()),
    }


def event(account: str, openid: str, name: str, *, at: float, key: str = "") -> Fields:
    """Return an event such as `subscribe`, `unsubscribe`, `CLICK`."""
    return {**_header(account, openid, at, "event"), "Event": name, "EventKey": key}


def new_message_id() -> str:
    """Return a message id: WeChat's are 64-bit integers of 17 digits and more."""
    return str(10**16 + secrets.randbelow(9 * 10**16))


def _header(account: str, openid: str, at: float, kind: str) -> dict[str, str | int]:
    return {"ToUserName": account, "FromUserName": openid, "CreateTime": int(at), "MsgType": kind}


def _content(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return "<![CDATA[" + value.replace("]]>", "]]]]><![CDATA[>") + "]]>"
