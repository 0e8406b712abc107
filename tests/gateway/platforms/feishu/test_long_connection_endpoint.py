"""Where to connect, with what advice when that fails, and how long to wait between tries."""

import json
from typing import Any

import httpx2
import pytest
from parley_gateway.errors import DeliveryError, TransientDeliveryError
from parley_gateway.platforms.feishu.api import HTTPCalls
from parley_gateway.platforms.feishu.long_connection_endpoint import (
    LONGEST_WAIT_S,
    SHORTEST_WAIT_S,
    Endpoint,
    Pace,
    fetch_endpoint,
    next_try_s,
)

from tests.gateway.platforms.feishu.conftest import APP_SECRET, make_settings

URL = "wss://frontier.feishu.cn/ws/v2?device_id=d-1&service_id=33554678&ticket=secret-ticket"


async def fetch(answer: dict[str, Any], base_url: str = "https://open.feishu.cn", seen: Any = None) -> Endpoint:
    def respond(request: httpx2.Request) -> httpx2.Response:
        if seen is not None:
            seen.append(request)
        return httpx2.Response(200, json=answer)

    settings = make_settings(base_url)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(respond), base_url=base_url) as client:
        return await fetch_endpoint(settings, HTTPCalls(client, lambda *_: None))


async def test_endpoint_is_asked_for_with_the_apps_secret_and_hides_its_ticket() -> None:
    seen: list[httpx2.Request] = []
    config = {"PingInterval": 90}
    endpoint = await fetch({"code": 0, "data": {"URL": URL, "ClientConfig": config}}, seen=seen)
    assert (endpoint.url, endpoint.connection_id, endpoint.service_id) == (URL, "d-1", 33554678)
    assert endpoint.config == config
    assert "secret-ticket" not in repr(endpoint)
    assert (seen[0].method, str(seen[0].url)) == ("POST", "https://open.feishu.cn/callback/ws/endpoint")
    assert json.loads(seen[0].content) == {"AppID": "cli_test", "AppSecret": APP_SECRET}


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        (URL.replace("wss", "ws"), "https://open.feishu.cn"),
        (URL.replace("wss", "https"), "https://open.feishu.cn"),
        (URL.replace("33554678", "x"), "https://open.feishu.cn"),
        ("wss://[", "https://open.feishu.cn"),
        ("wss:///ws?service_id=1", "http://127.0.0.1"),
        (None, "https://open.feishu.cn"),
    ],
)
async def test_unusable_address_is_refused_without_being_shown(url: Any, base_url: str) -> None:
    with pytest.raises(TransientDeliveryError, match="address") as caught:
        await fetch({"code": 0, "data": {"URL": url}}, base_url)
    assert "secret-ticket" not in str(caught.value)


async def test_simulator_may_be_reached_in_clear() -> None:
    assert (await fetch({"code": 0, "data": {"URL": URL.replace("wss", "ws")}}, "http://127.0.0.1:1")).service_id


@pytest.mark.parametrize(("code", "advice"), [(514, "app_secret"), (403, "self-built"), (1000040350, "replicas")])
async def test_refusal_says_what_to_change(code: int, advice: str) -> None:
    with pytest.raises(DeliveryError, match=advice) as caught:
        await fetch({"code": code, "msg": "no"})
    assert caught.value.code == str(code)


def test_pace_is_taken_from_feishu_where_it_makes_sense() -> None:
    config = {"ReconnectCount": 3, "ReconnectInterval": 60, "ReconnectNonce": 0, "PingInterval": 30}
    assert Pace().updated(config) == Pace(30, 0, 60, 3)
    nonsense = {"ReconnectCount": "3", "ReconnectInterval": 0, "ReconnectNonce": -1, "PingInterval": True}
    assert Pace(30, 0, 60, 3).updated(nonsense) == Pace(30, 0, 60, 3)
    assert Pace().updated(None) == Pace() == Pace().updated([])


def test_waits_grow_until_feishu_has_said_something() -> None:
    assert [next_try_s(None, failures) <= 2.0**failures for failures in (1, 2, 5)] == [True] * 3
    assert next_try_s(None, 0) == SHORTEST_WAIT_S
    assert LONGEST_WAIT_S / 2 <= next_try_s(None, 60) <= LONGEST_WAIT_S


def test_waits_are_feishus_with_jitter() -> None:
    pace = Pace(jitter_s=30, retry_every_s=120, tries=3)
    after_loss = [next_try_s(pace, 0) for _ in range(200)]
    assert SHORTEST_WAIT_S <= min(after_loss) < 10 < 20 < max(after_loss) <= 30
    between = {next_try_s(pace, 1) for _ in range(50)}
    assert len(between) > 1
    assert all(120 <= wait <= 132 for wait in between)
    # Feishu's number of tries is used up: hardly ever, but not never.
    assert next_try_s(pace, 3) >= LONGEST_WAIT_S
    assert next_try_s(Pace(tries=-1), 1000) < 140
    assert next_try_s(Pace(jitter_s=0, retry_every_s=0.01), 1) == SHORTEST_WAIT_S
