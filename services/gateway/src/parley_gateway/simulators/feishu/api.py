"""The simulated Feishu's API on HTTP: the paths, bodies and answers of the real one."""

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from parley_gateway.simulators.feishu.cloud import FeishuCloud, SimulatedMessage
from parley_gateway.simulators.feishu.errors import APIError

_MESSAGE = "/open-apis/im/v1/messages/{message_id}"
_CARDS = "/open-apis/cardkit/v1/cards"

Call = Callable[[Request, Mapping[str, Any]], Mapping[str, Any]]
"""Does one call with the request's JSON body and returns the answer's fields besides `code` and `msg`."""


def routes(cloud: FeishuCloud) -> list[Route]:
    """Return the routes of the API."""

    route = partial(_route, cloud)

    def token(_: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        value, expire = cloud.issue_token(body.get("app_id"), body.get("app_secret"))
        return {"tenant_access_token": value, "expire": expire}

    def info(_: Request, __: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"bot": {"activate_status": 2, "app_name": cloud.app.bot_name, "open_id": cloud.app.bot_open_id}}

    def send(request: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"data": _message(cloud.send(request.query_params.get("receive_id_type", "open_id"), body))}

    def reply(request: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"data": _message(cloud.reply(request.path_params["message_id"], body))}

    def read(request: Request, _: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"data": {"items": [_message(cloud.read(request.path_params["message_id"]))]}}

    def edit(request: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"data": _message(cloud.edit(request.path_params["message_id"], body))}

    def patch(request: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud.patch_card(request.path_params["message_id"], body)
        return {"data": {}}

    def delete(request: Request, _: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud.delete(request.path_params["message_id"])
        return {"data": {}}

    def react(request: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        reaction_type = body.get("reaction_type")
        emoji_type = reaction_type.get("emoji_type") if isinstance(reaction_type, dict) else None
        return {"data": {"reaction_id": cloud.react(request.path_params["message_id"], emoji_type)}}

    def unreact(request: Request, _: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud.unreact(request.path_params["message_id"], request.path_params["reaction_id"])
        return {"data": {}}

    return [
        route("/open-apis/auth/v3/tenant_access_token/internal", "POST", "token", token, needs_token=False),
        route("/open-apis/bot/v3/info", "GET", "info", info),
        route("/open-apis/im/v1/messages", "POST", "send", send),
        route(f"{_MESSAGE}/reply", "POST", "reply", reply),
        route(_MESSAGE, "GET", "read", read),
        route(_MESSAGE, "PUT", "edit", edit),
        route(_MESSAGE, "PATCH", "patch", patch),
        route(_MESSAGE, "DELETE", "delete", delete),
        *_card_routes(cloud),
        route(f"{_MESSAGE}/reactions", "POST", "react", react),
        route(f"{_MESSAGE}/reactions/{{reaction_id}}", "DELETE", "unreact", unreact),
    ]


def _card_routes(cloud: FeishuCloud) -> list[Route]:
    """Return the routes of CardKit."""
    route = partial(_route, cloud)

    def create_card(_: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"data": {"card_id": cloud.cardkit.create(body)}}

    def card_text(request: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud.cardkit.update_text(request.path_params["card_id"], request.path_params["element_id"], body)
        return {"data": {}}

    def replace_card(request: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud.cardkit.replace(request.path_params["card_id"], body)
        return {"data": {}}

    def card_settings(request: Request, body: Mapping[str, Any]) -> Mapping[str, Any]:
        cloud.cardkit.change_settings(request.path_params["card_id"], body)
        return {"data": {}}

    return [
        route(_CARDS, "POST", "card_create", create_card),
        route(f"{_CARDS}/{{card_id}}", "PUT", "card_replace", replace_card),
        route(f"{_CARDS}/{{card_id}}/settings", "PATCH", "card_settings", card_settings),
        route(f"{_CARDS}/{{card_id}}/elements/{{element_id}}/content", "PUT", "card_text", card_text),
    ]


def _route(cloud: FeishuCloud, path: str, method: str, api: str, call: Call, *, needs_token: bool = True) -> Route:
    return Route(path, _endpoint(cloud, api, call, needs_token), methods=[method])


def _endpoint(cloud: FeishuCloud, api: str, call: Call, needs_token: bool) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        log_id = {"X-Tt-Logid": uuid.uuid4().hex}
        try:
            fault = cloud.begin(api)
            if needs_token:
                cloud.check_token(request.headers.get("authorization", ""))
            fields = call(request, _body(await request.body()))
        except APIError as exc:
            answer = {"code": exc.code, "msg": exc.msg}
            return JSONResponse(answer, status_code=exc.status, headers={**log_id, **exc.headers})
        if fault is not None and fault.lost:
            return PlainTextResponse("bad gateway", status_code=502)
        return JSONResponse({"code": 0, "msg": "success", **fields}, headers=log_id)

    return endpoint


def _body(raw: bytes) -> Mapping[str, Any]:
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise APIError(9499, "Bad Request: the body is not a JSON object")
    return body


def _message(message: SimulatedMessage) -> Mapping[str, Any]:
    milliseconds = str(int(message.created_at * 1000))
    return {
        "message_id": message.message_id,
        "parent_id": message.parent_id,
        "thread_id": message.thread_id,
        "msg_type": message.msg_type,
        "create_time": milliseconds,
        "update_time": milliseconds,
        "deleted": message.deleted,
        "updated": message.edits > 0,
        "chat_id": message.chat_id,
        "body": {"content": message.content},
    }
