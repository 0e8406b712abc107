"""Calls of WeChat's API: what each error means, and how the simulator is reached whatever the proxy variables say."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from parley_gateway.errors import (
    DeliveryError,
    KeepForLaterError,
    PermanentDeliveryError,
    RefusedContentError,
    TransientDeliveryError,
)
from parley_gateway.platforms.outgoing import create_transport
from parley_gateway.platforms.wechat.api import WeChatAPI
from parley_gateway.platforms.wechat.errcodes import delivery_error
from parley_gateway.simulators.server import create_app, running
from parley_gateway.simulators.wechat.cloud import WeChatCloud
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

SEND = "/cgi-bin/message/custom/send"


class Calls(list[tuple[str, str, str]]):
    """What was reported."""

    def __call__(self, api: str, outcome: str, error_type: str) -> None:
        self.append((api, outcome, error_type))


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def cloud() -> WeChatCloud:
    return WeChatCloud()


@pytest.fixture
async def api(cloud: WeChatCloud, calls: Calls) -> AsyncIterator[WeChatAPI]:
    api = WeChatAPI("http://simulator", httpx2.ASGITransport(app=create_app(cloud)), calls)
    yield api
    await api.close()


async def send(api: WeChatAPI, cloud: WeChatCloud, text: str = "hi") -> None:
    token = cloud.issue_stable_token("wx_simulator", "simulator-app-secret", force_refresh=False)[0]
    body = {"touser": "oUser_1", "msgtype": "text", "text": {"content": text}}
    await api.post("send", SEND, body, delivery_error, access_token=token)


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (-1, TransientDeliveryError, "busy"),
        (45011, TransientDeliveryError, "minute"),
        (42001, TransientDeliveryError, "access token"),
        (48001, KeepForLaterError, "verified"),
        (45015, KeepForLaterError, "48 hours"),
        (45047, KeepForLaterError, "5 messages"),
        (45009, KeepForLaterError, "quota"),
        (45002, RefusedContentError, "too long"),
        (40003, PermanentDeliveryError, "app_id"),
        (43019, PermanentDeliveryError, "blacklist"),
        (43004, PermanentDeliveryError, "follow"),
        (40013, PermanentDeliveryError, "app_id"),
        (40125, PermanentDeliveryError, "app_secret"),
        (40164, PermanentDeliveryError, "allow-list"),
        (50002, PermanentDeliveryError, "console"),
        (99999, PermanentDeliveryError, "arranged"),
    ],
)
async def test_each_code_means_one_kind_of_error(
    api: WeChatAPI, cloud: WeChatCloud, calls: Calls, code: int, kind: type[DeliveryError], advice: str
) -> None:
    cloud.user_sent("oUser_1")
    cloud.fail_next("send", code)
    with pytest.raises(DeliveryError) as caught:
        await send(api, cloud)
    assert type(caught.value) is kind
    assert (caught.value.code, calls) == (str(code), [("send", "error", str(code))])
    assert advice in str(caught.value)


async def test_simulated_limits_are_met_as_wechats(api: WeChatAPI, cloud: WeChatCloud) -> None:
    with pytest.raises(PermanentDeliveryError):
        await send(api, cloud)
    cloud.user_sent("oUser_1")
    with pytest.raises(RefusedContentError):
        await send(api, cloud, "字" * 683)
    for _ in range(5):
        await send(api, cloud)
    with pytest.raises(KeepForLaterError):
        await send(api, cloud)


async def test_simulator_on_loopback_is_reached_past_every_proxy(cloud: WeChatCloud, calls: Calls) -> None:
    nowhere = "http://127.0.0.1:9"
    cloud.user_sent("oUser_1")
    async with running(create_app(cloud)) as url:
        environ = {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere}
        api = WeChatAPI(url, create_transport(url, proxy=nowhere, ca_file=None, environ=environ), calls)
        await send(api, cloud)
        await api.close()
    assert calls == [("send", "ok", "")]


async def test_answer_of_the_http_server_leaves_the_outcome_unknown(
    api: WeChatAPI, cloud: WeChatCloud, calls: Calls
) -> None:
    cloud.user_sent("oUser_1")
    cloud.lose_next_answer("send")
    with pytest.raises(TransientDeliveryError):
        await send(api, cloud)
    assert calls == [("send", "error", "http_502")]
    assert len(cloud.seen_by("oUser_1")) == 1


@pytest.mark.parametrize("body", ["<html>login</html>", "[]", '{"errcode":"x"}', ""])
async def test_answer_that_isnt_wechats_is_transient(calls: Calls, body: str) -> None:
    async def page(_: object) -> Response:
        return PlainTextResponse(body)

    async with running(Starlette(routes=[Route(SEND, page, methods=["POST"])])) as url:
        api = WeChatAPI(url, create_transport(url, proxy="", ca_file=None, environ={}), calls)
        with pytest.raises(TransientDeliveryError, match="base_url"):
            await api.post("send", SEND, {}, delivery_error)
        await api.close()
    assert calls == [("send", "error", "not_json")]


async def test_closed_port_is_transient(calls: Calls) -> None:
    async with running(Starlette()) as url:
        pass
    api = WeChatAPI(url, create_transport(url, proxy="", ca_file=None, environ={}), calls)
    with pytest.raises(TransientDeliveryError, match="ConnectError"):
        await api.post("send", SEND, {}, delivery_error)
    await api.close()
    assert calls == [("send", "error", "network")]


async def test_silence_is_transient(calls: Calls) -> None:
    def stalls(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("no answer")

    api = WeChatAPI("http://unused", httpx2.MockTransport(stalls), calls)
    with pytest.raises(TransientDeliveryError, match="in time"):
        await api.post("send", SEND, {}, delivery_error)
    await api.close()
    assert calls == [("send", "error", "timeout")]
