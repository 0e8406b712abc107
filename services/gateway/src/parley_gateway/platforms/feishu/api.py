"""Calls of Feishu's API: requests built with lark-oapi's models, sent through one shared HTTP client.

lark-oapi's own transport isn't used: it opens a new HTTP client, so a new connection, for every call, and fetches
access tokens with a blocking request on the event loop.
"""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx2
from lark_oapi.core.json import JSON
from lark_oapi.core.model import BaseRequest

from parley_gateway.errors import DeliveryError, RefusedContentError, TransientDeliveryError
from parley_gateway.platforms.base import CallReport
from parley_gateway.platforms.feishu.errors import RATE_CODES, TOKEN_CODES, api_error
from parley_gateway.platforms.shared import SharedValue

CALL_S = 15.0
"""How long one call may take in all. The client's own limits are for single steps: an answer may come byte by byte."""


class HTTPCalls:
    """Makes single calls and reports each of them."""

    def __init__(self, client: httpx2.AsyncClient, on_call: CallReport) -> None:
        """The client stays the caller's to close."""
        self._client = client
        self._on_call = on_call

    async def exchange(self, request: BaseRequest, *, api: str, access_token: str) -> dict[str, Any]:
        """Make one call and return the JSON object it is answered with. `api` names the call in errors and metrics.

        Raises
            DeliveryError: the call failed or was answered with a code other than 0.
        """
        try:
            answer = await self._exchange(request, api, access_token)
        except DeliveryError as exc:
            self._on_call(api, "error", _error_type(exc))
            raise
        self._on_call(api, "ok", "")
        return answer

    async def _exchange(self, request: BaseRequest, api: str, access_token: str) -> dict[str, Any]:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if access_token:
            headers["Authorization"] = f"Bearer {access_token}"
        body = JSON.marshal(request.body)
        try:
            async with asyncio.timeout(CALL_S):
                response = await self._client.request(
                    request.http_method.name,
                    _path(request),
                    params=request.queries or None,
                    content=body.encode() if body is not None else None,
                    headers=headers,
                )
        except (TimeoutError, httpx2.TimeoutException) as exc:
            raise TransientDeliveryError(f"{api}: Feishu didn't answer in time", "timeout") from exc
        except httpx2.RequestError as exc:
            raise TransientDeliveryError(f"{api}: {type(exc).__name__} on the way to Feishu", "connection") from exc
        return _answer(api, response)


class FeishuAPI:
    """Makes calls that need the app's access token."""

    def __init__(self, calls: HTTPCalls, token: SharedValue) -> None:
        """All replicas share `token`."""
        self._calls = calls
        self._token = token

    async def call(self, request: BaseRequest, *, api: str) -> dict[str, Any]:
        """Make a call; if Feishu doesn't accept the token, drop it and make the call once more with a new one.

        Raises
            DeliveryError: the call failed or was answered with a code other than 0.
            StoreUnavailableError: the store, which holds the token, can't be used.
        """
        token = await self._token.get()
        try:
            return await self._calls.exchange(request, api=api, access_token=token)
        except DeliveryError as exc:
            if exc.code not in {str(code) for code in TOKEN_CODES}:
                raise
        await self._token.discard(token)
        return await self._calls.exchange(request, api=api, access_token=await self._token.get())


def _path(request: BaseRequest) -> str:
    path: str = request.uri
    for name, value in request.paths.items():
        path = path.replace(f":{name}", quote(value, safe=""))
    return path


def _answer(api: str, response: httpx2.Response) -> dict[str, Any]:
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("code"), int):
        message = f"{api}: HTTP status {response.status_code} without Feishu's JSON: is base_url right?"
        raise TransientDeliveryError(message, f"http_{response.status_code}")
    if answer["code"] != 0:
        raise api_error(api, response.status_code, answer["code"], str(answer.get("msg", "")), response.headers)
    return answer


def _error_type(error: DeliveryError) -> str:
    """Return the metric label of an error: one of a few words."""
    if error.code in ("timeout", "connection"):
        return error.code
    if error.code in {str(code) for code in RATE_CODES}:
        return "rate_limited"
    if error.code in {str(code) for code in TOKEN_CODES}:
        return "access_token"
    if isinstance(error, TransientDeliveryError):
        return "unavailable"
    return "refused_content" if isinstance(error, RefusedContentError) else "refused"
