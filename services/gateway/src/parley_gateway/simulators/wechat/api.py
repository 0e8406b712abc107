"""The simulated WeChat's API on HTTP: the paths, bodies and answers of the real one."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from parley_gateway.simulators.wechat.cloud import APIError, Call, WeChatCloud

_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u(?=[0-9a-fA-F]{4})")
"""A `\\uXXXX` of JSON, whose backslash isn't itself escaped."""

Do = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Does one call with its query or JSON body and returns the answer's own fields."""


def routes(cloud: WeChatCloud) -> list[Route]:
    """Return the routes of the API."""

    def token(query: Mapping[str, Any]) -> Mapping[str, Any]:
        _check_grant(query)
        value, expires_in = cloud.issue_token(query.get("appid"), query.get("secret"))
        return {"access_token": value, "expires_in": expires_in}

    def stable_token(body: Mapping[str, Any]) -> Mapping[str, Any]:
        _check_grant(body)
        force = body.get("force_refresh", False)
        if not isinstance(force, bool):
            raise APIError(47001, "data format error: force_refresh is a boolean")
        value, expires_in = cloud.issue_stable_token(body.get("appid"), body.get("secret"), force_refresh=force)
        return {"access_token": value, "expires_in": expires_in}

    def send(body: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud.send(body)
        return {"errcode": 0, "errmsg": "ok"}

    def typing(body: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud.set_typing(body)
        return {"errcode": 0, "errmsg": "ok"}

    return [
        _route(cloud, "/cgi-bin/token", "GET", "token", token, needs_token=False),
        _route(cloud, "/cgi-bin/stable_token", "POST", "stable_token", stable_token, needs_token=False),
        _route(cloud, "/cgi-bin/message/custom/send", "POST", "send", send),
        _route(cloud, "/cgi-bin/message/custom/typing", "POST", "typing", typing),
    ]


def _route(cloud: WeChatCloud, path: str, method: str, api: str, do: Do, *, needs_token: bool = True) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            fault = cloud.begin(api)
            _check_method(request, method)
            if needs_token:
                cloud.check_token(request.query_params.get("access_token", ""))
            answer = do(request.query_params if method == "GET" else _json(await request.body()))
        except APIError as exc:
            cloud.calls.append(Call(api, exc.errcode))
            return JSONResponse({"errcode": exc.errcode, "errmsg": f"{exc.errmsg} rid: simulated"})
        cloud.calls.append(Call(api, 0))
        if fault is not None and fault.lost:
            return PlainTextResponse("bad gateway", status_code=502)
        return JSONResponse(answer)

    endpoint_of_any_method: Callable[[Request], Awaitable[Response]] = endpoint
    return Route(path, endpoint_of_any_method, methods=["GET", "POST"])


def _check_method(request: Request, method: str) -> None:
    if request.method != method:
        code = 43001 if method == "GET" else 43002
        raise APIError(code, f"require {method} method")


def _check_grant(fields: Mapping[str, Any]) -> None:
    if fields.get("grant_type") != "client_credential":
        raise APIError(40002, "invalid grant_type")


def _json(raw: bytes) -> Mapping[str, Any]:
    """Read a body as WeChat does: no content type needed, and `\\uXXXX` isn't understood but shown as it stands."""
    if not raw:
        raise APIError(44002, "empty post data")
    try:
        body = json.loads(_ESCAPE.sub(rb"\1\\\\u", raw))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise APIError(47001, "data format error")
    return body
