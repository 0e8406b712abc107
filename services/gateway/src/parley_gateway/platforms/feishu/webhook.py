"""Proving and decrypting a webhook request: plain functions on bytes.

Feishu documentation, "Send events to a developer's server": with an Encrypt Key set, a body is `{"encrypt": base64(iv ‖
AES-256-CBC(sha256(Encrypt Key), JSON))}`, and its signature is the hexadecimal SHA-256 of timestamp ‖ nonce ‖ Encrypt
Key ‖ raw body. lark-oapi's event dispatcher isn't used: it accepts requests of any age, answers 500 to forged ones and
needs header names in one particular case.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lark_oapi.core.utils import AESCipher

from parley_gateway.errors import DecryptError, MalformedRequestError, SignatureError, StaleRequestError
from parley_gateway.platforms.base import RawRequest
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.platforms.feishu.untrusted_json import parse_json

FRESH_S = 8 * 3600.0
"""Feishu redelivers for 7 h 5 min and doesn't say whether it signs anew: less could refuse a redelivery."""

_TIMESTAMP = "x-lark-request-timestamp"
_NONCE = "x-lark-request-nonce"
_SIGNATURE = "x-lark-signature"


@dataclass(frozen=True, slots=True)
class WebhookKeys:
    """What proves that a request comes from Feishu and is meant for this app."""

    app_id: str
    encrypt_key: str = field(repr=False)
    verification_token: str = field(repr=False)


def webhook_keys(settings: FeishuSettings) -> WebhookKeys:
    """Return the keys of a bot that takes webhooks: its settings hold both secrets."""
    if settings.encrypt_key is None or settings.verification_token is None:
        raise ValueError("a bot that takes webhooks needs encrypt_key and verification_token")
    return WebhookKeys(
        app_id=settings.app_id,
        encrypt_key=settings.encrypt_key.get_secret_value(),
        verification_token=settings.verification_token.get_secret_value(),
    )


def open_event(request: RawRequest, keys: WebhookKeys, *, now: float) -> dict[str, Any]:
    """Return the decrypted event of a proven request.

    The check of the URL may come unsigned; its verification token proves it. Everything else must be signed. An
    unsigned request that is anything but a proven check gets one and the same error, so that nobody can learn from the
    answers whether a ciphertext of theirs had valid padding.

    Raises
        MalformedRequestError: the body isn't what Feishu sends.
        SignatureError: signature or verification token are missing or wrong.
        StaleRequestError: the signed timestamp is more than 8 hours off.
        DecryptError: the body isn't encrypted, can't be decrypted, or is another app's.
    """
    blob = _encrypted(request)
    if _SIGNATURE in request.headers:
        _check_signature(request, keys.encrypt_key)
        _check_age(request.headers, now)
        event = _decrypted(blob, keys)
        if not _proves_token(event, keys):
            raise SignatureError("wrong verification token: is verification_token the console's Verification Token?")
    else:
        event = _unsigned_check(blob, keys)
    app_id = _header(event).get("app_id") or keys.app_id
    if app_id != keys.app_id:
        raise DecryptError(f"the event is for another app: is app_id {keys.app_id!r} the app that has this URL?")
    return event


def challenge_of(event: Mapping[str, Any]) -> str | None:
    """Return what the check of the URL wants to read back, None when the event is no such check.

    Raises
        MalformedRequestError: it is one, but without a challenge.
    """
    if event.get("type") != "url_verification":
        return None
    challenge = event.get("challenge")
    if not isinstance(challenge, str):
        raise MalformedRequestError("the check of the URL has no challenge")
    return challenge


def _encrypted(request: RawRequest) -> bytes:
    """Return the ciphertext of a request's body."""
    if request.method != "POST":
        raise MalformedRequestError(f"Feishu sends POST, not {request.method}")
    try:
        body = parse_json(request.body)
    except ValueError as exc:
        raise MalformedRequestError("the body isn't JSON: is this URL registered at another platform?") from exc
    if not isinstance(body, dict):
        raise MalformedRequestError("the body isn't a JSON object")
    if "encrypt" not in body and ("schema" in body or "challenge" in body or "token" in body):
        raise DecryptError("the event isn't encrypted: set the Encrypt Key in the console as in encrypt_key")
    encrypt = body.get("encrypt")
    if not isinstance(encrypt, str):
        raise MalformedRequestError("the body has no `encrypt`")
    try:
        return base64.b64decode(encrypt, validate=True)
    except ValueError as exc:
        raise MalformedRequestError("`encrypt` isn't base64") from exc


def _check_signature(request: RawRequest, encrypt_key: str) -> None:
    prefix = request.headers.get(_TIMESTAMP, "") + request.headers.get(_NONCE, "") + encrypt_key
    expected = hashlib.sha256(prefix.encode() + request.body).hexdigest()
    if not hmac.compare_digest(expected.encode(), request.headers[_SIGNATURE].encode()):
        raise SignatureError("wrong signature: is encrypt_key the console's Encrypt Key?")


def _check_age(headers: Mapping[str, str], now: float) -> None:
    timestamp = headers.get(_TIMESTAMP, "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise StaleRequestError("the signed timestamp isn't a number of seconds")
    if abs(now - int(timestamp)) > FRESH_S:
        raise StaleRequestError("the signed timestamp is more than 8 hours off")


def _decrypted(blob: bytes, keys: WebhookKeys) -> dict[str, Any]:
    try:
        event = parse_json(AESCipher(keys.encrypt_key).decrypt(blob))
    except ValueError as exc:
        raise DecryptError("the body can't be decrypted to JSON") from exc
    if not isinstance(event, dict):
        raise DecryptError("the decrypted body isn't a JSON object")
    return event


def _unsigned_check(blob: bytes, keys: WebhookKeys) -> dict[str, Any]:
    refusal = SignatureError("the request isn't signed")
    try:
        event = _decrypted(blob, keys)
    except DecryptError as exc:
        raise refusal from exc
    if event.get("type") != "url_verification" or not _proves_token(event, keys):
        raise refusal
    return event


def _proves_token(event: Mapping[str, Any], keys: WebhookKeys) -> bool:
    """Tell whether the event carries the verification token: in the header, or at the top as in older events."""
    token = event.get("token") or _header(event).get("token")
    return isinstance(token, str) and hmac.compare_digest(token.encode(), keys.verification_token.encode())


def _header(event: Mapping[str, Any]) -> dict[str, Any]:
    header = event.get("header")
    return header if isinstance(header, dict) else {}
