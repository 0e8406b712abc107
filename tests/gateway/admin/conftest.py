"""A gateway's ops port with its admin calls, served for real."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from parley_common.http_server import HTTPServer
from parley_common.metrics import ServiceMetrics
from parley_common.ops import Health, create_ops_app
from parley_gateway.admin.calls import AdminCalls, Surroundings
from parley_gateway.admin.routes import Admin
from parley_gateway.bots import Bot
from parley_gateway.store.records import DeadLetter, QueuedMessage, reference_of
from pydantic import SecretStr

from tests.fakes.gateway_parts import question
from tests.gateway.conftest import Gateway

TOKEN = "an-admin-token-for-tests"


@dataclass
class Ops:
    """The ops port and the gateway behind it."""

    gateway: Gateway
    admin: Admin
    url: str
    client: httpx2.AsyncClient

    async def get(self, path: str, **query: str) -> httpx2.Response:
        return await self.client.get(f"/admin/{path}", params=query)

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        return await self.client.post(f"/admin/{path}", json=body)

    async def bury(self, text: str = "hello", message_id: str = "m1", reason: str = "llm") -> str:
        """Make a question a dead letter and return its reference."""
        gateway = self.gateway
        message = question(text, message_id=message_id, sent_at=gateway.clock())
        await gateway.accept(message)
        leased = await gateway.store.lease("worker", now=gateway.clock(), ttl_s=15)
        assert leased is not None
        lease, item = leased
        reference = reference_of(message.delivery_key)
        gateway.trails.note(item, "dead", reason=reason)
        dead = DeadLetter(reference, item, reason, gateway.clock())
        await gateway.store.complete(lease, item, now=gateway.clock(), dead=dead)
        return reference

    def note(self, step: str, message_id: str = "m1") -> None:
        """Note a step of a message."""
        self.gateway.trails.note(QueuedMessage(question(message_id=message_id), self.gateway.clock()), step)

    def add_bots(self, *names: tuple[str, str]) -> None:
        """Configure these bots, by platform and name, besides the one there is."""
        (bot,) = self.gateway.bots
        more = [
            Bot(bot.settings.model_copy(update={"platform": platform, "name": name}), bot.platform)
            for platform, name in names
        ]
        self.gateway.bots.replace([bot, *more])


@pytest.fixture
async def ops(gateway: Gateway) -> AsyncIterator[Ops]:
    surroundings = Surroundings(
        gateway.store, gateway.bots, gateway.levers, gateway.ramps, gateway.trails, gateway.metrics, gateway.clock,
        "abc123",
    )  # fmt: skip
    admin = Admin(AdminCalls(surroundings), SecretStr(TOKEN))
    app = create_ops_app(Health(ServiceMetrics("test", "0")), gateway.registry, admin.routes)
    server = HTTPServer(app, "127.0.0.1", 0, grace_s=1)
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        yield Ops(gateway, admin, url, client)
    await server.stop()
