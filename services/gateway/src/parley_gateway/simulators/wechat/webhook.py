"""A webhook as the console knows it, and the requests that WeChat makes to it.

Source: WeChat documentation, "Access guide" and "Message encryption and decryption".
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from parley_gateway.simulators.wechat.crypto import encrypt, sign
from parley_gateway.simulators.wechat.messages import Fields, to_xml


@dataclass(frozen=True, slots=True)
class Webhook:
    """The server configuration in the console."""

    url: str
    token: str = field(repr=False)
    app_id: str = "wx_simulator"
    account_id: str = "gh_simulator"
    encoding_aes_key: str = field(default="", repr=False)
    encryption: Literal["safe", "compat", "plain"] = "plain"


@dataclass(frozen=True, slots=True)
class Push:
    """One request, the same on every try."""

    query: Mapping[str, str]
    body: bytes
    openid: str


def url_check(webhook: Webhook, *, at: float) -> Mapping[str, str]:
    """Return the query of a URL check: signed the same way in every mode, its `echostr` never encrypted."""
    return {**_signed(webhook, at), "echostr": str(secrets.randbelow(10**19))}


def push(webhook: Webhook, fields: Fields, *, at: float) -> Push:
    """Return the request for a message or event in the webhook's mode."""
    openid = str(fields["FromUserName"])
    query = {**_signed(webhook, at), "openid": openid}
    if webhook.encryption == "plain":
        return Push(query, to_xml(fields).encode(), openid)
    encrypted = encrypt(to_xml(fields), webhook.encoding_aes_key, webhook.app_id)
    query["encrypt_type"] = "aes"
    query["msg_signature"] = sign(webhook.token, query["timestamp"], query["nonce"], encrypted)
    plain: Fields = fields if webhook.encryption == "compat" else {"ToUserName": webhook.account_id}
    return Push(query, to_xml({**plain, "Encrypt": encrypted}).encode(), openid)


def _signed(webhook: Webhook, at: float) -> dict[str, str]:
    timestamp, nonce = str(int(at)), str(secrets.randbelow(10**10))
    return {"signature": sign(webhook.token, timestamp, nonce), "timestamp": timestamp, "nonce": nonce}
