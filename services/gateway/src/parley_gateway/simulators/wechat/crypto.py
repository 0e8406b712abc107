"""WeChat's encryption and signatures, from its documentation and `cryptography` alone.

Source: WeChat documentation, "Message encryption and decryption".
"""

import base64
import hashlib
import os
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BLOCK = 32


def sign(*pieces: str) -> str:
    """Return the SHA-1 of the sorted pieces joined."""
    return hashlib.sha1("".join(sorted(pieces)).encode(), usedforsecurity=False).hexdigest()


def encrypt(text: str, encoding_aes_key: str, app_id: str, *, prefix: bytes | None = None) -> str:
    """Return a message encrypted for an account, base64. `prefix` are the 16 random bytes in front of it."""
    key = base64.b64decode(encoding_aes_key + "=")
    message = text.encode()
    plain = (prefix or os.urandom(16)) + struct.pack(">I", len(message)) + message + app_id.encode()
    padding = BLOCK - len(plain) % BLOCK
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(encryptor.update(plain + bytes([padding]) * padding) + encryptor.finalize()).decode()


def decrypt(encrypted: str, encoding_aes_key: str, app_id: str) -> str:
    """Return the message. Raises ValueError when anything about it isn't right."""
    key = base64.b64decode(encoding_aes_key + "=")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).decryptor()
    padded = decryptor.update(base64.b64decode(encrypted, validate=True)) + decryptor.finalize()
    padding = padded[-1] if padded else 0
    if not 1 <= padding <= BLOCK or padded[-padding:] != bytes([padding]) * padding:
        raise ValueError("the padding is wrong")
    content = padded[16:-padding]
    if len(content) < 4:
        raise ValueError("the message is too short")
    (length,) = struct.unpack(">I", content[:4])
    message, owner = content[4 : 4 + length], content[4 + length :]
    if len(message) != length:
        raise ValueError("the length is wrong")
    if owner != app_id.encode():
        raise ValueError("the message is for another AppID")
    return message.decode()
