"""Signatures and encryption against known vectors, and against everything that must not decrypt."""

import base64
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from parley_gateway.errors import DecryptError
from parley_gateway.platforms.wechat.crypto import decrypt, encrypt, sign, signature_matches
from parley_gateway.simulators.wechat import crypto as independent

from tests.gateway.platforms.wechat import vectors
from tests.gateway.platforms.wechat.vectors import (
    AES_KEY,
    APP_ID,
    CORP_ID,
    NONCE,
    OFFICIAL_APP_ID,
    OFFICIAL_KEY,
    OFFICIAL_TOKEN,
    PREFIX,
    TOKEN,
    W3,
    W4,
    W6A,
    W6B,
    W7A,
    W7B,
    W8,
    W9,
    Vector,
)

OFFICIAL = (OFFICIAL_TOKEN, OFFICIAL_KEY, OFFICIAL_APP_ID)
OWN = (TOKEN, AES_KEY, APP_ID)
VECTORS = [
    pytest.param(W3, OFFICIAL, id="W3"),
    pytest.param(W4, OFFICIAL, id="W4"),
    pytest.param(W6A, OWN, id="W6a"),
    pytest.param(W6B, OWN, id="W6b"),
    pytest.param(W7A, (TOKEN, AES_KEY, CORP_ID), id="W7a"),
    pytest.param(W7B, (TOKEN, AES_KEY, CORP_ID), id="W7b"),
    pytest.param(W8, (TOKEN, AES_KEY, ""), id="W8"),
    pytest.param(W9, OWN, id="W9"),
]


@pytest.mark.parametrize(
    ("token", "timestamp", "nonce", "signature"),
    [
        pytest.param("AAAAA", "1714036504", "1514711492", "f464b24fc39322e44b38aa78f5edd27bd1441696", id="W1"),
        pytest.param("AAAAA", "1714037059", "486452656", "899cf89e464efb63f54ddac96b0a0a235f53aa78", id="W2"),
        pytest.param(TOKEN, "1700000000", NONCE, "f297b0348c54e6c02293fd79d9d3bfb49109e544", id="K-plain"),
    ],
)
def test_plain_signature(token: str, timestamp: str, nonce: str, signature: str) -> None:
    assert sign(token, timestamp, nonce) == signature
    assert independent.sign(token, timestamp, nonce) == signature


def test_published_sample_of_wecom() -> None:
    signature = sign(vectors.W5_TOKEN, vectors.W5_TIMESTAMP, vectors.W5_NONCE, vectors.W5_ENCRYPTED)
    assert signature == vectors.W5_SIGNATURE
    text, _ = decrypt(vectors.W5_ENCRYPTED, [vectors.W5_KEY], vectors.W5_CORP_ID)
    assert "<Content><![CDATA[hello]]></Content>" in text
    assert "<MsgId>4561255354251345929</MsgId>" in text
    assert independent.decrypt(vectors.W5_ENCRYPTED, vectors.W5_KEY, vectors.W5_CORP_ID) == text


@pytest.mark.parametrize(("vector", "account"), VECTORS)
def test_signature_and_decryption(vector: Vector, account: tuple[str, str, str]) -> None:
    token, key, app_id = account
    assert sign(token, vector.timestamp, vector.nonce, vector.encrypted) == vector.signature
    assert decrypt(vector.encrypted, [key], app_id) == (vector.plaintext, key)
    assert independent.decrypt(vector.encrypted, key, app_id) == vector.plaintext


@pytest.mark.parametrize("vector", [W6A, W6B, W9])
def test_encryption(vector: Vector) -> None:
    assert encrypt(vector.plaintext, AES_KEY, APP_ID, prefix=lambda: PREFIX) == vector.encrypted
    assert independent.encrypt(vector.plaintext, AES_KEY, APP_ID, prefix=PREFIX.encode()) == vector.encrypted


@pytest.mark.parametrize("length", [*range(1, 70), 2048])
def test_every_length_makes_the_round_trip(length: int) -> None:
    text = "喵" * length
    assert independent.decrypt(encrypt(text, AES_KEY, APP_ID), AES_KEY, APP_ID) == text
    assert decrypt(independent.encrypt(text, AES_KEY, APP_ID), [AES_KEY], APP_ID) == (text, AES_KEY)


def test_same_text_never_encrypts_to_the_same_twice() -> None:
    assert len({encrypt("hi", AES_KEY, APP_ID) for _ in range(20)}) == 20


def test_key_that_worked_is_returned() -> None:
    encrypted = independent.encrypt("hi", OFFICIAL_KEY, APP_ID)
    assert decrypt(encrypted, [AES_KEY, OFFICIAL_KEY], APP_ID) == ("hi", OFFICIAL_KEY)


def _block(content: bytes, *, padding: bytes | None = None) -> str:
    """Encrypt any 16 bytes and content, with any padding."""
    key = base64.b64decode(AES_KEY + "=")
    plain = PREFIX.encode() + content
    count = 32 - len(plain) % 32
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    padded = plain + (bytes([count]) * count if padding is None else padding)
    return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()


def _message(body: bytes, length: int | None = None, owner: bytes = APP_ID.encode()) -> bytes:
    return struct.pack(">I", len(body) if length is None else length) + body + owner


@pytest.mark.parametrize(
    "encrypted",
    [
        pytest.param("", id="empty"),
        pytest.param("!!not base64!!", id="not base64"),
        pytest.param("喵喵喵喵", id="not ascii"),
        pytest.param(W6A.encrypted[:-8], id="cut"),
        pytest.param(W6A.encrypted[:64], id="cut between blocks"),
        pytest.param(W6A.encrypted[::-1].lstrip("="), id="garbage"),
        pytest.param(_block(_message(b"hi", owner=b"wx_another_account")), id="for another account"),
        pytest.param(_block(_message(b"hi", owner=b"")), id="for nobody"),
        pytest.param(_block(_message(b"hi", length=2**31)), id="length beyond the end"),
        pytest.param(_block(_message(b"hi", length=1)), id="length too short"),
        pytest.param(_block(_message(b"")), id="empty message"),
        pytest.param(_block(_message(b"\xff\xfe")), id="not UTF-8"),
        pytest.param(_block(b"\0"), id="no length"),
        pytest.param(_block(b"x" * 16, padding=b""), id="no padding"),
        pytest.param(_block(_message(b"hi")[:16], padding=b"\x00" * 32), id="padding of zero"),
        pytest.param(_block(b"x" * 15, padding=b"\x21"), id="padding of 33"),
        pytest.param(_block(_message(b"1234567"), padding=b"\x01\x03\x03"), id="uneven padding"),
    ],
)
def test_what_must_not_decrypt(encrypted: str) -> None:
    with pytest.raises(DecryptError) as caught:
        decrypt(encrypted, [AES_KEY, OFFICIAL_KEY], APP_ID)
    assert AES_KEY not in str(caught.value)


def test_signatures_of_any_text_are_compared() -> None:
    signature = sign(TOKEN, "1", "2")
    assert signature_matches(signature, signature)
    for wrong in ("", signature[:-1], signature.upper(), "é" * 40, "\udcff"):
        assert not signature_matches(signature, wrong)
