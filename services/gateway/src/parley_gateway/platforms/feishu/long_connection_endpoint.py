"""Where to connect, and how fast to connect again.

As lark-oapi does it: `POST /callback/ws/endpoint` with the app's id and secret returns the address of one connection
and the client settings: how often to ping, how long to wait before the first try after a loss (up to `ReconnectNonce`
seconds, at random) and between further ones (`ReconnectInterval`), and how many (`ReconnectCount`, -1 for any number).
An answer to a ping may change these settings.
"""

import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lark_oapi.core.enum import HttpMethod
from lark_oapi.core.model import BaseRequest
from lark_oapi.ws.const import AUTH_FAILED, DEVICE_ID, EXCEED_CONN_LIMIT, FORBIDDEN, GEN_ENDPOINT_URI, SERVICE_ID

from parley_gateway.errors import DeliveryError, TransientDeliveryError
from parley_gateway.platforms.feishu.api import HTTPCalls
from parley_gateway.platforms.feishu.settings import FeishuSettings

SHORTEST_WAIT_S = 1.0
"""Even where Feishu allows less: a connection that is cut as soon as it is up must not become a busy loop."""
LONGEST_WAIT_S = 600.0
"""Also the wait once Feishu's number of tries is used up: a service that gives up would need somebody to notice."""

ADVICE = {
    str(AUTH_FAILED): "copy app_id and app_secret from Credentials & Basic Info; does base_url fit the app?",
    str(FORBIDDEN): "choose the long connection under Events & Callbacks; only self-built apps may use it",
    str(EXCEED_CONN_LIMIT): "the app has as many connections as Feishu allows (50): run fewer replicas",
}
"""What an operator can do, by Feishu's code."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How Feishu wants connections to be kept and renewed. The defaults are lark-oapi's."""

    ping_every_s: float = 120.0
    jitter_s: float = 30.0
    """How long the first try after a loss waits at most."""
    retry_every_s: float = 120.0
    tries: int = -1
    """How many tries Feishu allows in a row; negative for any number."""

    def updated(self, config: object) -> "Pace":
        """Return the pace with the settings of a `ClientConfig`; what makes no sense in it is ignored."""
        if not isinstance(config, dict):
            return self
        tries = config.get("ReconnectCount")
        return Pace(
            ping_every_s=_seconds(config, "PingInterval", self.ping_every_s),
            jitter_s=_seconds(config, "ReconnectNonce", self.jitter_s, least=0.0),
            retry_every_s=_seconds(config, "ReconnectInterval", self.retry_every_s),
            tries=tries if isinstance(tries, int) and not isinstance(tries, bool) else self.tries,
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of one connection."""

    url: str = field(repr=False)
    """Holds a ticket that is as good as the app's secret: it must not be logged."""
    connection_id: str
    service_id: int
    config: object = None


async def fetch_endpoint(settings: FeishuSettings, calls: HTTPCalls) -> Endpoint:
    """Ask Feishu where to connect. Raises DeliveryError whose message says what to change, where that is known."""
    body = {"AppID": settings.app_id, "AppSecret": settings.app_secret.get_secret_value()}
    request = BaseRequest.builder().http_method(HttpMethod.POST).uri(GEN_ENDPOINT_URI).body(body).build()
    try:
        answer = await calls.exchange(request, api="endpoint", access_token="")
    except DeliveryError as exc:
        exc.message += f"; {ADVICE[exc.code]}" if exc.code in ADVICE else ""
        raise
    data = answer.get("data")
    url = data.get("URL") if isinstance(data, dict) else None
    if not isinstance(url, str):
        raise TransientDeliveryError("endpoint: Feishu's answer holds no address")
    return _endpoint(url, data.get("ClientConfig") if isinstance(data, dict) else None, settings.base_url)


def next_try_s(pace: Pace | None, failures: int) -> float:
    """Return how long to wait before the next try to connect, in seconds.

    `pace` is None as long as Feishu never said how it wants it; `failures` counts the tries since the last connection.
    """
    if pace is None:
        longest = min(LONGEST_WAIT_S, 2.0 ** min(failures, 10))
        return max(SHORTEST_WAIT_S, random.uniform(0.5, 1.0) * longest)
    if failures == 0:
        return max(SHORTEST_WAIT_S, random.uniform(0.0, pace.jitter_s))
    wait_s = LONGEST_WAIT_S if 0 <= pace.tries <= failures else pace.retry_every_s
    return max(SHORTEST_WAIT_S, random.uniform(1.0, 1.1) * wait_s)


def _endpoint(url: str, config: object, base_url: str) -> Endpoint:
    """Check the address, without repeating any of it in an error."""
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
    except ValueError as exc:
        raise TransientDeliveryError("endpoint: Feishu's answer holds no usable address") from exc
    # Whoever reads the ticket on its way could take the bot's place.
    allowed = ("wss",) if base_url.startswith("https:") else ("wss", "ws")
    service = query.get(SERVICE_ID, [""])[0]
    if parts.scheme not in allowed or not parts.hostname or not (service.isascii() and service.isdigit()):
        raise TransientDeliveryError("endpoint: Feishu's answer holds no usable address")
    return Endpoint(url, query.get(DEVICE_ID, [""])[0][:64], int(service), config)


def _seconds(config: dict[str, Any], name: str, otherwise: float, *, least: float = 0.01) -> float:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 86400:
        return otherwise
    return min(float(value), LONGEST_WAIT_S)
