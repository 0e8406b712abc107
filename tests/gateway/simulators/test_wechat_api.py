"""The simulated WeChat's API: tokens, quotas and errors as documented, raw UTF-8, control routes for loopback only."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest
from parley_gateway.simulators.server import create_app
from parley_gateway.simulators.wechat.cloud import SimulatedAccount, WeChatCloud

from tests.fakes.gateway_parts import FakeClock

USER = "oUser_1"
CREDENTIALS = {"grant_type": "client_credential", "appid": "wx_simulator", "secret": "simulator-app-secret"}


def connect(cloud: WeChatCloud, address: str = "127.0.0.1") -> httpx2.AsyncClient:
    """Return a client of the simulator that seems to come from an address."""
    transport = httpx2.ASGITransport(app=create_app(cloud), client=(address, 1))
    return httpx2.AsyncClient(base_url="http://simulator", transport=transport)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cloud(clock: FakeClock) -> WeChatCloud:
    return WeChatCloud(clock=clock)


@pytest.fixture
async def client(cloud: WeChatCloud) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(cloud) as client:
        yield client


async def stable_token(client: httpx2.AsyncClient, **changes: Any) -> Mapping[str, Any]:
    body = {name: value for name, value in {**CREDENTIALS, **changes}.items() if value is not None}
    response = await client.post("/cgi-bin/stable_token", json=body)
    assert response.status_code == 200, "errors come with status 200, too"
    answer: Mapping[str, Any] = response.json()
    return answer


async def plain_token(client: httpx2.AsyncClient, **changes: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = (await client.get("/cgi-bin/token", params={**CREDENTIALS, **changes})).json()
    return answer


async def call(client: httpx2.AsyncClient, api: str, body: object, token: str | None = None) -> int:
    """Call an API that needs a token and return its errcode."""
    if token is None:
        token = (await stable_token(client))["access_token"]
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    response = await client.post(f"/cgi-bin/message/custom/{api}", params={"access_token": token}, content=content)
    assert response.status_code == 200
    errcode: int = response.json()["errcode"]
    return errcode


def message(content: str = "hi", **changes: object) -> dict[str, object]:
    return {"touser": USER, "msgtype": "text", "text": {"content": content}, **changes}


async def test_stable_token_stays_until_five_minutes_before_its_end(
    client: httpx2.AsyncClient, clock: FakeClock
) -> None:
    first = await stable_token(client)
    assert first["expires_in"] == 7200
    clock.now += 6800
    again = await stable_token(client)
    assert again == {"access_token": first["access_token"], "expires_in": 400}
    clock.now += 101
    second = await stable_token(client)
    assert second["access_token"] != first["access_token"]
    assert await call(client, "send", {}, first["access_token"]) != 42001, "the old one is valid until its end"
    clock.now += 300
    assert await call(client, "send", {}, first["access_token"]) == 42001


async def test_forcing_a_new_stable_token_kills_the_old_one(client: httpx2.AsyncClient) -> None:
    first = await stable_token(client)
    second = await stable_token(client, force_refresh=True)
    assert second["access_token"] != first["access_token"]
    assert await call(client, "send", {}, first["access_token"]) == 42001


async def test_plain_token_is_new_every_time_and_the_old_one_dies(client: httpx2.AsyncClient, clock: FakeClock) -> None:
    first, stable = await plain_token(client), await stable_token(client)
    second = await plain_token(client)
    assert first["access_token"] != second["access_token"]
    assert await call(client, "send", {}, first["access_token"]) == 40003
    clock.now += 301
    assert await call(client, "send", {}, first["access_token"]) == 42001
    assert await call(client, "send", {}, second["access_token"]) == 40003
    assert await call(client, "send", {}, stable["access_token"]) == 40003, "the two kinds are independent"


@pytest.mark.parametrize(
    ("changes", "errcode"),
    [
        ({"appid": "wx_other"}, 40013),
        ({"secret": "wrong"}, 40125),
        ({"appid": ""}, 41002),
        ({"secret": ""}, 41004),
        ({"grant_type": "password"}, 40002),
    ],
)
async def test_wrong_credentials(client: httpx2.AsyncClient, changes: dict[str, str], errcode: int) -> None:
    assert (await stable_token(client, **changes))["errcode"] == errcode
    assert (await plain_token(client, **changes))["errcode"] == errcode


async def test_token_is_required(client: httpx2.AsyncClient) -> None:
    assert await call(client, "send", message(), "") == 41001
    assert await call(client, "send", message(), "made-up") == 40001
    response = await client.post("/cgi-bin/message/custom/send", json=message())
    assert response.json()["errcode"] == 41001


async def test_method_matters(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/cgi-bin/stable_token")).json()["errcode"] == 43002
    assert (await client.post("/cgi-bin/token")).json()["errcode"] == 43001


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"", 44002),
        (b"not json", 47001),
        (b"[1]", 47001),
        (message(touser="oNobody"), 40003),
        (message(touser=None), 40003),
        (message(msgtype="hologram"), 40008),
        (message(""), 44004),
        (message(text="hi"), 44004),
        (message("a" * 2049), 45002),
        (message("字" * 683), 45002),
        (message("字" * 682), 0),
    ],
)
async def test_bodies(client: httpx2.AsyncClient, cloud: WeChatCloud, body: object, errcode: int) -> None:
    cloud.user_sent(USER)
    assert await call(client, "send", body) == errcode
    assert len(cloud.seen_by(USER)) == (errcode == 0)


async def test_five_messages_for_each_of_the_users(
    client: httpx2.AsyncClient, cloud: WeChatCloud, clock: FakeClock
) -> None:
    cloud.user_sent(USER)
    assert [await call(client, "send", message()) for _ in range(6)] == [0, 0, 0, 0, 0, 45047]
    cloud.user_sent(USER)
    assert await call(client, "send", message()) == 0
    clock.now += 48 * 3600 + 1
    assert await call(client, "send", message()) == 45015
    cloud.user_sent(USER, "subscribe")
    assert [await call(client, "send", message()) for _ in range(4)] == [0, 0, 0, 45047]
    clock.now += 61
    assert await call(client, "send", message()) == 45015
    cloud.user_sent(USER)
    cloud.user_left(USER)
    assert await call(client, "send", message()) == 45015


async def test_unverified_account_may_not_send(clock: FakeClock) -> None:
    cloud = WeChatCloud(SimulatedAccount(verified=False), clock=clock)
    cloud.user_sent(USER)
    async with connect(cloud) as client:
        assert await call(client, "send", message()) == 48001
        assert await call(client, "typing", {"touser": USER, "command": "Typing"}) == 48001


async def test_typing(client: httpx2.AsyncClient, cloud: WeChatCloud, clock: FakeClock) -> None:
    typing, cancel = ({"touser": USER, "command": command} for command in ("Typing", "CancelTyping"))
    assert await call(client, "typing", typing) == 40003
    cloud.user_sent(USER)
    assert await call(client, "typing", {"touser": USER, "command": "Sing"}) == 45072
    assert [await call(client, "typing", typing) for _ in range(2)] == [0, 45081]
    assert [await call(client, "typing", each) for each in (cancel, typing)] == [0, 0]
    assert await call(client, "send", message()) == 0
    assert await call(client, "typing", typing) == 0, "sending a message ends the typing"
    clock.now += 15
    assert await call(client, "typing", typing) == 0
    clock.now += 31
    assert await call(client, "typing", typing) == 45080


async def test_text_is_shown_as_it_travels(client: httpx2.AsyncClient, cloud: WeChatCloud) -> None:
    cloud.user_sent(USER)
    assert await call(client, "send", message('你好 "x" \\ \n')) == 0
    assert await call(client, "send", json.dumps(message("你")).encode()) == 0
    assert await call(client, "send", json.dumps(message("\\u4f60")).encode()) == 0
    assert [seen.text for seen in cloud.seen_by(USER)] == ['你好 "x" \\ \n', "\\u4f60", "\\u4f60"]


async def test_arranged_faults(client: httpx2.AsyncClient, cloud: WeChatCloud) -> None:
    cloud.user_sent(USER)
    cloud.fail_next("send", 45011, times=2)
    assert [await call(client, "send", message()) for _ in range(3)] == [45011, 45011, 0]
    cloud.lose_next_answer("send")
    token = (await stable_token(client))["access_token"]
    lost = await client.post("/cgi-bin/message/custom/send", params={"access_token": token}, json=message())
    assert lost.status_code == 502
    assert len(cloud.seen_by(USER)) == 2
    cloud.expire_tokens()
    assert await call(client, "send", message(), token) == 42001
    assert [entry.errcode for entry in cloud.calls if entry.api == "send"] == [45011, 45011, 0, 0, 42001]


async def test_control_routes(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/_simulator/")).json() == {"simulator": "parley", "platforms": ["wechat"]}
    assert (await client.get(f"/_simulator/wechat/users/{USER}")).json() == {"seen": []}
    assert await call(client, "send", message()) == 40003
    assert (await client.post(f"/_simulator/wechat/users/{USER}/sent")).status_code == 200
    assert await call(client, "send", message()) == 0
    (seen,) = (await client.get(f"/_simulator/wechat/users/{USER}")).json()["seen"]
    assert (seen["kind"], seen["text"], seen["via"]) == ("text", "hi", "push")


async def test_control_routes_are_for_this_machine_only(cloud: WeChatCloud) -> None:
    async with connect(cloud, "192.0.2.7") as remote:
        assert (await remote.get(f"/_simulator/wechat/users/{USER}")).status_code == 403
    async with connect(cloud) as page:
        answer = await page.get(f"/_simulator/wechat/users/{USER}", headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403
