"""WeChat's HTTP API: one call, its errors as ours, no secret in a log line or message.

Errors come as JSON with HTTP status 200. The access token belongs into the URL (WeChat documentation); it is added
below the HTTP client, whose own log line names the URL.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2

from parley_gateway.errors import DeliveryError, TransientDeliveryError
from parley_gateway.platforms.base import CallReport

TIMEOUT = httpx2.Timeout(10.0, connect=5.0, pool=5.0)
TOTAL_S = 15.0
"""How long one call may take in all: the timeouts above count single steps."""

ErrorFor = Callable[[int, str], DeliveryError]


class TokenInURL(httpx2.AsyncBaseTransport):
    """Adds the access token that a request carries as an extension to its URL."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        """Wrap the transport that does the work."""
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request with its token."""
        token = request.extensions.get("access_token")
        if token is None:
            return await self._inner.handle_async_request(request)
        signed = httpx2.Request(
            request.method,
            request.url.copy_merge_params({"access_token": token}),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        return await self._inner.handle_async_request(signed)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class WeChatAPI:
    """Calls of one account's API over one pool of connections."""

    def __init__(self, base_url: str, transport: httpx2.AsyncBaseTransport, on_call: CallReport) -> None:
        """Own the transport: `close` closes it."""
        self._client = httpx2.AsyncClient(
            base_url=base_url, transport=TokenInURL(transport), timeout=TIMEOUT, trust_env=False
        )
        self._on_call = on_call

    async def post(
        self, api: str, path: str, body: Mapping[str, object], error_for: ErrorFor, *, access_token: str | None = None
    ) -> Mapping[str, Any]:
        """Make one call and return its answer. `api` names it in metrics.

        Raises
            DeliveryError: what `error_for` makes of WeChat's code; TransientDeliveryError, with an unknown outcome,
                when no proper answer came.
        """
        try:
            answer = await self._exchange(path, body, access_token)
            code = answer.get("errcode") or 0
            if code != 0:
                raise error_for(int(code), str(answer.get("errmsg", ""))[:200])
        except DeliveryError as exc:
            self._on_call(api, "error", exc.code or "no_answer")
            raise
        self._on_call(api, "ok", "")
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _exchange(self, path: str, body: Mapping[str, object], access_token: str | None) -> Mapping[str, Any]:
        # WeChat shows \uXXXX to the user as it stands, so the text must travel as UTF-8.
        content = json.dumps(body, ensure_ascii=False).encode()
        extensions = {} if access_token is None else {"access_token": access_token}
        headers = {"content-type": "application/json; charset=utf-8"}
        try:
            async with asyncio.timeout(TOTAL_S):
                response = await self._client.post(path, content=content, headers=headers, extensions=extensions)
        except (TimeoutError, httpx2.TimeoutException) as exc:
            raise TransientDeliveryError("WeChat didn't answer in time", "timeout") from exc
        except httpx2.HTTPError as exc:
            raise TransientDeliveryError(f"WeChat can't be reached: {type(exc).__name__}", "network") from exc
        if response.status_code != httpx2.codes.OK:
            raise TransientDeliveryError("WeChat answered with an HTTP error", f"http_{response.status_code}")
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("errcode") or 0, int):
            raise TransientDeliveryError("WeChat's answer isn't its JSON: check base_url and proxy", "not_json")
        return answer
