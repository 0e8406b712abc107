"""WeChat's message encryption on plain values: sign, decrypt, encrypt.

Source: WeChat documentation, "Message encryption and decryption". wechatpy supplies the signer and the cipher; added
here is what it leaves out: comparison in constant time, a check of the padding and of the length, unpredictable
random prefixes.
"""

import base64
import binascii
import hmac
import secrets
import struct
from collections.abc import Callable, Sequence

from wechatpy.crypto import PrpCrypto
from wechatpy.utils import WeChatSigner

from parley_gateway.errors import DecryptError

PREFIX_BYTES = 16
BLOCK_BYTES = 32
"""Messages are padded as in PKCS#7, but to blocks of 32 bytes."""


class _Cipher(PrpCrypto):  # type: ignore[misc]  # wechatpy has no type information.
    """AES-256-CBC of one key; the library's own prefix comes from a predictable generator."""

    def __init__(self, key: bytes, prefix: Callable[[], str]) -> None:
        super().__init__(key)
        self._prefix = prefix

    def get_random_string(self) -> str:
        return self._prefix()


def random_prefix() -> str:
    """Return 16 characters that nobody can foresee."""
    return secrets.token_hex(PREFIX_BYTES // 2)


def sign(*pieces: str) -> str:
    """Return the SHA-1 over the sorted pieces: token, timestamp, nonce and, for `msg_signature`, the ciphertext."""
    signer = WeChatSigner()
    signer.add_data(*pieces)
    return str(signer.signature)


def signature_matches(expected: str, received: str) -> bool:
    """Compare two signatures in constant time."""
    return hmac.compare_digest(expected.encode(), received.encode("utf-8", "surrogatepass"))


def decrypt(encrypted: str, aes_keys: Sequence[str], app_id: str) -> tuple[str, str]:
    """Return the plaintext and the key that worked, trying the keys in order.

    Raises
        DecryptError: no key fits, or the message was encrypted for another account.
    """
    try:
        ciphertext = base64.b64decode(encrypted, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise DecryptError("Encrypt isn't base64") from exc
    if not ciphertext or len(ciphertext) % PREFIX_BYTES:
        raise DecryptError("Encrypt is cut off")
    for key in aes_keys:
        padded = _Cipher(_decode_key(key), random_prefix).cipher.decrypt(ciphertext)
        if (plaintext := _unpack(padded, app_id)) is not None:
            return plaintext, key
    raise DecryptError(
        "the message doesn't decrypt with our key, or is meant for another AppID: compare app_id and encoding_aes_key "
        "with the console's server configuration"
    )


def encrypt(plaintext: str, aes_key: str, app_id: str, *, prefix: Callable[[], str] = random_prefix) -> str:
    """Return the ciphertext, base64, of one message."""
    return bytes(_Cipher(_decode_key(aes_key), prefix).encrypt(plaintext, app_id)).decode("ascii")


def _decode_key(aes_key: str) -> bytes:
    return base64.b64decode(aes_key + "=")


def _unpack(padded: bytes, app_id: str) -> str | None:
    """Return the message in a decrypted block, None unless padding, length and AppID are all as they must be."""
    padding = padded[-1]
    if not 1 <= padding <= BLOCK_BYTES or padded[-padding:] != bytes([padding]) * padding:
        return None
    content = padded[PREFIX_BYTES:-padding]
    if len(content) < 4:
        return None
    (length,) = struct.unpack(">I", content[:4])
    body, owner = content[4 : 4 + length], content[4 + length :]
    if not body or len(body) != length or not hmac.compare_digest(owner, app_id.encode()):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
