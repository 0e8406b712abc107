"""Serves the simulated platforms' APIs, and tells on `/_simulator/` what their users saw.

The control routes are for this machine only: whoever can reach them reads every message.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from parley_common.http_server import HTTPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from parley_gateway.simulators.wechat import api as wechat_api
from parley_gateway.simulators.wechat.cloud import WeChatCloud

if TYPE_CHECKING:
    from parley_gateway.simulators.feishu.cloud import FeishuCloud
    from parley_gateway.simulators.feishu.long_connection import LongConnections

CONTROL = "/_simulator"
_LOOPBACK = frozenset({"127.0.0.1", "::1"})

Answer = Callable[[Request], Awaitable[Any]]


def create_app(
    wechat: WeChatCloud | None = None,
    feishu: "FeishuCloud | None" = None,
    connections: "LongConnections | None" = None,
) -> Starlette:
    """Return an app with the APIs of the given clouds and the control routes; Feishu has long connections anyway."""
    platforms = [name for name, cloud in (("wechat", wechat), ("feishu", feishu)) if cloud is not None]

    async def identity(_: Request) -> Mapping[str, object]:
        return {"simulator": "parley", "platforms": platforms}

    routes: list[BaseRoute] = [_control("/", "GET", identity)]
    if wechat is not None:
        routes += [*wechat_api.routes(wechat), *_wechat_control(wechat)]
    if feishu is not None:
        from parley_gateway.simulators.feishu import api as feishu_api
        from parley_gateway.simulators.feishu.long_connection import LongConnections

        connections = connections or LongConnections(feishu)
        routes += [*feishu_api.routes(feishu), *connections.routes(), *_feishu_control(feishu)]
        routes += _connections_control(connections)
    return Starlette(routes=routes)


@asynccontextmanager
async def running(app: Any, port: int = 0) -> AsyncIterator[str]:
    """Serve an app on loopback for the time of the block; yields its base URL. Port 0 lets the system choose."""
    server = HTTPServer(app, "127.0.0.1", port, ws="websockets-sansio", grace_s=5.0)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


def _control(path: str, method: str, answer: Answer) -> Route:
    """Return a control route: JSON, refused to other machines and to web pages."""

    async def endpoint(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOOPBACK or "origin" in request.headers:
            return JSONResponse({"error": "the control routes are for this machine only"}, status_code=403)
        try:
            return JSONResponse(await answer(request))
        except (KeyError, TypeError, ValueError) as exc:
            return JSONResponse({"error": f"the request lacks something: {exc}"}, status_code=400)

    return Route(CONTROL + path, endpoint, methods=[method])


def _wechat_control(cloud: WeChatCloud) -> list[Route]:
    async def seen(request: Request) -> Mapping[str, object]:
        return {"seen": [asdict(each) for each in cloud.seen_by(request.path_params["openid"])]}

    async def sent(request: Request) -> Mapping[str, object]:
        cloud.user_sent(request.path_params["openid"])
        return {}

    return [
        _control("/wechat/users/{openid}", "GET", seen),
        _control("/wechat/users/{openid}/sent", "POST", sent),
    ]


def _feishu_control(cloud: "FeishuCloud") -> list[Route]:
    async def seen(request: Request) -> Mapping[str, object]:
        seen = cloud.seen_in(request.path_params["chat_id"])
        return {"messages": [{**asdict(each), "streaming": cloud.is_streaming(each)} for each in seen]}

    async def says(request: Request) -> Mapping[str, object]:
        fields = await request.json()
        return {"message_id": cloud.user_says(fields.pop("content"), **fields).message_id}

    return [
        _control("/feishu/chats/{chat_id}", "GET", seen),
        _control("/feishu/messages", "POST", says),
    ]


def _connections_control(connections: "LongConnections") -> list[Route]:
    async def deliver(request: Request) -> Mapping[str, object]:
        return {"delivery": connections.begin_delivery(await request.json())}

    async def delivery(request: Request) -> Mapping[str, object]:
        steps, done = connections.steps_of(request.path_params["delivery"])
        told = [{**asdict(step), "body": step.body.decode("utf-8", "replace")} for step in steps]
        return {"steps": told, "done": done}

    return [
        _control("/feishu/deliveries", "POST", deliver),
        _control("/feishu/deliveries/{delivery}", "GET", delivery),
    ]
