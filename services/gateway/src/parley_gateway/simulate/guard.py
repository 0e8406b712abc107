"""Makes sure that a bot's answers go to a simulator, and talks to that simulator.

A bot that answers by push sends to its `base_url`. Unless that is a simulator on this machine, a simulated question
would make a gateway send to the real platform: then nothing is sent at all.
"""

import ipaddress
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

CONTROL = "/_simulator"


class RefusedError(Exception):
    """The command can't or won't do it; the message says what to change."""


class Simulator:
    """A simulator that proved to be one."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        """The client's base URL is the simulator's."""
        self._client = client

    async def control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Use one of its control routes. Raises RefusedError."""
        return await self.call(method, CONTROL + path, body)

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Use a control route or the platform's API. Raises RefusedError."""
        return await _json(self._client, method, path, body, headers)


@asynccontextmanager
async def simulator_of(platform: str, bot: str, base_url: str, simulator: str) -> AsyncIterator[Simulator]:
    """Yield the simulator that a bot's answers go to.

    Raises
        RefusedError: `base_url` isn't a simulator of the platform on this machine, or isn't the one named.
    """
    where = f"bot {bot!r} sends its answers to {base_url}"
    if not _is_loopback(base_url):
        raise RefusedError(
            f"{where}, which isn't a simulator on this machine. Nothing was sent. Start `parley-gateway simulator` and "
            f"set base_url of the bot to its address."
        )
    if simulator and _address(simulator) != _address(base_url):
        raise RefusedError(f"{where}, not to the simulator at {simulator}. Nothing was sent.")
    async with httpx2.AsyncClient(base_url=base_url, trust_env=False, timeout=5.0) as client:
        try:
            identity = await _json(client, "GET", f"{CONTROL}/")
        except RefusedError as exc:
            raise RefusedError(f"{where}, where no simulator answers ({exc}). Nothing was sent.") from exc
        if identity.get("simulator") != "parley" or platform not in identity.get("platforms", ()):
            raise RefusedError(f"{where}, which isn't a simulator of {platform}. Nothing was sent.")
        yield Simulator(client)


async def _json(
    client: httpx2.AsyncClient,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    try:
        response = await client.request(method, path, json=body, headers=dict(headers or {}))
        answer = json.loads(response.content)
    except httpx2.RequestError as exc:
        raise RefusedError(f"{client.base_url}: {type(exc).__name__}") from exc
    except ValueError as exc:
        raise RefusedError(f"{client.base_url}{path} answered HTTP {response.status_code} without JSON") from exc
    if not isinstance(answer, dict) or (response.status_code >= 400 and "code" not in answer):
        raise RefusedError(f"{client.base_url}{path} answered HTTP {response.status_code}")
    return answer


def _address(url: str) -> tuple[str, int | None]:
    """Return host and port, every name of this machine's loopback being the same."""
    parts = urlsplit(url)
    return ("loopback" if _is_loopback(url) else parts.hostname or "", parts.port)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
