"""Proving and decrypting: golden vectors, every way to be refused, and that nothing else can happen."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lark_oapi.core.utils import AESCipher
from parley_gateway.errors import (
    DecryptError,
    MalformedRequestError,
    SignatureError,
    StaleRequestError,
    WebhookError,
)
from parley_gateway.platforms.base import RawRequest
from parley_gateway.platforms.feishu.webhook import FRESH_S, WebhookKeys, challenge_of, open_event
from parley_gateway.simulators.feishu.pusher import encrypted_body, signature_headers

from tests.gateway.platforms.feishu import vectors
from tests.gateway.platforms.feishu.conftest import seal_bytes

KEYS = WebhookKeys(vectors.APP_ID, vectors.ENCRYPT_KEY, vectors.VERIFICATION_TOKEN)
NOW = float(vectors.TIMESTAMP) + 5
EVENT = {"schema": "2.0", "header": {"token": vectors.VERIFICATION_TOKEN, "event_type": "x"}, "event": {}}
CHECK = {"type": "url_verification", "token": vectors.VERIFICATION_TOKEN, "challenge": "abc"}


def request(body: bytes, headers: Mapping[str, str] | None = None, method: str = "POST") -> RawRequest:
    return RawRequest(method, {}, {name.lower(): value for name, value in (headers or {}).items()}, body)


def signed(body: bytes, *, key: str = vectors.ENCRYPT_KEY, timestamp: str = vectors.TIMESTAMP) -> RawRequest:
    return request(body, signature_headers(body, key, timestamp=timestamp))


def sealed(event: Any, key: str = vectors.ENCRYPT_KEY) -> bytes:
    return encrypted_body(event, key)


def golden(body: bytes, signature: str) -> RawRequest:
    headers = {
        "X-Lark-Request-Timestamp": vectors.TIMESTAMP,
        "X-Lark-Request-Nonce": vectors.NONCE,
        "X-Lark-Signature": signature,
    }
    return request(body, headers)


def test_official_vector_decrypts() -> None:
    sealed_text = "P37w+VZImNgPEO1RBhJ6RtKl7n6zymIbEG1pReEzghk="
    assert AESCipher("test key").decrypt(base64.b64decode(sealed_text)) == b"hello world"


@pytest.mark.parametrize("signature", [None, vectors.CHALLENGE_SIGNATURE], ids=["unsigned", "signed"])
def test_golden_check_of_the_url_is_answered(signature: str | None) -> None:
    body = vectors.CHALLENGE_BODY
    event = open_event(golden(body, signature) if signature else request(body), KEYS, now=NOW)
    assert challenge_of(event) == "ajls384kdjx98XX"


def test_golden_message_is_opened() -> None:
    event = open_event(golden(vectors.MESSAGE_BODY, vectors.MESSAGE_SIGNATURE), KEYS, now=NOW)
    assert event["event"]["message"]["content"] == '{"text":"hello"}'
    assert challenge_of(event) is None


def test_golden_card_action_is_opened() -> None:
    event = open_event(golden(vectors.CARD_ACTION_BODY, vectors.CARD_ACTION_SIGNATURE), KEYS, now=NOW)
    assert event["header"]["event_type"] == "card.action.trigger"


@pytest.mark.parametrize("body", [vectors.CHALLENGE_BODY, vectors.MESSAGE_BODY, vectors.CARD_ACTION_BODY])
def test_simulator_encrypts_and_signs_like_the_golden_requests(body: bytes) -> None:
    plaintext = AESCipher(vectors.ENCRYPT_KEY).decrypt(base64.b64decode(json.loads(body)["encrypt"]))
    assert encrypted_body(json.loads(plaintext), vectors.ENCRYPT_KEY, iv=b"0123456789abcdef") == body
    headers = signature_headers(body, vectors.ENCRYPT_KEY, timestamp=vectors.TIMESTAMP, nonce=vectors.NONCE)
    assert headers["X-Lark-Signature"] in (
        vectors.CHALLENGE_SIGNATURE,
        vectors.MESSAGE_SIGNATURE,
        vectors.CARD_ACTION_SIGNATURE,
    )


def test_one_changed_byte_is_refused() -> None:
    original = vectors.MESSAGE_BODY
    body = original[:40] + bytes([original[40] ^ 1]) + original[41:]
    with pytest.raises(WebhookError):
        open_event(golden(body, vectors.MESSAGE_SIGNATURE), KEYS, now=NOW)


def test_white_space_added_to_the_raw_body_is_refused() -> None:
    with pytest.raises(SignatureError):
        open_event(golden(vectors.MESSAGE_BODY + b" ", vectors.MESSAGE_SIGNATURE), KEYS, now=NOW)


@pytest.mark.parametrize("name", ["timestamp", "nonce"])
def test_another_timestamp_or_nonce_is_refused(name: str) -> None:
    raw = golden(vectors.MESSAGE_BODY, vectors.MESSAGE_SIGNATURE)
    headers = {**raw.headers, f"x-lark-request-{name}": "1700000001"}
    with pytest.raises(SignatureError):
        open_event(request(raw.body, headers), KEYS, now=NOW)


def test_wrong_key_in_signature_is_refused() -> None:
    with pytest.raises(SignatureError, match="encrypt_key"):
        open_event(signed(sealed(EVENT), key="other"), KEYS, now=NOW)


def test_signature_that_is_not_ascii_is_refused() -> None:
    raw = signed(sealed(EVENT))
    with pytest.raises(SignatureError):
        open_event(request(raw.body, {**raw.headers, "x-lark-signature": "é" * 64}), KEYS, now=NOW)


def test_unsigned_event_is_refused() -> None:
    with pytest.raises(SignatureError):
        open_event(request(vectors.MESSAGE_BODY), KEYS, now=NOW)


def test_unsigned_requests_are_all_refused_alike() -> None:
    """Else the answers would tell whether a ciphertext has valid padding."""
    bodies = [
        sealed(EVENT),
        sealed({**CHECK, "token": "wrong"}),
        sealed([1]),
        sealed(EVENT, key="other"),
        json.dumps({"encrypt": base64.b64encode(bytes(64)).decode()}).encode(),
        json.dumps({"encrypt": base64.b64encode(bytes(7)).decode()}).encode(),
    ]
    outcomes = set()
    for body in bodies:
        with pytest.raises(SignatureError) as caught:
            open_event(request(body), KEYS, now=NOW)
        outcomes.add((caught.value.status, caught.value.outcome, str(caught.value)))
    assert len(outcomes) == 1


@pytest.mark.parametrize("token", ["wrong", "", None, 5, "\ud800"], ids=repr)
def test_wrong_verification_token_is_refused(token: Any) -> None:
    event = json.dumps({**EVENT, "header": {"token": token}}).encode()
    body = sealed(json.loads(event)) if token != "\ud800" else seal_bytes(event)
    with pytest.raises(SignatureError, match="verification_token"):
        open_event(signed(body), KEYS, now=NOW)


def test_event_of_another_app_is_refused() -> None:
    event = {**EVENT, "header": {**EVENT["header"], "app_id": "cli_other"}}  # type: ignore[dict-item]  # A plain dict.
    with pytest.raises(DecryptError, match="another app"):
        open_event(signed(sealed(event)), KEYS, now=NOW)


@pytest.mark.parametrize("plain", [CHECK, EVENT, {"uuid": "1", "token": "t", "type": "event_callback"}])
def test_plaintext_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(DecryptError, match="Encrypt Key"):
        open_event(signed(json.dumps(plain).encode()), KEYS, now=NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        vectors.MESSAGE_BODY[:200],
        b"<xml><ToUserName>gh_1</ToUserName><Encrypt>abc</Encrypt></xml>",
        b"[1]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b'{"action": "opened"}',
        b'{"encrypt": 5}',
        b'{"encrypt": "not base64!"}',
        '{"encrypt": "é"}'.encode(),
        b'{"encrypt": "\xff"}',
        b'{"n": ' + b"1" * 10_000 + b"}",
    ],
    ids=lambda body: body[:20].decode("latin-1") or "empty",
)
@pytest.mark.parametrize("with_signature", [True, False], ids=["signed", "unsigned"])
def test_body_that_feishu_never_sends_is_malformed(body: bytes, with_signature: bool) -> None:
    with pytest.raises(MalformedRequestError):
        open_event(signed(body) if with_signature else request(body), KEYS, now=NOW)


def test_get_is_malformed() -> None:
    with pytest.raises(MalformedRequestError, match="POST"):
        open_event(request(b"", method="GET"), KEYS, now=NOW)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"encrypt": base64.b64encode(bytes(64)).decode()}).encode(),
        json.dumps({"encrypt": ""}).encode(),
        seal_bytes(b"not json"),
        seal_bytes(b"[1]"),
        seal_bytes(b"[" * 100_000),
        seal_bytes(b"\xff\xfe\xfd"),
    ],
    ids=["padding", "empty", "not json", "list", "deep", "not utf-8"],
)
def test_signed_body_without_an_event_cannot_be_decrypted(body: bytes) -> None:
    with pytest.raises(DecryptError):
        open_event(signed(body), KEYS, now=NOW)


@pytest.mark.parametrize("offset", [-FRESH_S + 1, FRESH_S - 1])
def test_redelivery_within_eight_hours_is_accepted(offset: float) -> None:
    open_event(signed(sealed(EVENT)), KEYS, now=float(vectors.TIMESTAMP) + offset)


@pytest.mark.parametrize("offset", [-FRESH_S - 1, FRESH_S + 1])
def test_request_outside_eight_hours_is_stale(offset: float) -> None:
    with pytest.raises(StaleRequestError):
        open_event(signed(sealed(EVENT)), KEYS, now=float(vectors.TIMESTAMP) + offset)


@pytest.mark.parametrize("timestamp", ["", "soon", "-5", "1.5", "²", "9" * 5000])
def test_timestamp_that_is_no_number_is_stale(timestamp: str) -> None:
    with pytest.raises(StaleRequestError):
        open_event(signed(sealed(EVENT), timestamp=timestamp), KEYS, now=NOW)


@pytest.mark.parametrize("challenge", [None, 5, ["x"]])
def test_check_without_challenge_is_malformed(challenge: Any) -> None:
    with pytest.raises(MalformedRequestError):
        challenge_of({**CHECK, "challenge": challenge})


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused_with_our_error(body: bytes, with_signature: bool) -> None:
    with pytest.raises(WebhookError):
        open_event(signed(body) if with_signature else request(body), KEYS, now=NOW)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_inside_is_an_event_or_refused(value: Any) -> None:
    with pytest.raises(WebhookError):
        open_event(signed(seal_bytes(json.dumps(value).encode())), KEYS, now=NOW)


def test_no_error_repeats_a_secret() -> None:
    secrets = (vectors.ENCRYPT_KEY, vectors.VERIFICATION_TOKEN)
    assert not any(secret in repr(KEYS) for secret in secrets)
    for raw in (request(sealed(EVENT)), signed(sealed(EVENT), key="other"), signed(sealed({**EVENT, "header": {}}))):
        with pytest.raises(WebhookError) as caught:
            open_event(raw, KEYS, now=NOW)
        assert not any(secret in repr(caught.value) for secret in secrets)
