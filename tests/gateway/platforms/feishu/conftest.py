"""A simulated Feishu on a loopback port and a platform that talks to it."""

import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from lark_oapi.ws import client as lark_client
from parley_gateway.platforms.base import BotContext, PlatformServices, RawRequest
from parley_gateway.platforms.feishu.platform import FeishuPlatform
from parley_gateway.platforms.feishu.settings import FeishuSettings
from parley_gateway.simulators.feishu.cloud import FeishuCloud, SimulatedApp
from parley_gateway.simulators.feishu.pusher import encrypted_body, signature_headers
from parley_gateway.simulators.server import create_app

from tests.fakes.gateway_parts import COMMANDS
from tests.fakes.memory_cache import MemoryCache
from tests.gateway.platforms.feishu import vectors
from tests.gateway.platforms.feishu.shared_server import SharedServer

FIXTURES = Path(__file__).parent / "fixtures"
APP_SECRET = "feishu-app-secret-of-the-test"


@pytest.fixture(scope="session", autouse=True)
def _close_the_loop_of_lark_oapi() -> Iterator[None]:
    """lark-oapi makes an event loop when it is imported outside one, and never closes it."""
    yield
    loop = lark_client.loop
    if not loop.is_running():
        loop.close()


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_005.0

    def __call__(self) -> float:
        return self.now


class Calls:
    """Collects what a platform reports about its calls."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def __call__(self, api: str, outcome: str, error_type: str) -> None:
        self.seen.append((api, outcome, error_type))


class NoAnswers:
    """Feishu keeps no answers: using this is a mistake."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"Feishu must not use kept answers ({name})")


def fixture_event(name: str) -> dict[str, Any]:
    """Return the event of a fixture."""
    event: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return event


def seal_bytes(plaintext: bytes) -> bytes:
    """Return the encrypted body of any bytes, JSON or not."""
    padding = 16 - len(plaintext) % 16
    iv = os.urandom(16)
    key = hashlib.sha256(vectors.ENCRYPT_KEY.encode()).digest()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    blob = iv + encryptor.update(plaintext + bytes([padding]) * padding) + encryptor.finalize()
    return json.dumps({"encrypt": base64.b64encode(blob).decode()}).encode()


def signed_request(event: dict[str, Any]) -> RawRequest:
    """Return the request that carries an event, as the gateway's web server hands it over."""
    return sign(encrypted_body(event, vectors.ENCRYPT_KEY))


def sign(body: bytes) -> RawRequest:
    """Return the signed request of an encrypted body."""
    headers = signature_headers(body, vectors.ENCRYPT_KEY, timestamp=vectors.TIMESTAMP)
    return RawRequest("POST", {}, {name.lower(): value for name, value in headers.items()}, body)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cloud(clock: Clock) -> FeishuCloud:
    app = SimulatedApp(vectors.APP_ID, APP_SECRET, tenant_key="t1", bot_open_id="ou_bot")
    return FeishuCloud(app, clock=clock)


@pytest.fixture
def cache() -> MemoryCache:
    return MemoryCache()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture(scope="session")
def server() -> Iterator[SharedServer]:
    with SharedServer().serving() as shared:
        yield shared


@pytest.fixture
def base_url(server: SharedServer, cloud: FeishuCloud) -> str:
    server.app = create_app(feishu=cloud)
    return server.address


def make_settings(base_url: str, **changes: Any) -> FeishuSettings:
    """Return the settings of the test's bot."""
    values = {
        "app_id": vectors.APP_ID,
        "app_secret": APP_SECRET,
        "encrypt_key": vectors.ENCRYPT_KEY,
        "verification_token": vectors.VERIFICATION_TOKEN,
        "base_url": base_url,
    }
    return FeishuSettings.model_validate({**values, **changes})


def make_platform(
    settings: FeishuSettings, cache: MemoryCache, clock: Clock, calls: Calls, environ: dict[str, str] | None = None
) -> FeishuPlatform:
    """Build one replica of the bot."""
    services = PlatformServices(
        BotContext("team", "en", COMMANDS), NoAnswers(), cache, clock, calls, environ=environ or {}
    )
    return FeishuPlatform(settings, services)


@pytest.fixture
async def platform(base_url: str, cache: MemoryCache, clock: Clock, calls: Calls) -> AsyncIterator[FeishuPlatform]:
    built = make_platform(make_settings(base_url), cache, clock, calls)
    yield built
    await built.close()
