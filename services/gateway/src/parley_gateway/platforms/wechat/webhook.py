"""Proves that a request came from WeChat and hands out its XML, decrypted, with the way to seal the reply.

What proves what (WeChat documentation, "Message encryption and decryption"): `signature` covers the token, the
timestamp and the nonce but never the body; `msg_signature` covers the ciphertext too. So with `safe` and `compat` only
`msg_signature` and the ciphertext count, and a plaintext copy in the body is ignored; with `plain` each signed query
is bound to the first body it came with, in the shared cache, for as long as its timestamp is accepted.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

import xmltodict

from parley_gateway.errors import MalformedRequestError, SignatureError, StaleRequestError
from parley_gateway.platforms.base import RawRequest
from parley_gateway.platforms.wechat.crypto import decrypt, encrypt, sign, signature_matches
from parley_gateway.platforms.wechat.settings import WeChatSettings
from parley_gateway.store.base import Cache

FRESH_S = 600.0
"""How far a request's timestamp may be from our clock, in seconds, either way."""

ENVELOPE = (
    "<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt><MsgSignature><![CDATA[{signature}]]></MsgSignature>"
    "<TimeStamp>{timestamp}</TimeStamp><Nonce><![CDATA[{nonce}]]></Nonce></xml>"
)


@dataclass(frozen=True, slots=True)
class OpenedRequest:
    """The proven content of a request."""

    xml: str
    seal: Callable[[str], str]
    """Turns the XML of a reply into the body to answer with: encrypted when the request was."""


class Gate:
    """Lets requests of WeChat in and nothing else."""

    def __init__(self, settings: WeChatSettings, cache: Cache, *, bot: str, clock: Callable[[], float]) -> None:
        """Take the credentials; `cache` is shared by all replicas."""
        self._token = settings.token.get_secret_value()
        self._app_id = settings.app_id
        self._keys = settings.aes_keys
        self._mode = settings.encryption_mode
        self._cache = cache
        self._bot = bot
        self._clock = clock

    async def check_url(self, query: Mapping[str, str]) -> str:
        """Return the `echostr` to answer the URL check with; WeChat signs it the same way in every mode.

        Raises
            SignatureError, StaleRequestError, MalformedRequestError: it isn't WeChat's check.
        """
        echo = query.get("echostr", "")
        if not echo:
            raise MalformedRequestError("the URL check carries no echostr")
        self._check_plain_signature(query)
        if self._mode == "plain":
            await self._bind_to_body(query, echo.encode())
        return echo

    async def open(self, request: RawRequest) -> OpenedRequest:
        """Return the content of a push.

        Raises
            WebhookError: one of its kinds; StoreUnavailableError from the shared cache.
        """
        body = _text_of(request.body)
        encrypted_query = request.query.get("encrypt_type", "raw") == "aes"
        if self._mode != "plain":
            return self._open_encrypted(request.query, body, encrypted_query)
        if encrypted_query:
            raise MalformedRequestError(
                "the push is encrypted, this bot is set to plain: set encoding_aes_key and encryption: safe"
            )
        self._check_plain_signature(request.query)
        await self._bind_to_body(request.query, request.body)
        return OpenedRequest(body, seal=lambda reply: reply)

    def _open_encrypted(self, query: Mapping[str, str], body: str, encrypted_query: bool) -> OpenedRequest:
        if not encrypted_query:
            raise SignatureError(
                "the push isn't encrypted, this bot accepts encrypted ones only: choose the safe mode in the console's "
                "server configuration (or set encryption: plain)"
            )
        encrypted = _encrypted_of(body)
        timestamp, nonce = query.get("timestamp", ""), query.get("nonce", "")
        expected = sign(self._token, timestamp, nonce, encrypted)
        if not signature_matches(expected, query.get("msg_signature", "")):
            raise SignatureError("msg_signature doesn't match: compare the token with the console's")
        self._check_fresh(timestamp)
        xml, key = decrypt(encrypted, self._keys, self._app_id)
        return OpenedRequest(xml, seal=lambda reply: self._seal(reply, key))

    def _seal(self, reply: str, key: str) -> str:
        """Encrypt a reply with the key that the request was encrypted with."""
        encrypted = encrypt(reply, key, self._app_id)
        timestamp, nonce = str(int(self._clock())), str(secrets.randbelow(10**10))
        signature = sign(self._token, timestamp, nonce, encrypted)
        return ENVELOPE.format(encrypted=encrypted, signature=signature, timestamp=timestamp, nonce=nonce)

    def _check_plain_signature(self, query: Mapping[str, str]) -> None:
        timestamp = query.get("timestamp", "")
        expected = sign(self._token, timestamp, query.get("nonce", ""))
        if not signature_matches(expected, query.get("signature", "")):
            raise SignatureError("signature doesn't match: compare the token with the console's")
        self._check_fresh(timestamp)

    def _check_fresh(self, timestamp: str) -> None:
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise StaleRequestError("the timestamp isn't a number of seconds")
        if abs(self._clock() - int(timestamp)) > FRESH_S:
            raise StaleRequestError(f"the timestamp is more than {FRESH_S:.0f} s away from this machine's clock")

    async def _bind_to_body(self, query: Mapping[str, str], body: bytes) -> None:
        """Refuse a signed query that already came with another body.

        The lock's owner is the body: whoever repeats the same body takes it again, another body can't. It is named by
        the signature alone, because moving digits between timestamp and nonce can leave the signature as it is.
        """
        now = self._clock()
        owner = hashlib.sha256(body).hexdigest()
        key = f"wechat/{self._bot}/signed/{query['signature']}"
        if not await self._cache.try_lock(key, owner, now=now, ttl_s=2 * FRESH_S):
            raise StaleRequestError("this signed query was already used with another body")


def _text_of(body: bytes) -> str:
    if body.lstrip()[:1] == b"{":
        raise MalformedRequestError("the body is JSON: choose XML as the data format in the console")
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise MalformedRequestError("the body isn't UTF-8") from exc


def _encrypted_of(xml: str) -> str:
    """Return the ciphertext of an envelope. Entities are refused by the parser."""
    try:
        root = xmltodict.parse(xml, disable_entities=True)["xml"]
        encrypted = root["Encrypt"]
    except (ExpatError, KeyError, TypeError, ValueError) as exc:
        raise MalformedRequestError("the body isn't an XML message with Encrypt") from exc
    if not isinstance(encrypted, str) or not encrypted:
        raise MalformedRequestError("Encrypt is empty or not a text")
    return encrypted
