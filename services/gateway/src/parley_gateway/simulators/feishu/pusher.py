"""Plays Feishu towards a webhook: checks the URL, delivers events encrypted and signed, delivers them again.

Feishu documentation, "Send events to a developer's server": an event not acknowledged with status 200 within 3 s is
delivered again after 15 s, 5 min, 1 h and 6 h. The encryption here is independent of the platform's code.
"""

import asyncio
import base64
import hashlib
import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


@dataclass(frozen=True, slots=True)
class Webhook:
    """The URL in the console, and what the console shows beside it."""

    url: str
    encrypt_key: str = field(repr=False)
    verification_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long Feishu waits, in seconds."""

    check_s: float = 1.0
    connect_s: float = 2.0
    ack_s: float = 3.0
    retry_after_s: tuple[float, ...] = (15.0, 300.0, 3600.0, 21600.0)

    def scaled(self, factor: float) -> "Timings":
        """Return the timings with the waits between tries multiplied; how long an answer may take stays."""
        return replace(self, retry_after_s=tuple(wait * factor for wait in self.retry_after_s))


@dataclass(frozen=True, slots=True)
class Step:
    """One request to the webhook and what became of it."""

    name: str
    started_after_s: float
    duration_s: float
    status: int | None
    """None when there was no answer in time."""
    body: bytes = b""
    problem: str = ""

    @property
    def acknowledged(self) -> bool:
        """Whether Feishu is content."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event with all tries to deliver it."""

    steps: tuple[Step, ...]

    @property
    def acknowledged(self) -> bool:
        """Whether the last try succeeded."""
        return self.steps[-1].acknowledged


class FeishuPusher:
    """Delivers to one webhook. Close it with `aclose`."""

    def __init__(
        self,
        webhook: Webhook,
        *,
        timings: Timings | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` gives the time that requests are signed with; `sleep` waits between tries."""
        self.webhook = webhook
        self._timings = timings or Timings()
        self._clock = clock
        self._sleep = sleep
        timeout = httpx2.Timeout(None, connect=self._timings.connect_s)
        self._client = httpx2.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def check_url(self, *, signed: bool = False) -> Step:
        """Check the URL as the console does when it is saved. The step is acknowledged only by the right challenge."""
        challenge = uuid.uuid4().hex
        event = {"challenge": challenge, "token": self.webhook.verification_token, "type": "url_verification"}
        body = encrypted_body(event, self.webhook.encrypt_key)
        step = await self._try("check", body, self._timings.check_s, started_at=time.monotonic(), signed=signed)
        if step.status == 200 and _challenge(step.body) != challenge:
            return replace(step, status=None, problem="the answer isn't the challenge")
        return step

    async def push(
        self, event: Mapping[str, Any], *, new_event_ids: bool = False, on_step: Callable[[Step], None] | None = None
    ) -> Delivery:
        """Deliver an event until it is acknowledged, five times at most.

        Each try is encrypted and signed anew. With `new_event_ids` each repeat carries another event id, the message id
        stays. `on_step` is told of each try as it ends.
        """
        started_at = time.monotonic()
        steps: list[Step] = []
        for number, wait in enumerate((0.0, *self._timings.retry_after_s), start=1):
            if number > 1:
                await self._sleep(wait)
                if new_event_ids:
                    event = {**event, "header": {**event["header"], "event_id": uuid.uuid4().hex}}
            body = encrypted_body(event, self.webhook.encrypt_key)
            step = await self._try(f"delivery {number}", body, self._timings.ack_s, started_at=started_at)
            steps.append(step)
            if on_step:
                on_step(step)
            if step.acknowledged:
                break
        return Delivery(tuple(steps))

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Send any body with any headers: for requests that Feishu wouldn't make."""
        return await self._client.post(self.webhook.url, content=body, headers=dict(headers or {}))

    async def _try(self, name: str, body: bytes, limit_s: float, *, started_at: float, signed: bool = True) -> Step:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if signed:
            headers |= signature_headers(body, self.webhook.encrypt_key, timestamp=str(int(self._clock())))
        begun = time.monotonic()
        status: int | None = None
        answer, problem = b"", ""
        try:
            async with asyncio.timeout(limit_s):
                response = await self._client.post(self.webhook.url, content=body, headers=headers)
            status, answer = response.status_code, response.content
        except TimeoutError:
            problem = f"no answer within {limit_s:g} s"
        except httpx2.RequestError as exc:
            problem = f"{type(exc).__name__}: is the gateway running?"
        return Step(name, begun - started_at, time.monotonic() - begun, status, answer, problem)


def encrypted_body(event: Mapping[str, Any], encrypt_key: str, *, iv: bytes | None = None) -> bytes:
    """Return the body of a request: AES-256-CBC with the SHA-256 of the Encrypt Key, PKCS#7, base64."""
    plaintext = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    padding = 16 - len(plaintext) % 16
    start = iv or os.urandom(16)
    encryptor = Cipher(algorithms.AES(hashlib.sha256(encrypt_key.encode()).digest()), modes.CBC(start)).encryptor()
    ciphertext = encryptor.update(plaintext + bytes([padding]) * padding) + encryptor.finalize()
    return json.dumps({"encrypt": base64.b64encode(start + ciphertext).decode()}).encode()


def signature_headers(body: bytes, encrypt_key: str, *, timestamp: str, nonce: str | None = None) -> dict[str, str]:
    """Return the headers of a signed request, in the mixed case that Feishu writes them in."""
    chosen = nonce if nonce is not None else uuid.uuid4().hex
    digest = hashlib.sha256(f"{timestamp}{chosen}{encrypt_key}".encode() + body).hexdigest()
    return {"X-Lark-Request-Timestamp": timestamp, "X-Lark-Request-Nonce": chosen, "X-Lark-Signature": digest}


def _challenge(body: bytes) -> object:
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    return answer.get("challenge") if isinstance(answer, dict) else None
